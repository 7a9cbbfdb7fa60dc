#include "bench/common/contender.h"

#include <cstdio>
#include <iostream>
#include <set>
#include <sstream>

namespace kdn::bench {
namespace {

constexpr int kMaxInFlight = 64;

Cell ParseCell(const std::string& line, std::chrono::milliseconds* duration) {
  std::istringstream words(line);
  Cell cell;
  int64_t milliseconds = 0;
  words >> cell.operation >> cell.object_bytes >> cell.in_flight >> cell.mode >> milliseconds;
  if (!words || cell.object_bytes == 0 || cell.in_flight < 1 || cell.in_flight > kMaxInFlight || milliseconds < 1) {
    Fail("not a cell: " + line);
  }
  *duration = std::chrono::milliseconds(milliseconds);
  return cell;
}

void RunCell(Contender& contender, pid_t server_pid, const Cell& cell, std::chrono::milliseconds duration) {
  const double client_cpu_before = CpuSeconds(0);
  const double server_cpu_before = CpuSeconds(server_pid);
  const Clock::time_point begin = Clock::now();
  const uint64_t payload_bytes = contender.Run(cell, begin + duration);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  std::printf(
      "{\"payload_bytes\": %llu, \"seconds\": %.6f, \"client_cpu_s\": %.6f, \"server_cpu_s\": %.6f, "
      "\"server_rss_bytes\": %llu, \"client_rss_bytes\": %llu}\n",
      static_cast<unsigned long long>(payload_bytes), seconds, CpuSeconds(0) - client_cpu_before,
      CpuSeconds(server_pid) - server_cpu_before, static_cast<unsigned long long>(ResidentBytes(server_pid)),
      static_cast<unsigned long long>(ResidentBytes(0)));
  std::fflush(stdout);
}

}  // namespace

void ServeCells(Contender& contender, pid_t server_pid) {
  std::set<std::string> prepared;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::chrono::milliseconds duration{};
    const Cell cell = ParseCell(line, &duration);
    const std::string name = line.substr(0, line.rfind(' '));
    if (prepared.insert(name).second) contender.Prepare(cell);
    contender.Settle(cell);
    RunCell(contender, server_pid, cell, duration);
  }
}

}  // namespace kdn::bench
