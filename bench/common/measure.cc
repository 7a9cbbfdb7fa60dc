#include "bench/common/measure.h"

#include <isa-l/crc.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

namespace kdn::bench {

void Fail(const std::string& message, int error_number) {
  if (error_number != 0) {
    std::fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, message.c_str(), std::strerror(error_number));
  } else {
    std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, message.c_str());
  }
  // Other threads may hold anything: no destructors, no atexit.
  std::_Exit(1);
}

double CpuSeconds(pid_t pid) {
  // The process CPU clock counts in nanoseconds; /proc/PID/stat and getrusage hold the same sum in coarser steps.
  clockid_t clock;
  if (int error = clock_getcpuclockid(pid, &clock); error != 0) {
    Fail("CPU clock of process " + std::to_string(pid), error);
  }
  timespec now;
  if (clock_gettime(clock, &now) != 0) Fail("CPU time of process " + std::to_string(pid), errno);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

uint64_t ResidentBytes(pid_t pid) {
  const std::string path = "/proc/" + (pid == 0 ? std::string("self") : std::to_string(pid)) + "/statm";
  std::ifstream statm(path);
  uint64_t total_pages = 0;
  uint64_t resident_pages = 0;
  if (!(statm >> total_pages >> resident_pages)) Fail("cannot read " + path);
  return resident_pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint32_t Crc32c(const void* data, uint64_t size) {
  constexpr uint64_t kMaxCall = uint64_t{1} << 30;  // ISA-L takes an int length
  uint32_t crc = ~uint32_t{0};
  auto* bytes = static_cast<const unsigned char*>(data);
  while (size > 0) {
    const uint64_t part = size < kMaxCall ? size : kMaxCall;
    crc = crc32_iscsi(const_cast<unsigned char*>(bytes), static_cast<int>(part), crc);
    bytes += part;
    size -= part;
  }
  return ~crc;
}

uint64_t RepeatUntil(Clock::time_point deadline, int worker_count,
                     const std::function<uint64_t(int worker)>& operation) {
  std::atomic<uint64_t> total{0};
  auto repeat = [&](int worker) {
    uint64_t sum = 0;
    do {
      sum += operation(worker);
    } while (Clock::now() < deadline);
    total += sum;
  };
  std::vector<std::thread> threads;
  for (int worker = 1; worker < worker_count; ++worker) threads.emplace_back(repeat, worker);
  repeat(0);
  for (std::thread& thread : threads) thread.join();
  return total;
}

}  // namespace kdn::bench
