#include <atomic>
#include <random>
#include <thread>

#include "storage/index/value_metadata.h"
#include "tests/server/core/core_fixture.h"

namespace kdn {
namespace {

using testing::Assemble;
using testing::CoreTest;
using testing::FullAttentionSpec;
using testing::Share;
using testing::TestModel;

// Eviction, expiry and capacity through the whole store over fakes: deterministic, no background threads.
class EvictionTest : public CoreTest {
 protected:
  // Groups of about `chunks_per_group` chunks, capacity for `capacity_chunks` and the model.
  void OpenSmall(uint32_t chunks_per_group, uint32_t capacity_chunks) {
    ChunkStoreOptions options = DefaultOptions();
    chunk_bytes_ = model_.Container(model_.Recipe(0)).size() + 1500;
    options.capacity_bytes = capacity_chunks == 0 ? 0 : capacity_chunks * chunk_bytes_ + kSlackBytes;
    capacity_bytes_ = options.capacity_bytes;
    Open(options, chunks_per_group * (chunk_bytes_ - 1500));
    Register(model_);
  }
  absl::StatusOr<uint32_t> Evict() { return store_->context().evictor().Run(); }
  // Of the first `chunks`, those there are rows for.
  std::vector<uint32_t> Rows(uint32_t chunks) {
    std::vector<uint32_t> present;
    for (uint32_t i = 0; i < chunks; ++i) {
      if (HasRow(i)) present.push_back(i);
    }
    return present;
  }
  // Empties every group there is.
  absl::Status MoveEverything() {
    GroupRewriter rewriter(store_->context().EvictionDependencies());
    KDN_RETURN_IF_ERROR(values_->SealActive());
    RewritePolicy policy;
    policy.max_accessed_bytes = policy.max_pinned_bytes = UINT64_MAX;
    policy.keep_unread = true;
    policy.has_room = [](uint64_t) { return true; };
    for (const ValueGroup& group : values_->Groups()) KDN_RETURN_IF_ERROR(rewriter.Rewrite(group, policy).status());
    return absl::OkStatus();
  }
  // A chunk that is nobody's child.
  absl::StatusOr<StoreOutcome> StoreLone(uint32_t i, uint64_t ttl_ms = 0) {
    StoreRequest request = model_.Request(i);
    request.kind = ChunkKind::kSegment;
    request.parent_digest.reset();
    request.ttl_ms = ttl_ms;
    return store_->Store(caller_, request, Share(model_.Container(model_.Recipe(i))));
  }

  // Beside the chunks: the model, and what an admission asks for beyond the bytes that a small value takes.
  static constexpr uint64_t kSlackBytes = 100'000;
  const TestModel model_{FullAttentionSpec(4, 8, 16), 32};
  uint64_t chunk_bytes_ = 0;
  uint64_t capacity_bytes_ = 0;
};

TEST_F(EvictionTest, OldestGroupGoesFirst) {
  OpenSmall(4, 20);
  for (uint32_t i = 0; i < 18; ++i) ASSERT_TRUE(StoreLone(i).ok());
  EXPECT_EQ(Rows(18).size(), 18u);
  for (uint32_t i = 18; i < 24; ++i) {
    ASSERT_TRUE(StoreLone(i).ok());
    ASSERT_TRUE(Evict().ok());
  }
  const std::vector<uint32_t> rows = Rows(24);
  ASSERT_FALSE(rows.empty());
  EXPECT_GE(rows.front(), 4u);
  EXPECT_EQ(rows.back(), 23u);
  for (size_t i = 1; i < rows.size(); ++i) EXPECT_EQ(rows[i], rows[i - 1] + 1);  // no holes
  EXPECT_GT(events_["evicted_capacity"], 0u);
}

TEST_F(EvictionTest, CapacityIsNeverExceeded) {
  OpenSmall(4, 20);
  std::mt19937 rng(5);
  for (uint32_t i = 0; i < 120; ++i) {
    const auto outcome = StoreLone(i);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ASSERT_LE(values_->DiskBytes(), capacity_bytes_);
    if (i > 4) Retrieve(model_, i - rng() % 4);
  }
  EXPECT_GT(events_["reinserted"], 0u);
}

TEST_F(EvictionTest, ValueLargerThanTheCapacityIsRefused) {
  ChunkStoreOptions options = DefaultOptions();
  options.capacity_bytes = 20'000;
  Open(options);
  Register(model_);
  EXPECT_TRUE(absl::IsResourceExhausted(StoreLone(0).status()));
  EXPECT_EQ(events_["rejected_resource_exhausted"], 1u);
}

TEST_F(EvictionTest, WhatWasReadIsKeptOnce) {
  OpenSmall(4, 20);
  for (uint32_t i = 0; i < 12; ++i) ASSERT_TRUE(StoreLone(i).ok());
  ASSERT_FALSE(Retrieve(model_, 1).miss.has_value());
  uint32_t next = 12;
  const auto store_until_gone = [&](uint32_t chunk) {
    while (HasRow(chunk) && next < 200) {
      EXPECT_TRUE(StoreLone(next).ok());
      EXPECT_TRUE(Evict().ok());
      ++next;
    }
  };
  store_until_gone(0);
  ASSERT_FALSE(HasRow(0));
  ASSERT_TRUE(HasRow(1));
  EXPECT_EQ(events_["reinserted"], 1u);
  EXPECT_EQ(Assemble(Retrieve(model_, 1).parts[0]), model_.Container(model_.Recipe(1)));
  // Read again just now: it survives another passage; not read any more: it goes with the next one.
  store_until_gone(1);
  EXPECT_EQ(events_["reinserted"], 2u);
  EXPECT_FALSE(HasRow(1));
}

TEST_F(EvictionTest, AtMostHalfOfAGroupIsKeptForBeingRead) {
  OpenSmall(8, 40);
  for (uint32_t i = 0; i < 32; ++i) ASSERT_TRUE(StoreLone(i).ok());
  for (uint32_t i = 0; i < 8; ++i) ASSERT_FALSE(Retrieve(model_, i).miss.has_value());
  for (uint32_t i = 32; events_["evicted_capacity"] == 0 && i < 64; ++i) {
    ASSERT_TRUE(StoreLone(i).ok());
    ASSERT_TRUE(Evict().ok());
  }
  const size_t kept = Rows(8).size();
  EXPECT_GE(kept, 3u);
  EXPECT_LE(kept, 4u);
}

TEST_F(EvictionTest, PrefixLosesItsDeepestChunksFirst) {
  OpenSmall(8, 40);
  for (uint32_t i = 0; i < 8; ++i) ASSERT_TRUE(Store(model_, i).ok());
  for (uint32_t i = 100; i < 124; ++i) ASSERT_TRUE(StoreLone(i).ok());
  // Reading the deepest chunk alone shows that all of the prefix is wanted.
  ASSERT_FALSE(Retrieve(model_, 7).miss.has_value());
  for (uint32_t i = 124; events_["evicted_capacity"] == 0 && i < 160; ++i) {
    ASSERT_TRUE(StoreLone(i).ok());
    ASSERT_TRUE(Evict().ok());
  }
  const std::vector<uint32_t> rows = Rows(8);
  ASSERT_GE(rows.size(), 3u);
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i], i);
  EXPECT_EQ(HitChunks(model_, 8), rows.size());
}

TEST_F(EvictionTest, StoringAChildKeepsThePrefix) {
  OpenSmall(8, 40);
  for (uint32_t i = 0; i < 2; ++i) ASSERT_TRUE(Store(model_, i).ok());
  for (uint32_t i = 100; i < 130; ++i) ASSERT_TRUE(StoreLone(i).ok());
  ASSERT_TRUE(Store(model_, 2).ok());
  for (uint32_t i = 130; events_["evicted_capacity"] == 0 && i < 160; ++i) {
    ASSERT_TRUE(StoreLone(i).ok());
    ASSERT_TRUE(Evict().ok());
  }
  EXPECT_EQ(HitChunks(model_, 3), 3u);
}

TEST_F(EvictionTest, PinnedChunkSurvivesPressureUntilUnpinned) {
  OpenSmall(4, 20);
  ASSERT_TRUE(StoreLone(0).ok());
  ASSERT_TRUE(store_->Pin(caller_, TestModel::ChunkDigest(0), ChunkStore::PinChange::kPin, 0).ok());
  for (uint32_t i = 1; i < 100; ++i) ASSERT_TRUE(StoreLone(i).ok());
  ASSERT_TRUE(HasRow(0));
  EXPECT_EQ(Assemble(Retrieve(model_, 0).parts[0]), model_.Container(model_.Recipe(0)));
  store_->context().tracker().Forget(KeyOf(0));
  ASSERT_TRUE(store_->Pin(caller_, TestModel::ChunkDigest(0), ChunkStore::PinChange::kUnpin, 0).ok());
  for (uint32_t i = 100; i < 160; ++i) ASSERT_TRUE(StoreLone(i).ok());
  EXPECT_FALSE(HasRow(0));
}

TEST_F(EvictionTest, PinEndsWithItsTime) {
  OpenSmall(4, 20);
  ASSERT_TRUE(StoreLone(0).ok());
  ASSERT_TRUE(store_->Pin(caller_, TestModel::ChunkDigest(0), ChunkStore::PinChange::kPin, 1000).ok());
  for (uint32_t i = 1; i < 60; ++i) ASSERT_TRUE(StoreLone(i).ok());
  ASSERT_TRUE(HasRow(0));
  clock_.Advance(1000);
  for (uint32_t i = 60; i < 120; ++i) ASSERT_TRUE(StoreLone(i).ok());
  EXPECT_FALSE(HasRow(0));
}

TEST_F(EvictionTest, StoreFullOfPinsRefusesMore) {
  OpenSmall(4, 20);
  uint32_t pinned = 0;
  absl::Status refused;
  for (uint32_t i = 0; i < 60 && refused.ok(); ++i) {
    refused = StoreLone(i).status();
    if (!refused.ok()) break;
    ASSERT_TRUE(store_->Pin(caller_, TestModel::ChunkDigest(i), ChunkStore::PinChange::kPin, 0).ok());
    ++pinned;
  }
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_GT(pinned, 10u);
  EXPECT_LE(values_->DiskBytes(), capacity_bytes_);
  for (uint32_t i = 0; i < pinned; ++i) EXPECT_FALSE(Retrieve(model_, i).miss.has_value()) << i;
}

TEST_F(EvictionTest, EvictsWhenTheFileSystemRunsLow) {
  ChunkStoreOptions options = DefaultOptions();
  options.reserve_bytes = 1'000'000;
  Open(options, 100'000);
  Register(model_);
  for (uint32_t i = 0; i < 12; ++i) ASSERT_TRUE(StoreLone(i).ok());
  ASSERT_EQ(*Evict(), 0u);
  disk_->Set(1'100'000);
  EXPECT_GT(*Evict(), 0u);
  EXPECT_LT(Rows(12).size(), 12u);
}

TEST_F(EvictionTest, KeepsEverythingWhenOthersFillTheDisk) {
  ChunkStoreOptions options = DefaultOptions();
  options.reserve_bytes = 100'000'000;
  Open(options, 100'000);
  Register(model_);
  for (uint32_t i = 0; i < 12; ++i) ASSERT_TRUE(StoreLone(i).ok());
  disk_->Set(1'000'000);  // less than the reserve, whatever is evicted
  EXPECT_EQ(*Evict(), 0u);
  EXPECT_TRUE(absl::IsResourceExhausted(StoreLone(12).status()));
  EXPECT_EQ(Rows(12).size(), 12u);
  disk_->Set(uint64_t{1} << 40);
  EXPECT_TRUE(StoreLone(12).ok());
}

TEST_F(EvictionTest, ModelsAndTextsSurviveTheirGroups) {
  OpenSmall(4, 20);
  ASSERT_TRUE(Store(model_, 0).ok());
  std::vector<uint32_t> tokens(40, 7);
  const Digest text = Sha256::Of(AsBytes("text"));
  const Digest orphan = Sha256::Of(AsBytes("orphan"));
  ASSERT_TRUE(store_->StoreText(caller_, {model_.fingerprint, orphan, tokens, "", 0, {}}).ok());
  // A text whose first chunk is there: stored under the digests the server computes.
  const std::vector<ChunkId> chunks = PrefixChunks({model_.fingerprint, 32, {}}, tokens);
  testing::ContainerRecipe recipe = model_.Recipe(0);
  recipe.chunk_digest = chunks[0].digest;
  StoreRequest request = model_.Request(0);
  request.chunk_digest = chunks[0].digest;
  ASSERT_TRUE(store_->Store(caller_, request, Share(model_.Container(recipe))).ok());
  ASSERT_TRUE(store_->Pin(caller_, chunks[0].digest, ChunkStore::PinChange::kPin, 0).ok());
  ASSERT_TRUE(store_->StoreText(caller_, {model_.fingerprint, text, tokens, "", 0, {}}).ok());
  std::vector<uint32_t> other_tokens(40, 8);
  ASSERT_TRUE(store_->StoreText(caller_, {model_.fingerprint, orphan, other_tokens, "", 0, {}}).ok());
  for (uint32_t i = 1; i < 100; ++i) ASSERT_TRUE(StoreLone(i).ok());
  EXPECT_TRUE(store_->LookupText(caller_, model_.fingerprint, text).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->LookupText(caller_, model_.fingerprint, orphan).status()));
  // The model's value was written again: a scan of what is left finds it.
  int models = 0;
  for (const ValueGroup& group : values_->Groups()) {
    ASSERT_TRUE(values_
                    ->Scan(group.id, {},
                           [&](const ScannedValue& value) {
                             v1::ValueMetadata metadata;
                             metadata.ParseFromArray(value.metadata.data(), static_cast<int>(value.metadata.size()));
                             models += metadata.has_model() ? 1 : 0;
                           })
                    .ok());
  }
  EXPECT_EQ(models, 1);
}

// The copy lies behind what was stored after the deletion, and must not take that away from a rebuild.
TEST_F(EvictionTest, TombstoneMovesWithItsFirstPlaceWhileOlderValuesRemain) {
  OpenSmall(4, 0);
  ASSERT_TRUE(StoreLone(0).ok());
  ASSERT_TRUE(values_->SealActive().ok());
  ASSERT_TRUE(store_->Delete(caller_, {TestModel::ChunkDigest(0), {}, {}}, DeleteMode::kDelete).ok());
  ASSERT_TRUE(StoreLone(0).ok());
  ASSERT_TRUE(values_->SealActive().ok());
  const ValueGroup group = values_->Groups().back();
  const auto tombstones = [&] {
    std::vector<v1::Tombstone> found;
    for (const ValueGroup& each : values_->Groups()) {
      const absl::Status scanned = values_->Scan(each.id, {}, [&](const ScannedValue& value) {
        const auto metadata = ParseValueMetadata(value.metadata);
        if (metadata.ok() && metadata->has_tombstone()) found.push_back(metadata->tombstone());
      });
      EXPECT_TRUE(scanned.ok()) << scanned;
    }
    return found;
  };
  ASSERT_EQ(tombstones().size(), 1u);
  RewritePolicy policy;
  policy.max_accessed_bytes = policy.max_pinned_bytes = UINT64_MAX;
  policy.keep_unread = true;
  policy.has_room = [](uint64_t) { return true; };
  GroupRewriter rewriter(store_->context().EvictionDependencies());
  ASSERT_TRUE(rewriter.Rewrite(group, policy).ok());
  const std::vector<v1::Tombstone> moved = tombstones();
  ASSERT_EQ(moved.size(), 1u);
  EXPECT_EQ(moved[0].first_written().group(), group.id);
  EXPECT_EQ(moved[0].chunk_keys_size(), 1);
  EXPECT_TRUE(HasRow(0));
  ASSERT_TRUE(MoveEverything().ok());  // nothing is left that is older
  EXPECT_TRUE(tombstones().empty());
  EXPECT_TRUE(HasRow(0));
}

TEST_F(EvictionTest, MovedValueIsStillInTheRamTier) {
  ChunkStoreOptions options = DefaultOptions();
  options.ram_tier_bytes = 64 << 20;
  Open(options, 100'000);
  Register(model_);
  ASSERT_TRUE(StoreLone(0).ok());
  const ValueLocation before = LocationOfPart(0);
  ASSERT_TRUE(store_->Pin(caller_, TestModel::ChunkDigest(0), ChunkStore::PinChange::kPin, 0).ok());
  ASSERT_TRUE(StoreLone(1).ok());
  ASSERT_TRUE(store_->Delete(caller_, {TestModel::ChunkDigest(1), {}, {}}, DeleteMode::kDelete).ok());
  ASSERT_TRUE(StoreLone(2).ok());
  ASSERT_TRUE(store_->Delete(caller_, {TestModel::ChunkDigest(2), {}, {}}, DeleteMode::kDelete).ok());
  ASSERT_TRUE(store_->Compact().ok());
  EXPECT_NE(LocationOfPart(0), before);
  const RetrievedChunk chunk = Retrieve(model_, 0);
  EXPECT_TRUE(chunk.parts[0].from_ram);
  EXPECT_EQ(Assemble(chunk.parts[0]), model_.Container(model_.Recipe(0)));
}

// What a row says of its chunk travels with the value: a row that grew beyond what a value can say could not be moved.
TEST_F(EvictionTest, NamesOfManyDocumentsDoNotKeepAChunkFromMoving) {
  OpenSmall(4, 0);
  ModelSpec spec = FullAttentionSpec(3, 1024, 16);
  for (uint32_t layer = 0; layer < 3; ++layer) {
    spec.layers[layer].attention = AttentionKind::kSlidingWindow;
    spec.layers[layer].window = 16 * (layer + 1);
  }
  const TestModel many_cells(spec, 16);
  Register(many_cells);
  const std::vector<uint8_t> container = many_cells.Container(many_cells.Recipe(0));
  StoreRequest request = many_cells.Request(0);
  ASSERT_TRUE(store_->Store(caller_, request, Share(container)).ok());
  const v1::ChunkRecord row = Row(0);
  v1::ChunkRecord named = row;
  for (int i = 0; i < 42; ++i) named.add_documents(std::string(kMaxDocumentNameBytes - 1, 'd') + char('A' + i));
  IndexBatch batch;
  batch.chunk_puts.push_back({KeyOf(0), named, row});
  ASSERT_TRUE(index_->Commit(batch, Durability::kSynced).ok());
  for (const char* document : {"a", "b"}) {
    request.document = std::string(kMaxDocumentNameBytes, document[0]);
    ASSERT_TRUE(store_->Store(caller_, request, Share(container)).ok());
  }
  ASSERT_TRUE(store_->Pin(caller_, TestModel::ChunkDigest(0), ChunkStore::PinChange::kPin, 3'600'000).ok());
  const ValueLocation before = LocationOfPart(0);
  const absl::Status moved = MoveEverything();
  ASSERT_TRUE(moved.ok()) << moved;
  EXPECT_NE(LocationOfPart(0), before);
  EXPECT_FALSE(Retrieve(many_cells, 0).miss.has_value());
}

TEST_F(EvictionTest, CompactionGivesSpaceOfDeletedChunksBack) {
  OpenSmall(4, 0);
  for (uint32_t i = 0; i < 20; ++i) ASSERT_TRUE(StoreLone(i).ok());
  for (uint32_t i = 0; i < 20; ++i) {
    if (i % 4 == 0) continue;
    ASSERT_TRUE(store_->Delete(caller_, {TestModel::ChunkDigest(i), {}, {}}, DeleteMode::kDelete).ok());
  }
  const auto result = store_->Compact();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LT(result->bytes_after, result->bytes_before / 2);
  EXPECT_EQ(Rows(20), (std::vector<uint32_t>{0, 4, 8, 12, 16}));
  for (uint32_t i = 0; i < 20; i += 4) {
    EXPECT_EQ(Assemble(Retrieve(model_, i).parts[0]), model_.Container(model_.Recipe(i)));
  }
  EXPECT_EQ(events_["evicted_capacity"], 0u);
}

TEST_F(EvictionTest, SweepRemovesExpiredRows) {
  OpenSmall(4, 0);
  ASSERT_TRUE(StoreLone(0, 1000).ok());
  ASSERT_TRUE(StoreLone(1).ok());
  const Digest text = Sha256::Of(AsBytes("text"));
  ASSERT_TRUE(store_->StoreText(caller_, {model_.fingerprint, text, {1, 2}, "", 1000, {}}).ok());
  store_->maintenance().HousekeepingStep();
  EXPECT_TRUE(HasRow(0));
  EXPECT_EQ(store_->Tiers()[1].raw_bytes, 2 * 32 * TokenBytes(model_.spec));
  clock_.Advance(120'000);
  store_->maintenance().HousekeepingStep();
  EXPECT_FALSE(HasRow(0));
  EXPECT_TRUE(HasRow(1));
  EXPECT_EQ(store_->GetTotals()->texts, 0u);
  EXPECT_EQ(events_["evicted_expired"], 1u);
  EXPECT_EQ(store_->Tiers()[1].raw_bytes, 32 * TokenBytes(model_.spec));
}

TEST_F(EvictionTest, ExpiredChunksAreNotKept) {
  OpenSmall(4, 20);
  for (uint32_t i = 0; i < 8; ++i) ASSERT_TRUE(StoreLone(i, 1000).ok());
  for (uint32_t i = 0; i < 8; ++i) ASSERT_FALSE(Retrieve(model_, i).miss.has_value());
  clock_.Advance(1000);
  for (uint32_t i = 8; i < 40; ++i) ASSERT_TRUE(StoreLone(i).ok());
  EXPECT_EQ(Rows(8).size(), 0u);
  EXPECT_EQ(events_["reinserted"], 0u);
  const size_t left = Rows(40).size();
  EXPECT_EQ(store_->Tiers()[1].raw_bytes, left * 32 * TokenBytes(model_.spec));
  EXPECT_EQ(events_["evicted_expired"], 8u);
}

TEST_F(EvictionTest, DefaultTimeToLiveApplies) {
  ChunkStoreOptions options = DefaultOptions();
  options.ttl_ms = 500;
  Open(options);
  Register(model_);
  ASSERT_TRUE(StoreLone(0).ok());
  clock_.Advance(500);
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kExpired);
}

TEST_F(EvictionTest, FullDiskRecoversByItself) {
  OpenSmall(4, 0);
  for (uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(StoreLone(i).ok());
  values_->SetDiskLimit(values_->DiskBytes());
  EXPECT_TRUE(absl::IsResourceExhausted(StoreLone(4).status()));
  EXPECT_TRUE(store_->GetTotals()->read_only);
  for (uint32_t i = 0; i < 4; ++i) EXPECT_FALSE(Retrieve(model_, i).miss.has_value());
  values_->SetDiskLimit(uint64_t{1} << 40);
  store_->maintenance().HousekeepingStep();
  EXPECT_FALSE(store_->GetTotals()->read_only);
  EXPECT_TRUE(StoreLone(4).ok());
}

// Readers, writers, deleters and eviction at once: what a reader gets is what was stored, or a miss.
TEST_F(EvictionTest, ReadersNeverSeeAnythingButWhatWasStored) {
  OpenSmall(4, 24);
  constexpr uint32_t kChunks = 48;
  std::vector<std::vector<uint8_t>> containers;
  for (uint32_t i = 0; i < kChunks; ++i) containers.push_back(model_.Container(model_.Recipe(i)));
  std::atomic<bool> failed{false};
  std::atomic<uint64_t> hits{0};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 rng(t);
      for (int step = 0; step < 400; ++step) {
        const uint32_t i = rng() % kChunks;
        if (t < 2) {
          StoreRequest request = model_.Request(i);
          request.kind = ChunkKind::kSegment;
          request.parent_digest.reset();
          const auto outcome = store_->Store(caller_, request, Share(containers[i]));
          if (!outcome.ok() && !absl::IsResourceExhausted(outcome.status())) failed = true;
          if (values_->DiskBytes() > capacity_bytes_) failed = true;
        } else if (t == 2 && step % 16 == 0) {
          if (!store_->Delete(caller_, {TestModel::ChunkDigest(i), {}, {}}, DeleteMode::kDelete).ok()) failed = true;
        } else if (t == 3 && step % 8 == 0) {
          if (!store_->context().evictor().Run().ok()) failed = true;
        } else {
          const auto chunk = store_->Retrieve(caller_, {model_.fingerprint, TestModel::ChunkDigest(i), {}, 0});
          if (!chunk.ok()) failed = true;
          if (!chunk.ok() || chunk->miss.has_value()) continue;
          ++hits;
          if (chunk->parts.size() != 1 || Assemble(chunk->parts[0]) != containers[i]) failed = true;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(failed);
  EXPECT_GT(hits, 0u);
  EXPECT_EQ(events_["corruption_values"], 0u);
}

}  // namespace
}  // namespace kdn
