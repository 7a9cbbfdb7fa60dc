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

}  // namespace
}  // namespace kdn
