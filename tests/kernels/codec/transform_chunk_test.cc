// Profile transform in containers: wide sections from and into views.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/base/crc32c.h"
#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/row_kernels.h"
#include "tests/kernels/codec/transform_objects.h"

namespace kdn {
namespace {

using absl::StatusCode;

constexpr uint64_t kPosition = 512;

// A contiguous cache [layer][K, V][token][head][channel] of a range of heads and layers, and a view of it.
struct Cache {
  Cache(const ModelSpec& spec, uint32_t tokens, uint32_t head_begin, uint32_t head_count, uint32_t layer_begin = 0,
        uint32_t layer_count = 0)
      : spec(spec) {
    const uint32_t end = layer_count == 0 ? static_cast<uint32_t>(spec.layers.size()) : layer_begin + layer_count;
    view.dtype = spec.dtype;
    view.num_tokens = tokens;
    view.head_begin = head_begin;
    view.head_count = head_count;
    for (uint32_t layer = layer_begin; layer < end; ++layer) {
      KvLayerView held;
      held.layer = layer;
      held.k = MakePlane(tokens, spec.layers[layer].k_head_dim);
      if (spec.layers[layer].v_head_dim != 0) held.v = MakePlane(tokens, spec.layers[layer].v_head_dim);
      view.layers.push_back(held);
    }
  }

  KvPlane MakePlane(uint32_t tokens, uint32_t dim) {
    const int64_t element = DTypeBytes(spec.dtype);
    auto& plane = memory.emplace_back(std::make_unique<std::vector<uint8_t>>(
        size_t{tokens} * view.head_count * dim * static_cast<size_t>(element), uint8_t{0xa5}));
    return {plane->data(), element * dim * view.head_count, element * dim, element, 0};
  }

  // fp32 [row][channel] of a head, from token 0.
  std::vector<float> Values(uint32_t layer, uint32_t head, KvKind kind) const {
    const KvLayerView& held = view.layers[layer - view.layers[0].layer];
    const KvPlane& plane = kind == KvKind::kK ? held.k : held.v;
    const uint32_t dim = kind == KvKind::kK ? spec.layers[layer].k_head_dim : spec.layers[layer].v_head_dim;
    std::vector<float> values(size_t{view.num_tokens} * dim);
    for (uint32_t token = 0; token < view.num_tokens; ++token) {
      codec_internal::RowKernelsFor(Isa::kScalar)
          .widen(spec.dtype, ElementAddress(plane, {}, token, head - view.head_begin), dim,
                 values.data() + size_t{token} * dim);
    }
    return values;
  }

  void Store(const TransformSlice& slice, uint32_t token, const float* row) {
    const KvPlane& plane = slice.kind == KvKind::kK ? view.layers[slice.layer].k : view.layers[slice.layer].v;
    codec_internal::RowKernelsFor(Isa::kScalar)
        .narrow(spec.dtype, row, slice.dim, ElementAddress(plane, {}, token, slice.head));
  }

  const ModelSpec& spec;
  KvView view;
  std::vector<std::unique_ptr<std::vector<uint8_t>>> memory;
};

// A model of four layers, of which an object covers three; KV that suits it.
struct World {
  explicit World(DType dtype = DType::kBf16, uint32_t window = 0, uint32_t tokens = 100)
      : spec(TransformTestSpec(dtype, 4, 3, 32, 16)), tokens(tokens) {
    for (LayerSpec& layer : spec.layers) {
      layer.attention = window == 0 ? AttentionKind::kFull : AttentionKind::kSlidingWindow;
      layer.window = window;
    }
    plan.groups = {MakeGroup(spec, 0, {0, 2, 0, 2, BaseCut::kJoint, 3, 8, 24}, 1),
                   MakeGroup(spec, 0, {0, 2, 2, 1, BaseCut::kSeparate, 0, 8, 24}, 2),
                   MakeGroup(spec, 0, {2, 1, 0, 3, BaseCut::kSeparate, 0, 8, 24}, 3)};
    object = TransformObject::Parse(ObjectBytes(spec, plan), spec).value();
    objects.Add(object);
    tables.transforms = &objects;
    cells = std::make_unique<CellMap>(spec, 256);
    cache = std::make_unique<Cache>(spec, tokens, 0, 3);
    Fill();
    header.fingerprint = FingerprintOf(spec);
    header.chunk_digest = Sha256::Of(AsBytes("chunk"));
    header.token_begin = kPosition;
    header.num_tokens = tokens;
    header.dtype = dtype;
    header.tile_tokens = 48;
    header.rope_state = StoredRopeState(ProfileId::kTransform);
    header.cells = CellSet::All(cells->num_cells());
    choice.object = object.get();
    choice.step = -24;
  }

  void Fill() {
    const RopeTable rope(spec.ropes[0], RopeDirection::kRotate, kPosition, tokens);
    for (size_t g = 0; g < plan.groups.size(); ++g) {
      for (size_t b = 0; b < plan.groups[g].bases.size(); ++b) {
        const TransformBase& base = object->groups()[g].bases[b];
        std::vector<float> rows = RowsOfBase(plan.groups[g].bases[b], tokens, 100 * g + b);
        for (const TransformSlice& slice : base.slices) {
          float* at = rows.data() + slice.channel;
          if (slice.kind == KvKind::kK) rope.Apply(Isa::kScalar, 0, tokens, base.width, at);
          for (uint32_t t = 0; t < tokens; ++t) cache->Store(slice, t, at + size_t{t} * base.width);
        }
      }
    }
    std::mt19937_64 random(9);
    for (uint32_t head = 0; head < 3; ++head) {
      for (uint32_t t = 0; t < tokens; ++t) {
        float row[32];
        for (float& value : row) value = RoughNormal(random);
        cache->Store({3, head, KvKind::kK, 0, 32}, t, row);
        cache->Store({3, head, KvKind::kV, 0, 16}, t, row);
      }
    }
  }

  absl::StatusOr<std::vector<uint8_t>> Encode() const {
    return EncodeChunk(spec, *cells, header, {&cache->view, 0, &choice}, ProfileId::kTransform);
  }

  ModelSpec spec;
  uint32_t tokens;
  ObjectPlan plan;
  std::shared_ptr<const TransformObject> object;
  TransformObjects objects;
  CodecTables tables;
  std::unique_ptr<CellMap> cells;
  std::unique_ptr<Cache> cache;
  ContainerHeader header;
  TransformChoice choice;
};

absl::Status Decode(const World& world, ByteSpan container, const DecodeTarget& target) {
  const ContainerHeader header = ParseContainerHeader(container).value();
  return DecodeContainer(world.spec, header, container.subspan(header.header_bytes), target, world.tables);
}

double RelativeError(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0;
  double energy = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    energy += double{b[i]} * b[i];
  }
  return error / energy;
}

TEST(TransformChunkTest, ComesBackCloseThroughWideAndNarrowSections) {
  for (const DType dtype : {DType::kBf16, DType::kFp16, DType::kFp8E4M3}) {
    const World world(dtype);
    const std::vector<uint8_t> container = world.Encode().value();
    const ContainerHeader header = ParseContainerHeader(container).value();
    EXPECT_TRUE(CheckAgainstModel(header, world.spec, *world.cells).ok());
    EXPECT_TRUE(header.HasWideSections());
    EXPECT_EQ(header.calibration, (std::vector<Digest>{world.object->digest(), LosslessTables::BuiltIn().digest()}));
    ASSERT_EQ(header.sections.size(), 3u + 6u);
    for (size_t i = 0; i < header.sections.size(); ++i) {
      EXPECT_EQ(header.sections[i].wide, i < 3);
      EXPECT_EQ(header.TilesOf(header.sections[i])[0].profile, i < 3 ? ProfileId::kTransform : ProfileId::kQ4);
    }
    EXPECT_EQ(header.TilesOf(header.sections[0]).size(), 3u);
    Cache decoded(world.spec, world.tokens, 0, 3);
    const absl::Status status = Decode(world, container, {&decoded.view, 0, 0, world.tokens});
    ASSERT_TRUE(status.ok()) << status;
    const double limit = dtype == DType::kFp8E4M3 ? 0.008 : 0.005;
    for (uint32_t layer = 0; layer < 3; ++layer) {
      for (uint32_t head = 0; head < 3; ++head) {
        for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
          EXPECT_LT(RelativeError(decoded.Values(layer, head, kind), world.cache->Values(layer, head, kind)), limit);
        }
      }
    }
    EXPECT_LT(RelativeError(decoded.Values(3, 1, KvKind::kK), world.cache->Values(3, 1, KvKind::kK)), 0.02);
  }
}

TEST(TransformChunkTest, PartsAreThoseOfTheWhole) {
  const World world;
  const std::vector<uint8_t> container = world.Encode().value();
  Cache whole(world.spec, world.tokens, 0, 3);
  ASSERT_TRUE(Decode(world, container, {&whole.view, 0, 0, world.tokens}).ok());
  // One head of two layers, rows 37..80, to view tokens from 5 on; layer 1 of the view lacks its first 20 tokens.
  Cache part(world.spec, 70, 1, 1, 1, 2);
  part.view.layers[0].first_row = 20;
  ASSERT_TRUE(Decode(world, container, {&part.view, 5, 37, 44}).ok());
  for (const uint32_t layer : {1u, 2u}) {
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      const uint32_t dim = kind == KvKind::kK ? 32 : 16;
      const std::vector<float> got = part.Values(layer, 1, kind);
      const std::vector<float> expected = whole.Values(layer, 1, kind);
      const float untouched = got[0];
      for (uint32_t token = 0; token < 70; ++token) {
        const bool written = token >= (layer == 1 ? 20u : 5u) && token < 5 + 44;
        for (uint32_t i = 0; i < dim; ++i) {
          const float want = written ? expected[(size_t{37} + token - 5) * dim + i] : untouched;
          ASSERT_EQ(got[size_t{token} * dim + i], want) << layer << " " << token;
        }
      }
    }
  }
}

TEST(TransformChunkTest, IntoPagesOfAnotherLayout) {
  const World world;
  const std::vector<uint8_t> container = world.Encode().value();
  Cache whole(world.spec, world.tokens, 0, 3);
  ASSERT_TRUE(Decode(world, container, {&whole.view, 0, 0, world.tokens}).ok());
  // [layer][K, V]: [block][head][channel][token of 16], blocks backwards.
  Cache paged(world.spec, 112, 0, 3);
  const std::vector<int32_t> blocks = {6, 5, 4, 3, 2, 1, 0};
  paged.view.block_table = {blocks, 16};
  for (KvLayerView& layer : paged.view.layers) {
    for (KvPlane* plane : {&layer.k, &layer.v}) {
      const int64_t dim = plane == &layer.k ? 32 : 16;
      plane->token_stride_bytes = 2;
      plane->channel_stride_bytes = 32;
      plane->head_stride_bytes = 32 * dim;
      plane->block_stride_bytes = 32 * dim * 3;
    }
  }
  ASSERT_TRUE(Decode(world, container, {&paged.view, 0, 0, world.tokens}).ok());
  for (uint32_t token = 0; token < world.tokens; ++token) {
    for (uint32_t i = 0; i < 32; ++i) {
      const KvPlane& plane = paged.view.layers[1].k;
      const uint8_t* at = ElementAddress(plane, paged.view.block_table, token, 2) + 32 * i;
      ASSERT_EQ(WidenBf16(LoadLe<uint16_t>(at)), whole.Values(1, 2, KvKind::kK)[size_t{token} * 32 + i]);
    }
    if (token % 16 == 5) token += 10;
  }
}

TEST(TransformChunkTest, KRotatesToWhereItIsAskedFor) {
  const World world;
  const std::vector<uint8_t> container = world.Encode().value();
  std::vector<float> unrotated[2];
  std::vector<float> v[2];
  const uint64_t positions[2] = {kPosition, 7};
  for (int i = 0; i < 2; ++i) {
    Cache decoded(world.spec, world.tokens, 0, 3);
    DecodeTarget target{&decoded.view, 0, 0, world.tokens};
    target.position = positions[i];
    ASSERT_TRUE(Decode(world, container, target).ok());
    unrotated[i] = decoded.Values(0, 1, KvKind::kK);
    RopeTable(world.spec.ropes[0], RopeDirection::kUnrotate, positions[i], world.tokens)
        .Apply(Isa::kScalar, 0, world.tokens, 32, unrotated[i].data());
    v[i] = decoded.Values(0, 1, KvKind::kV);
  }
  EXPECT_LT(RelativeError(unrotated[0], unrotated[1]), 1e-4);
  EXPECT_EQ(v[0], v[1]);
}

TEST(TransformChunkTest, WindowedLayersHoldTheirNewestRows) {
  World world(DType::kBf16, 64);
  for (KvLayerView& layer : world.cache->view.layers) layer.first_row = 33;
  const std::vector<uint8_t> container = world.Encode().value();
  const ContainerHeader header = ParseContainerHeader(container).value();
  EXPECT_TRUE(CheckAgainstModel(header, world.spec, *world.cells).ok());
  for (const SectionEntry& section : header.sections) EXPECT_EQ(section.first_row, 33u);
  EXPECT_EQ(header.TilesOf(header.sections[0]).size(), 2u);
  Cache decoded(world.spec, world.tokens, 0, 3);
  ASSERT_TRUE(Decode(world, container, {&decoded.view, 0, 0, world.tokens}).ok());
  std::vector<float> got = decoded.Values(1, 0, KvKind::kV);
  std::vector<float> expected = world.cache->Values(1, 0, KvKind::kV);
  EXPECT_EQ(got[32 * 16], got[0]);
  got.erase(got.begin(), got.begin() + 33 * 16);
  expected.erase(expected.begin(), expected.begin() + 33 * 16);
  EXPECT_LT(RelativeError(got, expected), 0.005);
}

TEST(TransformChunkTest, LatentsAreOneKBase) {
  const ModelSpec spec = TransformTestSpec(DType::kBf16, 1, 1, 576, 0);
  ObjectPlan plan;
  plan.groups = {MakeGroup(spec, 0, {0, 1, 0, 1, BaseCut::kSeparate, 500, 8, 24}, 5)};
  const auto object = TransformObject::Parse(ObjectBytes(spec, plan), spec).value();
  TransformObjects objects;
  objects.Add(object);
  CodecTables tables;
  tables.transforms = &objects;
  Cache cache(spec, 32, 0, 1);
  const std::vector<float> rows = RowsOfBase(plan.groups[0].bases[0], 32, 3);
  std::vector<float> rotated = rows;
  RopeTable(spec.ropes[0], RopeDirection::kRotate, 0, 32).Apply(Isa::kScalar, 0, 32, 576, rotated.data());
  for (uint32_t t = 0; t < 32; ++t) cache.Store({0, 0, KvKind::kK, 0, 576}, t, rotated.data() + size_t{t} * 576);
  const CellMap cells(spec, 256);
  ContainerHeader header;
  header.fingerprint = FingerprintOf(spec);
  header.num_tokens = 32;
  header.tile_tokens = 256;
  header.rope_state = RopeState::kUnrotated;
  header.cells = CellSet::All(cells.num_cells());
  const TransformChoice choice = {object.get(), -16};
  const auto container = EncodeChunk(spec, cells, header, {&cache.view, 0, &choice}, ProfileId::kTransform);
  ASSERT_TRUE(container.ok()) << container.status();
  const ContainerHeader parsed = ParseContainerHeader(*container).value();
  ASSERT_EQ(parsed.sections.size(), 1u);
  EXPECT_EQ(parsed.sections[0].kind, SectionKind::kK);
  Cache decoded(spec, 32, 0, 1);
  ASSERT_TRUE(DecodeContainer(spec, parsed, ByteSpan(*container).subspan(parsed.header_bytes),
                              {&decoded.view, 0, 0, 32}, tables)
                  .ok());
  EXPECT_LT(RelativeError(decoded.Values(0, 0, KvKind::kK), cache.Values(0, 0, KvKind::kK)), 0.02);
}

TEST(TransformChunkTest, GroupsThatTheViewHoldsInPartAreNarrow) {
  World world;
  KvView rank = world.cache->view;  // heads 0 and 1
  rank.head_count = 2;
  world.header.cells = CellSet(world.cells->num_cells());
  for (uint32_t head = 0; head < 2; ++head) world.header.cells.Insert(world.cells->CellOf(0, head));
  const auto sections = PlanSections(world.spec, *world.cells, world.header, {&rank, 0, &world.choice}).value();
  size_t wide = 0;
  for (const SectionEntry& section : sections) wide += section.wide;
  EXPECT_EQ(wide, 1u);
  EXPECT_EQ(sections.size(), 1u + 2 * 4);
  EXPECT_TRUE(
      EncodeChunk(world.spec, *world.cells, world.header, {&rank, 0, &world.choice}, ProfileId::kTransform).ok());
}

TEST(TransformChunkTest, RowClassesAreThoseOfTheViewsTokens) {
  World world;
  const auto sizes = [&] {
    std::vector<uint32_t> lengths;
    const ContainerHeader header = ParseContainerHeader(world.Encode().value()).value();
    for (const SectionEntry& section : header.sections) lengths.push_back(section.length);
    return lengths;
  };
  const std::vector<uint32_t> plain = sizes();
  std::vector<std::vector<uint8_t>> classes(3, std::vector<uint8_t>(world.tokens, 0));
  for (uint32_t t = 60; t < world.tokens; ++t) classes[1][t] = 6;
  world.choice.row_classes = classes;
  const std::vector<uint32_t> graded = sizes();
  EXPECT_EQ(graded[0], plain[0]);
  EXPECT_GT(graded[1], plain[1]);
  EXPECT_EQ(graded[2], plain[2]);
  classes[1].resize(world.tokens - 1);
  EXPECT_EQ(world.Encode().status().code(), StatusCode::kInvalidArgument);
}

TEST(TransformChunkTest, RefusesWhatCannotBeCoded) {
  World world;
  const EncodeSource source{&world.cache->view, 0};
  const absl::Status none = EncodeChunk(world.spec, *world.cells, world.header, source, ProfileId::kTransform).status();
  EXPECT_EQ(none.code(), StatusCode::kFailedPrecondition) << none;
  const EncodeSource with{&world.cache->view, 0, &world.choice};
  EXPECT_EQ(EncodeChunk(world.spec, *world.cells, world.header, with, ProfileId::kQ4).status().code(),
            StatusCode::kInvalidArgument);
  ContainerHeader rotated = world.header;
  rotated.rope_state = RopeState::kRotated;
  EXPECT_EQ(EncodeChunk(world.spec, *world.cells, rotated, with, ProfileId::kTransform).status().code(),
            StatusCode::kInvalidArgument);
  // Of a chunk of 65,536 tokens one layer makes a band.
  const CellMap long_chunks(world.spec, 65536);
  ContainerHeader header = world.header;
  header.cells = CellSet::All(long_chunks.num_cells());
  EXPECT_EQ(PlanSections(world.spec, long_chunks, header, with).status().code(), StatusCode::kInvalidArgument);
}

TEST(TransformChunkTest, RefusesToDecodeWithoutTheObject) {
  World world;
  const std::vector<uint8_t> container = world.Encode().value();
  Cache decoded(world.spec, world.tokens, 0, 3);
  const DecodeTarget target{&decoded.view, 0, 0, world.tokens};
  world.tables.transforms = nullptr;
  EXPECT_EQ(Decode(world, container, target).code(), StatusCode::kFailedPrecondition);
  TransformObjects empty;
  world.tables.transforms = &empty;
  EXPECT_EQ(Decode(world, container, target).code(), StatusCode::kFailedPrecondition);
}

TEST(TransformChunkTest, RefusesToDecodeWithAnotherModelsObject) {
  World world;
  const std::vector<uint8_t> container = world.Encode().value();
  ContainerHeader header = ParseContainerHeader(container).value();
  header.fingerprint = Sha256::Of(AsBytes("another model"));  // whose container names this model's object
  Cache decoded(world.spec, world.tokens, 0, 3);
  const DecodeTarget target{&decoded.view, 0, 0, world.tokens};
  const absl::Status status =
      DecodeContainer(world.spec, header, ByteSpan(container).subspan(header.header_bytes), target, world.tables);
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
}

TEST(TransformChunkTest, EveryInstructionSetMakesTheSame) {
  World world;
  world.header.calibration = {world.object->digest(), LosslessTables::BuiltIn().digest()};
  const EncodeSource source{&world.cache->view, 0, &world.choice};
  const auto scopes = PlanSections(world.spec, *world.cells, world.header, source).value();
  const std::vector<uint8_t> container = world.Encode().value();
  const ContainerHeader header = ParseContainerHeader(container).value();
  const ByteSpan body = ByteSpan(container).subspan(header.header_bytes);
  std::vector<float> reference;
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (!IsaSupported(isa)) continue;
    SectionEncoder encoder(world.spec, {}, isa);
    SectionDecoder decoder(world.spec, world.tables, isa);
    Cache decoded(world.spec, world.tokens, 0, 3);
    for (size_t i = 0; i < 3; ++i) {
      EncodedSection section;
      ASSERT_TRUE(encoder.Encode(world.header, scopes[i], source, ProfileId::kTransform, section).ok());
      const ByteSpan expected = body.subspan(header.sections[i].offset, header.sections[i].length);
      ASSERT_TRUE(std::equal(section.bytes.begin(), section.bytes.end(), expected.begin(), expected.end()));
      ASSERT_TRUE(decoder.Decode(header, header.sections[i], expected, {&decoded.view, 0, 0, world.tokens}).ok());
    }
    std::vector<float> values = decoded.Values(1, 2, KvKind::kK);
    if (reference.empty()) reference = values;
    EXPECT_EQ(values, reference);
  }
}

TEST(TransformChunkTest, DamagedWideSectionsAreRefusedOrDecode) {
  World world(DType::kBf16, 0, 20);
  const std::vector<uint8_t> container = world.Encode().value();
  ContainerHeader header = ParseContainerHeader(container).value();
  SectionEntry section = header.sections[2];
  const ByteSpan body = ByteSpan(container).subspan(header.header_bytes);
  std::vector<uint8_t> bytes(body.begin() + static_cast<ptrdiff_t>(section.offset),
                             body.begin() + static_cast<ptrdiff_t>(section.offset + section.length));
  SectionDecoder decoder(world.spec, world.tables);
  Cache decoded(world.spec, world.tokens, 0, 3);
  const DecodeTarget target{&decoded.view, 0, 0, world.tokens};
  size_t refused = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= 0x41;
    EXPECT_EQ(decoder.Decode(header, section, bytes, target).code(), StatusCode::kDataLoss);
    SectionEntry recomputed = section;
    recomputed.crc32c = Crc32c(bytes);
    const absl::Status status = decoder.Decode(header, recomputed, bytes, target);
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kDataLoss ||
                status.code() == StatusCode::kFailedPrecondition)
        << status;
    refused += !status.ok();
    bytes[i] ^= 0x41;
  }
  EXPECT_GT(refused, bytes.size() / 4);
  header.rope_state = RopeState::kRotated;
  EXPECT_EQ(decoder.Decode(header, section, bytes, target).code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace kdn
