// Writes the golden vectors of the tile codecs and the seeds of their fuzz corpora. Run by hand when a profile or dtype
// is added; it refuses to touch a file that exists.
//
//   codec_golden_generate GOLDEN_DIR CORPUS_DIR
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "tests/kernels/codec/golden_files.h"

namespace kdn {
namespace {

namespace fs = std::filesystem;

void Write(const fs::path& path, ByteSpan bytes) {
  if (fs::exists(path)) {
    std::printf("kept %s\n", path.c_str());
    return;
  }
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  std::printf("wrote %s, %zu bytes\n", path.c_str(), bytes.size());
}

std::vector<uint8_t> Encode(const TileGeometry& geometry, ByteSpan rows, const LosslessTables& tables) {
  std::vector<uint8_t> coded;
  const auto done =
      LosslessTileEncoder(Isa::kScalar).Encode(tables, geometry, rows, std::numeric_limits<size_t>::max(), coded);
  if (!done.ok()) std::abort();
  return coded;
}

std::vector<uint8_t> EncodeInt8(const TileGeometry& geometry, ByteSpan rows) {
  std::vector<uint8_t> coded;
  if (!Int8TileEncoder(Isa::kScalar).Encode(geometry, rows, coded)) std::abort();
  return coded;
}

void WriteInt8Golden(const fs::path& dir) {
  for (const DType dtype : kGoldenInt8DTypes) {
    const std::vector<uint8_t> rows = GoldenInt8Rows(dtype);
    Write(dir / (std::string(DTypeName(dtype)) + ".int8.rows"), rows);
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      const TileGeometry geometry = GoldenInt8Geometry(dtype, kind);
      const std::vector<uint8_t> coded = EncodeInt8(geometry, rows);
      std::vector<uint8_t> decoded(rows.size());
      if (!Int8TileDecoder(Isa::kScalar).Decode(geometry, coded, decoded).ok()) std::abort();
      Write(dir / GoldenInt8Name(geometry), coded);
      Write(dir / (GoldenInt8Name(geometry) + ".rows"), decoded);
    }
  }
}

void WriteQ4Golden(const fs::path& dir) {
  for (const DType dtype : kGoldenQ4DTypes) {
    const std::vector<uint8_t> rows = GoldenQ4Rows(dtype);
    Write(dir / (std::string(DTypeName(dtype)) + ".q4.rows"), rows);
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      const TileGeometry geometry = GoldenQ4Geometry(dtype, kind);
      const std::vector<uint8_t> coded = EncodeGoldenQ4(geometry, rows, Isa::kScalar);
      std::vector<uint8_t> decoded(rows.size());
      if (!TileDecoder({}, Isa::kScalar).Decode(geometry, ProfileId::kQ4, coded, decoded).ok()) std::abort();
      Write(dir / GoldenQ4Name(geometry), coded);
      Write(dir / (GoldenQ4Name(geometry) + ".rows"), decoded);
    }
  }
}

void WriteQ4TileCorpus(const fs::path& dir) {
  for (const DType dtype : kGoldenQ4DTypes) {
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      const TileGeometry geometry = {dtype, 5, 112, 0, 0, kind};
      std::vector<uint8_t> input = {static_cast<uint8_t>(static_cast<uint8_t>(dtype) | static_cast<uint8_t>(kind) << 7),
                                    static_cast<uint8_t>(ProfileId::kQ4), static_cast<uint8_t>(geometry.tokens),
                                    static_cast<uint8_t>(geometry.dim / 16)};
      const std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kDeadChannels, 9);
      const std::vector<uint8_t> coded = EncodeGoldenQ4(geometry, rows, Isa::kScalar);
      input.insert(input.end(), coded.begin(), coded.end());
      const std::string name = std::string(DTypeName(dtype)) + (kind == KvKind::kK ? "-q4-k" : "-q4-v");
      Write(dir / name, input);
      if (dtype != DType::kBf16) continue;
      Write(dir / (name + "-cut"), ByteSpan(input).first(input.size() - 9));
      input[5] = 0x80;  // a base exponent below all
      Write(dir / (name + "-base"), input);
    }
  }
}

void WriteTransformGolden(const fs::path& dir) {
  for (const DType dtype : kGoldenTransformDTypes) {
    const std::vector<uint8_t> bytes = ObjectBytes(GoldenTransformSpec(dtype), GoldenTransformPlan(dtype));
    Write(dir / (std::string(DTypeName(dtype)) + ".transform.object"), bytes);
    const auto object = TransformObject::Parse(bytes, GoldenTransformSpec(dtype)).value();
    for (uint32_t group = 0; group < 2; ++group) {
      const std::string name = GoldenTransformName(dtype, group);
      const std::vector<uint8_t> rows = GoldenTransformRows(dtype, group);
      const std::vector<uint8_t> coded = EncodeGoldenTransform(*object, dtype, group, rows, Isa::kScalar);
      const std::vector<uint8_t> decoded = DecodeGoldenTransform(*object, dtype, group, coded, Isa::kScalar);
      if (decoded.empty()) std::abort();
      Write(dir / (name + ".rows"), rows);
      Write(dir / name, coded);
      Write(dir / (name + ".decoded"), decoded);
    }
  }
}

// The inputs of tests/fuzz/transform_tile_fuzz.cc: dtype, tokens, then the tile.
void WriteTransformTileCorpus(const fs::path& dir) {
  for (const DType dtype : kGoldenTransformDTypes) {
    const ModelSpec spec = GoldenTransformSpec(dtype);
    const auto object = TransformObject::Parse(ObjectBytes(spec, GoldenTransformPlan(dtype)), spec).value();
    for (uint32_t group = 0; group < 2; ++group) {
      const std::vector<uint8_t> rows = GoldenTransformRows(dtype, group);
      const std::vector<uint8_t> coded = EncodeGoldenTransform(*object, dtype, group, rows, Isa::kScalar);
      std::vector<uint8_t> input = {static_cast<uint8_t>(dtype), kGoldenTransformTokens};
      input.insert(input.end(), coded.begin(), coded.end());
      Write(dir / GoldenTransformName(dtype, group), input);
      if (dtype == DType::kBf16) Write(dir / ("cut-" + std::to_string(group)), ByteSpan(input).first(input.size() - 9));
    }
  }
}

void WriteGolden(const fs::path& dir) {
  for (const DType dtype : kAllDTypes) {
    const std::string name(DTypeName(dtype));
    const std::vector<uint8_t> rows = GoldenRows(dtype);
    Write(dir / (name + ".rows"), rows);
    Write(dir / (name + ".lossless"), Encode(GoldenGeometry(dtype), rows, LosslessTables::BuiltIn()));
  }
  WriteInt8Golden(dir);
  WriteQ4Golden(dir);
  WriteTransformGolden(dir);
  const LosslessTables object = LosslessTables::Create(GoldenObjectSpec()).value();
  Write(dir / "channels.object", object.canonical_bytes());
  Write(dir / "bf16.lossless-channels", Encode(GoldenGeometry(DType::kBf16), GoldenRows(DType::kBf16), object));
}

// The inputs of tests/fuzz/tile_decode_fuzz.cc: dtype (and 128 for V), profile, tokens, dim / 16, then the tile.
void WriteTileCorpus(const fs::path& dir) {
  for (const DType dtype : kAllDTypes) {
    for (const TilePattern pattern : {TilePattern::kKvLike, TilePattern::kWideRange, TilePattern::kZeros}) {
      const TileGeometry geometry = {dtype, 5, 48};
      const std::vector<uint8_t> coded = Encode(geometry, MakeRows(geometry, pattern, 7), LosslessTables::BuiltIn());
      std::vector<uint8_t> input = {static_cast<uint8_t>(dtype), 1, static_cast<uint8_t>(geometry.tokens),
                                    static_cast<uint8_t>(geometry.dim / 16)};
      input.insert(input.end(), coded.begin(), coded.end());
      const std::string name = std::string(DTypeName(dtype)) + "-" + PatternName(pattern);
      Write(dir / name, input);
      if (pattern == TilePattern::kKvLike) Write(dir / (name + "-cut"), ByteSpan(input).first(input.size() - 9));
    }
  }
}

void WriteInt8TileCorpus(const fs::path& dir) {
  for (const DType dtype : kGoldenInt8DTypes) {
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      const TileGeometry geometry = {dtype, 5, 48, 0, 0, kind};
      std::vector<uint8_t> input = {static_cast<uint8_t>(static_cast<uint8_t>(dtype) | static_cast<uint8_t>(kind) << 7),
                                    static_cast<uint8_t>(ProfileId::kInt8), static_cast<uint8_t>(geometry.tokens),
                                    static_cast<uint8_t>(geometry.dim / 16)};
      const std::vector<uint8_t> coded = EncodeInt8(geometry, MakeRows(geometry, TilePattern::kDeadChannels, 8));
      input.insert(input.end(), coded.begin(), coded.end());
      const std::string name = std::string(DTypeName(dtype)) + (kind == KvKind::kK ? "-int8-k" : "-int8-v");
      Write(dir / name, input);
      Write(dir / (name + "-cut"), ByteSpan(input).first(input.size() - 9));
      input[5] = 0xff;  // a scale that is NaN or negative
      Write(dir / (name + "-scale"), input);
    }
  }
}

void WriteObjectCorpus(const fs::path& dir) {
  const ByteSpan built_in = LosslessTables::BuiltIn().canonical_bytes();
  Write(dir / "built-in", built_in);
  Write(dir / "built-in-cut", built_in.first(built_in.size() - 3));
  Write(dir / "channels", LosslessTables::Create(GoldenObjectSpec()).value().canonical_bytes());
}

// Objects of the model in tests/fuzz/transform_object_fuzz.cc.
void WriteTransformObjectCorpus(const fs::path& dir) {
  ModelSpec spec;
  spec.weights_digest = Sha256::Of(AsBytes("weights"));
  spec.tokenizer_digest = Sha256::Of(AsBytes("tokenizer"));
  spec.ropes.resize(1);
  spec.layers.assign(3, {AttentionKind::kFull, 0, 2, 32, 16, 0});
  spec.layers.push_back({AttentionKind::kLatent, 0, 1, 64, 0, 0});
  ObjectPlan plan;
  plan.queries = 1;
  plan.groups = {MakeGroup(spec, 1, {0, 1, 0, 1, BaseCut::kSeparate, 3}, 1),
                 MakeGroup(spec, 1, {1, 2, 0, 1, BaseCut::kJoint, 90}, 2),
                 MakeGroup(spec, 1, {3, 1, 0, 1, BaseCut::kSeparate, 60}, 3)};
  const std::vector<uint8_t> bytes = ObjectBytes(spec, plan);
  Write(dir / "three-groups", bytes);
  Write(dir / "three-groups-cut", ByteSpan(bytes).first(bytes.size() - 17));
  plan.groups[1].layer = 0;
  Write(dir / "overlap", ObjectBytes(spec, plan));
}

}  // namespace
}  // namespace kdn

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: codec_golden_generate GOLDEN_DIR CORPUS_DIR\n");
    return 1;
  }
  kdn::WriteGolden(argv[1]);
  const std::filesystem::path corpus = argv[2];
  kdn::WriteTileCorpus(corpus / "tile_decode");
  kdn::WriteInt8TileCorpus(corpus / "tile_decode");
  kdn::WriteQ4TileCorpus(corpus / "tile_decode");
  kdn::WriteObjectCorpus(corpus / "lossless_object");
  kdn::WriteTransformObjectCorpus(corpus / "transform_object");
  kdn::WriteTransformTileCorpus(corpus / "transform_tile");
  return 0;
}
