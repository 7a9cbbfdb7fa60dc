#include <filesystem>
#include <fstream>

#include "server/core/objects.h"
#include "server/core/open.h"
#include "tests/server/core/core_fixture.h"
#include "tests/storage/file/temp_dir.h"

namespace kdn {
namespace {

using testing::CoreTest;
using testing::FullAttentionSpec;
using testing::Share;
using testing::TestModel;

// A calibration object of kind transform, as far as the server looks into it.
std::vector<uint8_t> MakeObject(const Fingerprint& fingerprint, uint8_t seed, size_t bytes = 5000) {
  std::vector<uint8_t> object(bytes);
  for (size_t i = 0; i < bytes; ++i) object[i] = static_cast<uint8_t>(i * 31 + seed);
  const uint8_t header[] = {'K', 'D', 'N', 'O', 1, 0, 2, 0};
  std::copy(std::begin(header), std::end(header), object.begin());
  std::copy(fingerprint.bytes.begin(), fingerprint.bytes.end(), object.begin() + 8);
  return object;
}

absl::StatusOr<PutObjectResult> Put(ChunkStore& store, const Caller& caller, const Fingerprint& fingerprint,
                                    const std::vector<uint8_t>& object,
                                    ObjectActivation activation = ObjectActivation::kLeave) {
  return store.PutObject(caller, {fingerprint, Sha256::Of(object), "an object", activation}, Share(object));
}

class ObjectTest : public CoreTest {
 protected:
  void SetUp() override {
    CoreTest::SetUp();
    Register(model_);
  }

  absl::StatusOr<PutObjectResult> PutSeed(uint8_t seed, ObjectActivation activation = ObjectActivation::kLeave) {
    clock_.Advance(1);
    return Put(*store_, caller_, model_.fingerprint, Object(seed), activation);
  }
  std::vector<uint8_t> Object(uint8_t seed) const { return MakeObject(model_.fingerprint, seed); }
  Digest DigestOf(uint8_t seed) const { return Sha256::Of(Object(seed)); }
  void CorruptValue(uint8_t seed) {
    const auto tenant = store_->context().registry().FindTenant(caller_);
    const auto row = index_->GetChunk(Objects::KeyOf(*tenant, model_.fingerprint, DigestOf(seed)));
    values_->Corrupt(LocationOf((*row)->parts(0)), 100);
  }
  absl::StatusOr<StoredObject> Get(uint8_t seed) {
    return store_->GetObject(caller_, model_.fingerprint, DigestOf(seed));
  }
  absl::StatusOr<ObjectInfo> Delete(uint8_t seed, ChunkStore::ObjectDeletion deletion) {
    return store_->DeleteObject(caller_, model_.fingerprint, DigestOf(seed), deletion);
  }
  std::optional<Digest> Active() {
    const auto list = store_->ListObjects(caller_, model_.fingerprint);
    EXPECT_TRUE(list.ok()) << list.status();
    if (!list.ok()) return std::nullopt;
    for (const ObjectInfo& info : *list) {
      if (info.active) return info.digest;
    }
    return std::nullopt;
  }

  const TestModel model_{FullAttentionSpec(4, 8, 16), 32};
};

TEST_F(ObjectTest, ComesBackAsItWasPut) {
  const auto put = PutSeed(1);
  ASSERT_TRUE(put.ok()) << put.status();
  EXPECT_TRUE(put->created);
  EXPECT_FALSE(put->object.active);
  const auto got = Get(1);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(AsStringView(got->bytes.span()), AsStringView(Object(1)));
  EXPECT_EQ(got->object.display_name, "an object");
  EXPECT_EQ(got->object.object_bytes, Object(1).size());
  EXPECT_TRUE(store_->GetObject(caller_, std::nullopt, DigestOf(1)).ok());
  EXPECT_FALSE(PutSeed(1)->created);
}

TEST_F(ObjectTest, TheNewestActivatedIsActive) {
  ASSERT_TRUE(PutSeed(1, ObjectActivation::kActivate)->object.active);
  ASSERT_TRUE(PutSeed(2).ok());
  EXPECT_EQ(Active(), DigestOf(1));
  ASSERT_TRUE(PutSeed(3, ObjectActivation::kActivate).ok());
  EXPECT_EQ(Active(), DigestOf(3));
  ASSERT_TRUE(store_->ActivateObject(caller_, model_.fingerprint, DigestOf(2))->active);
  EXPECT_EQ(Active(), DigestOf(2));
  ASSERT_TRUE(PutSeed(1, ObjectActivation::kActivate)->object.active) << "one that was there";
  EXPECT_EQ(Active(), DigestOf(1));
  EXPECT_EQ(store_->ListObjects(caller_, model_.fingerprint)->front().digest, DigestOf(3)) << "newest first";
}

TEST_F(ObjectTest, ActiveOneIsDeletedByForceOnlyAndGivesWayToTheOneBefore) {
  ASSERT_TRUE(PutSeed(1, ObjectActivation::kActivate).ok());
  ASSERT_TRUE(PutSeed(2, ObjectActivation::kActivate).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Delete(2, ChunkStore::ObjectDeletion::kUnlessActive).status()));
  EXPECT_TRUE(Get(2).ok());
  ASSERT_TRUE(Delete(2, ChunkStore::ObjectDeletion::kForced).ok());
  EXPECT_TRUE(absl::IsNotFound(Get(2).status()));
  EXPECT_EQ(Active(), DigestOf(1));
  EXPECT_TRUE(absl::IsNotFound(Delete(2, ChunkStore::ObjectDeletion::kForced).status()));
}

TEST_F(ObjectTest, WhatIsNoObjectOfTheModelIsRefused) {
  std::vector<uint8_t> object = Object(1);
  const auto refused = [&](const std::vector<uint8_t>& bytes) {
    return absl::IsInvalidArgument(Put(*store_, caller_, model_.fingerprint, bytes).status());
  };
  EXPECT_TRUE(refused(MakeObject(Sha256::Of(AsBytes("another model")), 1)));
  object[0] ^= 1;
  EXPECT_TRUE(refused(object)) << "magic";
  object = Object(1);
  object[6] = 3;
  EXPECT_TRUE(refused(object)) << "kind";
  object = Object(1);
  object[4] = 2;
  EXPECT_TRUE(absl::IsUnimplemented(Put(*store_, caller_, model_.fingerprint, object).status())) << "version";
  object = Object(1);
  object.resize(10);
  EXPECT_TRUE(refused(object)) << "size";
  const PutObjectRequest other_digest{model_.fingerprint, DigestOf(2), "", ObjectActivation::kLeave};
  EXPECT_TRUE(absl::IsInvalidArgument(store_->PutObject(caller_, other_digest, Share(Object(1))).status()));
  const Fingerprint unknown = Sha256::Of(AsBytes("another model"));
  EXPECT_TRUE(absl::IsNotFound(Put(*store_, caller_, unknown, MakeObject(unknown, 1)).status()));
  EXPECT_TRUE(store_->ListObjects(caller_, model_.fingerprint)->empty());
}

TEST_F(ObjectTest, TenantsDoNotSeeEachOthers) {
  ASSERT_TRUE(PutSeed(1).ok());
  const Caller other{.tenant = "other"};
  ASSERT_TRUE(store_->RegisterModel(other, model_.canonical_spec, model_.chunk_tokens, "").ok());
  EXPECT_TRUE(store_->ListObjects(other, model_.fingerprint)->empty());
  EXPECT_TRUE(absl::IsNotFound(store_->GetObject(other, model_.fingerprint, DigestOf(1)).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->GetObject(other, std::nullopt, DigestOf(1)).status()));
}

TEST_F(ObjectTest, DamageIsAMissOnceAndPuttingAgainHeals) {
  ASSERT_TRUE(PutSeed(1, ObjectActivation::kActivate).ok());
  CorruptValue(1);
  EXPECT_TRUE(absl::IsNotFound(Get(1).status()));
  EXPECT_EQ(events_["corruption_values"], 1u);
  EXPECT_TRUE(absl::IsNotFound(Get(1).status()));
  EXPECT_EQ(events_["corruption_values"], 1u);
  EXPECT_TRUE(PutSeed(1)->created);
  EXPECT_TRUE(Get(1).ok());
}

TEST_F(ObjectTest, PuttingAgainHealsDamageThatNobodyMet) {
  ASSERT_TRUE(PutSeed(1).ok());
  CorruptValue(1);
  EXPECT_TRUE(PutSeed(1)->created);
  EXPECT_TRUE(Get(1).ok());
}

TEST_F(ObjectTest, ChunkCallsDoNotMeetThem) {
  ASSERT_TRUE(PutSeed(1).ok());
  ASSERT_TRUE(Store(model_, 0).ok());
  EXPECT_EQ(store_->ListChunks(caller_, {})->chunks.size(), 1u);
  EXPECT_EQ(store_->ListChunks(caller_, {.fingerprint = model_.fingerprint})->chunks.size(), 1u);
  EXPECT_EQ(store_->GetTotals()->chunks, 1u);
  EXPECT_EQ(store_->GetTotals()->objects, 1u);
  EXPECT_EQ(store_->GetTotals()->object_bytes, Object(1).size());
  EXPECT_TRUE(absl::IsNotFound(store_->InspectChunk(caller_, DigestOf(1), ChunkStore::Verify::kNo).status()));
  EXPECT_EQ(store_->Delete(caller_, {DigestOf(1), {}, {}}, DeleteMode::kDelete)->chunks, 0u);
  EXPECT_TRUE(Get(1).ok());
}

TEST_F(ObjectTest, GoesWithItsModel) {
  ASSERT_TRUE(PutSeed(1).ok());
  ASSERT_TRUE(Store(model_, 0).ok());
  const auto dry = store_->Delete(caller_, {{}, {}, model_.fingerprint}, DeleteMode::kDryRun);
  EXPECT_EQ(dry->objects, 1u);
  const auto counts = store_->Delete(caller_, {{}, {}, model_.fingerprint}, DeleteMode::kDelete);
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->objects, 1u);
  EXPECT_EQ(counts->chunks, 1u);
  Register(model_);
  EXPECT_TRUE(store_->ListObjects(caller_, model_.fingerprint)->empty());
}

TEST_F(ObjectTest, TakeAtMostTheirShareOfTheCapacity) {
  ChunkStoreOptions options = DefaultOptions();
  options.capacity_bytes = 1 << 20;
  Open(options);
  Register(model_);
  const auto put = [&](uint8_t seed) {
    return Put(*store_, caller_, model_.fingerprint, MakeObject(model_.fingerprint, seed, 100 << 10)).status();
  };
  EXPECT_TRUE(put(1).ok());
  EXPECT_TRUE(put(2).ok());
  const absl::Status third = put(3);
  EXPECT_TRUE(absl::IsResourceExhausted(third)) << third;
  EXPECT_NE(third.message().find("calibration object"), absl::string_view::npos) << third;
  ASSERT_TRUE(store_
                  ->DeleteObject(caller_, model_.fingerprint, Sha256::Of(MakeObject(model_.fingerprint, 1, 100 << 10)),
                                 ChunkStore::ObjectDeletion::kUnlessActive)
                  .ok());
  EXPECT_TRUE(put(3).ok());
}

TEST_F(ObjectTest, EvictionLeavesThemAndExpiryToo) {
  ChunkStoreOptions options = DefaultOptions();
  options.capacity_bytes = 256 << 10;
  options.ttl_ms = 1000;
  Open(options, 16 << 10);
  Register(model_);
  ASSERT_TRUE(PutSeed(1, ObjectActivation::kActivate).ok());
  uint32_t stored = 0;
  for (; events_["evicted_capacity"] == 0 && stored < 2000; ++stored) ASSERT_TRUE(Store(model_, stored).ok());
  ASSERT_LT(stored, 2000u) << "nothing was evicted";
  for (const uint32_t end = stored * 3; stored < end; ++stored) ASSERT_TRUE(Store(model_, stored).ok());
  clock_.Advance(100'000);
  store_->maintenance().HousekeepingStep();
  EXPECT_TRUE(Get(1).ok()) << Get(1).status();
  EXPECT_EQ(Active(), DigestOf(1));
}

// The store that daemons run, on a real directory.
class StoredObjectTest : public ::testing::TestWithParam<std::pair<ValuesKind, SyncMode>> {
 protected:
  ChunkStoreOptions Options() {
    ChunkStoreOptions options;
    options.path = dir_.path() + "/data";
    options.values = GetParam().first;
    options.sync = GetParam().second;
    options.segment_bytes = 1 << 20;
    options.ram_tier_bytes = 0;
    return options;
  }
  void Open() {
    store_.reset();
    absl::StatusOr<OpenedStore> opened = OpenChunkStore(Options(), StoreEnvironment());
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = std::move(opened->store);
  }
  void PutAll() {
    ASSERT_TRUE(store_->RegisterModel(caller_, model_.canonical_spec, model_.chunk_tokens, "m").ok());
    for (const uint8_t seed : {1, 2, 3}) {
      const auto put = Put(*store_, caller_, model_.fingerprint, Object(seed), ObjectActivation::kActivate);
      ASSERT_TRUE(put.ok()) << put.status();
    }
    ASSERT_TRUE(store_->ActivateObject(caller_, model_.fingerprint, DigestOf(1)).ok());
    const auto deleted =
        store_->DeleteObject(caller_, model_.fingerprint, DigestOf(2), ChunkStore::ObjectDeletion::kUnlessActive);
    ASSERT_TRUE(deleted.ok()) << deleted.status();
  }
  // 1 is active, 2 was deleted, 3 is there.
  void ExpectAll() {
    const auto list = store_->ListObjects(caller_, model_.fingerprint);
    ASSERT_TRUE(list.ok()) << list.status();
    ASSERT_EQ(list->size(), 2u);
    for (const ObjectInfo& info : *list) {
      EXPECT_EQ(info.active, info.digest == DigestOf(1));
      EXPECT_EQ(info.display_name, "an object");
      const auto got = store_->GetObject(caller_, model_.fingerprint, info.digest);
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_EQ(Sha256::Of(got->bytes.span()), info.digest);
    }
    EXPECT_TRUE(absl::IsNotFound(store_->GetObject(caller_, model_.fingerprint, DigestOf(2)).status()));
    EXPECT_EQ(store_->GetTotals()->objects, 2u);
    EXPECT_EQ(store_->GetTotals()->chunks, 0u);
  }
  std::vector<uint8_t> Object(uint8_t seed) const { return MakeObject(model_.fingerprint, seed, 300 << 10); }
  Digest DigestOf(uint8_t seed) const { return Sha256::Of(Object(seed)); }

  TempDir dir_;
  Caller caller_;
  const TestModel model_{FullAttentionSpec(4, 8, 16), 32};
  std::unique_ptr<ChunkStore> store_;
};

TEST_P(StoredObjectTest, ReopenedStoreHasThem) {
  Open();
  PutAll();
  ASSERT_TRUE(store_->Close().ok());
  Open();
  ExpectAll();
}

TEST_P(StoredObjectTest, RebuiltIndexHasThemAndTheSameActiveOne) {
  Open();
  PutAll();
  store_.reset();
  std::filesystem::remove_all(Options().path + "/index");
  Open();
  ExpectAll();
}

TEST_P(StoredObjectTest, CompactionKeepsThem) {
  Open();
  PutAll();
  ASSERT_TRUE(store_->Compact().ok());
  ExpectAll();
  store_.reset();
  std::filesystem::remove_all(Options().path + "/index");
  Open();
  ExpectAll();
}

INSTANTIATE_TEST_SUITE_P(Kinds, StoredObjectTest,
                         ::testing::Values(std::pair(ValuesKind::kSegments, SyncMode::kAlways),
                                           std::pair(ValuesKind::kSegments, SyncMode::kBatch),
                                           std::pair(ValuesKind::kSegments, SyncMode::kNone),
                                           std::pair(ValuesKind::kRocksDb, SyncMode::kBatch)));

}  // namespace
}  // namespace kdn
