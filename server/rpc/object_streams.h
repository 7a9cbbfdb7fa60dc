#ifndef KDN_SERVER_RPC_OBJECT_STREAMS_H_
#define KDN_SERVER_RPC_OBJECT_STREAMS_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "kdn/v1/kdn.pb.h"
#include "server/rpc/call.h"
#include "server/rpc/environment.h"

// PutObject and GetObject. Objects are few and at most kMaxCalibrationBytes, so that a call holds one whole: its bytes
// are reserved in the memory budget. A put that finds no room at once, and a get that finds none in half the time to
// its deadline, are refused (RESOURCE_EXHAUSTED).

namespace kdn {

// Cancels a stream whose client neither sends nor reads for CallLimits::stall_timeout, or that has passed its deadline.
// Owned by the stream, which calls Done before its context goes. Thread-safe.
class StreamWatch : public std::enable_shared_from_this<StreamWatch> {
 public:
  StreamWatch(const CallEnvironment& environment, grpc::CallbackServerContext* context);

  void Start();
  // It is the client's turn from now on; or the server's.
  void AwaitClient();
  void ClientActed();
  // Waits for a cancellation that is under way.
  void Done();
  bool gave_up() const;

 private:
  void Check();

  const CallEnvironment& environment_;
  grpc::CallbackServerContext* const context_;
  const absl::Time deadline_;
  mutable absl::Mutex mu_;
  absl::Time awaiting_since_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  std::optional<TimerQueue::Id> timer_ ABSL_GUARDED_BY(mu_);
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelling_ ABSL_GUARDED_BY(mu_) = false;
  bool gave_up_ ABSL_GUARDED_BY(mu_) = false;
};

// Deletes itself when gRPC is done with it.
class PutObjectStream final : public grpc::ServerReadReactor<v1::PutObjectFrame> {
 public:
  // The result is for gRPC to own.
  static grpc::ServerReadReactor<v1::PutObjectFrame>* Start(const CallEnvironment& environment,
                                                            grpc::CallbackServerContext* context,
                                                            v1::PutObjectResponse* response);

 private:
  PutObjectStream(const CallEnvironment& environment, grpc::CallbackServerContext* context,
                  v1::PutObjectResponse* response);

  void OnReadDone(bool ok) override;
  void OnDone() override;

  void ReadNext();
  absl::Status Begin(const v1::PutObjectBegin& begin);
  absl::Status Take();
  void Store();
  void End(const absl::Status& status);

  const CallEnvironment& environment_;
  grpc::CallbackServerContext* const context_;
  v1::PutObjectResponse* const response_;
  CallScope scope_;
  const std::shared_ptr<StreamWatch> watch_;  // with timers that are due
  Caller caller_;
  v1::PutObjectFrame frame_;
  bool begun_ = false;
  PutObjectRequest request_;
  std::optional<MemoryBudget::Reservation> reservation_;
  std::shared_ptr<AlignedBuffer> buffer_;  // shared with the store while it takes them
  uint64_t object_bytes_ = 0;
  uint64_t received_bytes_ = 0;
};

// As above.
class GetObjectStream final : public grpc::ServerWriteReactor<v1::GetObjectFrame> {
 public:
  static grpc::ServerWriteReactor<v1::GetObjectFrame>* Start(const CallEnvironment& environment,
                                                             grpc::CallbackServerContext* context,
                                                             const v1::GetObjectRequest* request);

 private:
  GetObjectStream(const CallEnvironment& environment, grpc::CallbackServerContext* context);

  void OnWriteDone(bool ok) override;
  void OnDone() override;

  absl::Status ParseRequest(const v1::GetObjectRequest& request);
  // Waits for room in the memory budget, then fetches and writes.
  void AwaitMemory();
  absl::Status Fetch();
  void WriteNext();
  void End(const absl::Status& status);

  const CallEnvironment& environment_;
  grpc::CallbackServerContext* const context_;
  CallScope scope_;
  const std::shared_ptr<StreamWatch> watch_;  // with timers that are due
  Caller caller_;
  std::optional<Fingerprint> fingerprint_;
  Digest digest_;
  std::optional<MemoryBudget::Reservation> reservation_;
  StoredObject object_;
  uint64_t sent_bytes_ = 0;
  v1::GetObjectFrame frame_;
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_OBJECT_STREAMS_H_
