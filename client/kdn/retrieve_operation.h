#ifndef KDN_CLIENT_KDN_RETRIEVE_OPERATION_H_
#define KDN_CLIENT_KDN_RETRIEVE_OPERATION_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/device/chunk_coder.h"
#include "client/device/worker_pool.h"
#include "client/kdn/client_impl.h"
#include "client/kdn/span_plan.h"
#include "kernels/codec/transform_object.h"

namespace kdn {

// Everything a Retrieve needs, copied from its caller but for the KV memory.
struct RetrieveJob {
  RetrieveJob(const ModelHandle& m, const KvView& v, RetrieveOptions o) : model(m), view(v), options(std::move(o)) {}

  ModelHandle model;
  OwnedView view;
  RetrieveOptions options;
  std::vector<uint32_t> token_ids;  // from the caller, or from the server
  struct Text {
    std::string utf8;
    std::string special_token_policy;
  };
  // Set: token_ids are to be looked up first.
  std::optional<Text> text;
};

// Start a Retrieve; `on_done` may be empty.
using OnRetrieved = std::function<void(const absl::StatusOr<RetrieveResult>&)>;
std::shared_ptr<internal::TypedOperationState<RetrieveResult>> StartRetrieve(ClientImpl& client,
                                                                             const std::shared_ptr<RetrieveJob>& job,
                                                                             OnRetrieved on_done);

// One Retrieve: receives containers on its transfer thread, verifies and decodes them on the codec threads.
class RetrieveOperation : private RetrieveSink {
 public:
  RetrieveOperation(ClientImpl& client, RetrieveJob& job, internal::OperationState& state, int64_t deadline_nanos);

  // Blocks until nothing writes the view any more.
  absl::StatusOr<RetrieveResult> Run();

 private:
  // What became of one chunk.
  struct ChunkState {
    bool ended = false;
    std::optional<ContainerFault> fault;
    CellSet claimed;                   // by the parts so far
    std::vector<uint32_t> first_rows;  // [cell] first row written; the chunk's num_tokens where none was
    uint64_t written_bytes = 0;
    bool from_ram = false;
  };
  // Shared by the transfer thread and the decode tasks of its sections.
  struct Part {
    Part(Buffer m, const ModelHandle& model, IncomingContainer::Announced announced)
        : memory(std::move(m)), container(model.spec(), model.cells(), memory.span(), std::move(announced)) {}
    Buffer memory;
    IncomingContainer container;
    bool objects_sought = false;  // transfer thread only
  };

  absl::Status FindText();
  // Shortens the plan to what a reader of windowed layers can load.
  absl::Status LimitToHit();
  v1::RetrieveRequest MakeRequest() const;

  absl::StatusOr<MutableByteSpan> OnPartBegin(uint32_t chunk, uint32_t part, const v1::PartBegin& begin) override;
  absl::Status OnPartProgress(uint32_t chunk, uint32_t part, uint64_t end) override;
  absl::Status OnPartEnd(uint32_t chunk, uint32_t part) override;
  void OnChunkEnd(uint32_t chunk) override;
  void OnChunkMiss(uint32_t chunk, MissReason reason, std::string_view message) override;

  // Makes sure that the calibration objects which the part's tiles refer to are at hand, or that the chunk has a fault.
  void FindObjects(uint32_t chunk, const ContainerHeader& header);
  void Decode(uint32_t chunk, const Part& part, size_t first_section, size_t last_section);
  void SetFault(uint32_t chunk, ContainerFault fault) ABSL_LOCKS_EXCLUDED(mutex_);
  ChunkPlace PlaceOf(size_t chunk) const;
  ProfileId Lossiest() const;
  // Whether chunk i holds what a reader of a prefix that ends at `prefix_end` needs of it.
  bool Covers(size_t i, uint64_t prefix_end) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Prefix() const { return !job_.options.span.segment.has_value(); }
  // Gives every chunk that is not loaded its reason.
  void FindFaults(const absl::Status& transfer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Chunks of the longest prefix that can be used. After FindFaults.
  size_t UsableChunks() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<RetrieveResult> Collect(const absl::Status& transfer);

  ClientImpl& client_;
  RetrieveJob& job_;
  internal::OperationState& state_;
  const CallLimits limits_;
  SpanPlan plan_;
  std::vector<Digest> asked_digests_;  // before LimitToHit
  CellSet wanted_;
  uint64_t max_part_bytes_ = 0;
  uint64_t received_bytes_ = 0;  // transfer thread only
  std::shared_ptr<Part> part_;   // being received; transfer thread only
  TransformObjects transforms_;  // that containers of this call refer to
  // A hostile server may name as many as it likes; a model has a few.
  static constexpr uint32_t kMaxObjects = 8;
  uint32_t objects_found_ = 0;  // transfer thread only, as is the next
  std::map<Digest, ContainerFault> missing_objects_;

  mutable absl::Mutex mutex_;
  std::vector<ChunkState> chunks_ ABSL_GUARDED_BY(mutex_);
  TaskGroup decodes_;  // last: its destructor waits
};

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_RETRIEVE_OPERATION_H_
