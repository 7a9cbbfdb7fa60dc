#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <string>

#include "kernels/base/status.h"
#include "storage/index/part_merge.h"
#include "storage/index/recovery.h"
#include "storage/index/value_metadata.h"
#include "storage/rocksdb/rocks_index.h"
#include "storage/rocksdb/rocks_value_store.h"
#include "storage/segment/segment_store.h"
#include "tests/storage/rocksdb/fault_rocks_file_system.h"
#include "tests/storage/rocksdb/index_test_support.h"
#include "tests/storage/torture/value_oracle.h"

// Index and values together on one disk that drops what was not synced, tears the last writes and loses power at any
// point, opening and recovery included. A chunk is acknowledged when its value was put and its row committed; a
// deletion when its tombstone was put and the row's deletion committed. A chunk may get an exact variant beside its
// lossy one, as another part of its row; the power may fail between the two. KDN_TORTURE_SEEDS worlds per case (default
// 4).

namespace kdn {
namespace {

using testing::MakeChunk;
using testing::MakePart;
using testing::Named;
using testing::PutOf;

constexpr int kLives = 4;
constexpr int kMaxOpenings = 20;
constexpr uint64_t kGroupBytes = 256 * 1024;

enum class Values { kSegments, kRocks };

struct Case {
  Values values;
  SyncMode sync;
};

class World {
 public:
  World(const Case& setup, uint32_t seed)
      : case_(setup), random_(seed), disk_(seed * 104729 + 7), rocks_disk_(testing::MakeFaultRocksFileSystem(disk_)) {}

  void RunLife() {
    // Half of the lives end while opening or recovering, if the draw is small.
    disk_.PowerOffAfter(random_() % 2 == 0 ? random_() % 300 : 300 + random_() % 700);
    if (Open().ok() && RecoverAndCheck()) WriteUntilDark();
    const bool closed = random_() % 4 == 0 && index_ != nullptr && index_->Close().ok() && values_->Close().ok();
    const bool dark = disk_dark_;
    disk_.PowerOffAfter(0);
    index_.reset();
    values_.reset();
    if (random_() % 3 != 0) {
      disk_.Reboot();
      if (!closed && case_.sync != SyncMode::kAlways) ForgetUnsynced();
    } else {
      disk_.KillProcess();
      // A power failure in the middle of the life took its part already, whatever ends the process.
      if (dark && case_.sync != SyncMode::kAlways) ForgetUnsynced();
    }
    disk_dark_ = false;
  }

  // With the power on for good.
  void CheckAtEnd() {
    absl::Status opened = absl::UnknownError("not tried");
    for (int i = 0; i < kMaxOpenings && !opened.ok(); ++i) opened = Open();
    ASSERT_TRUE(opened.ok()) << opened;
    ASSERT_TRUE(RecoverAndCheck()) << "recovery failed";
    ASSERT_TRUE(index_->Close().ok());
    ASSERT_TRUE(values_->Close().ok());
    index_.reset();
    values_.reset();
    ASSERT_TRUE(Open().ok());
    EXPECT_FALSE(report_.needs_rebuild || report_.needs_reconcile) << report_.reason;
    ASSERT_TRUE(RecoverAndCheck());
  }

  int acknowledged() const { return acknowledged_; }
  int quarantined() const { return quarantined_; }

 private:
  enum class State { kStored, kDeleted, kUnknown };
  struct Variant {
    ProfileId profile;
    State state = State::kUnknown;
    TestValue value = {};
    bool written = false;
  };
  struct Entry {
    Variant lossy{ProfileId::kQ4};
    Variant exact{ProfileId::kLossless};
  };

  absl::Status Open() {
    index_.reset();
    values_.reset();
    KDN_RETURN_IF_ERROR(OpenValues());
    RocksIndexOptions options;
    options.path = "/data";
    options.clock = &clock_;
    options.file_system = rocks_disk_;
    KDN_ASSIGN_OR_RETURN(OpenedIndex opened, OpenRocksIndex(options));
    index_ = std::move(opened.index);
    report_ = opened.report;
    quarantined_ += !report_.quarantined_to.empty();
    KDN_ASSIGN_OR_RETURN(const ChunkIndex::Tenant tenant, index_->GetOrCreateTenant("alpha"));
    if (secret_.empty()) secret_ = tenant.record.secret();
    EXPECT_EQ(tenant.record.secret(), secret_) << "the tenant's secret was lost";
    tenant_ = tenant.id;
    return absl::OkStatus();
  }

  absl::Status OpenValues() {
    if (case_.values == Values::kRocks) {
      RocksValueStoreOptions options;
      options.path = "/data/values-db";
      options.group_bytes = kGroupBytes;
      options.sync = case_.sync;
      options.sync_interval_ms = 1;
      options.file_system = rocks_disk_;
      KDN_ASSIGN_OR_RETURN(OpenedValueStore opened, OpenRocksValueStore(options));
      // One that was not made completely is moved aside too; what counts is that no acknowledged value is lost.
      quarantined_ += !opened.quarantined_to.empty();
      values_ = std::move(opened.values);
      return absl::OkStatus();
    }
    const SegmentStoreOptions options{.path = "/data/values",
                                      .segment_bytes = kGroupBytes,
                                      .allocation_bytes = 64 * 1024,
                                      .sync = case_.sync,
                                      .sync_interval_ms = 1,
                                      .random = [this] { return uint64_t{0x5eed0000} + ++nonce_; }};
    KDN_ASSIGN_OR_RETURN(values_, SegmentStore::Open(options, disk_, Clock::System()));
    return absl::OkStatus();
  }

  static std::string NameOf(uint64_t id) { return "chunk " + std::to_string(id); }

  // False when the power failed meanwhile.
  bool RecoverAndCheck() {
    const auto stats = RecoverIndex(*values_, *index_, report_, {});
    if (!stats.ok()) return false;
    uint64_t present = 0;
    for (auto& [id, entry] : entries_) {
      const auto row = index_->GetChunk({tenant_, Named(NameOf(id))});
      if (!row.ok()) {
        EXPECT_TRUE(absl::IsUnavailable(row.status())) << row.status();
        return false;
      }
      present += row->has_value();
      if (!CheckVariant(id, *row, entry.lossy) || !CheckVariant(id, *row, entry.exact)) return false;
    }
    const auto counts = index_->Counts();
    EXPECT_TRUE(!counts.ok() || counts->chunks == present) << counts->chunks << " counted, " << present << " present";
    // What was found holds from now on only if it is durable.
    return values_->Sync(0).ok() && index_->Sync().ok();
  }

  // False when the power failed meanwhile.
  bool CheckVariant(uint64_t id, const std::optional<v1::ChunkRecord>& row, Variant& variant) {
    if (!variant.written) return true;
    ReadResult result = ReadResult::kMiss;
    for (int i = 0; row.has_value() && i < row->parts_size(); ++i) {
      const v1::PartRecord& part = row->parts(i);
      if (RequiredProfileOf(part) != variant.profile) continue;
      EXPECT_EQ(result, ReadResult::kMiss) << NameOf(id) << " has two parts of profile " << part.profile();
      result = Judge(*values_, {part.value_group(), part.value_offset(), part.value_length()}, variant.value);
    }
    if (!disk_works()) return false;
    const std::string name = StrCat(NameOf(id), " at ", ProfileName(variant.profile));
    EXPECT_NE(result, ReadResult::kWrong) << name;
    if (variant.state == State::kStored) {
      EXPECT_EQ(result, ReadResult::kRight) << name << " was acknowledged and is lost";
    }
    if (variant.state == State::kDeleted) {
      EXPECT_FALSE(row.has_value()) << name << " came back";
    }
    // A value that was never acknowledged may turn up later; only a deletion must hold.
    const bool deleted = !row.has_value() && deleted_.contains(id);
    variant.state = result == ReadResult::kRight ? State::kStored : deleted ? State::kDeleted : State::kUnknown;
    return true;
  }

  bool disk_works() { return disk_.FreeBytes("/data").ok(); }

  void WriteUntilDark() {
    const int operations = 10 + static_cast<int>(random_() % 60);
    for (int i = 0; i < operations; ++i) {
      const uint32_t draw = random_() % 6;
      const absl::Status done = draw == 0 ? DeleteOne() : draw < 3 ? StoreExactOne() : StoreOne();
      if (!done.ok()) {
        disk_dark_ = !disk_works();
        EXPECT_TRUE(disk_dark_) << done;
        return;
      }
      if (random_() % 10 == 0 && values_->Sync(0).ok() && index_->Sync().ok()) unsynced_.clear();
    }
  }

  Durability durability() const {
    return case_.sync == SyncMode::kAlways ? Durability::kSynced : Durability::kUnsynced;
  }

  absl::Status StoreOne() {
    const uint64_t id = next_id_++;
    return StoreVariant(id, std::nullopt, entries_[id].lossy);
  }

  absl::Status StoreExactOne() {
    if (entries_.empty()) return absl::OkStatus();
    auto chosen = entries_.lower_bound(random_() % next_id_);
    if (chosen == entries_.end() || chosen->second.lossy.state != State::kStored || chosen->second.exact.written) {
      return absl::OkStatus();
    }
    KDN_ASSIGN_OR_RETURN(const auto row, index_->GetChunk({tenant_, Named(NameOf(chosen->first))}));
    EXPECT_TRUE(row.has_value());
    return row.has_value() ? StoreVariant(chosen->first, row, chosen->second.exact) : absl::OkStatus();
  }

  absl::Status StoreVariant(uint64_t id, const std::optional<v1::ChunkRecord>& previous, Variant& variant) {
    variant.written = true;
    variant.value = {.seed = id * 31 + 5 + static_cast<uint64_t>(variant.profile),
                     .payload_bytes = static_cast<uint32_t>(random_() % 20000)};
    v1::ChunkRecord row = previous.value_or(MakeChunk(NameOf(id)));
    v1::PartRecord part = MakePart(0, 0);
    part.set_profile(static_cast<uint32_t>(variant.profile));
    KDN_ASSIGN_OR_RETURN(const std::string metadata, SerializeChunkMetadata("alpha", Named(NameOf(id)), row, part));
    KDN_ASSIGN_OR_RETURN(const ValueLocation location, values_->Put(AsBytes(metadata), PayloadOf(variant.value)));
    v1::PartRecord& stored = *row.add_parts();
    stored = part;
    stored.set_value_group(location.group);
    stored.set_value_offset(location.offset);
    stored.set_value_length(location.length);
    KDN_RETURN_IF_ERROR(index_->Commit(PutOf({tenant_, Named(NameOf(id))}, row, previous), durability()));
    variant.state = State::kStored;
    unsynced_.insert(id);
    ++acknowledged_;
    return absl::OkStatus();
  }

  absl::Status DeleteOne() {
    if (entries_.empty()) return absl::OkStatus();
    auto chosen = entries_.lower_bound(random_() % next_id_);
    if (chosen == entries_.end() || chosen->second.lossy.state != State::kStored) return absl::OkStatus();
    const ChunkKey key{tenant_, Named(NameOf(chosen->first))};
    KDN_ASSIGN_OR_RETURN(const auto row, index_->GetChunk(key));
    EXPECT_TRUE(row.has_value());
    if (!row) return absl::OkStatus();
    chosen->second.lossy.state = chosen->second.exact.state = State::kUnknown;
    Deletions deletions;
    deletions.chunk_keys.push_back(key.key);
    KDN_RETURN_IF_ERROR(PutTombstones(*values_, "alpha", deletions));
    IndexBatch batch;
    batch.chunk_deletes.push_back({key, *row});
    KDN_RETURN_IF_ERROR(index_->Commit(batch, durability()));
    chosen->second.lossy.state = chosen->second.exact.state = State::kDeleted;
    deleted_.insert(chosen->first);
    unsynced_.insert(chosen->first);
    return absl::OkStatus();
  }

  void ForgetUnsynced() {
    for (const uint64_t id : unsynced_) {
      entries_[id].lossy.state = entries_[id].exact.state = State::kUnknown;
      deleted_.erase(id);
    }
    unsynced_.clear();
  }

  const Case case_;
  std::mt19937 random_;
  FaultFileSystem disk_;
  const std::shared_ptr<rocksdb::FileSystem> rocks_disk_;
  testing::FakeClock clock_;
  uint64_t nonce_ = 0;
  std::unique_ptr<ValueStore> values_;
  std::unique_ptr<ChunkIndex> index_;
  RecoveryReport report_;
  TenantId tenant_ = 0;
  std::string secret_;
  bool disk_dark_ = false;

  std::map<uint64_t, Entry> entries_;
  std::set<uint64_t> deleted_;   // acknowledged deletions
  std::set<uint64_t> unsynced_;  // changed since the last Sync
  uint64_t next_id_ = 0;
  int acknowledged_ = 0;
  int quarantined_ = 0;
};

class StoreCrashTest : public ::testing::TestWithParam<Case> {};

TEST_P(StoreCrashTest, NothingAcknowledgedIsLostAndNothingDeletedComesBack) {
  const char* text = std::getenv("KDN_TORTURE_SEEDS");
  const int seeds = text == nullptr ? 4 : std::atoi(text);
  int acknowledged = 0;
  int quarantined = 0;
  for (int seed = 0; seed < seeds; ++seed) {
    SCOPED_TRACE(seed);
    World world(GetParam(), static_cast<uint32_t>(seed));
    for (int life = 0; life < kLives; ++life) {
      SCOPED_TRACE(life);
      ASSERT_NO_FATAL_FAILURE(world.RunLife());
      ASSERT_FALSE(HasFailure());
    }
    ASSERT_NO_FATAL_FAILURE(world.CheckAtEnd());
    ASSERT_FALSE(HasFailure());
    acknowledged += world.acknowledged();
    quarantined += world.quarantined();
  }
  std::printf("%d worlds, %d chunks acknowledged, %d databases moved aside\n", seeds, acknowledged, quarantined);
}

std::string CaseName(const ::testing::TestParamInfo<Case>& info) {
  const char* const modes[] = {"Always", "Batch", "None"};
  return std::string(info.param.values == Values::kSegments ? "Segments" : "Rocks") +
         modes[static_cast<int>(info.param.sync)];
}

INSTANTIATE_TEST_SUITE_P(
    All, StoreCrashTest,
    ::testing::Values(Case{Values::kSegments, SyncMode::kAlways}, Case{Values::kRocks, SyncMode::kAlways},
                      Case{Values::kSegments, SyncMode::kBatch}, Case{Values::kRocks, SyncMode::kBatch},
                      Case{Values::kSegments, SyncMode::kNone}, Case{Values::kRocks, SyncMode::kNone}),
    CaseName);

}  // namespace
}  // namespace kdn
