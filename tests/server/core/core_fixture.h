#ifndef KDN_TESTS_SERVER_CORE_CORE_FIXTURE_H_
#define KDN_TESTS_SERVER_CORE_CORE_FIXTURE_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/status.h"
#include "server/core/chunk_store_impl.h"
#include "storage/evict/chunk_rows.h"
#include "tests/kernels/format/test_containers.h"
#include "tests/kernels/layout/test_specs.h"
#include "tests/server/core/fakes/fake_chunk_index.h"
#include "tests/server/core/fakes/fake_value_store.h"
#include "tests/server/core/fakes/fake_world.h"

namespace kdn::testing {

inline SharedBytes Share(std::vector<uint8_t> bytes) {
  auto owner = std::make_shared<std::vector<uint8_t>>(std::move(bytes));
  const ByteSpan span(*owner);
  return SharedBytes(std::move(owner), span);
}

// One registered model and the chunks of one prefix of it.
struct TestModel {
  TestModel(ModelSpec model_spec, uint32_t tokens)
      : spec(std::move(model_spec)),
        chunk_tokens(tokens),
        cells(spec, tokens),
        fingerprint(FingerprintOf(spec)),
        canonical_spec(EncodeModelSpec(spec)) {}

  static Digest ChunkDigest(uint32_t i) { return Sha256::Of(AsBytes("chunk " + std::to_string(i))); }

  // Container of chunk `i` of the prefix.
  ContainerRecipe Recipe(uint32_t i) const {
    ContainerRecipe recipe;
    recipe.chunk_digest = ChunkDigest(i);
    recipe.token_begin = uint64_t{i} * chunk_tokens;
    recipe.num_tokens = chunk_tokens;
    recipe.tile_tokens = 16;
    return recipe;
  }
  std::vector<uint8_t> Container(const ContainerRecipe& recipe) const { return MakeContainer(spec, cells, recipe); }

  StoreRequest Request(uint32_t i) const {
    StoreRequest request;
    request.fingerprint = fingerprint;
    request.chunk_digest = ChunkDigest(i);
    if (i > 0) request.parent_digest = ChunkDigest(i - 1);
    return request;
  }

  // The heads [begin, end) of every layer, as a tensor-parallel rank holds them.
  CellSet Heads(uint32_t begin, uint32_t end) const {
    CellSet set(cells.num_cells());
    for (const LayerBand& band : cells.bands()) {
      for (uint32_t head = begin; head < end; ++head) set.Insert(band.first_cell + head);
    }
    return set;
  }

  const ModelSpec spec;
  const uint32_t chunk_tokens;
  const CellMap cells;
  const Fingerprint fingerprint;
  const std::vector<uint8_t> canonical_spec;
};

// A chunk store over fakes. Maintenance is driven by the test.
class CoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(); }

  // Starts anew, with empty stores.
  void Open(ChunkStoreOptions options = DefaultOptions(), uint64_t group_bytes = uint64_t{1} << 40) {
    store_.reset();
    auto values = std::make_unique<FakeValueStore>(group_bytes);
    auto index = std::make_unique<FakeChunkIndex>();
    auto disk = std::make_unique<FakeDiskSpace>();
    values_ = values.get();
    index_ = index.get();
    disk_ = disk.get();
    CoreParts parts;
    parts.values = std::move(values);
    parts.index = std::move(index);
    parts.disk_space = std::move(disk);
    parts.clock = &clock_;
    parts.events = &events_;
    store_ = std::make_unique<ChunkStoreImpl>(options, std::move(parts), ChunkStoreImpl::Background::kNone);
  }

  static ChunkStoreOptions DefaultOptions() {
    ChunkStoreOptions options;
    options.ram_tier_bytes = 0;
    options.sync = SyncMode::kAlways;
    options.max_container_bytes = 8 << 20;
    return options;
  }

  void Register(const TestModel& model) {
    const auto registered = store_->RegisterModel(caller_, model.canonical_spec, model.chunk_tokens, "test");
    ASSERT_TRUE(registered.ok()) << registered.status();
    ASSERT_EQ(registered->fingerprint, model.fingerprint);
  }

  absl::StatusOr<StoreOutcome> Store(const TestModel& model, uint32_t i) {
    return store_->Store(caller_, model.Request(i), Share(model.Container(model.Recipe(i))));
  }
  absl::StatusOr<StoreOutcome> StoreCells(const TestModel& model, uint32_t i, const CellSet& cells) {
    ContainerRecipe recipe = model.Recipe(i);
    recipe.cells = cells;
    return store_->Store(caller_, model.Request(i), Share(model.Container(recipe)));
  }

  RetrievedChunk Retrieve(const TestModel& model, uint32_t i, std::optional<CellSet> cells = std::nullopt,
                          uint64_t prefix_end = 0) {
    RetrieveQuery query{model.fingerprint, TestModel::ChunkDigest(i), std::move(cells), prefix_end};
    absl::StatusOr<RetrievedChunk> chunk = store_->Retrieve(caller_, query);
    EXPECT_TRUE(chunk.ok()) << chunk.status();
    return chunk.ok() ? *std::move(chunk) : RetrievedChunk{};
  }

  uint32_t HitChunks(const TestModel& model, uint32_t chunks, std::optional<CellSet> cells = std::nullopt) {
    std::vector<Digest> digests;
    for (uint32_t i = 0; i < chunks; ++i) digests.push_back(TestModel::ChunkDigest(i));
    LookupQuery query;
    query.fingerprint = model.fingerprint;
    query.chunk_digests = digests;
    query.cells = std::move(cells);
    const absl::StatusOr<LookupResult> result = store_->Lookup(caller_, query);
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return 0;
    EXPECT_EQ(result->hit_tokens, uint64_t{result->hit_chunks} * model.chunk_tokens);
    return result->hit_chunks;
  }

  ChunkKey KeyOf(uint32_t i) {
    const auto tenant = store_->context().registry().FindTenant(caller_);
    return CoreContext::KeyOf(*tenant, TestModel::ChunkDigest(i));
  }
  v1::ChunkRecord Row(uint32_t i) { return index_->GetChunk(KeyOf(i))->value_or(v1::ChunkRecord()); }
  bool HasRow(uint32_t i) { return index_->GetChunk(KeyOf(i))->has_value(); }
  ValueLocation LocationOfPart(uint32_t i, int part = 0) { return LocationOf(Row(i).parts(part)); }

  ManualClock clock_;
  CountingEvents events_;
  Caller caller_;
  std::unique_ptr<ChunkStoreImpl> store_;
  // Owned by store_.
  FakeValueStore* values_ = nullptr;
  FakeChunkIndex* index_ = nullptr;
  FakeDiskSpace* disk_ = nullptr;
};

// The container's bytes a reader of `part` has: what the slices say, and zeros elsewhere. Checks that slices ascend and
// stay inside.
inline std::vector<uint8_t> Assemble(const RetrievedPart& part) {
  std::vector<uint8_t> container(part.container_bytes);
  uint64_t end = 0;
  for (const RetrievedPart::Slice& slice : part.slices) {
    EXPECT_GE(slice.offset, end);
    end = slice.offset + slice.bytes.size();
    EXPECT_LE(end, part.container_bytes);
    if (end > part.container_bytes) return container;
    std::copy(slice.bytes.span().begin(), slice.bytes.span().end(), container.begin() + slice.offset);
  }
  return container;
}

// Cells of which every section in `part` is there and matches its CRC.
inline CellSet IntactCells(const TestModel& model, const RetrievedPart& part) {
  CellSet intact(model.cells.num_cells());
  const std::vector<uint8_t> container = Assemble(part);
  const absl::StatusOr<ContainerHeader> header = ParseContainerHeader(container);
  EXPECT_TRUE(header.ok()) << header.status();
  if (!header.ok()) return intact;
  EXPECT_EQ(header->header_bytes, part.header_bytes);
  for (const uint32_t cell : header->cells.ToVector()) intact.Insert(cell);
  for (const SectionEntry& section : header->sections) {
    const ByteSpan bytes = ByteSpan(container).subspan(header->header_bytes + section.offset, section.length);
    if (VerifySection(section, bytes).ok()) continue;
    const CellRange cells = CellsOfSection(section, model.cells);
    for (uint32_t cell = cells.begin; cell < cells.end; ++cell) intact.Erase(cell);
  }
  return intact;
}

}  // namespace kdn::testing

#endif  // KDN_TESTS_SERVER_CORE_CORE_FIXTURE_H_
