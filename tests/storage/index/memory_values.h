#ifndef KDN_TESTS_STORAGE_INDEX_MEMORY_VALUES_H_
#define KDN_TESTS_STORAGE_INDEX_MEMORY_VALUES_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "storage/blob/value_store.h"

namespace kdn::testing {

// A ValueStore in memory whose values a test can lose and damage. Not thread-safe.
class MemoryValues final : public ValueStore {
 public:
  struct Value {
    std::string metadata;
    std::string payload;
    bool damaged = false;
  };

  absl::StatusOr<ValueLocation> Put(ByteSpan metadata, ByteSpan payload) override {
    std::vector<Value>& group = groups[active];
    group.push_back({std::string(AsStringView(metadata)), std::string(AsStringView(payload))});
    // Offsets need not ascend: readers may only rely on the order of Scan.
    return ValueLocation{active, 1000 - group.size(), payload.size()};
  }
  absl::StatusOr<SharedBytes> Get(const ValueLocation& location, ByteRange range) override {
    const auto group = groups.find(location.group);
    if (group == groups.end()) return NotFound("group ", location.group);
    const size_t number = 1000 - location.offset - 1;
    if (number >= group->second.size() || group->second[number].damaged) return DataLoss("value ", location.offset);
    auto bytes = std::make_shared<std::string>(group->second[number].payload);
    return SharedBytes(bytes, AsBytes(*bytes)).Slice(range.offset, range.length);
  }
  absl::Status Sync(uint64_t) override { return absl::OkStatus(); }
  uint64_t flush_failures() const override { return 0; }
  void MarkDead(const ValueLocation&) override {}
  std::vector<ValueGroup> Groups() const override {
    std::vector<ValueGroup> all;
    for (const auto& [id, values] : groups) all.push_back({id, 0, 0, id != active});
    return all;
  }
  absl::Status SealActive() override {
    ++active;
    return absl::OkStatus();
  }
  absl::Status DropGroup(uint64_t group) override {
    return groups.erase(group) == 1 ? absl::OkStatus() : NotFound("group ", group);
  }
  absl::Status Scan(uint64_t group, const ScanOptions&,
                    const std::function<void(const ScannedValue&)>& visit) override {
    if (!groups.contains(group)) return NotFound("group ", group);
    scanned.push_back(group);
    uint64_t number = 0;
    for (const Value& value : groups.at(group)) {
      ++number;
      visit({.location = {group, 1000 - number, value.payload.size()},
             .metadata = AsBytes(value.metadata),
             .status = value.damaged ? DataLoss("damaged") : absl::OkStatus()});
    }
    return absl::OkStatus();
  }
  uint64_t DiskBytes() const override { return 0; }
  absl::Status Close() override { return absl::OkStatus(); }

  uint64_t active = 1;
  std::map<uint64_t, std::vector<Value>> groups;
  std::vector<uint64_t> scanned;
};

}  // namespace kdn::testing

#endif  // KDN_TESTS_STORAGE_INDEX_MEMORY_VALUES_H_
