#include "server/core/open.h"

#include <filesystem>
#include <fstream>

#include "tests/server/core/core_fixture.h"
#include "tests/storage/file/temp_dir.h"

namespace kdn {
namespace {

using testing::Assemble;
using testing::FullAttentionSpec;
using testing::Share;
using testing::TestModel;

// The store that daemons run, on a real directory.
class OpenTest : public ::testing::TestWithParam<ValuesKind> {
 protected:
  ChunkStoreOptions Options() {
    ChunkStoreOptions options;
    options.path = dir_.path() + "/data";
    options.values = GetParam();
    options.sync = SyncMode::kAlways;
    options.segment_bytes = 1 << 20;
    options.ram_tier_bytes = 0;
    return options;
  }
  void Open() {
    store_.reset();
    absl::StatusOr<OpenedStore> opened = OpenChunkStore(Options(), StoreEnvironment());
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = std::move(opened->store);
    recovery_ = opened->recovery;
  }
  void StoreAll(uint32_t chunks) {
    ASSERT_TRUE(store_->RegisterModel(caller_, model_.canonical_spec, model_.chunk_tokens, "m").ok());
    for (uint32_t i = 0; i < chunks; ++i) {
      const auto outcome = store_->Store(caller_, model_.Request(i), Share(model_.Container(model_.Recipe(i))));
      ASSERT_TRUE(outcome.ok()) << outcome.status();
    }
  }
  void ExpectAll(uint32_t chunks) {
    for (uint32_t i = 0; i < chunks; ++i) {
      const auto chunk = store_->Retrieve(caller_, {model_.fingerprint, TestModel::ChunkDigest(i), {}, 0});
      ASSERT_TRUE(chunk.ok()) << chunk.status();
      ASSERT_FALSE(chunk->miss.has_value()) << i << ": " << chunk->miss_message;
      EXPECT_EQ(Assemble(chunk->parts[0]), model_.Container(model_.Recipe(i)));
    }
  }

  TempDir dir_;
  Caller caller_;
  const TestModel model_{FullAttentionSpec(4, 8, 16), 32};
  std::unique_ptr<ChunkStore> store_;
  std::string recovery_;
};

TEST_P(OpenTest, RefusesStoresFromTheStartWhereTheReserveIsNotFree) {
  ChunkStoreOptions options = Options();
  options.reserve_bytes = uint64_t{1} << 60;
  ::testing::internal::CaptureStderr();
  const absl::StatusOr<OpenedStore> opened = OpenChunkStore(options, StoreEnvironment());
  const std::string log = ::testing::internal::GetCapturedStderr();
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_NE(log.find("storage.reserve"), std::string::npos) << log;
  const auto totals = opened->store->GetTotals();
  ASSERT_TRUE(totals.ok());
  EXPECT_TRUE(totals->read_only);
  EXPECT_NE(totals->refusal.find("storage.reserve"), std::string::npos) << totals->refusal;
}

TEST_P(OpenTest, ReopenedStoreHasEverything) {
  Open();
  StoreAll(20);
  const Digest text = Sha256::Of(AsBytes("text"));
  ASSERT_TRUE(store_->StoreText(caller_, {model_.fingerprint, text, {1, 2, 3}, "doc", 0, {}}).ok());
  ASSERT_TRUE(store_->Close().ok());
  Open();
  EXPECT_EQ(recovery_, "");
  ExpectAll(20);
  EXPECT_EQ(store_->LookupText(caller_, model_.fingerprint, text)->token_ids, (std::vector<uint32_t>{1, 2, 3}));
  EXPECT_EQ(store_->GetTotals()->chunks, 20u);
}

TEST_P(OpenTest, LostIndexIsRebuiltWithoutWhatWasDeleted) {
  Open();
  StoreAll(6);
  const Digest text = Sha256::Of(AsBytes("text"));
  ASSERT_TRUE(store_->StoreText(caller_, {model_.fingerprint, text, {1, 2, 3}, "doc", 0, {}}).ok());
  ASSERT_EQ(store_->Delete(caller_, {TestModel::ChunkDigest(5), {}, {}}, DeleteMode::kDelete)->chunks, 1u);
  store_.reset();
  std::filesystem::remove_all(Options().path + "/index");
  Open();
  ExpectAll(5);
  EXPECT_EQ(store_->Retrieve(caller_, {model_.fingerprint, TestModel::ChunkDigest(5), {}, 0})->miss,
            MissReason::kAbsent);
  EXPECT_TRUE(store_->LookupText(caller_, model_.fingerprint, text).ok());
}

// Also where the index was lost; and a deletion takes all of them, for good.
TEST_P(OpenTest, VariantsComeBackFromTheirValues) {
  const auto put = [&](ProfileId profile) {
    auto recipe = model_.Recipe(0);
    recipe.profile = profile;
    if (profile == ProfileId::kQ4) recipe.shrink = 4;
    const auto outcome = store_->Store(caller_, model_.Request(0), Share(model_.Container(recipe)));
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(*outcome, StoreOutcome::kStored);
  };
  const auto expect = [&](ProfileId profile) {
    auto recipe = model_.Recipe(0);
    recipe.profile = profile;
    if (profile == ProfileId::kQ4) recipe.shrink = 4;
    const auto chunk = store_->Retrieve(caller_, {model_.fingerprint, TestModel::ChunkDigest(0), {}, 0, profile});
    ASSERT_TRUE(chunk.ok()) << chunk.status();
    ASSERT_EQ(chunk->parts.size(), 1u) << chunk->miss_message;
    EXPECT_EQ(Assemble(chunk->parts[0]), model_.Container(recipe));
  };
  Open();
  ASSERT_TRUE(store_->RegisterModel(caller_, model_.canonical_spec, model_.chunk_tokens, "m").ok());
  put(ProfileId::kQ4);
  put(ProfileId::kLossless);
  for (const bool lost_index : {false, true}) {
    ASSERT_TRUE(store_->Close().ok());
    store_.reset();
    if (lost_index) std::filesystem::remove_all(Options().path + "/index");
    Open();
    expect(ProfileId::kQ4);
    expect(ProfileId::kLossless);
  }
  ASSERT_EQ(store_->Delete(caller_, {TestModel::ChunkDigest(0), {}, {}}, DeleteMode::kDelete)->chunks, 1u);
  store_.reset();
  std::filesystem::remove_all(Options().path + "/index");
  Open();
  for (const ProfileId lossiest : {ProfileId::kQ4, ProfileId::kLossless}) {
    EXPECT_EQ(store_->Retrieve(caller_, {model_.fingerprint, TestModel::ChunkDigest(0), {}, 0, lossiest})->miss,
              MissReason::kAbsent);
  }
}

TEST_P(OpenTest, SecondStoreOnTheSameDirectoryIsRefused) {
  Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenChunkStore(Options(), StoreEnvironment()).status()));
}

TEST_P(OpenTest, LaterFormatIsRefused) {
  std::filesystem::create_directories(Options().path);
  std::ofstream(Options().path + "/STORE") << "kdn store format 2\nvalues segments\n";
  const absl::Status status = OpenChunkStore(Options(), StoreEnvironment()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_P(OpenTest, OtherKindOfValuesIsRefused) {
  Open();
  store_.reset();
  ChunkStoreOptions other = Options();
  other.values = GetParam() == ValuesKind::kSegments ? ValuesKind::kRocksDb : ValuesKind::kSegments;
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenChunkStore(other, StoreEnvironment()).status()));
}

TEST_P(OpenTest, DamagedMarkerIsMended) {
  Open();
  StoreAll(2);
  store_.reset();
  std::ofstream(Options().path + "/STORE") << "kdn stoXe format 1";
  Open();
  ExpectAll(2);
}

TEST_P(OpenTest, ContradictingOptionsAreRefused) {
  ChunkStoreOptions options = Options();
  options.low_watermark = 0.95;
  EXPECT_TRUE(absl::IsInvalidArgument(OpenChunkStore(options, StoreEnvironment()).status()));
  options = Options();
  options.capacity_bytes = 1000;
  EXPECT_TRUE(absl::IsInvalidArgument(OpenChunkStore(options, StoreEnvironment()).status()));
  options = Options();
  options.path = "";
  EXPECT_TRUE(absl::IsInvalidArgument(OpenChunkStore(options, StoreEnvironment()).status()));
}

TEST_P(OpenTest, ProbeGoesThroughIndexAndValues) {
  Open();
  EXPECT_TRUE(store_->Probe().ok()) << store_->Probe().status();
  EXPECT_EQ(store_->GetTotals()->texts, 0u);
}

INSTANTIATE_TEST_SUITE_P(Kinds, OpenTest, ::testing::Values(ValuesKind::kSegments, ValuesKind::kRocksDb));

}  // namespace
}  // namespace kdn
