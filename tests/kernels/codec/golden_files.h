#ifndef KDN_TESTS_KERNELS_CODEC_GOLDEN_FILES_H_
#define KDN_TESTS_KERNELS_CODEC_GOLDEN_FILES_H_

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "kernels/codec/row_kernels.h"
#include "kernels/codec/tile_codec.h"
#include "kernels/codec/transform_tile.h"
#include "tests/kernels/codec/test_tiles.h"
#include "tests/kernels/codec/transform_objects.h"

// What the committed golden vectors of the tile codecs are: names and parameters, shared by the test that reads them
// and the program that wrote them.
//   <dtype>.rows            the rows of one tile (which is also its raw coding)
//   <dtype>.lossless        its lossless coding under the built-in object
//   bf16.lossless-channels  the same under an object that fixes the channels
//   channels.object         that object
//   <dtype>.int8.rows       rows for the int8 profile, of bf16 and fp16
//   <dtype>.int8-k, -v      their coding as K and as V
//   <dtype>.int8-k.rows, -v.rows   what that decodes to
//   <dtype>.q4.rows, .q4-k, -v, .q4-k.rows, -v.rows   the same for the q4 profile, of every dtype but fp32

namespace kdn {

// Half a step at the end, rows of one and a half steps.
inline TileGeometry GoldenGeometry(DType dtype) { return {dtype, 45, 48, 1, 1, KvKind::kV}; }

// KV-like rows with a few special elements, some of which escape.
inline std::vector<uint8_t> GoldenRows(DType dtype) {
  const TileGeometry geometry = GoldenGeometry(dtype);
  std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 20);
  const std::vector<uint8_t> specials = MakeRows(geometry, TilePattern::kSpecials, 21);
  for (size_t i = 0; i < 12; ++i) {
    const size_t at = (i * 173 + 5) * DTypeBytes(dtype);
    std::copy_n(specials.begin() + static_cast<ptrdiff_t>(at), DTypeBytes(dtype),
                rows.begin() + static_cast<ptrdiff_t>(at));
  }
  return rows;
}

inline constexpr DType kGoldenInt8DTypes[] = {DType::kBf16, DType::kFp16};

inline TileGeometry GoldenInt8Geometry(DType dtype, KvKind kind) { return {dtype, 45, 48, 1, 1, kind}; }

inline std::string GoldenInt8Name(const TileGeometry& geometry) {
  return std::string(DTypeName(geometry.dtype)) + (geometry.kind == KvKind::kK ? ".int8-k" : ".int8-v");
}

// KV-like rows with dead channels, a dead token, the largest and the smallest magnitudes, and negative zeros.
inline std::vector<uint8_t> GoldenInt8Rows(DType dtype) {
  const TileGeometry geometry = GoldenInt8Geometry(dtype, KvKind::kK);
  std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kDeadChannels, 22);
  const auto set = [&](uint32_t token, uint32_t channel, uint16_t bits) {
    StoreLe(bits, rows.data() + size_t{2} * (token * geometry.dim + channel));
  };
  for (uint32_t channel = 0; channel < geometry.dim; ++channel) set(7, channel, channel % 2 == 0 ? 0 : 0x8000);
  for (uint32_t token = 0; token < geometry.tokens; ++token) set(token, 33, static_cast<uint16_t>(token * 5));
  set(11, 0, dtype == DType::kBf16 ? 0x7f00 : 0x7800);
  set(12, 1, dtype == DType::kBf16 ? 0xff00 : 0xf800);
  set(13, 2, 0x0001);
  set(14, 3, 0x807f);
  return rows;
}

inline constexpr DType kGoldenQ4DTypes[] = {DType::kBf16, DType::kFp16, DType::kFp8E4M3, DType::kFp8E5M2};
inline constexpr uint32_t kGoldenQ4RawRows = 1;

// Rows of one block of each size.
inline TileGeometry GoldenQ4Geometry(DType dtype, KvKind kind) { return {dtype, 7, 496, 1, 1, kind}; }

inline std::string GoldenQ4Name(const TileGeometry& geometry) {
  return std::string(DTypeName(geometry.dtype)) + (geometry.kind == KvKind::kK ? ".q4-k" : ".q4-v");
}

// KV-like rows with dead channels and a dead token.
inline std::vector<uint8_t> GoldenQ4Rows(DType dtype) {
  const TileGeometry geometry = GoldenQ4Geometry(dtype, KvKind::kK);
  std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kDeadChannels, 23);
  const size_t row_bytes = size_t{geometry.dim} * DTypeBytes(dtype);
  std::fill_n(rows.begin() + static_cast<ptrdiff_t>(3 * row_bytes), row_bytes, uint8_t{0});
  return rows;
}

// The coding of golden rows or a corpus seed, whether a TileEncoder would think it worthwhile or not. Empty when the
// encoder refuses.
inline std::vector<uint8_t> EncodeGoldenQ4(const TileGeometry& geometry, ByteSpan rows, Isa isa) {
  std::vector<float> values(geometry.elements());
  codec_internal::RowKernelsFor(isa).widen(geometry.dtype, rows.data(), values.size(), values.data());
  std::vector<uint8_t> coded;
  return Q4TileEncoder(isa).Encode(geometry, values, kGoldenQ4RawRows, coded) ? coded : std::vector<uint8_t>();
}

inline LosslessObjectSpec GoldenObjectSpec() {
  LosslessObjectSpec spec;
  spec.prob_bits = 9;
  spec.shapes_per_set = 3;
  spec.channel_source = ChannelSource::kObject;
  spec.dtype = DType::kBf16;
  spec.layers = 2;
  spec.kv_heads = 2;
  spec.k_dim = 16;
  spec.v_dim = 48;
  spec.set_of = {0, 0, 0, 1};
  const LosslessShape shapes[] = {{497, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
                                  {60, 150, 130, 80, 40, 20, 10, 6, 5, 3, 2, 2, 1, 1, 1, 1},
                                  {20, 60, 150, 130, 70, 40, 20, 8, 5, 3, 1, 1, 1, 1, 1, 1}};
  for (int set = 0; set < 2; ++set) spec.shapes.insert(spec.shapes.end(), std::begin(shapes), std::end(shapes));
  spec.channels.resize(2 * 2 * (16 + 48));
  for (size_t i = 0; i < spec.channels.size(); ++i) {
    const uint32_t channel = static_cast<uint32_t>(i % 128 < 32 ? i % 16 : (i - 32) % 48);
    const uint32_t above = channel % 5 == 3 ? 2 : 1;  // the scales and means of TilePattern::kKvLike
    spec.channels[i] = {static_cast<uint8_t>(124 + channel * 7 % 6 + above), static_cast<uint8_t>(1 + i % 2)};
  }
  return spec;
}

// Profile transform: one object of two groups, a tile of each in two dtypes. Tiles have fp32 rows, which are elements
// of the dtype, for both bases together: [base][token][channel] bytes.
inline constexpr DType kGoldenTransformDTypes[] = {DType::kBf16, DType::kFp16, DType::kFp8E4M3};
inline constexpr uint32_t kGoldenTransformTokens = 37;
inline constexpr int32_t kGoldenTransformSteps[] = {-9, 12};  // of the groups' tiles

inline ModelSpec GoldenTransformSpec(DType dtype) { return TransformTestSpec(dtype, 3, 2, 32, 16); }

inline ObjectPlan GoldenTransformPlan(DType dtype) {
  const ModelSpec spec = GoldenTransformSpec(dtype);
  ObjectPlan plan;
  plan.queries = 2;
  plan.groups = {MakeGroup(spec, 2, {0, 2, 0, 2, BaseCut::kJoint, 9, 30, 60}, 31),
                 MakeGroup(spec, 2, {2, 1, 0, 2, BaseCut::kSeparate, 0, 9, 20}, 32)};
  return plan;
}

inline std::vector<uint8_t> GoldenTransformRows(DType dtype, uint32_t group) {
  const GroupPlan plan = GoldenTransformPlan(dtype).groups[group];
  std::vector<uint8_t> rows;
  for (size_t base = 0; base < plan.bases.size(); ++base) {
    std::vector<float> values = RowsOfBase(plan.bases[base], kGoldenTransformTokens, 40 + base);
    const size_t width = plan.bases[base].means.size();
    values[5 * width + 3] += 700.0f;                                      // escapes
    values[6 * width + 1] = std::numeric_limits<float>::quiet_NaN();      // a raw row
    for (size_t i = 0; i < width; ++i) values[9 * width + i] *= 1024.0f;  // too far out for its class
    std::vector<uint8_t> elements(values.size() * DTypeBytes(dtype));
    codec_internal::RowKernelsFor(Isa::kScalar).narrow(dtype, values.data(), values.size(), elements.data());
    rows.insert(rows.end(), elements.begin(), elements.end());
  }
  return rows;
}

inline std::string GoldenTransformName(DType dtype, uint32_t group) {
  return std::string(DTypeName(dtype)) + ".transform-" + std::to_string(group);
}

// Empty when the encoder refuses.
inline std::vector<uint8_t> EncodeGoldenTransform(const TransformObject& object, DType dtype, uint32_t group,
                                                  ByteSpan rows, Isa isa) {
  std::vector<float> values(rows.size() / DTypeBytes(dtype));
  codec_internal::RowKernelsFor(isa).widen(dtype, rows.data(), values.size(), values.data());
  TransformTileInput input;
  input.dtype = dtype;
  input.tokens = kGoldenTransformTokens;
  input.group = group;
  input.calibration = group;
  input.step = kGoldenTransformSteps[group];
  input.sink_rows = 2;
  size_t at = 0;
  for (size_t base = 0; base < object.groups()[group].bases.size(); ++base) {
    const size_t count = size_t{input.tokens} * object.groups()[group].bases[base].width;
    input.rows[base] = std::span(values).subspan(at, count);
    at += count;
  }
  std::vector<uint8_t> classes(input.tokens);
  for (size_t i = 0; i < classes.size(); ++i) classes[i] = static_cast<uint8_t>(i * i % 7 == 4 ? i % 9 : 0);
  input.row_classes = classes;
  std::vector<uint8_t> coded;
  return TransformTileEncoder(isa).Encode(object, input, coded).ok() ? coded : std::vector<uint8_t>();
}

// The rows of a tile as elements of the dtype, as GoldenTransformRows. Empty when the decoder refuses.
inline std::vector<uint8_t> DecodeGoldenTransform(const TransformObject& object, DType dtype, uint32_t group,
                                                  ByteSpan coded, Isa isa) {
  TransformTileDecoder decoder(isa);
  if (!decoder.Open(object.groups()[group], dtype, kGoldenTransformTokens, coded).ok()) return {};
  std::vector<uint8_t> rows;
  for (uint32_t base = 0; base < object.groups()[group].bases.size(); ++base) {
    const uint32_t width = object.groups()[group].bases[base].width;
    std::vector<float> values(size_t{kGoldenTransformTokens} * width);
    decoder.Rows({base, 0, kGoldenTransformTokens, 0, width, values.data(), width});
    std::vector<uint8_t> elements(values.size() * DTypeBytes(dtype));
    codec_internal::RowKernelsFor(isa).narrow(dtype, values.data(), values.size(), elements.data());
    rows.insert(rows.end(), elements.begin(), elements.end());
  }
  return rows;
}

inline std::vector<uint8_t> ReadBytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace kdn

#endif  // KDN_TESTS_KERNELS_CODEC_GOLDEN_FILES_H_
