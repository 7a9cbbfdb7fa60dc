#ifndef KDN_BENCH_COMMON_CONTENDER_H_
#define KDN_BENCH_COMMON_CONTENDER_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "bench/common/measure.h"

namespace kdn::bench {

// One thing to measure: what is done, to objects of which size, how many at a time.
struct Cell {
  std::string operation;      // "retrieve", "store", or another the contender knows
  uint64_t object_bytes = 0;  // payload of one operation
  int in_flight = 1;          // operations under way at any time
  std::string mode;           // contender's own word, for example "lockstep" or "pipelined"
};

// The client half of a key-value store under measurement. Its server is another process.
class Contender {
 public:
  virtual ~Contender() = default;

  // Makes `cell` runnable (fills the server, opens connections) and checks that bytes come back unchanged.
  // Called before the first Run of a cell, not timed.
  virtual void Prepare(const Cell& cell) = 0;

  // Called before each Run, not timed: for what earlier runs left behind.
  virtual void Settle(const Cell& cell) {}

  // Repeats the operation until `deadline`. Returns the payload bytes moved.
  virtual uint64_t Run(const Cell& cell, Clock::time_point deadline) = 0;
};

// Serves the harness (bench/harness/contender.py) until the end of stdin. Each line
//   OPERATION OBJECT_BYTES IN_FLIGHT MODE MILLISECONDS
// is answered by one line of JSON with payload_bytes, seconds, client_cpu_s, server_cpu_s, server_rss_bytes and
// client_rss_bytes. `server_pid` is the process whose CPU and memory count as the server's.
void ServeCells(Contender& contender, pid_t server_pid);

}  // namespace kdn::bench

#endif  // KDN_BENCH_COMMON_CONTENDER_H_
