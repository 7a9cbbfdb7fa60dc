#ifndef KDN_CLIENT_KDN_CLIENT_IMPL_H_
#define KDN_CLIENT_KDN_CLIENT_IMPL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/device/byte_budget.h"
#include "client/device/worker_pool.h"
#include "client/kdn/calibration_cache.h"
#include "client/kdn/client.h"
#include "client/transport/transport.h"
#include "kernels/base/clock.h"

namespace kdn {

class TransformObject;  // kernels/codec/transform_object.h

// What kdn::Client is made of: transport, memory, threads, counters. Thread-safe. Operations (store_operation.h,
// retrieve_operation.h) borrow it; its destructor ends them first.
class ClientImpl {
 public:
  ClientImpl(const ClientOptions& options, std::unique_ptr<Transport> transport, const Clock& clock);
  ~ClientImpl();

  // A Client over any transport: for tests.
  static std::unique_ptr<Client> MakeClient(const ClientOptions& options, std::unique_ptr<Transport> transport,
                                            const Clock& clock);
  static ClientImpl& Of(Client& client) { return *client.impl_; }
  static absl::StatusOr<ModelHandle> MakeModel(const ModelSpec& spec, uint32_t chunk_tokens, bool created);

  // Unavailable in a child forked after the construction.
  absl::Status CheckProcess() const;
  bool InOtherProcess() const;

  // The deadline of a call with this timeout; 0 = `default_ms`. InvalidArgument on one out of range.
  absl::StatusOr<int64_t> DeadlineNanos(int64_t timeout_ms, int64_t default_ms) const;

  // A unary call of service Kdn ("Lookup") or Admin.
  absl::Status CallKdn(std::string_view method, const google::protobuf::MessageLite& request, const CallLimits& limits,
                       google::protobuf::MessageLite& response);
  absl::Status CallAdmin(std::string_view method, const google::protobuf::MessageLite& request, int64_t timeout_ms,
                         google::protobuf::MessageLite& response);

  absl::StatusOr<ModelHandle> RegisterModel(const ModelSpec& spec, uint32_t chunk_tokens,
                                            std::string_view display_name);
  absl::StatusOr<LookupResult> Lookup(const ModelHandle& model, std::span<const uint32_t> token_ids,
                                      const LookupOptions& options);
  absl::StatusOr<TextLookup> LookupText(const ModelHandle& model, const TextRef& text, const LookupOptions& options);
  absl::StatusOr<std::vector<FetchedContainer>> FetchContainers(const ModelHandle& model,
                                                                std::span<const ContainerFetch> fetches,
                                                                const FetchOptions& options);
  absl::StatusOr<std::vector<ChunkStoreResult>> PutContainers(const ModelHandle& model,
                                                              std::span<const ByteSpan> containers,
                                                              const PutOptions& options);

  // As of Client. FindCalibration and ActiveCalibration are what operations use, within their own limits.
  absl::StatusOr<PutCalibrationResult> PutCalibration(const Fingerprint& fingerprint, ByteSpan bytes,
                                                      const PutCalibrationOptions& options);
  absl::StatusOr<CalibrationBytes> GetCalibration(const std::optional<Fingerprint>& fingerprint, const Digest& digest,
                                                  int64_t timeout_ms);
  absl::StatusOr<std::vector<CalibrationInfo>> ListCalibrations(const Fingerprint& fingerprint, int64_t timeout_ms);
  absl::StatusOr<CalibrationInfo> ActivateCalibration(const Fingerprint& fingerprint, const Digest& digest,
                                                      int64_t timeout_ms);
  absl::Status DeleteCalibration(const Fingerprint& fingerprint, const Digest& digest, CalibrationDeletion deletion,
                                 int64_t timeout_ms);
  // From the cache, else from the server: NotFound where that does not have it (either).
  absl::StatusOr<CalibrationBytes> FindCalibration(const std::optional<Fingerprint>& fingerprint, const Digest& digest,
                                                   const CallLimits& limits);
  // FindCalibration, parsed: InvalidArgument or FailedPrecondition for bytes that do not fit the model. The last few
  // are kept.
  absl::StatusOr<std::shared_ptr<const TransformObject>> FindTransform(const ModelHandle& model, const Digest& digest,
                                                                       const CallLimits& limits)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The model's active object of that kind as of the last seconds; nullopt when it has none.
  absl::StatusOr<std::optional<CalibrationInfo>> ActiveCalibration(const Fingerprint& fingerprint, CalibrationKind kind,
                                                                   const CallLimits& limits)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Runs `body(state, deadline)` on a transfer thread and returns its future; `body` must call state.Complete. Queued
  // operations can be cancelled and are refused after their deadline.
  template <typename Result>
  using Body = std::function<void(internal::TypedOperationState<Result>& state, int64_t deadline_nanos)>;
  template <typename Result>
  std::shared_ptr<internal::TypedOperationState<Result>> Start(
      int64_t timeout_ms, std::function<void(const absl::StatusOr<Result>&)> on_done, Body<Result> body);

  const ClientOptions& options() const { return options_; }
  const Clock& clock() const { return clock_; }
  Transport& transport() { return *transport_; }
  WorkerPool& codec_pool() { return codec_pool_; }
  BufferPool& receive_pool() { return receive_pool_; }
  // Shared with the containers on their way: gRPC may let go of the last one after the client's end.
  const std::shared_ptr<ByteBudget>& staging() { return staging_; }
  Admin& admin() { return admin_; }

  ClientCounters counters() const;
  void Count(const StoreResult& result);
  void Count(const RetrieveResult& result);

 private:
  void Track(std::weak_ptr<internal::OperationState> state);
  absl::StatusOr<std::vector<CalibrationInfo>> ListCalibrations(const Fingerprint& fingerprint,
                                                                const CallLimits& limits);
  void ForgetActive(const Fingerprint& fingerprint) ABSL_LOCKS_EXCLUDED(mutex_);

  const int64_t process_;
  const ClientOptions options_;
  const Clock& clock_;
  std::unique_ptr<Transport> transport_;
  std::shared_ptr<ByteBudget> staging_;
  BufferPool receive_pool_;
  CalibrationCache calibrations_;
  Admin admin_;

  mutable absl::Mutex mutex_;
  ClientCounters counters_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<internal::OperationState>> operations_ ABSL_GUARDED_BY(mutex_);
  struct KnownCalibrations {
    std::vector<CalibrationInfo> infos;
    int64_t until_nanos = 0;
  };
  absl::flat_hash_map<Fingerprint, KnownCalibrations> known_calibrations_ ABSL_GUARDED_BY(mutex_);
  // Newest last; shared with the operations that use them.
  std::vector<std::shared_ptr<const TransformObject>> transforms_ ABSL_GUARDED_BY(mutex_);

  // Last: their threads use the rest.
  WorkerPool codec_pool_;
  WorkerPool transfer_pool_;
};

template <typename Result>
std::shared_ptr<internal::TypedOperationState<Result>> ClientImpl::Start(
    int64_t timeout_ms, std::function<void(const absl::StatusOr<Result>&)> on_done, Body<Result> body) {
  auto state = std::make_shared<internal::TypedOperationState<Result>>();
  if (on_done) state->set_on_done(std::move(on_done));
  const absl::StatusOr<int64_t> deadline = DeadlineNanos(timeout_ms, options_.transfer_timeout_ms);
  absl::Status refused = CheckProcess();
  if (refused.ok()) refused = deadline.status();
  if (!refused.ok()) {
    state->Complete(refused);
    return state;
  }
  Track(state);
  // Whoever claims the operation first completes it: its thread, or a cancellation while it is queued.
  struct Queued {
    std::atomic<bool> claimed{false};
    std::unique_ptr<ScopedCancelCallback> on_cancel;
  };
  auto queued = std::make_shared<Queued>();
  queued->on_cancel = std::make_unique<ScopedCancelCallback>(&state->cancel_token(), [state, queued] {
    if (!queued->claimed.exchange(true)) state->Complete(absl::CancelledError("cancelled before it began"));
  });
  refused = transfer_pool_.Submit([this, state, queued, deadline = *deadline, body = std::move(body)] {
    const bool mine = !queued->claimed.exchange(true);
    queued->on_cancel.reset();
    if (!mine) return;
    if (clock_.MonotonicNanos() >= deadline) {
      state->Complete(absl::DeadlineExceededError("deadline passed before the operation began"));
    } else {
      body(*state, deadline);
    }
  });
  if (!refused.ok() && !queued->claimed.exchange(true)) {
    queued->on_cancel.reset();
    state->Complete(refused);
  }
  return state;
}

// Client::FetchContainer.
absl::StatusOr<std::vector<uint8_t>> FetchOneContainer(ClientImpl& client, const ModelHandle& model,
                                                       const Digest& chunk_digest, const FetchOptions& options);

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_CLIENT_IMPL_H_
