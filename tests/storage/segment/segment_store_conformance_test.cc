#include <filesystem>
#include <string>

#include "kernels/base/clock.h"
#include "storage/file/posix_file_system.h"
#include "storage/segment/segment_store.h"
#include "tests/storage/blob/value_store_conformance.h"
#include "tests/storage/file/temp_dir.h"

namespace kdn {
namespace {

class SegmentHarness : public ValueStoreHarness {
 public:
  explicit SegmentHarness(DirectIo direct_io) : direct_io_(direct_io) {}

  absl::StatusOr<std::unique_ptr<ValueStore>> Open(SyncMode sync, uint64_t group_bytes) override {
    const SegmentStoreOptions options{.path = dir_.path() + "/values",
                                      .segment_bytes = group_bytes,
                                      .allocation_bytes = group_bytes / 4,
                                      .sync = sync,
                                      .sync_interval_ms = 5,
                                      .direct_io = direct_io_};
    return SegmentStore::Open(options, file_system_, Clock::System());
  }

 private:
  const DirectIo direct_io_;
  TempDir dir_;
  PosixFileSystem file_system_;
};

std::unique_ptr<ValueStoreHarness> MakeDirect() { return std::make_unique<SegmentHarness>(DirectIo::kAuto); }
std::unique_ptr<ValueStoreHarness> MakeCached() { return std::make_unique<SegmentHarness>(DirectIo::kOff); }

INSTANTIATE_TEST_SUITE_P(SegmentsDirect, ValueStoreConformance, ::testing::Values(&MakeDirect));
INSTANTIATE_TEST_SUITE_P(SegmentsCached, ValueStoreConformance, ::testing::Values(&MakeCached));

TEST(SegmentStoreTest, FindsDamagedWhatDoesNotMatchTheChecksumItWasPutWith) {
  SegmentHarness harness(DirectIo::kAuto);
  const auto store = harness.Open(SyncMode::kNone, uint64_t{64} << 20);
  ASSERT_TRUE(store.ok()) << store.status();
  for (const size_t size : {size_t{100}, size_t{1} << 20}) {
    const std::vector<uint8_t> payload(size, 5);
    const auto location = (*store)->PutChecked({}, payload, Crc32c(payload) ^ 1);
    ASSERT_TRUE(location.ok()) << location.status();
    EXPECT_TRUE(absl::IsDataLoss((*store)->Get(*location, {0, size}).status())) << size;
  }
}

}  // namespace
}  // namespace kdn
