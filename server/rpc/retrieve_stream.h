#ifndef KDN_SERVER_RPC_RETRIEVE_STREAM_H_
#define KDN_SERVER_RPC_RETRIEVE_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "server/rpc/call.h"
#include "server/rpc/environment.h"
#include "server/rpc/frames.h"
#include "server/rpc/stream_credit.h"

namespace kdn {

// One Retrieve call. Workers fetch chunks from the store, at most kDepth ahead of the wire; frames refer to the store's
// memory and are written one after the other from gRPC's completions.
//
// Memory: the bytes of a fetched chunk are reserved in the budget until gRPC has released the last slice of it; a chunk
// that gets no reservation in half the time to the deadline is a miss over_budget. A stream has at most
// kWindowFrames frames with gRPC that are not released.
//
// Ownership: shared by itself (until gRPC's OnDone) and the tasks it has queued.
class RetrieveStream : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                       public std::enable_shared_from_this<RetrieveStream> {
 public:
  static constexpr size_t kDepth = 2;
  static constexpr uint64_t kWindowFrames = 4;

  // The result is for gRPC to own.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(const CallEnvironment& environment,
                                                           grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request);

 private:
  struct Hold;  // a chunk's memory: kept by the slices that refer to it
  struct Fetched {
    std::unique_ptr<ChunkFramer> framer;
    std::shared_ptr<Hold> hold;
  };
  struct ChunkAsk {
    Digest digest;
    uint64_t prefix_end = 0;
  };
  struct FetchJob {
    uint32_t index = 0;
    uint64_t estimate_bytes = 0;  // what to reserve for it
  };
  struct Decision {
    enum class Step { kNothing, kWrite, kFinish } step = Step::kNothing;
    std::optional<FetchJob> fetch;
  };

  RetrieveStream(const CallEnvironment& environment, grpc::CallbackServerContext* context);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void ReadRequest(const grpc::ByteBuffer& request);
  absl::Status ParseRequest(const grpc::ByteBuffer& bytes);
  // Does what can be done now: writes a frame, finishes. Returns the fetch that is due, which the caller must see to.
  // Safe to call at any time.
  std::optional<FetchJob> Advance();
  // Advance, with the fetch on another thread.
  void Pump();
  Decision Decide() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::optional<FetchJob> NextFetch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // On a worker: fetches until nothing is due, or memory has to be waited for.
  void FetchAll(std::optional<FetchJob> job);
  std::optional<FetchJob> ReserveAndFetch(const FetchJob& job);
  std::optional<FetchJob> Fetch(uint32_t index, std::optional<MemoryBudget::Reservation> reservation);
  RetrievedChunk FetchChunk(uint32_t index, std::optional<MemoryBudget::Reservation>& reservation);
  RetrievedChunk OverBudget(std::string message) const;
  bool NothingToFetch() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !fetching_ && next_fetch_ == asks_.size(); }
  void WriteNext();
  void Fail(absl::Status status);
  // Looks, and arranges for the next look, whether the client has stopped reading.
  void CheckStall();

  const CallEnvironment& environment_;
  grpc::CallbackServerContext* const context_;  // gRPC's, until OnDone
  std::optional<CallScope> scope_;              // until OnDone
  const absl::Time deadline_;
  std::shared_ptr<RetrieveStream> self_;  // until OnDone
  std::shared_ptr<StreamCredit> credit_;  // with the slices that were sent
  std::optional<TimerQueue::Id> deadline_timer_;

  // Set by ReadRequest before the first fetch, then constant.
  Caller caller_;
  Fingerprint fingerprint_;
  std::optional<CellSet> cells_;
  std::optional<ProfileId> lossiest_;
  std::vector<ChunkAsk> asks_;
  uint64_t frame_bytes_ = 0;

  // Belong to whoever holds writing_.
  std::optional<Fetched> current_;
  grpc::ByteBuffer frame_;

  absl::Mutex mu_;
  bool parsing_ ABSL_GUARDED_BY(mu_) = false;  // gRPC's request is being read: the call must not end
  bool parsed_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool begun_ ABSL_GUARDED_BY(mu_) = false;  // a frame has been written
  bool fetching_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelling_ ABSL_GUARDED_BY(mu_) = false;  // CheckStall uses the context: the call must not be over
  absl::Time sending_since_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();  // that the client is to read something
  std::optional<TimerQueue::Id> stall_timer_ ABSL_GUARDED_BY(mu_);
  uint32_t next_fetch_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t last_chunk_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t wait_id_ ABSL_GUARDED_BY(mu_) = 0;
  std::deque<Fetched> ready_ ABSL_GUARDED_BY(mu_);
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_RETRIEVE_STREAM_H_
