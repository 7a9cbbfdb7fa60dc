#ifndef KDN_SERVER_RPC_STREAM_CREDIT_H_
#define KDN_SERVER_RPC_STREAM_CREDIT_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace kdn {

// Bytes of one stream that were given to gRPC and not released yet. Shared by the stream and the slices it sent, which
// gRPC may release after the call is over. Thread-safe.
class StreamCredit {
 public:
  // `resume` is called when there is room again after HasRoom said no: on the thread that releases a slice, so it must
  // not block.
  StreamCredit(uint64_t window_bytes, std::function<void()> resume)
      : window_bytes_(window_bytes), resume_(std::move(resume)) {}

  // Whether less than the window is out; if not, `resume` will be called.
  bool HasRoom() {
    absl::MutexLock lock(&mu_);
    waiting_ = out_bytes_ >= window_bytes_;
    return !waiting_;
  }
  // The same question, without asking for `resume`.
  bool IsFull() {
    absl::MutexLock lock(&mu_);
    return out_bytes_ >= window_bytes_;
  }
  void Take(uint64_t bytes) {
    absl::MutexLock lock(&mu_);
    out_bytes_ += bytes;
  }
  void Release(uint64_t bytes) {
    {
      absl::MutexLock lock(&mu_);
      out_bytes_ -= bytes;
      if (!waiting_ || out_bytes_ >= window_bytes_) return;
      waiting_ = false;
    }
    resume_();
  }

 private:
  const uint64_t window_bytes_;
  const std::function<void()> resume_;
  absl::Mutex mu_;
  uint64_t out_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool waiting_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_STREAM_CREDIT_H_
