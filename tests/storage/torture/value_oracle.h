#ifndef KDN_TESTS_STORAGE_TORTURE_VALUE_ORACLE_H_
#define KDN_TESTS_STORAGE_TORTURE_VALUE_ORACLE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/base/status.h"
#include "storage/blob/value_store.h"

// Values whose bytes follow from a seed, so that a test can tell whether a store gives back the right ones without
// remembering them. Works for every ValueStore.

namespace kdn {

struct TestValue {
  uint64_t seed = 0;
  uint32_t payload_bytes = 0;
  uint32_t metadata_bytes = 16;  // at least 16

  friend bool operator==(const TestValue&, const TestValue&) = default;
};

inline std::vector<uint8_t> SeededBytes(uint64_t seed, uint64_t count) {
  std::vector<uint8_t> bytes(AlignUp(count, 8));
  for (uint64_t at = 0; at < bytes.size(); at += 8) {
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    StoreLe<uint64_t>(z ^ (z >> 31), bytes.data() + at);
  }
  bytes.resize(count);
  return bytes;
}

inline std::vector<uint8_t> PayloadOf(const TestValue& value) { return SeededBytes(value.seed, value.payload_bytes); }

// Names the value in its first 16 bytes.
inline std::vector<uint8_t> MetadataOf(const TestValue& value) {
  std::vector<uint8_t> bytes = SeededBytes(~value.seed, value.metadata_bytes);
  StoreLe<uint64_t>(value.seed, bytes.data());
  StoreLe<uint32_t>(value.payload_bytes, bytes.data() + 8);
  StoreLe<uint32_t>(value.metadata_bytes, bytes.data() + 12);
  return bytes;
}

// The value that `metadata` names; nullopt when those are not its bytes.
inline std::optional<TestValue> ValueOf(ByteSpan metadata) {
  if (metadata.size() < 16) return std::nullopt;
  const TestValue value{.seed = LoadLe<uint64_t>(metadata.data()),
                        .payload_bytes = LoadLe<uint32_t>(metadata.data() + 8),
                        .metadata_bytes = LoadLe<uint32_t>(metadata.data() + 12)};
  if (value.metadata_bytes != metadata.size()) return std::nullopt;
  const std::vector<uint8_t> expected = MetadataOf(value);
  return std::equal(metadata.begin(), metadata.end(), expected.begin()) ? std::optional<TestValue>(value)
                                                                        : std::nullopt;
}

enum class ReadResult { kRight, kMiss, kWrong };

// Reads `location` whole and by one range and judges what comes: an error a miss is made of is kMiss, any other error
// or a wrong byte is kWrong.
inline ReadResult Judge(ValueStore& store, const ValueLocation& location, const TestValue& value) {
  const std::vector<uint8_t> expected = PayloadOf(value);
  const auto is_miss = [](const absl::Status& status) { return absl::IsNotFound(status) || absl::IsDataLoss(status); };
  const auto whole = store.Get(location, {0, location.length});
  if (!whole.ok()) return is_miss(whole.status()) ? ReadResult::kMiss : ReadResult::kWrong;
  const ByteSpan got = whole->span();
  if (!std::equal(got.begin(), got.end(), expected.begin(), expected.end())) return ReadResult::kWrong;
  const ByteRange range{location.length / 3, location.length / 2};
  const auto part = store.Get(location, range);
  if (!part.ok()) return is_miss(part.status()) ? ReadResult::kMiss : ReadResult::kWrong;
  const ByteSpan wanted = ByteSpan(expected).subspan(range.offset, range.length);
  const ByteSpan had = part->span();
  return std::equal(had.begin(), had.end(), wanted.begin(), wanted.end()) ? ReadResult::kRight : ReadResult::kWrong;
}

}  // namespace kdn

#endif  // KDN_TESTS_STORAGE_TORTURE_VALUE_ORACLE_H_
