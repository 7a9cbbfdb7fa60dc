#include "tests/server/core/core_fixture.h"

// The same chunk at several profiles: each reader is given the smallest that it accepts.

namespace kdn {
namespace {

using testing::Assemble;
using testing::ContainerRecipe;
using testing::CoreTest;
using testing::FullAttentionSpec;
using testing::Share;
using testing::TestModel;

class VariantTest : public CoreTest {
 protected:
  void SetUp() override {
    CoreTest::SetUp();
    Register(model_);
  }

  ContainerRecipe Recipe(uint32_t i, ProfileId profile) const {
    ContainerRecipe recipe = model_.Recipe(i);
    recipe.profile = profile;
    recipe.salt = static_cast<uint8_t>(profile);
    if (profile == ProfileId::kInt8) recipe.shrink = 2;
    if (profile == ProfileId::kQ4) {
      recipe.shrink = 4;
      recipe.rope_state = RopeState::kUnrotated;
    }
    if (profile == ProfileId::kTransform) {
      recipe.profile = ProfileId::kQ4;  // what no group covers
      recipe.rope_state = RopeState::kUnrotated;
      recipe.wide = {{0, 4, 0, 8}};
    }
    return recipe;
  }
  std::vector<uint8_t> Container(uint32_t i, ProfileId profile) const { return model_.Container(Recipe(i, profile)); }
  StoreOutcome Put(uint32_t i, const ContainerRecipe& recipe) {
    const auto outcome = store_->Store(caller_, model_.Request(i), Share(model_.Container(recipe)));
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    return outcome.value_or(StoreOutcome::kDeduplicated);
  }
  StoreOutcome Put(uint32_t i, ProfileId profile) { return Put(i, Recipe(i, profile)); }

  RetrievedChunk Get(uint32_t i, std::optional<ProfileId> lossiest, std::optional<CellSet> cells = std::nullopt) {
    const auto chunk =
        store_->Retrieve(caller_, {model_.fingerprint, TestModel::ChunkDigest(i), std::move(cells), 0, lossiest});
    EXPECT_TRUE(chunk.ok()) << chunk.status();
    return *chunk;
  }
  void ExpectGiven(uint32_t i, std::optional<ProfileId> lossiest, ProfileId given) {
    const RetrievedChunk chunk = Get(i, lossiest);
    ASSERT_FALSE(chunk.miss.has_value()) << chunk.miss_message;
    ASSERT_EQ(chunk.parts.size(), 1u);
    EXPECT_EQ(Assemble(chunk.parts[0]), Container(i, given)) << "not " << ProfileName(given);
  }
  uint32_t Hits(std::optional<ProfileId> lossiest, LookupMode mode = LookupMode::kPrefix) {
    const Digest digests[] = {TestModel::ChunkDigest(0)};
    LookupQuery query;
    query.fingerprint = model_.fingerprint;
    query.chunk_digests = digests;
    query.lossiest = lossiest;
    query.mode = mode;
    return store_->Lookup(caller_, query)->hit_chunks;
  }
  uint32_t Missing(std::optional<OfferedCoding> coding) {
    const ChunkOffer offer{TestModel::ChunkDigest(0), std::nullopt, {}};
    return (*store_->FindMissing(caller_, model_.fingerprint, std::span(&offer, 1), coding))[0].Count();
  }
  uint64_t LiveBytesOnDisk() {
    uint64_t live = 0;
    for (const ValueGroup& group : values_->Groups()) live += group.live_bytes;
    return live;
  }

  const TestModel model_{FullAttentionSpec(4, 8, 16), 32};
};

TEST_F(VariantTest, AnExactWriterStoresBesideALossyOneAndEachReaderIsGivenItsOwn) {
  ASSERT_EQ(Put(0, ProfileId::kQ4), StoreOutcome::kStored);
  for (const LookupMode mode : {LookupMode::kPrefix, LookupMode::kSegments}) {
    EXPECT_EQ(Hits(ProfileId::kLossless, mode), 0u);
    EXPECT_EQ(Hits(ProfileId::kInt8, mode), 0u);
    EXPECT_EQ(Hits(ProfileId::kQ4, mode), 1u);
    EXPECT_EQ(Hits(std::nullopt, mode), 1u);
  }
  EXPECT_EQ(Missing(OfferedCoding{ProfileId::kLossless, RopeState::kRotated}), 8u);
  EXPECT_EQ(Missing(OfferedCoding{ProfileId::kQ4, RopeState::kUnrotated}), 0u);
  EXPECT_EQ(Missing(std::nullopt), 0u);
  const RetrievedChunk refused = Get(0, ProfileId::kLossless);
  EXPECT_EQ(refused.miss, MissReason::kIncompatible);
  EXPECT_EQ(refused.miss_message, "stored as q4, accepted up to lossless");
  ExpectGiven(0, std::nullopt, ProfileId::kQ4);

  ASSERT_EQ(Put(0, ProfileId::kLossless), StoreOutcome::kStored);
  EXPECT_EQ(Row(0).parts_size(), 2);
  EXPECT_EQ(events_["divergent_cells"], 0u);
  EXPECT_EQ(Hits(ProfileId::kLossless), 1u);
  EXPECT_EQ(Missing(OfferedCoding{ProfileId::kLossless, RopeState::kRotated}), 0u);
  ExpectGiven(0, ProfileId::kLossless, ProfileId::kLossless);
  ExpectGiven(0, ProfileId::kInt8, ProfileId::kLossless);
  ExpectGiven(0, ProfileId::kQ4, ProfileId::kQ4);
  ExpectGiven(0, ProfileId::kTransform, ProfileId::kQ4);
  ExpectGiven(0, std::nullopt, ProfileId::kLossless);
}

TEST_F(VariantTest, ALossyWriterFindsNothingMissingWhereThereIsAnExactOne) {
  ASSERT_EQ(Put(0, ProfileId::kLossless), StoreOutcome::kStored);
  EXPECT_EQ(Missing(OfferedCoding{ProfileId::kQ4, RopeState::kUnrotated}), 0u);
  EXPECT_EQ(Put(0, ProfileId::kQ4), StoreOutcome::kKeptExisting);
  EXPECT_EQ(Row(0).parts_size(), 1);
  ExpectGiven(0, ProfileId::kQ4, ProfileId::kLossless);
}

TEST_F(VariantTest, ExactTilesOfUnrotatedKeysAreForWhoAcceptsQ4) {
  ContainerRecipe recipe = Recipe(0, ProfileId::kLossless);
  recipe.rope_state = RopeState::kUnrotated;
  ASSERT_EQ(Put(0, recipe), StoreOutcome::kStored);
  EXPECT_EQ(Hits(ProfileId::kInt8), 0u);
  EXPECT_EQ(Hits(ProfileId::kQ4), 1u);
  const RetrievedChunk refused = Get(0, ProfileId::kInt8);
  EXPECT_EQ(refused.miss, MissReason::kIncompatible);
  EXPECT_NE(refused.miss_message.find("rotary"), std::string::npos) << refused.miss_message;
  EXPECT_EQ(Missing(OfferedCoding{ProfileId::kLossless, RopeState::kRotated}), 8u);
  EXPECT_EQ(Missing(OfferedCoding{ProfileId::kLossless, RopeState::kUnrotated}), 0u);
  ASSERT_EQ(Put(0, ProfileId::kLossless), StoreOutcome::kStored);
  ExpectGiven(0, ProfileId::kInt8, ProfileId::kLossless);
}

TEST_F(VariantTest, OfWhatIsAcceptedTheSmallestIsGivenNotTheLossiest) {
  ContainerRecipe large = Recipe(0, ProfileId::kInt8);
  large.shrink = 1;
  ASSERT_EQ(Put(0, large), StoreOutcome::kStored);
  ContainerRecipe small = Recipe(0, ProfileId::kLossless);
  small.shrink = 2;
  ASSERT_EQ(Put(0, small), StoreOutcome::kStored);
  EXPECT_EQ(Assemble(Get(0, ProfileId::kInt8).parts.at(0)), model_.Container(small));
}

TEST_F(VariantTest, ACellHasOneVariantForEachClassOfLossAtMost) {
  const ProfileId profiles[] = {ProfileId::kTransform, ProfileId::kQ4, ProfileId::kInt8, ProfileId::kLossless};
  for (const ProfileId profile : profiles) ASSERT_EQ(Put(0, profile), StoreOutcome::kStored);
  EXPECT_EQ(Row(0).parts_size(), kMaxVariantsPerCell);
  for (const ProfileId profile : profiles) {
    ExpectGiven(0, profile, profile);
    ContainerRecipe again = Recipe(0, profile);
    again.salt += 50;
    EXPECT_EQ(Put(0, again), StoreOutcome::kKeptExisting);
  }
  EXPECT_EQ(Row(0).parts_size(), kMaxVariantsPerCell);
  const auto details = store_->InspectChunk(caller_, TestModel::ChunkDigest(0), ChunkStore::Verify::kEveryByte);
  ASSERT_TRUE(details.ok() && details->verified.ok());
  EXPECT_EQ(details->parts.size(), 4u);
  EXPECT_EQ(details->info.cells_present, 8u);
  EXPECT_EQ(details->info.raw_bytes, 32 * TokenBytes(model_.spec));  // of the KV, not of each variant
  uint64_t stored = 0;
  for (const ProfileId profile : profiles) stored += Container(0, profile).size();
  EXPECT_EQ(details->info.stored_bytes, stored);
}

TEST_F(VariantTest, RanksOfDifferentProfilesShareAChunk) {
  ContainerRecipe lossy = Recipe(0, ProfileId::kQ4);
  lossy.cells = model_.Heads(0, 4);
  ContainerRecipe exact = Recipe(0, ProfileId::kLossless);
  exact.cells = model_.Heads(4, 8);
  ASSERT_EQ(Put(0, lossy), StoreOutcome::kStored);
  ASSERT_EQ(Put(0, exact), StoreOutcome::kStored);
  EXPECT_EQ(Hits(ProfileId::kLossless), 0u);
  EXPECT_EQ(Get(0, ProfileId::kLossless).miss, MissReason::kIncompatible);
  EXPECT_FALSE(Get(0, ProfileId::kLossless, model_.Heads(4, 8)).miss.has_value());
  EXPECT_EQ(Get(0, ProfileId::kQ4).parts.size(), 2u);
  // A whole exact container provides what only the lossy one had.
  ASSERT_EQ(Put(0, ProfileId::kLossless), StoreOutcome::kStored);
  ASSERT_EQ(Row(0).parts_size(), 3);
  EXPECT_EQ(Row(0).parts(2).cells_size(), 4);
  EXPECT_EQ(Get(0, ProfileId::kLossless).parts.size(), 2u);
}

TEST_F(VariantTest, DeletionAndExpiryTakeAllOfThem) {
  const uint64_t before = LiveBytesOnDisk();
  ASSERT_EQ(Put(0, ProfileId::kQ4), StoreOutcome::kStored);
  ASSERT_EQ(Put(0, ProfileId::kLossless), StoreOutcome::kStored);
  ASSERT_EQ(LiveBytesOnDisk() - before,
            Container(0, ProfileId::kQ4).size() + Container(0, ProfileId::kLossless).size());
  const auto deleted = store_->Delete(caller_, {TestModel::ChunkDigest(0), {}, {}}, DeleteMode::kDelete);
  EXPECT_EQ(deleted->chunks, 1u);
  EXPECT_EQ(LiveBytesOnDisk(), before);
  EXPECT_EQ(Get(0, ProfileId::kQ4).miss, MissReason::kAbsent);

  StoreRequest request = model_.Request(1);
  request.ttl_ms = 50;
  for (const ProfileId profile : {ProfileId::kQ4, ProfileId::kLossless}) {
    ASSERT_EQ(*store_->Store(caller_, request, Share(Container(1, profile))), StoreOutcome::kStored);
  }
  clock_.Advance(50);
  EXPECT_EQ(Get(1, ProfileId::kQ4).miss, MissReason::kExpired);
  EXPECT_FALSE(HasRow(1));
  EXPECT_EQ(LiveBytesOnDisk(), before);
}

TEST_F(VariantTest, LosingOneLeavesTheOther) {
  ASSERT_EQ(Put(0, ProfileId::kQ4), StoreOutcome::kStored);
  ASSERT_EQ(Put(0, ProfileId::kLossless), StoreOutcome::kStored);
  values_->Corrupt(LocationOfPart(0, 1), 5000);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(Get(0, ProfileId::kLossless).miss, MissReason::kCorrupt);
  ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(Get(0, ProfileId::kLossless).miss, MissReason::kIncompatible);
  ExpectGiven(0, ProfileId::kQ4, ProfileId::kQ4);
  ASSERT_EQ(Put(0, ProfileId::kLossless), StoreOutcome::kStored);
  ExpectGiven(0, ProfileId::kLossless, ProfileId::kLossless);
}

TEST_F(VariantTest, WhereNotAllFindRoomTheLossyOnesAreKept) {
  ASSERT_EQ(Put(0, ProfileId::kLossless), StoreOutcome::kStored);
  ASSERT_EQ(Put(1, ProfileId::kQ4), StoreOutcome::kStored);
  ASSERT_EQ(Put(1, ProfileId::kLossless), StoreOutcome::kStored);
  ASSERT_FALSE(Get(1, ProfileId::kQ4).miss.has_value());
  ASSERT_TRUE(values_->SealActive().ok());
  RewritePolicy policy;
  policy.max_accessed_bytes = Container(0, ProfileId::kLossless).size() + Container(1, ProfileId::kQ4).size();
  policy.max_pinned_bytes = UINT64_MAX;
  policy.has_room = [](uint64_t) { return true; };
  GroupRewriter rewriter(store_->context().EvictionDependencies());
  for (const ValueGroup& group : values_->Groups()) {
    if (!group.sealed) continue;
    ASSERT_TRUE(rewriter.Rewrite(group, policy).ok());
  }
  ASSERT_TRUE(HasRow(1));
  EXPECT_EQ(Row(1).parts_size(), 1);
  ExpectGiven(1, ProfileId::kQ4, ProfileId::kQ4);
  EXPECT_EQ(Get(1, ProfileId::kLossless).miss, MissReason::kIncompatible);
}

}  // namespace
}  // namespace kdn
