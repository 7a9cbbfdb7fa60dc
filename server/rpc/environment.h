#ifndef KDN_SERVER_RPC_ENVIRONMENT_H_
#define KDN_SERVER_RPC_ENVIRONMENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "kernels/base/clock.h"
#include "server/core/chunk_store.h"
#include "server/metrics/metrics.h"
#include "server/rpc/authenticator.h"
#include "server/rpc/lifecycle.h"
#include "server/rpc/memory_budget.h"
#include "server/rpc/timer_queue.h"
#include "server/rpc/worker_pool.h"
#include "storage/file/aligned_buffer.h"

namespace kdn {

struct CallLimits {
  uint64_t max_frame_bytes = uint64_t{1} << 20;
  uint64_t max_container_bytes = uint64_t{512} << 20;
  uint64_t per_call_bytes = uint64_t{256} << 20;
  uint32_t max_chunks_per_call = 8192;
  uint64_t max_spec_bytes = uint64_t{1} << 20;
  uint64_t max_text_tokens = uint64_t{1} << 22;
  absl::Duration default_deadline = absl::Seconds(30);
  // A stream that holds memory while its client neither sends nor reads for this long is cancelled, whatever its
  // deadline.
  absl::Duration stall_timeout = absl::Seconds(30);
};

// A row of the effective configuration.
struct ConfigRow {
  std::string key;
  std::string value;
  std::string origin;
};

// What Status tells, besides what the store knows.
struct DaemonFacts {
  std::string version;
  std::string commit;
  std::string build;
  int64_t started_ms = 0;
  std::string data_path;
  std::string values;
  std::string sync;
  std::string recovery;
  std::vector<ConfigRow> config;
};

// What every call works with. Outlives all calls; the members are borrowed but `pool`, which late releases of payload
// slices hold as well.
struct CallEnvironment {
  ChunkStore* store = nullptr;
  Metrics* metrics = nullptr;
  const Authenticator* authenticator = nullptr;
  Lifecycle* lifecycle = nullptr;
  TimerQueue* timers = nullptr;
  MemoryBudget* budget = nullptr;
  BufferCache* containers = nullptr;  // memory of containers being received; used again once no tier holds it
  std::shared_ptr<WorkerPool> pool;
  const Clock* clock = &Clock::System();
  CallLimits limits;
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_ENVIRONMENT_H_
