#ifndef KDN_STORAGE_ROCKSDB_ROCKS_VALUE_STORE_IMPL_H_
#define KDN_STORAGE_ROCKSDB_ROCKS_VALUE_STORE_IMPL_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "rocksdb/env.h"
#include "storage/blob/value_store.h"
#include "storage/rocksdb/resuming_writer.h"
#include "storage/rocksdb/rocks_value_store.h"
#include "storage/rocksdb/use_gate.h"
#include "storage/rocksdb/value_db.h"

namespace kdn {

class RocksValueStore final : public ValueStore {
 public:
  struct Group {
    uint64_t next_sequence = 0;
    uint64_t disk_bytes = 0;
    uint64_t live_bytes = 0;
    int in_flight = 0;  // Puts that have a number and are not done
    bool full = false;  // takes no further Put
  };
  struct Parts {
    std::shared_ptr<rocksdb::Env> env;
    rocksdb::FileLock* lock = nullptr;  // released by Close
    std::unique_ptr<ValueDb> db;
    std::map<uint64_t, Group> groups;
    uint64_t next_group = 1;
  };
  RocksValueStore(const RocksValueStoreOptions& options, Parts parts);
  ~RocksValueStore() override;

  absl::StatusOr<ValueLocation> Put(ByteSpan metadata, ByteSpan payload) override;
  absl::StatusOr<SharedBytes> Get(const ValueLocation& location, ByteRange range) override;
  absl::Status Sync(uint64_t failures_before) override;
  uint64_t flush_failures() const override;
  void MarkDead(const ValueLocation& location) override;
  std::vector<ValueGroup> Groups() const override;
  absl::Status SealActive() override;
  absl::Status DropGroup(uint64_t id) override;
  absl::Status Scan(uint64_t id, const ScanOptions& options,
                    const std::function<void(const ScannedValue&)>& visit) override;
  uint64_t DiskBytes() const override;
  absl::Status Close() override;

  // Where the number of the next group is kept, outside of the database: it survives a quarantine.
  static std::string NextGroupPath(const std::string& path) { return path + ".next_group"; }
  static uint64_t RecordBytes(uint64_t metadata_bytes, uint64_t payload_bytes);

 private:
  struct Slot {
    uint64_t group = 0;
    uint64_t sequence = 0;
  };
  absl::StatusOr<Slot> Reserve(uint64_t record_bytes);
  void Settle(const Slot& slot, uint64_t payload_bytes);
  void GiveUp(const Slot& slot, uint64_t record_bytes);
  // Unavailable when closed, or when opening again has failed.
  absl::StatusOr<UseGate::Use> Enter() const;
  // After a log could not be written: opens the database again, as soon as there is space. Call without a Use.
  void ReopenIfDue();
  absl::Status BeginGroup() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // DataLoss for a value that should be there, NotFound when its group was dropped.
  absl::Status Missing(const ValueLocation& location) const;
  void VisitRecord(const std::string& key, std::string_view row, const ScanOptions& options,
                   const std::function<void(const ScannedValue&)>& visit);
  // One record after the other, past those that cannot be read.
  absl::Status ScanDamaged(uint64_t id, uint64_t from_sequence, const ScanOptions& options,
                           const std::function<void(const ScannedValue&)>& visit);
  void RunSyncer();
  // One flush; what fails, but for want of space, is counted.
  absl::Status Flush();

  const RocksValueStoreOptions options_;
  const std::shared_ptr<rocksdb::Env> env_;
  std::unique_ptr<ValueDb> db_;  // changes only while gate_ is paused or shut; null once closed
  mutable UseGate gate_;
  ResumingWriter writer_;

  absl::Mutex close_mutex_;  // held through Close
  rocksdb::FileLock* lock_ ABSL_GUARDED_BY(close_mutex_);

  mutable absl::Mutex mutex_;
  std::map<uint64_t, Group> groups_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_group_ ABSL_GUARDED_BY(mutex_);
  uint64_t active_ ABSL_GUARDED_BY(mutex_) = 0;  // 0 = none

  mutable absl::Mutex syncer_mutex_;
  bool unsynced_ ABSL_GUARDED_BY(syncer_mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(syncer_mutex_) = false;
  uint64_t flush_failures_ ABSL_GUARDED_BY(syncer_mutex_) = 0;
  absl::Status last_failure_ ABSL_GUARDED_BY(syncer_mutex_);
  std::thread syncer_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_ROCKS_VALUE_STORE_IMPL_H_
