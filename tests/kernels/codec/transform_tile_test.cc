#include "kernels/codec/transform_tile.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/codec/row_kernels.h"
#include "tests/kernels/codec/transform_objects.h"

namespace kdn {
namespace {

using absl::StatusCode;

constexpr Isa kAllIsas[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512};

// An object of one group, and rows that it suits.
struct Model {
  ModelSpec spec;
  ObjectPlan plan;
  std::shared_ptr<const TransformObject> object;
  std::vector<std::vector<float>> rows;  // [base]: [token][channel]

  const TransformGroup& group() const { return object->groups()[0]; }
  TransformTileInput Input(uint32_t tokens, int32_t step) const {
    TransformTileInput input;
    input.dtype = spec.dtype;
    input.tokens = tokens;
    input.step = step;
    for (size_t base = 0; base < rows.size(); ++base) input.rows[base] = rows[base];
    return input;
  }
};

struct Shape {
  DType dtype = DType::kBf16;
  uint32_t heads = 3;
  uint32_t k_dim = 32;
  uint32_t v_dim = 32;
  RandomGroup group = {0, 1, 0, 3};
};

Model MakeModel(const Shape& shape, uint32_t tokens, uint64_t seed) {
  Model model;
  model.spec = TransformTestSpec(shape.dtype, shape.group.layer_count, shape.heads, shape.k_dim, shape.v_dim);
  model.plan.groups = {MakeGroup(model.spec, 0, shape.group, seed)};
  model.object = TransformObject::Parse(ObjectBytes(model.spec, model.plan), model.spec).value();
  for (const BasePlan& base : model.plan.groups[0].bases) model.rows.push_back(RowsOfBase(base, tokens, seed + 7));
  return model;
}

std::vector<uint8_t> EncodeTile(const Model& model, const TransformTileInput& input, Isa isa = Isa::kScalar) {
  std::vector<uint8_t> coded = {1, 2, 3};  // tiles are appended
  const absl::Status status = TransformTileEncoder(isa).Encode(*model.object, input, coded);
  EXPECT_TRUE(status.ok()) << status;
  coded.erase(coded.begin(), coded.begin() + 3);
  return coded;
}

using Decoded = std::vector<std::vector<float>>;  // [base]: [token][channel]

absl::StatusOr<Decoded> DecodeTile(const Model& model, uint32_t tokens, ByteSpan coded, Isa isa = Isa::kScalar) {
  TransformTileDecoder decoder(isa);
  const absl::Status status = decoder.Open(model.group(), model.spec.dtype, tokens, coded);
  if (!status.ok()) return status;
  Decoded decoded;
  for (uint32_t base = 0; base < model.group().bases.size(); ++base) {
    const uint32_t width = model.group().bases[base].width;
    decoded.emplace_back(size_t{tokens} * width);
    decoder.Rows({base, 0, tokens, 0, width, decoded.back().data(), width});
  }
  return decoded;
}

// Bits, so that NaNs compare.
std::vector<uint32_t> Bits(const Decoded& decoded) {
  std::vector<uint32_t> bits;
  for (const auto& base : decoded) {
    for (const float value : base) bits.push_back(FloatBits(value));
  }
  return bits;
}

double SquaredError(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum;
}

TEST(TransformTileTest, ErrorIsThatOfAUniformQuantiser) {
  const Shape shape;
  const Model model = MakeModel(shape, 100, 1);
  const std::vector<uint8_t> fine = EncodeTile(model, model.Input(100, -64));
  const Decoded decoded = DecodeTile(model, 100, fine).value();
  for (size_t base = 0; base < decoded.size(); ++base) {
    // Every coefficient is far above a step of 1/16: uniform errors of variance step^2 / 12.
    const double per_element =
        SquaredError(decoded[base], model.rows[base]) / static_cast<double>(decoded[base].size());
    EXPECT_NEAR(per_element, 1.0 / 256 / 12, 0.15 / 256 / 12);
  }
  EXPECT_LT(EncodeTile(model, model.Input(100, 24)).size(), fine.size() / 3);
}

TEST(TransformTileTest, RowsAreWhatTheFormatSays) {
  const Shape shape = {DType::kBf16, 2, 32, 16, {0, 2, 0, 2, BaseCut::kJoint, 5, 14, 40}};
  const Model model = MakeModel(shape, 5, 2);
  TransformTileInput input = model.Input(5, 9);
  const std::vector<uint8_t> classes = {0, 3, 8, 1, 0};
  input.row_classes = classes;
  const Decoded decoded = DecodeTile(model, 5, EncodeTile(model, input)).value();
  const TransformBase& base = model.group().bases[0];
  const std::span<const float> analysis = model.object->Analysis(0, 0);
  const uint32_t stride = TransformObject::AnalysisStride(base);
  for (uint32_t row = 0; row < 5; ++row) {
    const int exponent = 9 - 8 * classes[row];
    const float step = TransformStep(exponent);
    std::vector<int64_t> values;
    for (uint32_t j = 0; j < base.rank; ++j) {
      const int u = 4 * base.sigmas[j] - exponent;
      if (u + 18 < 0) break;
      float y = 0;
      for (uint32_t i = 0; i < base.width; ++i) {
        const float centred = model.rows[0][size_t{row} * base.width + i] - base.means[i];
        const float product = analysis[size_t{i} * stride + j] * centred;
        y = y + product;
      }
      const auto q = static_cast<int64_t>(std::nearbyint(y * (1.0f / step)));
      const int t = std::min((u + 18) / 4, 47);
      const int64_t magnitude = std::abs(q);
      int64_t value = 32 * magnitude;
      if (t < 16) value -= kTransformShifts[t] >> (8 * std::min<int64_t>(magnitude, 3)) & 0xff;
      values.push_back(q < 0 ? -value : value);
    }
    ASSERT_GT(values.size(), row == 2 ? 80u : 20u);
    for (uint32_t i = 0; i < base.width; ++i) {
      int64_t sum = 0;
      for (size_t j = 0; j < values.size(); ++j) sum += base.matrix[size_t{i} * base.rank + j] * values[j];
      const float factor = step * base.scales[i];
      const float product = static_cast<float>(sum) * factor;
      ASSERT_EQ(decoded[0][size_t{row} * base.width + i], product + base.means[i]) << row << " " << i;
    }
  }
}

TEST(TransformTileTest, EveryInstructionSetMakesTheSame) {
  std::mt19937_64 random(3);
  const Shape shapes[] = {
      {DType::kBf16, 3, 64, 64, {0, 1, 0, 3, BaseCut::kSeparate, 0, 10, 40}},
      {DType::kFp16, 2, 16, 16, {0, 1, 1, 1, BaseCut::kSeparate, 0, 24, 9}},
      {DType::kFp8E4M3, 2, 48, 32, {0, 2, 0, 2, BaseCut::kJoint, 7, 8, 60}},
      {DType::kBf16, 1, 144, 0, {0, 1, 0, 1, BaseCut::kSeparate, 15, 12, 50}},
      {DType::kFp8E5M2, 1, 16, 16, {0, 1, 0, 1, BaseCut::kJoint, 31, 4, 1}},
      {DType::kBf16, 4, 80, 80, {0, 1, 0, 4, BaseCut::kSeparate, 101, 60, 120}},
  };
  for (size_t s = 0; s < std::size(shapes); ++s) {
    for (const uint32_t tokens : {1u, 7u, 64u, 131u}) {
      Model model = MakeModel(shapes[s], tokens, 10 + s);
      const auto step = static_cast<int32_t>(random() % 160) - 90;
      TransformTileInput input = model.Input(tokens, step);
      std::vector<uint8_t> classes(tokens);
      for (uint8_t& c : classes) c = static_cast<uint8_t>(random() % kTransformClasses);
      input.row_classes = classes;
      input.sink_rows = std::min<uint32_t>(tokens, 2);
      if (tokens > 60) {
        model.rows[0][10 * size_t{model.group().bases[0].width} + 3] = std::numeric_limits<float>::quiet_NaN();
        for (uint32_t i = 0; i < 16; ++i) model.rows[0][20 * size_t{model.group().bases[0].width} + i] *= 20;
        input.rows[0] = model.rows[0];
      }
      const std::vector<uint8_t> coded = EncodeTile(model, input);
      const auto reference = DecodeTile(model, tokens, coded);
      ASSERT_TRUE(reference.ok()) << reference.status();
      for (const Isa isa : kAllIsas) {
        if (!IsaSupported(isa)) continue;
        SCOPED_TRACE(std::string(IsaName(isa)) + ", shape " + std::to_string(s) + ", tokens " + std::to_string(tokens));
        ASSERT_EQ(EncodeTile(model, input, isa), coded);
        const auto decoded = DecodeTile(model, tokens, coded, isa);
        ASSERT_TRUE(decoded.ok()) << decoded.status();
        ASSERT_EQ(Bits(*decoded), Bits(*reference));
      }
    }
  }
}

TEST(TransformTileTest, AnyRowsAndChannelsCanBeAskedFor) {
  const Shape shape;
  const Model model = MakeModel(shape, 40, 4);
  TransformTileInput input = model.Input(40, 0);
  input.sink_rows = 3;
  const std::vector<uint8_t> coded = EncodeTile(model, input);
  const Decoded whole = DecodeTile(model, 40, coded).value();
  for (const Isa isa : kAllIsas) {
    if (!IsaSupported(isa)) continue;
    TransformTileDecoder decoder(isa);
    ASSERT_TRUE(decoder.Open(model.group(), DType::kBf16, 40, coded).ok());
    for (const uint32_t first : {0u, 2u, 17u}) {
      std::vector<float> part(size_t{9} * 50, -1.0f);
      decoder.Rows({1, first, 9, 32, 48, part.data(), 50});
      for (uint32_t row = 0; row < 9; ++row) {
        for (uint32_t i = 0; i < 48; ++i) {
          ASSERT_EQ(part[row * 50 + i], whole[1][size_t{first + row} * 96 + 32 + i]) << first << " " << row << " " << i;
        }
        ASSERT_EQ(part[row * 50 + 48], -1.0f);
      }
    }
  }
}

TEST(TransformTileTest, SinksAndWhatIsNotFiniteStayAsElements) {
  for (const DType dtype : {DType::kBf16, DType::kFp16, DType::kFp8E4M3}) {
    Model model = MakeModel({dtype}, 20, 5);
    const uint32_t width = 96;
    model.rows[1][7 * width + 5] = std::numeric_limits<float>::infinity();
    model.rows[0][9 * width + 5] = std::numeric_limits<float>::quiet_NaN();
    TransformTileInput input = model.Input(20, 0);
    input.sink_rows = 4;
    const std::vector<uint8_t> coded = EncodeTile(model, input);
    EXPECT_EQ(ReadTransformTileHeader(coded)->raw_rows, 6u);
    const Decoded decoded = DecodeTile(model, 20, coded).value();
    const codec_internal::RowKernels& kernels = codec_internal::RowKernelsFor(Isa::kScalar);
    const DType stored = dtype == DType::kFp16 ? DType::kFp16 : DType::kBf16;
    for (const uint32_t row : {0u, 1u, 2u, 3u, 7u, 9u}) {
      for (uint32_t base = 0; base < 2; ++base) {
        std::vector<uint8_t> elements(2 * width);
        std::vector<float> expected(width);
        kernels.narrow(stored, model.rows[base].data() + size_t{row} * width, width, elements.data());
        kernels.widen(stored, elements.data(), width, expected.data());
        for (uint32_t i = 0; i < width; ++i) {
          ASSERT_EQ(FloatBits(decoded[base][size_t{row} * width + i]), FloatBits(expected[i]));
        }
      }
    }
    for (uint32_t i = 0; i < width; ++i) EXPECT_TRUE(std::isfinite(decoded[1][8 * width + i]));
  }
}

TEST(TransformTileTest, OutliersEscapeAndThoseTooFarOutStayAsElements) {
  const Shape shape = {DType::kBf16, 3, 32, 32, {0, 1, 0, 3, BaseCut::kSeparate, 0, 12, 8}};
  Model model = MakeModel(shape, 10, 6);
  const size_t width = 96;
  for (size_t i = 0; i < width; ++i) model.rows[0][3 * width + i] += i == 5 ? 300.0f : 0.0f;
  for (size_t i = 0; i < width; ++i) model.rows[0][6 * width + i] += i == 5 ? 30000.0f : 0.0f;
  const std::vector<uint8_t> coded = EncodeTile(model, model.Input(10, 0));
  const TransformTileHeader header = ReadTransformTileHeader(coded).value();
  EXPECT_GT(header.escape_count, 10u);
  EXPECT_EQ(header.raw_rows, 1u);
  const Decoded decoded = DecodeTile(model, 10, coded).value();
  const auto row = [&](const std::vector<float>& rows, size_t r) { return std::span(rows).subspan(r * width, width); };
  EXPECT_LT(SquaredError(row(decoded[0], 3), row(model.rows[0], 3)), 0.3 * width);
}

TEST(TransformTileTest, RowsTooFarOutForTheirClassGetACoarserOne) {
  const Shape shape = {DType::kBf16, 3, 32, 32, {0, 1, 0, 3, BaseCut::kSeparate, 0, 12, 8}};
  Model model = MakeModel(shape, 10, 6);
  const size_t width = 96;
  // A level of 6000 and more at class 8, of 400 at class 0.
  for (size_t i = 0; i < width; ++i)
    model.rows[1][3 * width + i] +=
        400.0f * model.plan.groups[0].bases[1].matrix[i * 96] * 32 * model.plan.groups[0].bases[1].scales[i];
  TransformTileInput input = model.Input(10, 0);
  const std::vector<uint8_t> classes(10, 8);
  input.row_classes = classes;
  const std::vector<uint8_t> coded = EncodeTile(model, input);
  EXPECT_EQ(ReadTransformTileHeader(coded)->raw_rows, 0u);
  for (const Isa isa : kAllIsas) {
    if (!IsaSupported(isa)) continue;
    EXPECT_EQ(EncodeTile(model, input, isa), coded);
  }
  const Decoded decoded = DecodeTile(model, 10, coded).value();
  const auto error = [&](size_t base, size_t r) {
    return SquaredError(std::span(decoded[base]).subspan(r * width, width),
                        std::span(model.rows[base]).subspan(r * width, width)) /
           static_cast<double>(width);
  };
  EXPECT_LT(error(1, 2), 1.0 / 256 / 6);
  EXPECT_GT(error(1, 3), 1.0 / 12 / 32);
  EXPECT_LT(error(1, 3), 1.0 / 8);
  EXPECT_GT(error(0, 3), 1.0 / 12 / 32);  // of the whole row
}

TEST(TransformTileTest, FinerClassesHaveSmallerErrorsAndCostMore) {
  const Model model = MakeModel({}, 64, 7);
  size_t bytes = 0;
  double error = 1e30;
  for (uint8_t row_class = 0; row_class < kTransformClasses; row_class += 2) {
    TransformTileInput input = model.Input(64, 24);
    const std::vector<uint8_t> classes(64, row_class);
    input.row_classes = classes;
    const std::vector<uint8_t> coded = EncodeTile(model, input);
    const Decoded decoded = DecodeTile(model, 64, coded).value();
    const double now = SquaredError(decoded[0], model.rows[0]) + SquaredError(decoded[1], model.rows[1]);
    EXPECT_GT(coded.size(), bytes);
    EXPECT_LT(now, 0.7 * error);
    bytes = coded.size();
    error = now;
  }
}

TEST(TransformTileTest, AStepAboveAllSigmasLeavesTheMeans) {
  const Model model = MakeModel({}, 30, 8);
  const std::vector<uint8_t> coded = EncodeTile(model, model.Input(30, 1024));
  EXPECT_LT(coded.size(), 180u);
  for (const Isa isa : kAllIsas) {
    if (!IsaSupported(isa)) continue;
    EXPECT_EQ(EncodeTile(model, model.Input(30, 1024), isa), coded);
    const Decoded decoded = DecodeTile(model, 30, coded, isa).value();
    for (uint32_t i = 0; i < 96; ++i) EXPECT_EQ(decoded[1][29 * 96 + i], model.group().bases[1].means[i]);
  }
}

TEST(TransformTileTest, CodedSizeIsNearTheEntropy) {
  // Gaussian coefficients of sigma 1 under a step of 1 have 2.10 bits each (0.05 more under these tables).
  const Shape shape = {DType::kBf16, 3, 64, 64, {0, 1, 0, 3, BaseCut::kSeparate, 0, 0, 1}};
  const Model model = MakeModel(shape, 256, 9);
  const std::vector<uint8_t> coded = EncodeTile(model, model.Input(256, 0));
  const double bits = 8.0 * static_cast<double>(coded.size()) / (256 * 2 * 192);
  EXPECT_GT(bits, 2.05);
  EXPECT_LT(bits, 2.2);
}

TEST(TransformTileTest, EncoderRefusesWhatDoesNotFitTheObject) {
  const Model model = MakeModel({}, 10, 11);
  const auto code = [&](auto change) {
    TransformTileInput input = model.Input(10, 0);
    change(input);
    std::vector<uint8_t> out = {7};
    const absl::Status status = TransformTileEncoder(BestIsa()).Encode(*model.object, input, out);
    EXPECT_EQ(out.size() == 1, !status.ok());
    return status.code();
  };
  const std::vector<uint8_t> bad_class(10, 9);
  const std::vector<uint8_t> few_classes(9);
  EXPECT_EQ(code([](TransformTileInput& i) {}), StatusCode::kOk);
  EXPECT_EQ(code([](TransformTileInput& i) { i.group = 1; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](TransformTileInput& i) { i.step = 1025; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](TransformTileInput& i) { i.step = -1025; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](TransformTileInput& i) { i.tokens = 9; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](TransformTileInput& i) { i.tokens = 0; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](TransformTileInput& i) { i.sink_rows = 11; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](TransformTileInput& i) { i.calibration = 256; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](TransformTileInput& i) { i.dtype = DType::kFp32; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([&](TransformTileInput& i) { i.row_classes = bad_class; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([&](TransformTileInput& i) { i.row_classes = few_classes; }), StatusCode::kInvalidArgument);
}

// Every instruction set says the same of damaged bytes: refused, or the same rows.
void ExpectAgreement(const Model& model, uint32_t tokens, ByteSpan coded, size_t& accepted) {
  const auto reference = DecodeTile(model, tokens, coded);
  accepted += reference.ok();
  EXPECT_TRUE(reference.ok() || reference.status().code() == StatusCode::kDataLoss) << reference.status();
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (!IsaSupported(isa)) continue;
    const auto decoded = DecodeTile(model, tokens, coded, isa);
    ASSERT_EQ(decoded.ok(), reference.ok());
    if (!decoded.ok()) continue;
    ASSERT_EQ(Bits(*decoded), Bits(*reference));
  }
}

TEST(TransformTileHostileTest, DamagedTilesAreRefusedOrDecodeAlike) {
  Model model = MakeModel({DType::kBf16, 1, 32, 16, {0, 1, 0, 1, BaseCut::kSeparate, 3, 20, 50}}, 20, 12);
  model.rows[0][3 * 32 + 5] += 900.0f;  // escapes
  TransformTileInput input = model.Input(20, -8);
  input.sink_rows = 1;
  const std::vector<uint8_t> coded = EncodeTile(model, input);
  ASSERT_GT(ReadTransformTileHeader(coded)->escape_count, 0u);
  size_t accepted = 0;
  for (size_t size = 0; size < coded.size(); ++size) {
    ExpectAgreement(model, 20, ByteSpan(coded).first(size), accepted);
  }
  EXPECT_EQ(accepted, 0u);
  std::vector<uint8_t> damaged = coded;
  for (size_t i = 0; i < coded.size(); ++i) {
    for (const int bit : {0, 3, 7}) {
      damaged[i] = static_cast<uint8_t>(coded[i] ^ (1 << bit));
      ExpectAgreement(model, 20, damaged, accepted);
    }
    damaged[i] = coded[i];
  }
  // Group and calibration are the caller's to check; escapes, raw rows and bypass bits can be anything.
  EXPECT_GE(accepted, 3u * (3 + 2 * 48));
  EXPECT_LT(accepted, 3 * coded.size() / 2);
  damaged.push_back(0);
  EXPECT_FALSE(DecodeTile(model, 20, damaged).ok());
  EXPECT_FALSE(DecodeTile(model, 21, coded).ok());
  EXPECT_FALSE(DecodeTile(model, 19, coded).ok());
}

TEST(TransformTileHostileTest, RandomBytesBehindAHeaderAreRefused) {
  const Model model = MakeModel({}, 64, 13);
  std::mt19937_64 random(14);
  size_t accepted = 0;
  for (int round = 0; round < 300; ++round) {
    const uint32_t words = random() % 3000;
    std::vector<uint8_t> coded(kTransformWordsOffset + 2 * words);
    for (uint8_t& byte : coded) byte = static_cast<uint8_t>(random());
    StoreLe<uint16_t>(static_cast<uint16_t>(static_cast<int>(random() % 200) - 100), coded.data());
    coded[5] = 0;
    StoreLe<uint16_t>(0, coded.data() + 6);
    StoreLe<uint32_t>(words, coded.data() + 8);
    StoreLe<uint32_t>(0, coded.data() + 12);
    for (uint32_t lane = 0; lane < 32; ++lane) coded[kTransformStatesOffset + 4 * lane + 3] |= 1;
    ExpectAgreement(model, 64, coded, accepted);
  }
  EXPECT_EQ(accepted, 0u);
}

TEST(TransformTileHostileTest, ATileCannotUnfoldToFarMoreThanItsBytes) {
  const Shape shape = {DType::kBf16, 4, 256, 256, {0, 1, 0, 4, BaseCut::kSeparate, 1008, 0, 1}};
  Model model = MakeModel(shape, 1, 15);
  TransformTileDecoder decoder(BestIsa());
  std::vector<uint8_t> coded = EncodeTile(model, model.Input(1, 0));
  const absl::Status status = decoder.Open(model.group(), DType::kBf16, 4096, coded);
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace kdn
