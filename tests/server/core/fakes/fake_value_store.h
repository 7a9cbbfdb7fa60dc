#ifndef KDN_TESTS_SERVER_CORE_FAKES_FAKE_VALUE_STORE_H_
#define KDN_TESTS_SERVER_CORE_FAKES_FAKE_VALUE_STORE_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "storage/blob/value_store.h"

namespace kdn::testing {

// Values in memory, with faults on request. Offsets are indices of records.
class FakeValueStore : public ValueStore {
 public:
  static constexpr uint64_t kRecordOverheadBytes = 64;

  // Groups are sealed when they hold `group_bytes`; Puts beyond `disk_bytes` find the disk full.
  explicit FakeValueStore(uint64_t group_bytes = uint64_t{1} << 40, uint64_t disk_bytes = uint64_t{1} << 40)
      : group_bytes_(group_bytes), disk_limit_bytes_(disk_bytes) {}

  absl::StatusOr<ValueLocation> Put(ByteSpan metadata, ByteSpan payload) override {
    std::function<void()> hook;
    {
      absl::MutexLock lock(&mutex_);
      hook = std::exchange(before_put_, nullptr);
    }
    if (hook) hook();
    absl::MutexLock lock(&mutex_);
    if (closed_) return Unavailable("closed");
    if (!put_status_.ok()) return put_status_;
    const uint64_t bytes = metadata.size() + payload.size() + kRecordOverheadBytes;
    if (DiskBytesLocked() + bytes > disk_limit_bytes_) return ResourceExhausted("fake disk is full");
    if (groups_.empty() || groups_.rbegin()->second.sealed) groups_[++last_group_];
    Group& group = groups_.rbegin()->second;
    group.bytes += bytes;
    auto payload_copy = std::make_shared<std::vector<uint8_t>>(payload.begin(), payload.end());
    group.records.push_back({{metadata.begin(), metadata.end()}, payload_copy, Crc32c(payload), false});
    ++puts_;
    if (group.bytes >= group_bytes_) group.sealed = true;
    return ValueLocation{last_group_, group.records.size() - 1, payload.size()};
  }

  absl::StatusOr<SharedBytes> Get(const ValueLocation& location, ByteRange range) override {
    std::function<void()> hook;
    {
      absl::MutexLock lock(&mutex_);
      hook = std::exchange(before_get_, nullptr);
    }
    if (hook) hook();
    absl::MutexLock lock(&mutex_);
    if (closed_) return Unavailable("closed");
    ++gets_;
    if (!get_status_.ok()) return get_status_;
    const auto group = groups_.find(location.group);
    if (group == groups_.end()) return NotFound("group ", location.group, " is gone");
    if (location.offset >= group->second.records.size()) return DataLoss("no record at ", location.offset);
    const Record& record = group->second.records[location.offset];
    if (record.payload->size() != location.length) return DataLoss("another record");
    if (range.offset > location.length || range.length > location.length - range.offset) return OutOfRange("range");
    const ByteSpan bytes(*record.payload);
    if (range.length == location.length && Crc32c(bytes) != record.crc32c) return DataLoss("record is damaged");
    return SharedBytes(record.payload, bytes.subspan(range.offset, range.length));
  }

  absl::Status Sync(uint64_t failures_before) override {
    absl::MutexLock lock(&mutex_);
    ++syncs_;
    return flush_failures_ > failures_before ? Internal("fake flush failed") : absl::OkStatus();
  }

  uint64_t flush_failures() const override {
    absl::MutexLock lock(&mutex_);
    return flush_failures_;
  }

  void MarkDead(const ValueLocation& location) override {
    absl::MutexLock lock(&mutex_);
    const auto group = groups_.find(location.group);
    if (group != groups_.end()) group->second.records.at(location.offset).dead = true;
  }

  std::vector<ValueGroup> Groups() const override {
    absl::MutexLock lock(&mutex_);
    std::vector<ValueGroup> groups;
    for (const auto& [id, group] : groups_) {
      uint64_t live = 0;
      for (const Record& record : group.records) live += record.dead ? 0 : record.payload->size();
      groups.push_back({id, group.bytes, live, group.sealed});
    }
    return groups;
  }

  absl::Status SealActive() override {
    absl::MutexLock lock(&mutex_);
    if (!groups_.empty()) groups_.rbegin()->second.sealed = true;
    return absl::OkStatus();
  }

  absl::Status DropGroup(uint64_t group) override {
    absl::MutexLock lock(&mutex_);
    const auto it = groups_.find(group);
    if (it == groups_.end()) return NotFound("group ", group);
    if (!it->second.sealed) return FailedPrecondition("group ", group, " is not sealed");
    groups_.erase(it);
    return absl::OkStatus();
  }

  absl::Status Scan(uint64_t group, const ScanOptions& options,
                    const std::function<void(const ScannedValue&)>& visit) override {
    std::vector<std::pair<ValueLocation, std::vector<uint8_t>>> values;
    {
      absl::MutexLock lock(&mutex_);
      const auto it = groups_.find(group);
      if (it == groups_.end()) return NotFound("group ", group);
      for (size_t i = 0; i < it->second.records.size(); ++i) {
        const Record& record = it->second.records[i];
        values.push_back({{group, i, record.payload->size()}, record.metadata});
      }
    }
    for (const auto& [location, metadata] : values) visit({location, metadata, absl::OkStatus()});
    return absl::OkStatus();
  }

  uint64_t DiskBytes() const override {
    absl::MutexLock lock(&mutex_);
    return DiskBytesLocked();
  }

  absl::Status Close() override {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    return absl::OkStatus();
  }

  // Faults and figures.
  void SetPutStatus(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    put_status_ = std::move(status);
  }
  void SetGetStatus(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    get_status_ = std::move(status);
  }
  void SetDiskLimit(uint64_t bytes) {
    absl::MutexLock lock(&mutex_);
    disk_limit_bytes_ = bytes;
  }
  // As if values put before had been lost on their way to the disk.
  void FailFlush() {
    absl::MutexLock lock(&mutex_);
    ++flush_failures_;
  }
  // Called once, before the next Put does anything.
  void OnNextPut(std::function<void()> hook) {
    absl::MutexLock lock(&mutex_);
    before_put_ = std::move(hook);
  }
  // Called once, before the next Get looks at anything.
  void OnNextGet(std::function<void()> hook) {
    absl::MutexLock lock(&mutex_);
    before_get_ = std::move(hook);
  }
  // Flips a bit of a stored payload.
  void Corrupt(const ValueLocation& location, uint64_t byte) {
    absl::MutexLock lock(&mutex_);
    Record& record = groups_.at(location.group).records.at(location.offset);
    auto damaged = std::make_shared<std::vector<uint8_t>>(*record.payload);
    damaged->at(byte) ^= 0x10;
    record.payload = damaged;
  }
  uint64_t disk_limit() const {
    absl::MutexLock lock(&mutex_);
    return disk_limit_bytes_;
  }
  uint64_t puts() const {
    absl::MutexLock lock(&mutex_);
    return puts_;
  }
  uint64_t gets() const {
    absl::MutexLock lock(&mutex_);
    return gets_;
  }
  uint64_t syncs() const {
    absl::MutexLock lock(&mutex_);
    return syncs_;
  }

 private:
  struct Record {
    std::vector<uint8_t> metadata;
    std::shared_ptr<std::vector<uint8_t>> payload;
    uint32_t crc32c = 0;
    bool dead = false;
  };
  struct Group {
    std::vector<Record> records;
    uint64_t bytes = 0;
    bool sealed = false;
  };

  uint64_t DiskBytesLocked() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    uint64_t bytes = 0;
    for (const auto& [id, group] : groups_) bytes += group.bytes;
    return bytes;
  }

  const uint64_t group_bytes_;
  mutable absl::Mutex mutex_;
  uint64_t disk_limit_bytes_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Group> groups_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_group_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status put_status_ ABSL_GUARDED_BY(mutex_);
  absl::Status get_status_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> before_get_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> before_put_ ABSL_GUARDED_BY(mutex_);
  uint64_t puts_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t gets_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t syncs_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t flush_failures_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kdn::testing

#endif  // KDN_TESTS_SERVER_CORE_FAKES_FAKE_VALUE_STORE_H_
