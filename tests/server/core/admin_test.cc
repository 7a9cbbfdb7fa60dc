#include <algorithm>
#include <set>
#include <thread>

#include "tests/server/core/core_fixture.h"

namespace kdn {
namespace {

using testing::CoreTest;
using testing::FullAttentionSpec;
using testing::Share;
using testing::TestModel;

// What a gRPC client receives in one message, if not told otherwise.
constexpr size_t kGrpcClientBytes = size_t{4} << 20;

class AdminTest : public CoreTest {
 protected:
  void SetUp() override {
    CoreTest::SetUp();
    Register(model_);
  }
  void StoreFor(const std::string& document, uint32_t i) {
    StoreRequest request = model_.Request(i);
    request.document = document;
    const auto outcome = store_->Store(caller_, request, Share(model_.Container(model_.Recipe(i))));
    ASSERT_TRUE(outcome.ok()) << outcome.status();
  }
  // Tombstones among the values.
  v1::Tombstone Tombstones() {
    v1::Tombstone all;
    for (const ValueGroup& group : values_->Groups()) {
      const absl::Status scanned = values_->Scan(group.id, {}, [&](const ScannedValue& value) {
        v1::ValueMetadata metadata;
        metadata.ParseFromArray(value.metadata.data(), static_cast<int>(value.metadata.size()));
        all.MergeFrom(metadata.tombstone());
      });
      EXPECT_TRUE(scanned.ok());
    }
    return all;
  }

  const TestModel model_{FullAttentionSpec(2, 4, 16), 32};
};

TEST_F(AdminTest, ATenantHasSoManyModelsAndNoMore) {
  const TenantId tenant = KeyOf(0).tenant;
  for (uint64_t i = 2; i < kMaxModelsPerTenant; ++i) {
    IndexBatch batch;
    batch.model_puts.push_back({tenant, Sha256::Of(AsBytes(std::to_string(i))), v1::ModelRecord()});
    ASSERT_TRUE(index_->Commit(batch, Durability::kSynced).ok());
  }
  Register(TestModel(FullAttentionSpec(3, 4, 16), 32));
  const TestModel one_more(FullAttentionSpec(4, 4, 16), 32);
  const auto register_it = [&](const Caller& caller) {
    return store_->RegisterModel(caller, one_more.canonical_spec, one_more.chunk_tokens, "").status();
  };
  EXPECT_TRUE(absl::IsResourceExhausted(register_it(caller_)));
  EXPECT_TRUE(register_it({"another"}).ok());
  Register(model_);  // what is there stays
  ASSERT_TRUE(store_->Delete(caller_, {{}, {}, model_.fingerprint}, DeleteMode::kDelete).ok());
  EXPECT_TRUE(register_it(caller_).ok());
}

TEST_F(AdminTest, ModelsBeyondThoseCachedAreFoundAgain) {
  for (uint32_t i = 0; i <= kMaxCachedModels; ++i) {
    ModelSpec spec = FullAttentionSpec(1, 1, 16);
    spec.weights_digest = Sha256::Of(AsBytes(std::to_string(i)));
    Register(TestModel(spec, 32));
  }
  EXPECT_EQ(*Store(model_, 0), StoreOutcome::kStored);
}

TEST_F(AdminTest, DeletingAModelThatIsNotThereWritesNothing) {
  const uint64_t puts = values_->puts();
  const auto counts = store_->Delete(caller_, {{}, {}, Sha256::Of(AsBytes("no model"))}, DeleteMode::kDelete);
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->chunks, 0u);
  EXPECT_EQ(values_->puts(), puts);
}

TEST_F(AdminTest, TextsComeBackWithTheirChunks) {
  const Digest digest = TextDigest(model_.fingerprint, "default", "some text");
  std::vector<uint32_t> tokens;
  for (uint32_t i = 0; i < 75; ++i) tokens.push_back(i * 31);
  const auto chunks = store_->StoreText(caller_, {model_.fingerprint, digest, tokens, "doc", 0, {"image=abc"}});
  ASSERT_TRUE(chunks.ok()) << chunks.status();
  EXPECT_EQ(*chunks, 3u);
  const auto text = store_->LookupText(caller_, model_.fingerprint, digest);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->token_ids, tokens);
  EXPECT_EQ(text->document, "doc");
  EXPECT_EQ(text->extra_keys, std::vector<std::string>{"image=abc"});
  const std::vector<ChunkId> expected = PrefixChunks({model_.fingerprint, 32, {"image=abc"}}, tokens);
  ASSERT_EQ(text->chunk_digests.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(text->chunk_digests[i], expected[i].digest);
  const uint64_t puts = values_->puts();
  ASSERT_TRUE(store_->StoreText(caller_, {model_.fingerprint, digest, tokens, "doc", 0, {"image=abc"}}).ok());
  EXPECT_EQ(values_->puts(), puts);  // nothing new
}

TEST_F(AdminTest, BadTextsAreRefused) {
  const Digest digest = Sha256::Of(AsBytes("t"));
  EXPECT_TRUE(
      absl::IsInvalidArgument(store_->StoreText(caller_, {model_.fingerprint, digest, {}, "", 0, {}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->StoreText(caller_, {model_.fingerprint, digest, {1}, std::string(600, 'd'), 0, {}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->StoreText(caller_, {model_.fingerprint, digest, {1}, "", 0, {std::string(5000, 'k')}}).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->StoreText(caller_, {digest, digest, {1}, "", 0, {}}).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->LookupText(caller_, model_.fingerprint, digest).status()));
}

TEST_F(AdminTest, ExpiredTextIsNotFound) {
  const Digest digest = Sha256::Of(AsBytes("t"));
  ASSERT_TRUE(store_->StoreText(caller_, {model_.fingerprint, digest, {1}, "", 100, {}}).ok());
  clock_.Advance(100);
  EXPECT_TRUE(absl::IsNotFound(store_->LookupText(caller_, model_.fingerprint, digest).status()));
}

TEST_F(AdminTest, ListsInPagesAndByFilter) {
  for (uint32_t i = 0; i < 7; ++i) StoreFor(i % 2 == 0 ? "even" : "odd", i);
  std::set<Digest> seen;
  ChunkFilter filter;
  filter.limit = 3;
  int pages = 0;
  do {
    const auto page = store_->ListChunks(caller_, filter);
    ASSERT_TRUE(page.ok());
    EXPECT_LE(page->chunks.size(), 3u);
    for (const ChunkInfo& info : page->chunks) EXPECT_TRUE(seen.insert(info.chunk_digest).second);
    filter.page_token = page->next_page_token;
    ++pages;
  } while (!filter.page_token.empty() && pages < 10);
  EXPECT_EQ(seen.size(), 7u);
  EXPECT_EQ(pages, 3);
  ChunkFilter even;
  even.document = "even";
  EXPECT_EQ(store_->ListChunks(caller_, even)->chunks.size(), 4u);
  ChunkFilter other_model;
  other_model.fingerprint = Sha256::Of(AsBytes("nobody"));
  EXPECT_TRUE(store_->ListChunks(caller_, other_model)->chunks.empty());
  ChunkFilter bad;
  bad.page_token = "zz";
  EXPECT_TRUE(absl::IsInvalidArgument(store_->ListChunks(caller_, bad).status()));
}

// A client with gRPC's own limit receives every page.
TEST_F(AdminTest, PageOfChunksEndsBeforeItsBytesPassTheLimit) {
  constexpr uint32_t kChunks = 150;
  const TenantId tenant = KeyOf(0).tenant;
  IndexBatch batch;
  for (uint32_t i = 0; i < kChunks; ++i) {
    v1::ChunkRecord row;
    row.set_fingerprint(std::string(model_.fingerprint.view()));
    row.set_chunk_digest(std::string(Sha256::Of(AsBytes(std::to_string(i))).view()));
    for (char d = 0; d < 64; ++d) row.add_documents(std::string(kMaxDocumentNameBytes, static_cast<char>('0' + d)));
    batch.chunk_puts.push_back({{tenant, Sha256::Of(AsBytes(row.chunk_digest()))}, row, {}});
  }
  ASSERT_TRUE(index_->Commit(batch, Durability::kSynced).ok());
  std::set<Digest> seen;
  ChunkFilter filter;
  filter.limit = kMaxListLimit;
  for (int pages = 0; pages < 10; ++pages) {
    const auto page = store_->ListChunks(caller_, filter);
    ASSERT_TRUE(page.ok()) << page.status();
    size_t bytes = 0;
    for (const ChunkInfo& info : page->chunks) {
      EXPECT_TRUE(seen.insert(info.chunk_digest).second);
      for (const std::string& document : info.documents) bytes += document.size();
    }
    EXPECT_LT(bytes, kGrpcClientBytes);
    filter.page_token = page->next_page_token;
    if (filter.page_token.empty()) break;
  }
  EXPECT_EQ(seen.size(), kChunks);
}

TEST_F(AdminTest, PageOfModelsEndsAtItsLimitOrBeforeItsBytesPassTheirs) {
  const TenantId tenant = KeyOf(0).tenant;
  for (int i = 0; i < 9; ++i) {
    v1::ModelRecord record;
    record.set_canonical_spec(std::string(kMaxSpecBytes, 's'));
    IndexBatch batch;
    batch.model_puts.push_back({tenant, Sha256::Of(AsBytes(std::to_string(i))), record});
    ASSERT_TRUE(index_->Commit(batch, Durability::kSynced).ok());
  }
  for (const uint32_t limit : {uint32_t{1}, kMaxListLimit}) {
    std::set<Digest> seen;
    ModelFilter filter;
    filter.limit = limit;
    for (int pages = 0; pages < 20; ++pages) {
      const auto page = store_->ListModels(caller_, filter);
      ASSERT_TRUE(page.ok()) << page.status();
      EXPECT_LE(page->models.size(), limit);
      size_t bytes = 0;
      for (const ModelInfo& info : page->models) {
        EXPECT_TRUE(seen.insert(info.fingerprint).second);
        bytes += info.canonical_spec.size();
      }
      EXPECT_LT(bytes, kGrpcClientBytes);
      filter.page_token = page->next_page_token;
      if (filter.page_token.empty()) break;
    }
    EXPECT_EQ(seen.size(), 10u);  // with the fixture's own
  }
  ModelFilter bad;
  bad.page_token = "zz";
  EXPECT_TRUE(absl::IsInvalidArgument(store_->ListModels(caller_, bad).status()));
}

TEST_F(AdminTest, InfoSaysWhatThereIs) {
  ASSERT_TRUE(StoreCells(model_, 0, model_.Heads(0, 2)).ok());
  StoreFor("doc", 0);  // the rest of the cells
  const ChunkInfo info = store_->ListChunks(caller_, ChunkFilter())->chunks.at(0);
  EXPECT_EQ(info.chunk_digest, TestModel::ChunkDigest(0));
  EXPECT_EQ(info.num_tokens, 32u);
  EXPECT_EQ(info.cells_total, model_.cells.num_cells());
  EXPECT_EQ(info.cells_present, info.cells_total);
  EXPECT_EQ(info.raw_bytes, 32 * TokenBytes(model_.spec));
  EXPECT_EQ(info.documents, std::vector<std::string>{"doc"});
  EXPECT_EQ(info.stored_bytes, StoredBytes(Row(0)));
  EXPECT_FALSE(info.pinned);
}

TEST_F(AdminTest, InspectFindsDamage) {
  ASSERT_TRUE(Store(model_, 0).ok());
  const auto whole = store_->InspectChunk(caller_, TestModel::ChunkDigest(0), ChunkStore::Verify::kEveryByte);
  ASSERT_TRUE(whole.ok());
  EXPECT_TRUE(whole->verified.ok()) << whole->verified;
  ASSERT_EQ(whole->parts.size(), 1u);
  EXPECT_EQ(whole->parts[0].header.num_tokens, 32u);
  values_->Corrupt(LocationOfPart(0), Row(0).parts(0).header_bytes() + 1);
  const auto damaged = store_->InspectChunk(caller_, TestModel::ChunkDigest(0), ChunkStore::Verify::kEveryByte);
  ASSERT_TRUE(damaged.ok());
  EXPECT_TRUE(absl::IsDataLoss(damaged->verified));
  EXPECT_EQ(events_["corruption_values"], 1u);
  EXPECT_TRUE(
      absl::IsNotFound(store_->InspectChunk(caller_, TestModel::ChunkDigest(9), ChunkStore::Verify::kNo).status()));
}

TEST_F(AdminTest, DryRunDeletesNothing) {
  StoreFor("doc", 0);
  DeleteTarget target;
  target.document = "doc";
  const auto counts = store_->Delete(caller_, target, DeleteMode::kDryRun);
  ASSERT_TRUE(counts.ok());
  EXPECT_EQ(counts->chunks, 1u);
  EXPECT_EQ(counts->bytes, StoredBytes(Row(0)));
  EXPECT_TRUE(HasRow(0));
  EXPECT_EQ(Tombstones().chunk_keys_size(), 0);
}

// Stored for another document between the deletion's search and its tombstone.
TEST_F(AdminTest, AChunkThatADeletionSparesIsNewerThanItsTombstone) {
  StoreFor("a", 0);
  StoreFor("a", 1);
  values_->OnNextPut([this] { StoreFor("b", 0); });
  DeleteTarget target;
  target.document = "a";
  const auto counts = store_->Delete(caller_, target, DeleteMode::kDelete);
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->chunks, 1u);
  ASSERT_TRUE(HasRow(0));
  EXPECT_FALSE(HasRow(1));
  EXPECT_EQ(Row(0).documents_size(), 1);
  uint64_t tombstone = 0;  // its offset: all of this is in one group
  const ValueLocation location = LocationOfPart(0);
  ASSERT_TRUE(values_
                  ->Scan(location.group, {},
                         [&](const ScannedValue& value) {
                           v1::ValueMetadata metadata;
                           metadata.ParseFromArray(value.metadata.data(), static_cast<int>(value.metadata.size()));
                           if (metadata.has_tombstone()) tombstone = value.location.offset;
                         })
                  .ok());
  EXPECT_GT(tombstone, 0u);
  EXPECT_GT(location.offset, tombstone);
  EXPECT_EQ(testing::Assemble(Retrieve(model_, 0).parts[0]), model_.Container(model_.Recipe(0)));
}

// Otherwise eviction may move a value behind the tombstone that names it, and a rebuild brings the value back.
TEST_F(AdminTest, NothingIsEvictedBetweenATombstoneAndTheRows) {
  StoreFor("a", 0);
  bool evicting = true;
  values_->OnNextPut([&] {
    std::thread evictor([&] {
      absl::Mutex& step = store_->context().evictor().step_mutex();
      evicting = step.TryLock();
      if (evicting) step.Unlock();
    });
    evictor.join();
  });
  DeleteTarget target;
  target.document = "a";
  ASSERT_TRUE(store_->Delete(caller_, target, DeleteMode::kDelete).ok());
  EXPECT_FALSE(evicting);
  EXPECT_EQ(Tombstones().chunk_keys_size(), 1);
}

TEST_F(AdminTest, AChunkWhoseOtherDocumentGoesMeanwhileLeavesATombstone) {
  StoreFor("a", 0);
  StoreFor("b", 0);
  const auto delete_document = [&](const std::string& name) {
    DeleteTarget target;
    target.document = name;
    return store_->Delete(caller_, target, DeleteMode::kDelete);
  };
  index_->OnNextVisitTexts([&] { EXPECT_EQ(delete_document("b")->chunks, 0u); });
  EXPECT_EQ(delete_document("a")->chunks, 1u);
  EXPECT_FALSE(HasRow(0));
  EXPECT_EQ(Tombstones().chunk_keys_size(), 1);
}

TEST_F(AdminTest, DeletionByKeyLeavesATombstone) {
  ASSERT_TRUE(Store(model_, 0).ok());
  const auto counts = store_->Delete(caller_, {TestModel::ChunkDigest(0), {}, {}}, DeleteMode::kDelete);
  ASSERT_TRUE(counts.ok());
  EXPECT_EQ(counts->chunks, 1u);
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kAbsent);
  ASSERT_EQ(Tombstones().chunk_keys_size(), 1);
  EXPECT_EQ(Tombstones().chunk_keys(0), KeyOf(0).key.view());
  EXPECT_EQ(store_->Delete(caller_, {TestModel::ChunkDigest(0), {}, {}}, DeleteMode::kDelete)->chunks, 0u);
  EXPECT_EQ(*Store(model_, 0), StoreOutcome::kStored);
}

TEST_F(AdminTest, DeletionByDocumentLeavesWhatOthersShare) {
  StoreFor("a", 0);
  StoreFor("b", 0);
  StoreFor("a", 1);
  StoreFor("b", 2);
  const Digest text = Sha256::Of(AsBytes("t"));
  ASSERT_TRUE(store_->StoreText(caller_, {model_.fingerprint, text, {1}, "a", 0, {}}).ok());
  DeleteTarget target;
  target.document = "a";
  const auto counts = store_->Delete(caller_, target, DeleteMode::kDelete);
  ASSERT_TRUE(counts.ok());
  EXPECT_EQ(counts->chunks, 1u);
  EXPECT_EQ(counts->texts, 1u);
  EXPECT_TRUE(HasRow(0));
  EXPECT_FALSE(HasRow(1));
  EXPECT_TRUE(HasRow(2));
  ASSERT_EQ(Row(0).documents_size(), 1);
  EXPECT_EQ(Row(0).documents(0), "b");
  EXPECT_TRUE(absl::IsNotFound(store_->LookupText(caller_, model_.fingerprint, text).status()));
}

TEST_F(AdminTest, DeletionByModelTakesEverythingOfIt) {
  const TestModel other(FullAttentionSpec(2, 4, 32), 32);
  Register(other);
  ASSERT_TRUE(Store(model_, 0).ok());
  ASSERT_TRUE(Store(model_, 1).ok());
  testing::ContainerRecipe recipe = other.Recipe(5);
  ASSERT_TRUE(store_->Store(caller_, other.Request(5), Share(other.Container(recipe))).ok());
  const Digest text = Sha256::Of(AsBytes("t"));
  ASSERT_TRUE(store_->StoreText(caller_, {model_.fingerprint, text, {1}, "a", 0, {}}).ok());
  DeleteTarget target;
  target.fingerprint = model_.fingerprint;
  const auto counts = store_->Delete(caller_, target, DeleteMode::kDelete);
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->chunks, 2u);
  EXPECT_EQ(counts->texts, 1u);
  EXPECT_FALSE(HasRow(0));
  EXPECT_TRUE(HasRow(5));
  EXPECT_TRUE(absl::IsNotFound(Store(model_, 0).status()));
  EXPECT_EQ(store_->ListModels(caller_, {})->models.size(), 1u);
  EXPECT_EQ(Tombstones().fingerprints_size(), 1);
  Register(model_);
  EXPECT_EQ(*Store(model_, 0), StoreOutcome::kStored);
}

TEST_F(AdminTest, DeletionNeedsExactlyOneTarget) {
  DeleteTarget none;
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Delete(caller_, none, DeleteMode::kDelete).status()));
  DeleteTarget two;
  two.document = "a";
  two.fingerprint = model_.fingerprint;
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Delete(caller_, two, DeleteMode::kDelete).status()));
  DeleteTarget empty;
  empty.document = "";
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Delete(caller_, empty, DeleteMode::kDelete).status()));
}

TEST_F(AdminTest, PinShowsAndNeedsAChunk) {
  ASSERT_TRUE(Store(model_, 0).ok());
  ASSERT_TRUE(store_->Pin(caller_, TestModel::ChunkDigest(0), ChunkStore::PinChange::kPin, 0).ok());
  EXPECT_TRUE(store_->ListChunks(caller_, ChunkFilter())->chunks[0].pinned);
  EXPECT_TRUE(absl::IsNotFound(store_->Pin(caller_, TestModel::ChunkDigest(1), ChunkStore::PinChange::kPin, 0)));
  // Deleting by name works on pinned chunks too.
  EXPECT_EQ(store_->Delete(caller_, {TestModel::ChunkDigest(0), {}, {}}, DeleteMode::kDelete)->chunks, 1u);
}

TEST_F(AdminTest, ProbeLeavesNothingBehind) {
  ASSERT_TRUE(store_->Probe().ok());
  EXPECT_EQ(store_->GetTotals()->texts, 0u);
  values_->SetPutStatus(ResourceExhausted("full"));
  EXPECT_TRUE(absl::IsResourceExhausted(store_->Probe().status()));
}

TEST_F(AdminTest, TiersCount) {
  ASSERT_TRUE(Store(model_, 0).ok());
  Retrieve(model_, 0);
  Retrieve(model_, 1);
  const std::vector<TierInfo> tiers = store_->Tiers();
  ASSERT_EQ(tiers.size(), 2u);
  EXPECT_EQ(tiers[1].tier, "disk");
  EXPECT_EQ(tiers[1].chunks, 1u);
  EXPECT_EQ(tiers[1].hits, 1u);
  EXPECT_EQ(tiers[1].misses, 1u);
  EXPECT_EQ(tiers[1].bytes, values_->DiskBytes());
}

TEST_F(AdminTest, TiersForgetWhatIsDeleted) {
  ASSERT_TRUE(Store(model_, 0).ok());
  ASSERT_TRUE(Store(model_, 1).ok());
  store_->maintenance().HousekeepingStep();
  const uint64_t raw_bytes = 32 * TokenBytes(model_.spec);
  const uint64_t stored_bytes = store_->Tiers()[1].stored_bytes;
  EXPECT_GT(stored_bytes, 0u);
  EXPECT_EQ(store_->Tiers()[1].raw_bytes, 2 * raw_bytes);
  ASSERT_TRUE(store_->Delete(caller_, {TestModel::ChunkDigest(1), {}, {}}, DeleteMode::kDelete).ok());
  EXPECT_EQ(store_->Tiers()[1].raw_bytes, raw_bytes);
  EXPECT_EQ(store_->Tiers()[1].stored_bytes, stored_bytes / 2);
  ASSERT_TRUE(store_->Delete(caller_, {TestModel::ChunkDigest(0), {}, {}}, DeleteMode::kDelete).ok());
  EXPECT_EQ(store_->Tiers()[1].raw_bytes, 0u);
  EXPECT_EQ(store_->Tiers()[1].stored_bytes, 0u);
}

}  // namespace
}  // namespace kdn
