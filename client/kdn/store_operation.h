#ifndef KDN_CLIENT_KDN_STORE_OPERATION_H_
#define KDN_CLIENT_KDN_STORE_OPERATION_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/device/chunk_coder.h"
#include "client/device/worker_pool.h"
#include "client/kdn/client_impl.h"
#include "client/kdn/span_plan.h"
#include "kernels/codec/chunk_codec.h"

namespace kdn {

// Everything a Store needs, copied from its caller but for the KV memory.
struct StoreJob {
  StoreJob(const ModelHandle& m, const KvView& v, StoreOptions o) : model(m), view(v), options(std::move(o)) {}

  ModelHandle model;
  OwnedView view;
  StoreOptions options;
  SpanPlan plan;
  // Set: the text that the tokens stand for is remembered afterwards.
  std::optional<v1::StoreTextRequest> text;
};

struct StoreArguments {
  const ModelHandle& model;
  std::span<const uint32_t> token_ids;
  const KvView& view;
  const StoreOptions& options;
};

// What the server said of the first `sent` containers of a stream; kRejected where it said nothing.
std::vector<ChunkStoreResult> StoreResultsFromWire(const v1::StoreResponse& response, size_t sent);

// Starts a Store; `text` null: without a text. `on_done` may be empty.
std::shared_ptr<internal::TypedOperationState<StoreResult>> StartStore(
    ClientImpl& client, const StoreArguments& arguments, const TextRef* text,
    std::function<void(const absl::StatusOr<StoreResult>&)> on_done);

// One Store: asks what is missing, encodes it on the codec threads into staging memory, sends it in order. Lives on a
// transfer thread.
class StoreOperation : private StoreSource {
 public:
  StoreOperation(ClientImpl& client, const StoreJob& job, internal::OperationState& state, int64_t deadline_nanos);

  // Blocks until nothing reads the view any more and the server has answered.
  absl::StatusOr<StoreResult> Run();

 private:
  // One chunk to be encoded and sent.
  struct Item {
    size_t chunk = 0;  // of the plan
    CellSet cells;
    uint64_t reserved_bytes = 0;
    bool submitted = false;
    bool encoded = false;
    absl::StatusOr<std::vector<uint8_t>> container = std::vector<uint8_t>();
  };

  absl::Status FindMissing();
  // Settles profile and, for transform, object, level and row classes.
  absl::Status ChooseProfile();
  // The object, fit for this model and chunk length; NotFound, saying why, for one that no store can use.
  absl::StatusOr<std::shared_ptr<const TransformObject>> UsableTransform(const Digest& digest);
  absl::Status ChooseTransform(const CalibrationInfo& active);
  absl::StatusOr<std::optional<OutgoingContainer>> Next() override;
  // Hands chunks to the codec threads for as long as staging has room.
  void EncodeAhead();
  // Makes sure that item `index` was handed to the codec threads: waits for room.
  absl::Status EnsureSubmitted(size_t index);
  void Submit(size_t index);
  void Encode(size_t index);
  absl::Status WaitEncoded(size_t index);
  OutgoingContainer MakeOutgoing(Item& item);
  absl::Status Collect(const v1::StoreResponse& response);
  absl::Status StoreText();
  void Abandon();
  ChunkPlace PlaceOf(size_t chunk) const;

  ClientImpl& client_;
  const StoreJob& job_;
  internal::OperationState& state_;
  const CallLimits limits_;
  StoreResult result_;
  ProfileId profile_;
  // Of profile transform; set before the first encoding.
  std::shared_ptr<const TransformObject> object_;  // shared with the client
  std::vector<std::vector<uint8_t>> row_classes_;  // [group of the object][view token]
  TransformChoice transform_;

  absl::Mutex mutex_;
  absl::CondVar changed_;
  bool abandoned_ ABSL_GUARDED_BY(mutex_) = false;
  size_t unencoded_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Item> items_;    // flags and containers under mutex_
  size_t next_to_submit_ = 0;  // transfer thread only
  size_t next_to_send_ = 0;    // transfer thread only
  TaskGroup encodes_;          // last: its destructor waits
};

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_STORE_OPERATION_H_
