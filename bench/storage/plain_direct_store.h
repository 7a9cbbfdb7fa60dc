#ifndef KDN_BENCH_STORAGE_PLAIN_DIRECT_STORE_H_
#define KDN_BENCH_STORAGE_PLAIN_DIRECT_STORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage/blob/value_store.h"

namespace kdn::bench {

// The baseline of the storage benchmark: payloads appended with O_DIRECT to 256 MiB files and read back with pread.
// Not a store: no metadata, no checksum, no recovery; one process, one run. Payload sizes must be multiples of 4 KiB
// and payload addresses 4 KiB aligned, so that nothing is copied. Thread-safe.
class PlainDirectStore : public ValueStore {
 public:
  // Files go into the existing folder `folder`; those of an earlier run are read, not appended to.
  PlainDirectStore(std::string folder, SyncMode sync);
  ~PlainDirectStore() override;

  absl::StatusOr<ValueLocation> Put(ByteSpan metadata, ByteSpan payload) override;
  absl::StatusOr<SharedBytes> Get(const ValueLocation& location, ByteRange range) override;
  absl::Status Sync(uint64_t failures_before) override;
  uint64_t flush_failures() const override { return 0; }
  void MarkDead(const ValueLocation& location) override;
  std::vector<ValueGroup> Groups() const override;
  absl::Status SealActive() override;
  absl::Status DropGroup(uint64_t group) override;
  absl::Status Scan(uint64_t group, const ScanOptions& options,
                    const std::function<void(const ScannedValue&)>& visit) override;
  uint64_t DiskBytes() const override;
  absl::Status Close() override;

 private:
  class Buffers;
  struct File {
    int fd = -1;
    uint64_t used_bytes = 0;
    uint64_t live_bytes = 0;
    bool sealed = false;
  };

  std::string Path(uint64_t group) const;
  void OpenGroup(uint64_t group);

  const std::string folder_;
  const SyncMode sync_;
  mutable std::mutex mutex_;  // guards files_
  std::vector<File> files_;   // by group
  std::shared_ptr<Buffers> buffers_;
};

}  // namespace kdn::bench

#endif  // KDN_BENCH_STORAGE_PLAIN_DIRECT_STORE_H_
