#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/clock.h"
#include "kernels/base/crc32c.h"
#include "storage/segment/format.h"
#include "storage/segment/segment_store.h"
#include "tests/storage/torture/fault_file_system.h"
#include "tests/storage/torture/value_oracle.h"

// Damage of the medium, stratified over the parts of a segment file: every damaged value is missed, every other value
// is served, the store opens and takes new values.

namespace kdn {
namespace {

constexpr char kDir[] = "/data/values";

int DamagesPerPart() {
  const char* text = std::getenv("KDN_TORTURE_DAMAGES");
  return text == nullptr ? 12 : std::atoi(text);
}

struct Stored {
  TestValue value;
  ValueLocation location;

  uint64_t begin() const { return LocationRecordOffset(location); }
  uint64_t payload() const { return begin() + LocationHeadBytes(location); }
  uint64_t end() const { return payload() + AlignUp(location.length, kSegmentBlockBytes); }
};

// Bytes [begin, end) of the file of `group` that are no longer what they were.
struct Damage {
  uint64_t group = 0;
  uint64_t begin = 0;
  uint64_t end = 0;
};

class SegmentDamageTest : public ::testing::Test {
 protected:
  // Two sealed segments and one that a killed process left open.
  void SetUp() override {
    FaultFileSystem file_system(1);
    uint64_t nonce = 0x1234567;
    const auto opened = Open(file_system, nonce);
    ASSERT_TRUE(opened.ok()) << opened.status();
    ValueStore& store = **opened;
    for (uint64_t seed = 1; seed <= 36; ++seed) {
      const TestValue value{.seed = seed * 1000003,
                            .payload_bytes = static_cast<uint32_t>(seed * 1777 % 30000),
                            .metadata_bytes = static_cast<uint32_t>(seed % 7 == 0 ? 5000 : 16 + seed)};
      const auto location = store.Put(MetadataOf(value), PayloadOf(value));
      ASSERT_TRUE(location.ok()) << location.status();
      stored_.push_back({value, *location});
      const bool full = seed % 12 == 0 && seed < 36;
      ASSERT_TRUE(!full || store.SealActive().ok());
    }
    file_system.KillProcess();
    for (const ValueGroup& group : store.Groups()) {
      images_[group.id] = file_system.Contents(PathOf(group.id));
    }
    ASSERT_EQ(images_.size(), 3u);
    last_group_ = images_.rbegin()->first;
  }

  static std::string PathOf(uint64_t group) { return std::string(kDir) + "/" + SegmentFileName(group); }

  static absl::StatusOr<std::unique_ptr<SegmentStore>> Open(FaultFileSystem& file_system, uint64_t& nonce) {
    const SegmentStoreOptions options{.path = kDir,
                                      .segment_bytes = 1 << 20,
                                      .allocation_bytes = 64 * 1024,
                                      .sync = SyncMode::kAlways,
                                      .random = [&nonce] { return ++nonce * 0x9e3779b97f4a7c15u; }};
    return SegmentStore::Open(options, file_system, Clock::System());
  }

  // Opens a store over the files with `image` in the place of the one of `damage.group` and checks every value. Those
  // the damage reaches may be missing; `must_miss` says they have to be.
  void Check(const Damage& damage, const std::vector<uint8_t>& image,
             const std::function<bool(const Stored&)>& must_miss) {
    FaultFileSystem file_system(2);
    for (const auto& [group, bytes] : images_) file_system.SetContents(PathOf(group), bytes);
    file_system.SetContents(PathOf(damage.group), image);
    uint64_t nonce = 0x7654321;
    const auto opened = Open(file_system, nonce);
    ASSERT_TRUE(opened.ok()) << opened.status();
    ValueStore& store = **opened;
    std::map<uint64_t, absl::Status> scanned;  // by seed
    for (const ValueGroup& group : store.Groups()) {
      const auto visit = [&](const ScannedValue& met) {
        const auto value = ValueOf(met.metadata);
        ASSERT_TRUE(!met.status.ok() || value.has_value());
        if (value.has_value()) scanned[value->seed] = met.status;
      };
      ASSERT_TRUE(store.Scan(group.id, {.verify_payload = true}, visit).ok());
    }
    for (const Stored& stored : stored_) {
      const ReadResult result = Judge(store, stored.location, stored.value);
      ASSERT_NE(result, ReadResult::kWrong) << stored.value.seed;
      const bool hit =
          stored.location.group == damage.group && stored.begin() < damage.end && damage.begin < stored.end();
      const auto met = scanned.find(stored.value.seed);
      const bool whole = met != scanned.end() && met->second.ok();
      ASSERT_TRUE(hit || (result == ReadResult::kRight && whole))
          << "untouched value " << stored.value.seed << " is lost";
      ASSERT_TRUE(!hit || !must_miss(stored) || (result == ReadResult::kMiss || !whole))
          << "damage of value " << stored.value.seed << " went unnoticed";
    }
    const TestValue fresh{.seed = 42, .payload_bytes = 10000};
    const auto location = store.Put(MetadataOf(fresh), PayloadOf(fresh));
    ASSERT_TRUE(location.ok()) << location.status();
    ASSERT_EQ(Judge(store, *location, fresh), ReadResult::kRight);
  }

  // Flips one bit of byte `at`.
  void CheckFlip(uint64_t group, uint64_t at, bool covered) {
    SCOPED_TRACE(StrCat("bit flip at ", at, " of segment ", group));
    std::vector<uint8_t> image = images_[group];
    image[at] ^= static_cast<uint8_t>(1 << random_() % 8);
    Check({group, at, at + 1}, image, [covered](const Stored&) { return covered; });
  }

  const Stored& Any() { return stored_[random_() % stored_.size()]; }
  const Stored& AnyWithPayload() {
    while (true) {
      const Stored& stored = Any();
      if (stored.location.length > 0) return stored;
    }
  }
  uint64_t AnyGroup() { return std::next(images_.begin(), static_cast<int>(random_() % images_.size()))->first; }

  std::mt19937 random_{7};
  std::vector<Stored> stored_;
  std::map<uint64_t, std::vector<uint8_t>> images_;
  uint64_t last_group_ = 0;
};

TEST_F(SegmentDamageTest, FlippedBitsInSegmentHeadersCostNothing) {
  for (int i = 0; i < DamagesPerPart(); ++i) {
    ASSERT_NO_FATAL_FAILURE(CheckFlip(AnyGroup(), random_() % kSegmentBlockBytes, /*covered=*/false));
  }
}

TEST_F(SegmentDamageTest, FlippedBitsInFootersCostNothing) {
  for (int i = 0; i < DamagesPerPart(); ++i) {
    const uint64_t group = AnyGroup();
    if (group == last_group_) continue;
    const uint64_t size = images_[group].size();
    ASSERT_NO_FATAL_FAILURE(CheckFlip(group, size - 1 - random_() % kSegmentBlockBytes, /*covered=*/false));
  }
}

TEST_F(SegmentDamageTest, FlippedBitsInRecordHeadersAreMisses) {
  for (int i = 0; i < DamagesPerPart(); ++i) {
    const Stored& stored = Any();
    const uint64_t at = stored.begin() + random_() % kRecordHeaderBytes;
    ASSERT_NO_FATAL_FAILURE(CheckFlip(stored.location.group, at, /*covered=*/true));
  }
}

TEST_F(SegmentDamageTest, FlippedBitsInMetadataAreFoundByScans) {
  for (int i = 0; i < DamagesPerPart(); ++i) {
    const Stored& stored = Any();
    const uint64_t at = stored.begin() + kRecordHeaderBytes + random_() % stored.value.metadata_bytes;
    ASSERT_NO_FATAL_FAILURE(CheckFlip(stored.location.group, at, /*covered=*/true));
  }
}

TEST_F(SegmentDamageTest, FlippedBitsInPayloadsAreMisses) {
  for (int i = 0; i < DamagesPerPart(); ++i) {
    const Stored& stored = AnyWithPayload();
    const uint64_t at = stored.payload() + random_() % stored.location.length;
    ASSERT_NO_FATAL_FAILURE(CheckFlip(stored.location.group, at, /*covered=*/true));
  }
}

TEST_F(SegmentDamageTest, TruncatedFilesCostOnlyWhatWasCut) {
  for (int i = 0; i < DamagesPerPart(); ++i) {
    const uint64_t group = AnyGroup();
    std::vector<uint8_t> image = images_[group];
    uint64_t size = random_() % image.size();
    if (random_() % 2 == 0) size -= size % kSegmentBlockBytes;
    SCOPED_TRACE(StrCat("segment ", group, " cut to ", size));
    const Damage damage{group, size, image.size()};
    image.resize(size);
    ASSERT_NO_FATAL_FAILURE(
        Check(damage, image, [size](const Stored& s) { return s.payload() + s.location.length > size; }));
  }
}

TEST_F(SegmentDamageTest, OverwrittenStretchesCostOnlyWhatTheyCover) {
  for (int i = 0; i < DamagesPerPart(); ++i) {
    const uint64_t group = AnyGroup();
    std::vector<uint8_t> image = images_[group];
    const uint64_t begin = random_() % image.size();
    const uint64_t end = std::min<uint64_t>(image.size(), begin + 1 + random_() % 40000);
    const bool zeros = random_() % 2 == 0;
    for (uint64_t at = begin; at < end; ++at) image[at] = zeros ? 0 : static_cast<uint8_t>(random_());
    SCOPED_TRACE(StrCat("segment ", group, " overwritten from ", begin, " to ", end, zeros ? " with zeros" : ""));
    // Only the last segment has no footer. Without header and first record as well nothing tells its records from bytes
    // that look like some, so all of it may be missing.
    const bool lost_its_nonce =
        group == images_.rbegin()->first && begin < kFirstRecordOffset && end > kFirstRecordOffset;
    const Damage damage = lost_its_nonce ? Damage{group, 0, image.size()} : Damage{group, begin, end};
    ASSERT_NO_FATAL_FAILURE(Check(damage, image, [](const Stored&) { return false; }));
  }
}

TEST_F(SegmentDamageTest, RecordsInTheWrongPlaceAreMisses) {
  for (int i = 0; i < DamagesPerPart(); ++i) {
    // A record that is intact, but of another place: what a misdirected write leaves.
    const Stored& from = Any();
    const Stored& to = Any();
    std::vector<uint8_t> image = images_[to.location.group];
    const std::vector<uint8_t>& source = images_[from.location.group];
    const uint64_t bytes = std::min(from.end() - from.begin(), image.size() - to.begin());
    std::copy_n(source.begin() + static_cast<int64_t>(from.begin()), bytes,
                image.begin() + static_cast<int64_t>(to.begin()));
    const bool same = image == images_[to.location.group];
    SCOPED_TRACE(StrCat("value ", from.value.seed, " over ", to.value.seed));
    ASSERT_NO_FATAL_FAILURE(Check({to.location.group, to.begin(), to.begin() + bytes}, image,
                                  [&](const Stored& s) { return !same && s.begin() == to.begin(); }));
  }
}

TEST_F(SegmentDamageTest, ExchangedFilesServeNothing) {
  const uint64_t first = images_.begin()->first;
  for (const auto& [group, bytes] : images_) {
    if (group == first) continue;
    SCOPED_TRACE(StrCat("segment ", group, " in the place of ", first));
    ASSERT_NO_FATAL_FAILURE(Check({first, 0, UINT64_MAX}, bytes, [](const Stored&) { return true; }));
  }
}

TEST_F(SegmentDamageTest, UnreadableSectorsCostOnlyWhatTheyCoverAndNothingIsCutOff) {
  for (int i = 0; i < DamagesPerPart(); ++i) {
    FaultFileSystem file_system(3);
    for (const auto& [group, bytes] : images_) file_system.SetContents(PathOf(group), bytes);
    const uint64_t group = AnyGroup();
    const uint64_t at = random_() % images_[group].size() / kSegmentBlockBytes * kSegmentBlockBytes;
    SCOPED_TRACE(StrCat("segment ", group, " unreadable at ", at));
    file_system.MakeUnreadable(PathOf(group), at, kSegmentBlockBytes);
    uint64_t nonce = 1;
    {
      const auto opened = Open(file_system, nonce);
      ASSERT_TRUE(opened.ok()) << opened.status();
      for (const Stored& stored : stored_) {
        const bool hit = stored.location.group == group && stored.begin() <= at && at < stored.end();
        const ReadResult result = Judge(**opened, stored.location, stored.value);
        ASSERT_EQ(result, hit ? ReadResult::kMiss : ReadResult::kRight) << stored.value.seed;
      }
    }
    // The sector comes back, as after a loose cable: so does everything in it.
    file_system.Heal();
    const auto opened = Open(file_system, nonce);
    ASSERT_TRUE(opened.ok()) << opened.status();
    for (const Stored& stored : stored_) {
      ASSERT_EQ(Judge(**opened, stored.location, stored.value), ReadResult::kRight) << stored.value.seed;
    }
  }
}

TEST_F(SegmentDamageTest, RecordsMadeUpInsideAPayloadAreNotBelieved) {
  // A tenant stores bytes that look like a record of this very segment and offset, all but the nonce; then the header
  // of the record around them is damaged, so that a scan has to search through them.
  FaultFileSystem file_system(4);
  uint64_t nonce = 99;
  std::unique_ptr<SegmentStore> store = std::move(*Open(file_system, nonce));
  const TestValue before{.seed = 5, .payload_bytes = 9000};
  const TestValue after{.seed = 6, .payload_bytes = 9000};
  const auto first = store->Put(MetadataOf(before), PayloadOf(before));
  ASSERT_TRUE(first.ok());
  const uint64_t record = kFirstRecordOffset + RecordBytes(before.metadata_bytes, before.payload_bytes);
  std::vector<uint8_t> forged(3 * kSegmentBlockBytes);
  EncodeRecordHeader({.segment_id = first->group,
                      .segment_nonce = 12345,
                      .record_offset = record + 2 * kSegmentBlockBytes,
                      .sequence = 1000,
                      .payload_bytes = 100,
                      .metadata_bytes = 0,
                      .metadata_crc = 0,
                      .payload_crc = 0},
                     forged.data() + kSegmentBlockBytes);
  ASSERT_TRUE(store->Put({}, forged).ok());
  const auto last = store->Put(MetadataOf(after), PayloadOf(after));
  ASSERT_TRUE(last.ok());
  store = nullptr;
  std::vector<uint8_t> image = file_system.Contents(PathOf(first->group));
  image[record] ^= 1;
  file_system.SetContents(PathOf(first->group), image);

  store = std::move(*Open(file_system, nonce));
  std::vector<ScannedValue> seen;
  ASSERT_TRUE(store->Scan(first->group, {}, [&](const ScannedValue& value) { seen.push_back(value); }).ok());
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_TRUE(seen[0].status.ok());
  EXPECT_TRUE(absl::IsDataLoss(seen[1].status));
  EXPECT_EQ(seen[1].location.offset, record);
  EXPECT_TRUE(seen[2].status.ok());
  EXPECT_EQ(seen[2].location, *last);
  EXPECT_EQ(Judge(*store, *last, after), ReadResult::kRight);
}

TEST_F(SegmentDamageTest, ANewerFormatVersionIsRefusedAndLeftAlone) {
  for (const bool footer : {false, true}) {
    FaultFileSystem file_system(5);
    std::vector<uint8_t> image = images_.begin()->second;
    uint8_t* block = image.data() + (footer ? image.size() - kSegmentBlockBytes : 0);
    StoreLe<uint16_t>(2, block + 8);
    StoreLe<uint32_t>(Crc32c(ByteSpan(block, kSegmentBlockBytes - 4)), block + kSegmentBlockBytes - 4);
    file_system.SetContents(PathOf(1), image);
    uint64_t nonce = 1;
    EXPECT_TRUE(absl::IsFailedPrecondition(Open(file_system, nonce).status()));
    EXPECT_EQ(file_system.Contents(PathOf(1)), image);
  }
}

}  // namespace
}  // namespace kdn
