#include <functional>
#include <random>
#include <thread>

#include "server/core/chunk_cells.h"
#include "tests/server/core/core_fixture.h"

namespace kdn {
namespace {

using testing::ContainerRecipe;
using testing::CoreTest;
using testing::FullAttentionSpec;
using testing::Share;
using testing::SlidingSpec;
using testing::TestModel;

class StoreTest : public CoreTest {
 protected:
  void SetUp() override {
    CoreTest::SetUp();
    Register(model_);
  }

  absl::Status Reject(const StoreRequest& request, std::vector<uint8_t> container) {
    const auto outcome = store_->Store(caller_, request, Share(std::move(container)));
    EXPECT_FALSE(outcome.ok());
    EXPECT_EQ(values_->puts(), puts_before_) << "a value was written";
    EXPECT_FALSE(HasRow(0));
    return outcome.status();
  }

  const TestModel model_{FullAttentionSpec(2, 8, 16), 32};
  const uint64_t puts_before_ = 1;  // the model's
};

// As a chunk put back from a file by hand, with other cells than those an engine's rank adds.
TEST_F(StoreTest, AChunkStoredWithoutItsParentTakesMoreCellsFromWhoNamesIt) {
  StoreRequest alone = model_.Request(1);
  alone.parent_digest.reset();
  testing::ContainerRecipe recipe = model_.Recipe(1);
  recipe.cells = model_.Heads(0, 1);
  ASSERT_EQ(*store_->Store(caller_, alone, Share(model_.Container(recipe))), StoreOutcome::kStored);
  const auto added = StoreCells(model_, 1, model_.Heads(1, 2));
  ASSERT_TRUE(added.ok()) << added.status();
  EXPECT_EQ(Row(1).parent_key(), KeyOf(0).key.view());
  recipe.cells = model_.Heads(2, 3);
  EXPECT_EQ(*store_->Store(caller_, alone, Share(model_.Container(recipe))), StoreOutcome::kStored);
  StoreRequest other = model_.Request(1);
  other.parent_digest = TestModel::ChunkDigest(9);
  recipe.cells = model_.Heads(3, 4);
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Store(caller_, other, Share(model_.Container(recipe))).status()));
}

TEST_F(StoreTest, StoresAChunkAndItsRow) {
  ASSERT_EQ(*Store(model_, 0), StoreOutcome::kStored);
  const v1::ChunkRecord row = Row(0);
  EXPECT_EQ(row.num_tokens(), 32u);
  ASSERT_EQ(row.parts_size(), 1);
  EXPECT_EQ(static_cast<uint32_t>(row.parts(0).cells_size()), model_.cells.num_cells());
  EXPECT_EQ(row.parts(0).raw_bytes(), 32 * TokenBytes(model_.spec));
  EXPECT_EQ(events_["stored"], 1u);
  EXPECT_EQ(events_["raw_bytes"], 32 * TokenBytes(model_.spec));
  EXPECT_EQ(index_->synced_commits(), 2u);  // the model, the chunk
}

TEST_F(StoreTest, CommitsUnsyncedInBatchMode) {
  ChunkStoreOptions options = DefaultOptions();
  options.sync = SyncMode::kBatch;
  Open(options);
  Register(model_);
  ASSERT_TRUE(Store(model_, 0).ok());
  EXPECT_EQ(index_->synced_commits(), 0u);
  EXPECT_EQ(values_->syncs(), 0u);
  ASSERT_TRUE(store_->maintenance().SyncStep().ok());
  EXPECT_EQ(values_->syncs(), 1u);
  EXPECT_EQ(index_->syncs(), 1u);
  ASSERT_TRUE(store_->maintenance().SyncStep().ok());  // nothing new to sync
  EXPECT_EQ(values_->syncs(), 1u);
}

// The background asks for flushes all the time: what it hears must not be lost to who asks later.
TEST_F(StoreTest, AFailedFlushIsToldToWhoeverFlushesAndFailsNoLaterDeletion) {
  ChunkStoreOptions options = DefaultOptions();
  options.sync = SyncMode::kBatch;
  Open(options);
  Register(model_);
  ASSERT_TRUE(Store(model_, 0).ok());
  values_->FailFlush();
  EXPECT_TRUE(absl::IsInternal(store_->maintenance().SyncStep()));
  ASSERT_EQ(index_->syncs(), 0u);
  EXPECT_TRUE(store_->maintenance().SyncStep().ok());
  EXPECT_EQ(index_->syncs(), 1u);
  EXPECT_TRUE(absl::IsInternal(store_->Flush()));
  EXPECT_TRUE(absl::IsInternal(store_->Flush()));
  ASSERT_TRUE(Store(model_, 1).ok());
  EXPECT_TRUE(store_->Delete(caller_, {TestModel::ChunkDigest(0), {}, {}}, DeleteMode::kDelete).ok());
  values_->OnNextPut([this] { values_->FailFlush(); });  // of the tombstone
  const auto deleted = store_->Delete(caller_, {TestModel::ChunkDigest(1), {}, {}}, DeleteMode::kDelete);
  EXPECT_TRUE(absl::IsInternal(deleted.status()));
}

TEST_F(StoreTest, DeduplicatesTheSameBytes) {
  ASSERT_EQ(*Store(model_, 0), StoreOutcome::kStored);
  EXPECT_EQ(*Store(model_, 0), StoreOutcome::kDeduplicated);
  EXPECT_EQ(values_->puts(), puts_before_ + 1);
  EXPECT_EQ(events_["deduplicated"], 1u);
  EXPECT_EQ(events_["divergent_cells"], 0u);
}

TEST_F(StoreTest, KeepsTheFirstOfDivergingBytes) {
  ASSERT_EQ(*Store(model_, 0), StoreOutcome::kStored);
  ContainerRecipe other = model_.Recipe(0);
  other.salt = 1;
  EXPECT_EQ(*store_->Store(caller_, model_.Request(0), Share(model_.Container(other))), StoreOutcome::kKeptExisting);
  EXPECT_EQ(events_["kept_existing"], 1u);
  EXPECT_EQ(events_["divergent_cells"], model_.cells.num_cells());
  EXPECT_EQ(testing::Assemble(Retrieve(model_, 0).parts[0]), model_.Container(model_.Recipe(0)));
}

TEST_F(StoreTest, AddsOnlyTheCellsThatAreNew) {
  ASSERT_EQ(*StoreCells(model_, 0, model_.Heads(0, 4)), StoreOutcome::kStored);
  ASSERT_EQ(*StoreCells(model_, 0, model_.Heads(2, 8)), StoreOutcome::kStored);
  const v1::ChunkRecord row = Row(0);
  ASSERT_EQ(row.parts_size(), 2);
  const auto heads = static_cast<uint32_t>(model_.cells.bands().size());
  EXPECT_EQ(static_cast<uint32_t>(row.parts(0).cells_size()), 4 * heads);
  EXPECT_EQ(static_cast<uint32_t>(row.parts(1).cells_size()), 4 * heads);  // heads 2 and 3 stay with the first
  EXPECT_EQ(*StoreCells(model_, 0, model_.Heads(1, 7)), StoreOutcome::kDeduplicated);
}

TEST_F(StoreTest, ReplacesASlidingCellByOneWithMoreRows) {
  const TestModel sliding(SlidingSpec(6, 16, 24), 32);
  Register(sliding);
  ContainerRecipe recipe = sliding.Recipe(0);
  recipe.windowed_first_row = 16;
  ASSERT_EQ(*store_->Store(caller_, sliding.Request(0), Share(sliding.Container(recipe))), StoreOutcome::kStored);
  recipe.windowed_first_row = 24;
  EXPECT_EQ(*store_->Store(caller_, sliding.Request(0), Share(sliding.Container(recipe))), StoreOutcome::kDeduplicated);
  recipe.windowed_first_row = 0;
  ASSERT_EQ(*store_->Store(caller_, sliding.Request(0), Share(sliding.Container(recipe))), StoreOutcome::kStored);
  const v1::ChunkRecord row = Row(0);
  ASSERT_EQ(row.parts_size(), 2);  // the full layers stay with the first
  for (const v1::CellRecord& cell : row.parts(1).cells()) {
    EXPECT_EQ(cell.first_row(), 0u);
    EXPECT_GT(sliding.cells.BandOfCell(cell.cell()).window, 0u);
  }
  EXPECT_EQ(row.parts(0).raw_bytes() + row.parts(1).raw_bytes(), 32 * TokenBytes(sliding.spec));
  EXPECT_FALSE(Retrieve(sliding, 0).miss.has_value());
}

TEST_F(StoreTest, KeepsAnExactSlidingCellBesideMoreRowsThatWereRounded) {
  const TestModel sliding(SlidingSpec(6, 16, 24), 32);
  Register(sliding);
  ContainerRecipe recipe = sliding.Recipe(0);
  recipe.windowed_first_row = 16;
  ASSERT_EQ(*store_->Store(caller_, sliding.Request(0), Share(sliding.Container(recipe))), StoreOutcome::kStored);
  recipe.windowed_first_row = 0;
  recipe.profile = ProfileId::kQ4;
  recipe.shrink = 4;
  ASSERT_EQ(*store_->Store(caller_, sliding.Request(0), Share(sliding.Container(recipe))), StoreOutcome::kStored);
  const v1::ChunkRecord row = Row(0);
  ASSERT_EQ(row.parts_size(), 2);
  EXPECT_EQ(static_cast<uint32_t>(row.parts(0).cells_size()), sliding.cells.num_cells());
  for (const v1::CellRecord& cell : row.parts(1).cells()) {
    EXPECT_GT(sliding.cells.BandOfCell(cell.cell()).window, 0u);  // of the others there are all rows, exact
  }
  RetrieveQuery query{sliding.fingerprint, TestModel::ChunkDigest(0), std::nullopt, 40, ProfileId::kLossless};
  EXPECT_EQ(store_->Retrieve(caller_, query)->parts.size(), 1u);
  query.prefix_end = 32;
  EXPECT_EQ(store_->Retrieve(caller_, query)->miss, MissReason::kIncompatible);
  query.lossiest = ProfileId::kQ4;
  EXPECT_EQ(store_->Retrieve(caller_, query)->parts.size(), 2u);
}

TEST_F(StoreTest, DropsAPartThatHoldsNothingAnyMore) {
  ModelSpec spec = SlidingSpec(5, 16, 24);  // sliding layers only
  const TestModel sliding(spec, 32);
  Register(sliding);
  ContainerRecipe recipe = sliding.Recipe(0);
  recipe.windowed_first_row = 16;
  ASSERT_TRUE(store_->Store(caller_, sliding.Request(0), Share(sliding.Container(recipe))).ok());
  recipe.windowed_first_row = 0;
  ASSERT_TRUE(store_->Store(caller_, sliding.Request(0), Share(sliding.Container(recipe))).ok());
  EXPECT_EQ(Row(0).parts_size(), 1);
  uint64_t live = 0;
  for (const ValueGroup& group : values_->Groups()) live += group.live_bytes;
  EXPECT_EQ(live, sliding.Container(recipe).size());
}

TEST_F(StoreTest, RejectsUnknownModel) {
  const TestModel other(FullAttentionSpec(1, 2, 16), 32);
  EXPECT_TRUE(absl::IsNotFound(Reject(other.Request(0), other.Container(other.Recipe(0)))));
}

TEST_F(StoreTest, RejectsIdentityThatDoesNotMatch) {
  const TestModel other(FullAttentionSpec(2, 8, 32), 32);
  const std::vector<uint8_t> good = model_.Container(model_.Recipe(0));
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(model_.Request(0), other.Container(other.Recipe(0)))));
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(model_.Request(0), model_.Container(model_.Recipe(1)))));
  StoreRequest with_parent = model_.Request(0);
  with_parent.parent_digest = TestModel::ChunkDigest(7);
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(with_parent, good)));
  StoreRequest own_parent = model_.Request(1);
  own_parent.parent_digest = own_parent.chunk_digest;
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(own_parent, model_.Container(model_.Recipe(1)))));
  StoreRequest segment = model_.Request(1);
  segment.kind = ChunkKind::kSegment;
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(segment, model_.Container(model_.Recipe(1)))));
  StoreRequest unknown_kind = model_.Request(0);
  unknown_kind.kind = static_cast<ChunkKind>(9);
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(unknown_kind, good)));
  ContainerRecipe odd_begin = model_.Recipe(1);
  odd_begin.token_begin = 33;
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(model_.Request(1), model_.Container(odd_begin))));
  EXPECT_EQ(events_["rejected_invalid_argument"], 7u);
}

TEST_F(StoreTest, RejectsTooManyTokens) {
  ContainerRecipe recipe = model_.Recipe(0);
  recipe.num_tokens = 48;
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(model_.Request(0), model_.Container(recipe))));
}

TEST_F(StoreTest, RejectsAnotherTokenCountThanStored) {
  ASSERT_TRUE(StoreCells(model_, 0, model_.Heads(0, 4)).ok());
  ContainerRecipe recipe = model_.Recipe(0);
  recipe.num_tokens = 16;
  recipe.cells = model_.Heads(4, 8);
  EXPECT_TRUE(
      absl::IsInvalidArgument(store_->Store(caller_, model_.Request(0), Share(model_.Container(recipe))).status()));
}

TEST_F(StoreTest, RejectsCellsTheModelDoesNotHave) {
  const TestModel narrow(FullAttentionSpec(2, 4, 16), 32);
  Register(narrow);
  // A container of the wide model under the narrow one's name.
  ContainerHeader header = *ParseContainerHeader(model_.Container(model_.Recipe(0)));
  header.fingerprint = narrow.fingerprint;
  ContainerBuilder builder(header);
  for (const SectionEntry& section : header.sections) {
    builder.BeginSection(section);
    for (const TileEntry& tile : header.TilesOf(section)) {
      builder.AddTile(tile.profile, std::vector<uint8_t>(tile.length));
    }
  }
  const auto outcome = store_->Store(caller_, narrow.Request(0), Share(*std::move(builder).Finish()));
  EXPECT_TRUE(absl::IsInvalidArgument(outcome.status())) << outcome.status();
}

TEST_F(StoreTest, RejectsAFlippedBitAnywhere) {
  const std::vector<uint8_t> good = model_.Container(model_.Recipe(0));
  std::mt19937 rng(7);
  const uint32_t header_bytes = ParseContainerHeader(good)->header_bytes;
  for (int i = 0; i < 400; ++i) {
    // Half of them in the header.
    const size_t at = i % 2 == 0 ? rng() % header_bytes : rng() % good.size();
    std::vector<uint8_t> bad = good;
    bad[at] ^= static_cast<uint8_t>(1u << (rng() % 8));
    const auto outcome = store_->Store(caller_, model_.Request(0), Share(std::move(bad)));
    ASSERT_FALSE(outcome.ok()) << "flip at " << at << " of " << good.size() << ", header " << header_bytes;
  }
  EXPECT_FALSE(HasRow(0));
  EXPECT_GT(events_["corruption_upload"], 0u);
}

TEST_F(StoreTest, RejectsTruncationAndTrailingBytes) {
  const std::vector<uint8_t> good = model_.Container(model_.Recipe(0));
  for (const size_t size : {size_t{0}, size_t{1}, size_t{47}, size_t{48}, size_t{200}, good.size() - 1}) {
    const absl::Status status = Reject(model_.Request(0), {good.begin(), good.begin() + size});
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << size << ": " << status;
  }
  std::vector<uint8_t> longer = good;
  longer.push_back(0);
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(model_.Request(0), longer)));
}

TEST_F(StoreTest, RejectsDeclaredSizesBeyondWhatWasSent) {
  for (const size_t at : {size_t{16}, size_t{24}, size_t{28}}) {  // header bytes, body bytes low and high
    std::vector<uint8_t> lying = model_.Container(model_.Recipe(0));
    StoreLe<uint32_t>(0x7fffffff, lying.data() + at);
    EXPECT_FALSE(Reject(model_.Request(0), lying).ok());
  }
}

TEST_F(StoreTest, RejectsUnknownRequiredFeaturesAndVersions) {
  std::vector<uint8_t> features = model_.Container(model_.Recipe(0));
  features[8] |= 0x80;
  EXPECT_TRUE(absl::IsUnimplemented(Reject(model_.Request(0), features)));
  std::vector<uint8_t> version = model_.Container(model_.Recipe(0));
  version[4] = 9;
  EXPECT_TRUE(absl::IsUnimplemented(Reject(model_.Request(0), version)));
}

TEST_F(StoreTest, RejectsBeyondTheContainerLimit) {
  ChunkStoreOptions options = DefaultOptions();
  options.max_container_bytes = 1000;
  Open(options);
  Register(model_);
  EXPECT_TRUE(absl::IsInvalidArgument(Store(model_, 0).status()));
}

TEST_F(StoreTest, RejectsLongNamesAndLives) {
  StoreRequest long_name = model_.Request(0);
  long_name.document = std::string(kMaxDocumentNameBytes + 1, 'x');
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(long_name, model_.Container(model_.Recipe(0)))));
  StoreRequest long_life = model_.Request(0);
  long_life.ttl_ms = kMaxTtlMs + 1;
  EXPECT_TRUE(absl::IsInvalidArgument(Reject(long_life, model_.Container(model_.Recipe(0)))));
  caller_.tenant = "";
  EXPECT_TRUE(absl::IsInvalidArgument(Store(model_, 0).status()));
}

TEST_F(StoreTest, IsInvisibleWhenTheValueIsNotWritten) {
  values_->SetPutStatus(ResourceExhausted("disk full"));
  EXPECT_TRUE(absl::IsResourceExhausted(Store(model_, 0).status()));
  EXPECT_FALSE(HasRow(0));
  EXPECT_TRUE(store_->GetTotals()->read_only);
  EXPECT_EQ(store_->GetTotals()->refusal, "disk full");
  EXPECT_EQ(events_["rejected_resource_exhausted"], 1u);
  values_->SetPutStatus(absl::OkStatus());
  EXPECT_TRUE(Store(model_, 0).ok());
  EXPECT_FALSE(store_->GetTotals()->read_only);
  EXPECT_EQ(store_->GetTotals()->refusal, "");
}

TEST_F(StoreTest, SaysAtTheChangeThatStoresAreRefusedAndAcceptedAgain) {
  values_->SetPutStatus(ResourceExhausted("disk full"));
  ::testing::internal::CaptureStderr();
  EXPECT_FALSE(Store(model_, 0).ok());
  EXPECT_FALSE(Store(model_, 0).ok());
  values_->SetPutStatus(absl::OkStatus());
  EXPECT_TRUE(Store(model_, 0).ok());
  const std::string log = ::testing::internal::GetCapturedStderr();
  const size_t refused = log.find("stores are refused");
  EXPECT_NE(refused, std::string::npos) << log;
  EXPECT_EQ(log.find("stores are refused", refused + 1), std::string::npos) << log;
  EXPECT_NE(log.find("stores are accepted again", refused), std::string::npos) << log;
}

TEST_F(StoreTest, IsInvisibleWhenTheIndexIsNotWritten) {
  index_->SetCommitStatus(ResourceExhausted("disk full"));
  EXPECT_TRUE(absl::IsResourceExhausted(Store(model_, 0).status()));
  EXPECT_FALSE(HasRow(0));
  index_->SetCommitStatus(absl::OkStatus());
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kAbsent);
  EXPECT_EQ(*Store(model_, 0), StoreOutcome::kStored);
}

TEST_F(StoreTest, HealsADamagedRow) {
  ASSERT_TRUE(Store(model_, 0).ok());
  index_->DamageRow(KeyOf(0));
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kCorrupt);
  EXPECT_EQ(*Store(model_, 0), StoreOutcome::kStored);
  EXPECT_FALSE(Retrieve(model_, 0).miss.has_value());
  EXPECT_GT(events_["corruption_index"], 0u);
}

TEST_F(StoreTest, TenantsDoNotSeeEachOther) {
  ASSERT_TRUE(Store(model_, 0).ok());
  caller_.tenant = "other";
  EXPECT_TRUE(
      absl::IsNotFound(store_->Retrieve(caller_, {model_.fingerprint, TestModel::ChunkDigest(0), {}, 0}).status()));
  Register(model_);
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kAbsent);
  EXPECT_EQ(HitChunks(model_, 1), 0u);
  EXPECT_EQ(*Store(model_, 0), StoreOutcome::kStored);
}

TEST_F(StoreTest, RecordsDocumentsUpToTheBound) {
  for (size_t i = 0; i < kMaxDocumentsPerChunk + 3; ++i) {
    StoreRequest request = model_.Request(0);
    request.document = "doc " + std::to_string(i);
    ASSERT_TRUE(store_->Store(caller_, request, Share(model_.Container(model_.Recipe(0)))).ok());
  }
  EXPECT_EQ(static_cast<size_t>(Row(0).documents_size()), kMaxDocumentsPerChunk);
}

TEST_F(StoreTest, ProlongsTheLifeOfWhatIsStoredAgain) {
  StoreRequest request = model_.Request(0);
  request.ttl_ms = 1000;
  const auto store = [&] { return store_->Store(caller_, request, Share(model_.Container(model_.Recipe(0)))); };
  ASSERT_TRUE(store().ok());
  clock_.Advance(900);
  EXPECT_EQ(*store(), StoreOutcome::kDeduplicated);
  clock_.Advance(900);
  EXPECT_FALSE(Retrieve(model_, 0).miss.has_value());
  request.ttl_ms = 0;
  EXPECT_EQ(*store(), StoreOutcome::kDeduplicated);
  EXPECT_EQ(Row(0).expires_ms(), 0);
}

TEST_F(StoreTest, SameChunkFromManyThreadsIsStoredOnce) {
  constexpr int kThreads = 64;
  const std::vector<uint8_t> container = model_.Container(model_.Recipe(0));
  std::atomic<int> stored{0};
  std::atomic<int> deduplicated{0};
  std::atomic<int> whole{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      const auto outcome = store_->Store(caller_, model_.Request(0), Share(container));
      if (outcome.ok() && *outcome == StoreOutcome::kStored) ++stored;
      if (outcome.ok() && *outcome == StoreOutcome::kDeduplicated) ++deduplicated;
      const auto chunk = store_->Retrieve(caller_, {model_.fingerprint, TestModel::ChunkDigest(0), {}, 0});
      if (chunk.ok() && chunk->parts.size() == 1 && testing::Assemble(chunk->parts[0]) == container) ++whole;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(stored, 1);
  EXPECT_EQ(deduplicated, kThreads - 1);
  EXPECT_EQ(whole, kThreads);
  EXPECT_EQ(values_->puts(), puts_before_ + 1);
}

TEST_F(StoreTest, RegisterModelIsIdempotentAndPinsTheChunkLength) {
  const auto again = store_->RegisterModel(caller_, model_.canonical_spec, 0, "other name");
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->created);
  EXPECT_EQ(again->chunk_tokens, 32u);
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->RegisterModel(caller_, model_.canonical_spec, 64, "").status()));
  EXPECT_EQ(store_->ListModels(caller_, {})->models.size(), 1u);
}

TEST_F(StoreTest, RegisterModelRefusesWhatIsNotASpec) {
  EXPECT_TRUE(absl::IsInvalidArgument(store_->RegisterModel(caller_, AsBytes("nonsense"), 0, "").status()));
  std::vector<uint8_t> longer = model_.canonical_spec;
  longer.push_back(0);
  EXPECT_TRUE(absl::IsInvalidArgument(store_->RegisterModel(caller_, longer, 0, "").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->RegisterModel(caller_, model_.canonical_spec, 17, "").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->RegisterModel(caller_, model_.canonical_spec, 32, std::string(300, 'n')).status()));
}

}  // namespace
}  // namespace kdn
