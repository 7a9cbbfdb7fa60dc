#include "storage/rocksdb/rocks_value_store.h"
#include "tests/storage/blob/value_store_conformance.h"
#include "tests/storage/rocksdb/index_test_support.h"

namespace kdn {
namespace {

class RocksHarness : public ValueStoreHarness {
 public:
  absl::StatusOr<std::unique_ptr<ValueStore>> Open(SyncMode sync, uint64_t group_bytes) override {
    RocksValueStoreOptions options;
    options.path = dir_ / "values-db";
    options.group_bytes = group_bytes;
    options.sync = sync;
    options.sync_interval_ms = 5;
    auto opened = OpenRocksValueStore(options);
    if (!opened.ok()) return opened.status();
    return std::move(opened->values);
  }

 private:
  testing::TempDir dir_;
};

std::unique_ptr<ValueStoreHarness> MakeRocks() { return std::make_unique<RocksHarness>(); }

INSTANTIATE_TEST_SUITE_P(Rocks, ValueStoreConformance, ::testing::Values(&MakeRocks));

}  // namespace
}  // namespace kdn
