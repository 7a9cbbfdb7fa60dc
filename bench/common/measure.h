#ifndef KDN_BENCH_COMMON_MEASURE_H_
#define KDN_BENCH_COMMON_MEASURE_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace kdn::bench {

using Clock = std::chrono::steady_clock;

// Ends the program with `message` (and errno's text when `error_number` is not 0). A benchmark has no caller that
// could carry on: a figure taken after a failure would be wrong.
[[noreturn]] void Fail(const std::string& message, int error_number = 0);

// User plus system time of all threads of process `pid` since it started, in seconds. pid 0: this process.
double CpuSeconds(pid_t pid);

// Resident set size of process `pid` in bytes. pid 0: this process.
uint64_t ResidentBytes(pid_t pid);

// CRC32C (Castagnoli) of `size` bytes at `data`.
uint32_t Crc32c(const void* data, uint64_t size);

// Calls `operation(worker)` on `worker_count` threads at once, again and again until `deadline`; an operation begun
// before the deadline is finished. Returns the sum of what the operations returned (payload bytes).
uint64_t RepeatUntil(Clock::time_point deadline, int worker_count,
                     const std::function<uint64_t(int worker)>& operation);

}  // namespace kdn::bench

#endif  // KDN_BENCH_COMMON_MEASURE_H_
