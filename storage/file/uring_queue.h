#ifndef KDN_STORAGE_FILE_URING_QUEUE_H_
#define KDN_STORAGE_FILE_URING_QUEUE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "storage/file/file_system.h"

struct io_uring;

namespace kdn {

// io_uring instances for reuse: setting one up costs more than the reads of one value. Thread-safe.
class UringPool {
 public:
  static constexpr unsigned kEntries = 4;

  UringPool() = default;
  ~UringPool();

  // An idle ring; null where the kernel refuses them (old, or forbidden by a sandbox).
  io_uring* Take();
  // `ring` must have nothing in flight.
  void Return(io_uring* ring);

 private:
  static constexpr size_t kMaxIdle = 32;

  absl::Mutex mu_;
  bool refused_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<io_uring*> idle_ ABSL_GUARDED_BY(mu_);
};

// A queue of `file`, open as `fd`, over one ring of the pool; both must outlive it. Null when there is no ring.
std::unique_ptr<ReadQueue> NewUringQueue(UringPool& pool, File& file, int fd);

}  // namespace kdn

#endif  // KDN_STORAGE_FILE_URING_QUEUE_H_
