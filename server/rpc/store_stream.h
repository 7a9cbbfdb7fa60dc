#ifndef KDN_SERVER_RPC_STORE_STREAM_H_
#define KDN_SERVER_RPC_STORE_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "server/rpc/byte_buffer.h"
#include "server/rpc/call.h"
#include "server/rpc/environment.h"
#include "server/rpc/upload.h"

namespace kdn {

// Bytes of StoreResult messages in one response, which must stay below the 4 MiB that clients receive; later messages
// are left out.
inline constexpr size_t kMaxResultTextBytes = size_t{512} << 10;
inline constexpr size_t kMaxResultMessageBytes = 512;

// One Store call. Frames are read one after the other, their data copied into the container's memory on gRPC's thread;
// a container that is whole is committed by a worker while the next one is received. Commits of a stream follow each
// other, so that a parent is there before its child.
//
// Memory: a container's bytes are reserved in the budget before they are allocated, until the store has taken them; a
// chunk that gets no reservation in half the time to the deadline is refused. While the stream waits, for memory or for
// a commit, it does not read.
//
// Ownership: shared by itself (until gRPC's OnDone) and the tasks it has queued.
class StoreStream : public grpc::ServerReadReactor<grpc::ByteBuffer>, public std::enable_shared_from_this<StoreStream> {
 public:
  // The result is for gRPC to own. `response` is written before the call ends well.
  static grpc::ServerReadReactor<grpc::ByteBuffer>* Start(const CallEnvironment& environment,
                                                          grpc::CallbackServerContext* context,
                                                          grpc::ByteBuffer* response);

 private:
  struct Commit {
    UploadedChunk chunk;
    uint32_t index = 0;
    std::optional<MemoryBudget::Reservation> reservation;
  };

  StoreStream(const CallEnvironment& environment, grpc::CallbackServerContext* context, grpc::ByteBuffer* response);

  void OnReadDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  // The server's own deadline has passed.
  void OnLate();
  // Looks, and arranges for the next look, whether the client has stopped in the middle of a chunk.
  void CheckStall();

  // The reading side: a chain of steps of which one runs at a time. Each ends by reading on, by waiting for another
  // step to be called, or with EndReading.
  void HandleFrame();
  void AdmitChunk();
  void ReserveMemory();
  void HaveMemory(std::optional<MemoryBudget::Reservation> reservation);
  void TakeFrame();
  void ReadOn();
  void EndReading(absl::Status status);

  void StartCommit(Commit commit);
  void RunCommit(Commit commit);
  absl::StatusOr<StoreOutcome> Store(UploadedChunk& chunk);
  void FinishIfOver();
  static v1::StoreResult ResultOf(const UploadedChunk& chunk, const absl::StatusOr<StoreOutcome>& outcome);

  const CallEnvironment& environment_;
  grpc::CallbackServerContext* const context_;  // gRPC's, until OnDone
  grpc::ByteBuffer* const response_;            // as above
  std::optional<CallScope> scope_;              // until OnDone
  const absl::Time deadline_;
  std::shared_ptr<StoreStream> self_;  // until OnDone
  std::optional<TimerQueue::Id> deadline_timer_;
  Caller caller_;

  // Belong to the reading side.
  grpc::ByteBuffer buffer_;
  MessagePieces pieces_;
  StoreFrameView frame_;
  Upload upload_;
  std::optional<MemoryBudget::Reservation> reservation_;  // of the chunk being received

  enum class Wait { kNone, kCommitBeforeMemory, kCommitBeforeCommit };

  absl::Mutex mu_;
  Wait wait_ ABSL_GUARDED_BY(mu_) = Wait::kNone;
  uint64_t wait_id_ ABSL_GUARDED_BY(mu_) = 0;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<TimerQueue::Id> stall_timer_ ABSL_GUARDED_BY(mu_);
  absl::Time reading_since_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();  // that a frame of a chunk is awaited
  bool late_ ABSL_GUARDED_BY(mu_) = false;                                  // the server's own deadline passed
  bool ending_ ABSL_GUARDED_BY(mu_) = false;  // OnLate uses the context: the call must not end
  bool committing_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t committing_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<Commit> next_commit_ ABSL_GUARDED_BY(mu_);
  bool reading_ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  v1::StoreResponse results_ ABSL_GUARDED_BY(mu_);
  size_t result_text_bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_STORE_STREAM_H_
