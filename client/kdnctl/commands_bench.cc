#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "client/kdnctl/bench_objects.h"
#include "client/kdnctl/commands.h"
#include "client/kdnctl/loopback_baseline.h"
#include "kernels/base/clock.h"
#include "kernels/base/status.h"

namespace kdn::ctl {
namespace {

constexpr int64_t kTransferTimeoutMs = 60'000;
constexpr uint64_t kMaxPoolBytes = uint64_t{4} << 30;

double Seconds(int64_t nanos) { return static_cast<double>(nanos) * 1e-9; }

template <typename T>
T Median(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Run {
  double gb_per_second = 0;
  std::vector<double> latencies_ms;
};

// What one call of a timed operation did.
enum class Step { kDone, kNothingLeft };
using Operation = std::function<absl::StatusOr<Step>(uint32_t worker)>;

// Calls `operation(worker)` on `workers` threads for `duration_ms` (but once at least), or until one finds nothing left
// to do; each call moves `bytes`.
absl::StatusOr<Run> Measure(uint32_t workers, int64_t duration_ms, uint64_t bytes, const Operation& operation) {
  const Clock& clock = Clock::System();
  const int64_t started = clock.MonotonicNanos();
  const int64_t ends = started + duration_ms * 1'000'000;
  std::vector<std::vector<double>> latencies(workers);
  std::vector<absl::Status> failures(workers);
  std::atomic<bool> over = false;
  std::vector<std::thread> threads;
  for (uint32_t worker = 0; worker < workers; ++worker) {
    threads.emplace_back([&, worker] {
      int64_t now = clock.MonotonicNanos();
      do {  // once at least, so that there is something to report
        const absl::StatusOr<Step> step = operation(worker);
        failures[worker] = step.status();
        if (!step.ok() || *step == Step::kNothingLeft) {
          over = true;
          return;
        }
        const int64_t done = clock.MonotonicNanos();
        latencies[worker].push_back(Seconds(done - now) * 1e3);
        now = done;
      } while (now < ends && !over);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double elapsed = Seconds(clock.MonotonicNanos() - started);
  Run run;
  for (uint32_t worker = 0; worker < workers; ++worker) {
    KDN_RETURN_IF_ERROR(failures[worker]);
    run.latencies_ms.insert(run.latencies_ms.end(), latencies[worker].begin(), latencies[worker].end());
  }
  run.gb_per_second = static_cast<double>(bytes * run.latencies_ms.size()) / elapsed * 1e-9;
  return run;
}

// One bench: its objects, the model they belong to, and the operations it times.
class Bench {
 public:
  Bench(Client& client, const BenchOptions& options)
      : client_(client),
        options_(options),
        seed_(static_cast<uint64_t>(Clock::System().WallMillis()) * 1000 + static_cast<uint64_t>(getpid()) % 1000),
        objects_(options.chunk_bytes, options.chunks, seed_) {}
  // What the bench stored belongs to nobody else: it is removed whatever happened.
  ~Bench() {
    if (!model_.valid()) return;
    client_.admin().Delete({.fingerprint = model_.fingerprint()}, DeleteMode::kDelete).IgnoreError();
  }

  absl::Status Prepare() {
    KDN_ASSIGN_OR_RETURN(model_, client_.RegisterModel(objects_.spec(), 256, "kdnctl bench"));
    buffers_.assign(options_.concurrency, std::vector<uint8_t>(container_bytes()));
    if (options_.mode == BenchMode::kStore) return absl::OkStatus();
    for (size_t i = 0; i < objects_.containers().size(); ++i) KDN_RETURN_IF_ERROR(Put(model_, objects_, i));
    return CheckOnce();
  }

  uint64_t container_bytes() const { return objects_.containers().front().size(); }

  absl::StatusOr<Run> Round() {
    round_objects_ = options_.mode == BenchMode::kRetrieve
                         ? nullptr
                         : std::make_unique<BenchObjects>(options_.chunk_bytes, options_.chunks, ++seed_);
    if (round_objects_ != nullptr) {
      KDN_ASSIGN_OR_RETURN(round_model_, client_.RegisterModel(round_objects_->spec(), 256, "kdnctl bench"));
    }
    next_store_ = 0;
    auto run = Measure(options_.concurrency, options_.duration_ms, container_bytes(),
                       [this](uint32_t worker) { return Do(worker); });
    if (round_objects_ != nullptr) {
      KDN_RETURN_IF_ERROR(client_.admin().Delete({.fingerprint = round_model_.fingerprint()}, DeleteMode::kDelete));
    }
    return run;
  }

 private:
  absl::Status Put(const ModelHandle& model, const BenchObjects& objects, size_t index) {
    const ByteSpan container = objects.containers()[index];
    KDN_ASSIGN_OR_RETURN(const auto results,
                         client_.PutContainers(model, std::span(&container, 1),
                                               {.timeout_ms = kTransferTimeoutMs, .kind = ChunkKind::kSegment}));
    return results.front().outcome == ChunkStoreOutcome::kRejected ? results.front().status : absl::OkStatus();
  }

  absl::Status Get(size_t index, std::vector<uint8_t>& into) {
    const ContainerFetch fetch{objects_.digests()[index], into};
    KDN_ASSIGN_OR_RETURN(
        const auto fetched,
        client_.FetchContainers(model_, std::span(&fetch, 1), {kTransferTimeoutMs, ContainerVerify::kFramesAndHeader}));
    if (fetched.front().miss) return NotFound("chunk ", index, " was not delivered: ", fetched.front().miss_message);
    return absl::OkStatus();
  }

  // Bytes are compared before anything is timed.
  absl::Status CheckOnce() {
    for (size_t i = 0; i < objects_.containers().size(); ++i) {
      KDN_RETURN_IF_ERROR(Get(i, buffers_[0]));
      if (buffers_[0] != objects_.containers()[i]) return DataLoss("chunk ", i, " came back with other bytes");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Step> Do(uint32_t worker) {
    const bool store = options_.mode == BenchMode::kStore || (options_.mode == BenchMode::kMixed && worker % 2 == 1);
    const size_t index = store ? next_store_++ : next_get_++ % objects_.digests().size();
    if (store && index >= round_objects_->containers().size()) return Step::kNothingLeft;
    KDN_RETURN_IF_ERROR(store ? Put(round_model_, *round_objects_, index) : Get(index, buffers_[worker]));
    return Step::kDone;
  }

  Client& client_;
  const BenchOptions options_;
  uint64_t seed_;
  BenchObjects objects_;
  ModelHandle model_;
  std::unique_ptr<BenchObjects> round_objects_;
  ModelHandle round_model_;
  std::vector<std::vector<uint8_t>> buffers_;  // one a worker
  std::atomic<size_t> next_get_ = 0;
  std::atomic<size_t> next_store_ = 0;
};

absl::StatusOr<Run> BaselineRound(const BenchOptions& options, uint64_t bytes) {
  std::vector<std::unique_ptr<LoopbackBaseline>> loops;
  for (uint32_t i = 0; i < options.concurrency; ++i) {
    KDN_ASSIGN_OR_RETURN(std::unique_ptr<LoopbackBaseline> loop, LoopbackBaseline::Start(bytes));
    loops.push_back(std::move(loop));
  }
  return Measure(options.concurrency, options.duration_ms, bytes, [&](uint32_t worker) -> absl::StatusOr<Step> {
    KDN_RETURN_IF_ERROR(loops[worker]->Fetch());
    return Step::kDone;
  });
}

struct Result {
  std::vector<double> kdn;
  std::vector<double> baseline;
  std::vector<double> latencies_ms;
};

absl::StatusOr<Result> RunRounds(Client& client, const BenchOptions& options, Session& session) {
  Bench bench(client, options);
  KDN_RETURN_IF_ERROR(bench.Prepare());
  Result result;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    session.Note(StrCat("round ", round + 1, " of ", options.rounds));
    KDN_ASSIGN_OR_RETURN(const Run baseline, BaselineRound(options, bench.container_bytes()));
    KDN_ASSIGN_OR_RETURN(const Run run, bench.Round());
    result.baseline.push_back(baseline.gb_per_second);
    result.kdn.push_back(run.gb_per_second);
    result.latencies_ms.insert(result.latencies_ms.end(), run.latencies_ms.begin(), run.latencies_ms.end());
  }
  std::sort(result.latencies_ms.begin(), result.latencies_ms.end());
  return result;
}

std::string Rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f", value);
  return text;
}

absl::Status CheckOptions(const BenchOptions& options) {
  if (options.chunk_bytes < kBenchPlaneBytes || options.chunk_bytes / kBenchPlaneBytes > kMaxLayers) {
    return InvalidArgument("--chunk-bytes ", options.chunk_bytes, ": must be ", kBenchPlaneBytes, " to ",
                           kBenchPlaneBytes * kMaxLayers);
  }
  if (options.concurrency == 0 || options.chunks == 0 || options.rounds == 0 || options.duration_ms <= 0) {
    return InvalidArgument("--conc, --chunks, --rounds and --duration must be above 0");
  }
  if (options.chunk_bytes * options.chunks > kMaxPoolBytes) {
    return InvalidArgument("--chunks x --chunk-bytes is above ", kMaxPoolBytes, " bytes of memory");
  }
  return absl::OkStatus();
}

}  // namespace

ExitCode RunBench(Session& session, const BenchOptions& options) {
  if (const absl::Status valid = CheckOptions(options); !valid.ok()) return session.Fail("bench", valid);
  const auto client = session.client();
  if (!client.ok()) return session.Fail("bench", client.status());
  const auto result = RunRounds(**client, options, session);
  if (!result.ok()) return session.Fail("bench", result.status());
  static constexpr const char* kModes[] = {"store", "retrieve", "mixed"};
  const char* const mode = kModes[static_cast<int>(options.mode)];
  const double kdn = Median(result->kdn);
  const double baseline = Median(result->baseline);
  const double p50 = result->latencies_ms[result->latencies_ms.size() / 2];
  const double p99 = result->latencies_ms[result->latencies_ms.size() * 99 / 100];
  Report report;
  report.document = {{"mode", mode},
                     {"concurrency", options.concurrency},
                     {"chunk_bytes", options.chunk_bytes},
                     {"rounds", options.rounds},
                     {"operations", result->latencies_ms.size()},
                     {"gb_per_second", kdn},
                     {"p50_ms", p50},
                     {"p99_ms", p99},
                     {"baseline", "plain TCP request/response over loopback"},
                     {"baseline_gb_per_second", baseline},
                     {"ratio", kdn / baseline}};
  report.tables = {{{"MODE", "IN FLIGHT", "CHUNK", "GB/s", "P50 ms", "P99 ms", "PLAIN TCP GB/s", "RATIO"},
                    {{mode, std::to_string(options.concurrency), HumanBytes(options.chunk_bytes), Rounded(kdn),
                      Rounded(p50), Rounded(p99), Rounded(baseline), Rounded(kdn / baseline)}}}};
  return session.Print(report);
}

}  // namespace kdn::ctl
