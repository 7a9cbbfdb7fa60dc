#include "kernels/codec/chunk_codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "kernels/codec/float_core.h"
#include "tests/kernels/codec/test_tiles.h"
#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

constexpr uint8_t kUntouched = 0xa7;

// ElementOf is below 2: half a step of 2 / 127, and half a unit of bf16 below 2, with a little for the scale's
// rounding.
constexpr double kInt8MaxError = 1.0 / 126 + 1.0 / 256;

// The value of every element of a made-up cache: a function of where it belongs.
uint32_t ElementOf(DType dtype, uint32_t layer, uint32_t head, KvKind kind, uint64_t token, uint32_t channel) {
  uint64_t hash = ((uint64_t{layer} * 131 + head) * 2 + static_cast<uint64_t>(kind)) << 40 | token << 16 | channel;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;  // splitmix64
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
  const float value = static_cast<float>(static_cast<int64_t>(hash >> 40) - (1 << 23)) / (1 << 22);
  return CastFromBf16(dtype, ToBf16(value));
}

// Memory laid out at random behind a view: axes in any order, padding, paged or not, some layers, some heads.
class TestCache {
 public:
  struct Part {
    uint32_t num_tokens;
    uint32_t head_begin;
    uint32_t head_count;
    std::vector<uint32_t> layers;
    std::vector<uint32_t> first_rows;  // [index into layers]
  };

  TestCache(const ModelSpec& spec, const Part& part, std::mt19937& rng) : spec_(spec) {
    view_.dtype = spec.dtype;
    view_.num_tokens = part.num_tokens;
    view_.head_begin = part.head_begin;
    view_.head_count = part.head_count;
    if (rng() % 2 == 0) {
      const uint32_t block_tokens = 1 + rng() % 24;
      blocks_.resize(part.num_tokens / block_tokens + 3);
      std::iota(blocks_.begin(), blocks_.end(), 0);
      std::shuffle(blocks_.begin(), blocks_.end(), rng);
      view_.block_table = {blocks_, block_tokens};
    }
    for (size_t i = 0; i < part.layers.size(); ++i) {
      const LayerSpec& model = spec.layers[part.layers[i]];
      KvLayerView layer;
      layer.layer = part.layers[i];
      layer.first_row = part.first_rows[i];
      layer.k = MakePlane(model.k_head_dim, rng);
      if (model.v_head_dim != 0) layer.v = MakePlane(model.v_head_dim, rng);
      view_.layers.push_back(layer);
    }
    EXPECT_EQ(ValidateKvView(spec, view_), absl::OkStatus());
  }

  const KvView& view() const { return view_; }

  void Fill(uint64_t source_token) {
    ForEach([&](uint8_t* element, uint32_t layer, uint32_t head, KvKind kind, uint32_t token, uint32_t channel) {
      const uint32_t value = ElementOf(spec_.dtype, layer, head, kind, source_token + token, channel);
      for (uint32_t b = 0; b < DTypeBytes(spec_.dtype); ++b) element[b] = static_cast<uint8_t>(value >> (8 * b));
    });
  }

  // Elements for which expected(layer, view token) holds have the cache's value, or one at most `max_error` beside it
  // if that is not 0; everything else is untouched. Forgets them. Returns the number of the former.
  template <typename Expected>
  size_t Check(uint64_t source_token, Expected&& expected, double max_error = 0) {
    size_t wrong = 0;
    size_t written = 0;
    ForEach([&](uint8_t* element, uint32_t layer, uint32_t head, KvKind kind, uint32_t token, uint32_t channel) {
      const uint32_t value = ElementOf(spec_.dtype, layer, head, kind, source_token + token, channel);
      const bool present = expected(layer, token);
      written += present;
      if (present && max_error != 0) {
        wrong += !(std::fabs(ValueOf(LoadLe<uint16_t>(element)) - ValueOf(value)) <= max_error);
        for (uint32_t b = 0; b < DTypeBytes(spec_.dtype); ++b) element[b] = static_cast<uint8_t>(value >> (8 * b));
      }
      for (uint32_t b = 0; b < DTypeBytes(spec_.dtype); ++b) {
        wrong += element[b] != (present ? static_cast<uint8_t>(value >> (8 * b)) : kUntouched);
        element[b] = kUntouched;
      }
    });
    EXPECT_EQ(wrong, 0u) << "of " << written << " elements written";
    for (const auto& memory : memory_) {
      EXPECT_TRUE(std::all_of(memory->begin(), memory->end(), [](uint8_t b) { return b == kUntouched; }))
          << "padding was written";
    }
    return written;
  }

 private:
  double ValueOf(uint32_t element) const {
    const auto bits = static_cast<uint16_t>(element);
    return spec_.dtype == DType::kBf16 ? WidenBf16(bits) : WidenFp16(bits);
  }

  KvPlane MakePlane(uint32_t dim, std::mt19937& rng) {
    const int64_t element = DTypeBytes(spec_.dtype);
    const bool paged = view_.block_table.block_tokens != 0;
    const int64_t tokens = paged ? view_.block_table.block_tokens : view_.num_tokens;
    KvPlane plane;
    // Innermost to outermost: usually channels inside.
    std::array<int, 3> order = {0, 1, 2};
    if (rng() % 3 == 0) {
      std::shuffle(order.begin(), order.end(), rng);
    } else if (rng() % 2 == 0) {
      std::swap(order[1], order[2]);
    }
    const int64_t sizes[3] = {dim, tokens, view_.head_count};
    int64_t* const strides[3] = {&plane.channel_stride_bytes, &plane.token_stride_bytes, &plane.head_stride_bytes};
    int64_t stride = element;
    for (const int axis : order) {
      *strides[axis] = stride;
      stride *= sizes[axis];
      if (rng() % 2 == 0) stride += element * static_cast<int64_t>(rng() % 5);
    }
    plane.block_stride_bytes = stride + element * static_cast<int64_t>(rng() % 3);
    const size_t blocks = paged ? blocks_.size() : 1;
    memory_.push_back(std::make_unique<std::vector<uint8_t>>(plane.block_stride_bytes * blocks, kUntouched));
    plane.data = memory_.back()->data();
    if (!paged && rng() % 4 == 0) {  // tokens downward in memory
      plane.data += plane.token_stride_bytes * (tokens - 1);
      plane.token_stride_bytes = -plane.token_stride_bytes;
    }
    return plane;
  }

  template <typename Visit>
  void ForEach(Visit&& visit) {
    for (const KvLayerView& layer : view_.layers) {
      const LayerSpec& model = spec_.layers[layer.layer];
      for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
        const KvPlane& plane = kind == KvKind::kK ? layer.k : layer.v;
        const uint32_t dim = kind == KvKind::kK ? model.k_head_dim : model.v_head_dim;
        for (uint32_t head = 0; head < view_.head_count && dim != 0; ++head) {
          for (uint32_t token = 0; token < view_.num_tokens; ++token) {
            uint8_t* row = ElementAddress(plane, view_.block_table, token, head);
            for (uint32_t channel = 0; channel < dim; ++channel) {
              visit(row + channel * plane.channel_stride_bytes, layer.layer, view_.head_begin + head, kind, token,
                    channel);
            }
          }
        }
      }
    }
  }

  const ModelSpec& spec_;
  KvView view_;
  std::vector<int32_t> blocks_;
  std::vector<std::unique_ptr<std::vector<uint8_t>>> memory_;
};

TestCache::Part WholePart(const ModelSpec& spec, uint32_t num_tokens) {
  TestCache::Part part = {num_tokens, 0, spec.layers[0].num_kv_heads, {}, {}};
  for (uint32_t layer = 0; layer < spec.layers.size(); ++layer) part.layers.push_back(layer);
  part.first_rows.assign(part.layers.size(), 0);
  return part;
}

ContainerHeader HeaderFor(const ModelSpec& spec, const CellMap& cells, uint32_t num_tokens, uint32_t tile_tokens) {
  ContainerHeader header;
  header.fingerprint = FingerprintOf(spec);
  header.chunk_digest = Sha256::Of(AsBytes("chunk"));
  header.num_tokens = num_tokens;
  header.tile_tokens = tile_tokens;
  header.dtype = spec.dtype;
  header.cells = CellSet::All(cells.num_cells());
  return header;
}

TEST(ChunkCodecTest, RoundTripsRandomSpecsLayoutsAndParts) {
  std::mt19937 rng(7);
  size_t written = 0;
  size_t lossy_rounds = 0;
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round);
    const ModelSpec spec = testing::RandomSpec(rng);
    const uint32_t chunk_tokens = 16 * (1 + rng() % 5);
    const CellMap cells(spec, chunk_tokens);
    const uint32_t num_tokens = rng() % 3 == 0 ? 1 + rng() % chunk_tokens : chunk_tokens;
    const uint32_t view_token = rng() % 40;

    // The source holds everything, windowed layers perhaps only their newest rows.
    TestCache::Part part = WholePart(spec, view_token + num_tokens + rng() % 9);
    for (size_t i = 0; i < part.layers.size(); ++i) {
      if (spec.layers[i].window != 0 && rng() % 2 == 0) part.first_rows[i] = rng() % part.num_tokens;
    }
    TestCache source(spec, part, rng);
    source.Fill(0);
    ContainerHeader header = HeaderFor(spec, cells, num_tokens, 16 * (1 + rng() % 4));
    header.cells = CellsOfView(cells, source.view(), view_token, num_tokens);
    if (header.cells.Empty()) continue;
    const ProfileId profiles[] = {ProfileId::kRaw, ProfileId::kLossless, ProfileId::kLossless, ProfileId::kInt8};
    const ProfileId profile = profiles[rng() % (spec.dtype == DType::kFp32 ? 3 : 4)];
    const auto container = EncodeChunk(spec, cells, header, {&source.view(), view_token}, profile);
    ASSERT_TRUE(container.ok()) << container.status();
    const auto parsed = ParseContainerHeader(*container);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ASSERT_EQ(CheckAgainstModel(*parsed, spec, cells), absl::OkStatus());
    const ByteSpan body = ByteSpan(*container).subspan(parsed->header_bytes);

    // The destination is some rank's part, elsewhere, and takes some of the rows.
    DecodeTarget target;
    target.row_begin = rng() % num_tokens;
    target.row_count = 1 + rng() % (num_tokens - target.row_begin);
    target.view_token = rng() % 20;
    TestCache::Part rank = WholePart(spec, target.view_token + target.row_count + rng() % 9);
    rank.head_begin = rng() % rank.head_count;
    rank.head_count = 1 + rng() % (rank.head_count - rank.head_begin);
    while (rank.layers.size() > 1 && rng() % 2 == 0)
      rank.layers.erase(rank.layers.begin() + rng() % rank.layers.size());
    rank.first_rows.resize(rank.layers.size());
    for (size_t i = 0; i < rank.layers.size(); ++i) {
      rank.first_rows[i] = spec.layers[rank.layers[i]].window != 0 ? rng() % rank.num_tokens : 0;
    }
    TestCache destination(spec, rank, rng);
    target.view = &destination.view();
    ASSERT_EQ(DecodeContainer(spec, *parsed, body, target), absl::OkStatus());
    const uint64_t source_token = uint64_t{view_token} + target.row_begin - target.view_token;
    const auto expected = [&](uint32_t layer, uint32_t token) {
      if (token < target.view_token || token >= target.view_token + target.row_count) return false;
      const size_t index = std::find(rank.layers.begin(), rank.layers.end(), layer) - rank.layers.begin();
      if (token < rank.first_rows[index]) return false;
      const uint32_t cell = cells.BandOfLayer(layer).first_cell;  // all heads share the fate of head 0
      if (!header.cells.Contains(cell)) return false;
      return token - target.view_token + target.row_begin >= FirstRowOfCell(*parsed, cells, cell);
    };
    const bool lossy = profile == ProfileId::kInt8 && DTypeBytes(spec.dtype) == 2;
    written += destination.Check(source_token, expected, lossy ? kInt8MaxError : 0);
    lossy_rounds += lossy;
  }
  EXPECT_GT(written, 100000u);
  EXPECT_GT(lossy_rounds, 3u);
}

class SmallChunk : public ::testing::Test {
 protected:
  SmallChunk()
      : spec_(testing::FullAttentionSpec(2, 2, 64)),
        cells_(spec_, 32),
        rng_(3),
        source_(spec_, WholePart(spec_, 32), rng_) {
    source_.Fill(0);
    container_ =
        EncodeChunk(spec_, cells_, HeaderFor(spec_, cells_, 32, 32), {&source_.view(), 0}, ProfileId::kLossless)
            .value();
    header_ = ParseContainerHeader(container_).value();
  }
  std::vector<uint8_t> Body() const { return {container_.begin() + header_.header_bytes, container_.end()}; }

  ModelSpec spec_;
  CellMap cells_;
  std::mt19937 rng_;
  TestCache source_;
  std::vector<uint8_t> container_;
  ContainerHeader header_;
};

TEST_F(SmallChunk, EncodesToTheSameBytesWhateverTheLayout) {
  for (int i = 0; i < 5; ++i) {
    TestCache other(spec_, WholePart(spec_, 32), rng_);
    other.Fill(0);
    EXPECT_EQ(*EncodeChunk(spec_, cells_, HeaderFor(spec_, cells_, 32, 32), {&other.view(), 0}, ProfileId::kLossless),
              container_);
  }
}

TEST_F(SmallChunk, RefusesEveryCorruptedSectionByte) {
  TestCache destination(spec_, WholePart(spec_, 32), rng_);
  const DecodeTarget target = {&destination.view(), 0, 0, 32};
  std::vector<uint8_t> body = Body();
  ASSERT_EQ(DecodeContainer(spec_, header_, body, target), absl::OkStatus());
  for (size_t at = 0; at < body.size(); at += 97) {
    body[at] ^= 0x10;
    EXPECT_EQ(DecodeContainer(spec_, header_, body, target).code(), absl::StatusCode::kDataLoss) << at;
    body[at] ^= 0x10;
  }
}

TEST_F(SmallChunk, ChecksSectionsBeforeItDecodesThem) {
  TestCache destination(spec_, WholePart(spec_, 32), rng_);
  std::vector<uint8_t> body = Body();
  body[header_.sections[0].offset] ^= 1;
  const ByteSpan section = ByteSpan(body).first(header_.sections[0].length);
  EXPECT_EQ(SectionDecoder(spec_).Decode(header_, header_.sections[0], section, {&destination.view(), 0, 0, 32}).code(),
            absl::StatusCode::kDataLoss);
  destination.Check(0, [](uint32_t, uint32_t) { return false; });
}

TEST_F(SmallChunk, RefusesTargetsItMustNotWrite) {
  TestCache destination(spec_, WholePart(spec_, 32), rng_);
  const std::vector<uint8_t> body = Body();
  const auto code = [&](const ContainerHeader& header, const DecodeTarget& target) {
    return DecodeContainer(spec_, header, body, target).code();
  };
  EXPECT_EQ(code(header_, {&destination.view(), 1, 0, 32}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(header_, {&destination.view(), 0, 1, 32}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(header_, {&destination.view(), 0xffffffff, 0, 1}), absl::StatusCode::kInvalidArgument);
  KvView device = destination.view();
  device.memory = MemoryKind::kDevice;
  EXPECT_EQ(code(header_, {&device, 0, 0, 32}), absl::StatusCode::kInvalidArgument);
  KvView other_dtype = destination.view();
  other_dtype.dtype = DType::kFp16;
  EXPECT_EQ(code(header_, {&other_dtype, 0, 0, 32}), absl::StatusCode::kInvalidArgument);
  // K that is stored rotated stays where it was.
  EXPECT_EQ(code(header_, {&destination.view(), 0, 0, 32, 5}), absl::StatusCode::kUnimplemented);
  ContainerHeader calibrated = header_;
  calibrated.calibration = {Sha256::Of(AsBytes("another object"))};
  EXPECT_EQ(code(calibrated, {&destination.view(), 0, 0, 32}), absl::StatusCode::kFailedPrecondition);
  destination.Check(0, [](uint32_t, uint32_t) { return false; });
}

TEST_F(SmallChunk, RefusesToEncodeWhatTheViewLacks) {
  ContainerHeader header = HeaderFor(spec_, cells_, 32, 32);
  EXPECT_EQ(EncodeChunk(spec_, cells_, header, {&source_.view(), 1}, ProfileId::kRaw).status().code(),
            absl::StatusCode::kInvalidArgument);
  TestCache::Part part = WholePart(spec_, 32);
  part.head_count = 1;
  TestCache one_head(spec_, part, rng_);
  EXPECT_EQ(CellsOfView(cells_, one_head.view(), 0, 32).Count(), cells_.num_cells() / 2);
  EXPECT_EQ(EncodeChunk(spec_, cells_, header, {&one_head.view(), 0}, ProfileId::kRaw).status().code(),
            absl::StatusCode::kInvalidArgument);
  part = WholePart(spec_, 32);
  part.layers.pop_back();
  part.first_rows.pop_back();
  TestCache one_layer(spec_, part, rng_);
  EXPECT_TRUE(CellsOfView(cells_, one_layer.view(), 0, 32).Empty());
}

// What two tensor-parallel ranks stored apart is what one process would have stored.
TEST_F(SmallChunk, RanksStoreTheSameSectionsAsOneProcess) {
  for (uint32_t head = 0; head < 2; ++head) {
    TestCache::Part part = WholePart(spec_, 32);
    part.head_begin = head;
    part.head_count = 1;
    TestCache rank(spec_, part, rng_);
    rank.Fill(0);
    ContainerHeader header = HeaderFor(spec_, cells_, 32, 32);
    header.cells = CellsOfView(cells_, rank.view(), 0, 32);
    const auto container = EncodeChunk(spec_, cells_, header, {&rank.view(), 0}, ProfileId::kLossless);
    ASSERT_TRUE(container.ok()) << container.status();
    const auto parsed = ParseContainerHeader(*container);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    for (const uint32_t cell : header.cells.ToVector()) {
      EXPECT_EQ(CellContentDigest(*parsed, cells_, cell), CellContentDigest(header_, cells_, cell));
    }
  }
}

// The shapes that differ most from a plain head: a latent without V, and layers that hold only their window.
TEST(Int8ChunkTest, LatentsAndWindowsComeBackWithinHalfAStep) {
  std::mt19937 rng(5);
  for (const ModelSpec& spec : {testing::LatentSpec(2), testing::SlidingSpec(6, 64, 100), testing::SmolLm2Spec()}) {
    const CellMap cells(spec, 256);
    TestCache::Part part = WholePart(spec, 256);
    for (size_t i = 0; i < part.layers.size(); ++i) part.first_rows[i] = spec.layers[i].window != 0 ? 156 : 0;
    TestCache source(spec, part, rng);
    source.Fill(0);
    ContainerHeader header = HeaderFor(spec, cells, 256, DefaultTileTokens(spec, ProfileId::kInt8));
    header.cells = CellsOfView(cells, source.view(), 0, 256);
    ASSERT_EQ(header.cells.Count(), cells.num_cells());
    const auto container = EncodeChunk(spec, cells, header, {&source.view(), 0}, ProfileId::kInt8);
    ASSERT_TRUE(container.ok()) << container.status();
    const auto parsed = ParseContainerHeader(*container);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    for (const TileEntry& tile : parsed->tiles) EXPECT_EQ(tile.profile, ProfileId::kInt8);
    EXPECT_GT(static_cast<double>(ViewBytes(spec, source.view(), 0, 256)) / static_cast<double>(container->size()),
              1.9);
    TestCache destination(spec, part, rng);
    const DecodeTarget target = {&destination.view(), 0, 0, 256};
    ASSERT_EQ(DecodeContainer(spec, *parsed, ByteSpan(*container).subspan(parsed->header_bytes), target),
              absl::OkStatus());
    destination.Check(
        0, [&](uint32_t layer, uint32_t token) { return token >= part.first_rows[layer]; }, kInt8MaxError);
  }
}

TEST(Int8ChunkTest, Fp32IsRefusedByName) {
  std::mt19937 rng(6);
  const ModelSpec spec = testing::FullAttentionSpec(1, 1, 16, DType::kFp32);
  const CellMap cells(spec, 16);
  TestCache source(spec, WholePart(spec, 16), rng);
  const absl::Status status =
      EncodeChunk(spec, cells, HeaderFor(spec, cells, 16, 16), {&source.view(), 0}, ProfileId::kInt8).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("fp32"), std::string::npos) << status;
}

TEST(DefaultTileTokensTest, GivesInt8Tiles256TokensOfAnyDim) {
  EXPECT_EQ(DefaultTileTokens(testing::SmolLm2Spec(), ProfileId::kInt8), 256u);
  EXPECT_EQ(DefaultTileTokens(testing::LatentSpec(1), ProfileId::kInt8), 256u);
}

TEST(DefaultTileTokensTest, GivesSixteenThousandSymbols) {
  EXPECT_EQ(DefaultTileTokens(testing::SmolLm2Spec()), 256u);
  EXPECT_EQ(DefaultTileTokens(testing::FullAttentionSpec(1, 8, 128)), 128u);
  EXPECT_EQ(DefaultTileTokens(testing::LatentSpec(1)), 32u);
}

}  // namespace
}  // namespace kdn
