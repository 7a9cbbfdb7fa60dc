// One measurement of the tile codec per call, on one thread, as a line of JSON; bench/harness/codec.py takes turns.
//
//   bench_codec FILE DTYPE LAYERS HEADS TOKENS DIM ACTION ISA MILLISECONDS
//
// FILE holds elements [layer][K, V][head][token][channel]; "synthetic" stands for made-up ones. ACTION:
//   encode, decode   lossless tiles of one head and kTileTokens tokens; what was decoded is compared first
//   copy             the same tiles through memcpy: what a codec that does nothing would reach
//   containers       raw bytes and bytes of whole containers, one per chunk of kTileTokens tokens (MILLISECONDS unused)
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "bench/common/measure.h"
#include "bench/foundation/synthetic_kv.h"
#include "kernels/codec/tile_codec.h"
#include "kernels/format/container.h"
#include "kernels/layout/dtype.h"

namespace kdn::bench {
namespace {

constexpr uint32_t kTileTokens = 256;  // the default chunk length: one tile per head, layer and K or V of a chunk
constexpr uint64_t kSyntheticSeed = 11;

template <typename T>
T Check(absl::StatusOr<T> result) {
  if (!result.ok()) Fail(result.status().ToString());
  return *std::move(result);
}

struct Kv {
  DType dtype = DType::kBf16;
  uint32_t layers = 0;
  uint32_t heads = 0;
  uint32_t tokens = 0;
  uint32_t dim = 0;
  std::vector<uint8_t> bytes;

  uint64_t RowBytes() const { return uint64_t{dim} * DTypeBytes(dtype); }
};

struct Tile {
  TileGeometry geometry;
  ByteSpan rows;
};

Isa ParseIsa(const std::string& name) {
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (IsaName(isa) != name) continue;
    if (!IsaSupported(isa)) Fail("this machine or build has no " + name);
    return isa;
  }
  Fail("no instruction set is called " + name);
}

void Load(const std::string& path, Kv& kv) {
  kv.bytes.resize(2 * uint64_t{kv.layers} * kv.heads * kv.tokens * kv.RowBytes());
  if (path == "synthetic") {
    FillWithSyntheticKv(kSyntheticSeed, kv.bytes.data(), kv.bytes.size());
    return;
  }
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(kv.bytes.data()), static_cast<std::streamsize>(kv.bytes.size()))) {
    Fail(path + " does not hold " + std::to_string(kv.bytes.size()) + " bytes");
  }
}

// The tiles of tokens [begin, begin + count), in the order of a container's sections.
std::vector<Tile> TilesOf(const Kv& kv, uint32_t begin, uint32_t count) {
  std::vector<Tile> tiles;
  const uint64_t plane_bytes = kv.tokens * kv.RowBytes();
  for (uint32_t layer = 0; layer < kv.layers; ++layer) {
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      for (uint32_t head = 0; head < kv.heads; ++head) {
        Tile tile;
        tile.geometry = {kv.dtype, count, kv.dim, static_cast<uint16_t>(layer), static_cast<uint16_t>(head), kind};
        const uint64_t plane = (uint64_t{layer} * 2 + static_cast<uint64_t>(kind)) * kv.heads + head;
        tile.rows = ByteSpan(kv.bytes).subspan(plane * plane_bytes + begin * kv.RowBytes(), count * kv.RowBytes());
        tiles.push_back(tile);
      }
    }
  }
  return tiles;
}

std::vector<Tile> AllTiles(const Kv& kv) {
  std::vector<Tile> tiles;
  for (uint32_t begin = 0; begin < kv.tokens; begin += kTileTokens) {
    const std::vector<Tile> chunk = TilesOf(kv, begin, std::min(kTileTokens, kv.tokens - begin));
    tiles.insert(tiles.end(), chunk.begin(), chunk.end());
  }
  return tiles;
}

struct CodedTile {
  ProfileId profile;
  std::vector<uint8_t> bytes;
};

CodedTile EncodeTile(TileEncoder& encoder, const Tile& tile) {
  CodedTile coded;
  coded.profile = Check(encoder.Encode(tile.geometry, tile.rows, ProfileId::kLossless, coded.bytes));
  return coded;
}

void DecodeTile(TileDecoder& decoder, const Tile& tile, const CodedTile& coded, MutableByteSpan rows) {
  const absl::Status status =
      decoder.Decode(tile.geometry, coded.profile, coded.bytes, rows.first(tile.geometry.raw_bytes()));
  if (!status.ok()) Fail(status.ToString());
}

// Runs `one_tile(i)` over all tiles again and again, and prints bytes of KV and CPU seconds.
template <typename Function>
void Repeat(const std::vector<Tile>& tiles, std::chrono::milliseconds duration, Function one_tile) {
  const double cpu_begin = CpuSeconds(0);
  uint64_t raw_bytes = 0;
  const Clock::time_point deadline = Clock::now() + duration;
  for (size_t i = 0; raw_bytes == 0 || Clock::now() < deadline; i = (i + 1) % tiles.size()) {
    one_tile(i);
    raw_bytes += tiles[i].geometry.raw_bytes();
  }
  std::printf("{\"raw_bytes\": %llu, \"cpu_s\": %.6f}\n", static_cast<unsigned long long>(raw_bytes),
              CpuSeconds(0) - cpu_begin);
}

void Measure(const std::vector<Tile>& tiles, const std::string& action, Isa isa, std::chrono::milliseconds duration) {
  TileEncoder encoder({}, isa);
  TileDecoder decoder({}, isa);
  // Tiles are decoded into rotating places, as into an engine's cache.
  std::vector<uint8_t> rows;
  for (const Tile& tile : tiles) rows.resize(rows.size() + tile.geometry.raw_bytes());
  const uint64_t stride = tiles[0].geometry.raw_bytes();
  const auto place = [&](size_t i) { return MutableByteSpan(rows).subspan(i * stride, tiles[i].geometry.raw_bytes()); };
  if (action == "copy") {
    Repeat(tiles, duration,
           [&](size_t i) { std::memcpy(place(i).data(), tiles[i].rows.data(), tiles[i].rows.size()); });
    return;
  }
  if (action == "encode") {
    std::vector<uint8_t> out;
    Repeat(tiles, duration, [&](size_t i) {
      out.clear();
      Check(encoder.Encode(tiles[i].geometry, tiles[i].rows, ProfileId::kLossless, out));
    });
    return;
  }
  if (action != "decode") Fail("bench_codec has no action " + action);
  std::vector<CodedTile> coded;
  for (const Tile& tile : tiles) coded.push_back(EncodeTile(encoder, tile));
  for (size_t i = 0; i < tiles.size(); ++i) {
    DecodeTile(decoder, tiles[i], coded[i], place(i));
    if (std::memcmp(place(i).data(), tiles[i].rows.data(), tiles[i].rows.size()) != 0) Fail("a tile came back changed");
  }
  Repeat(tiles, duration, [&](size_t i) { DecodeTile(decoder, tiles[i], coded[i], place(i)); });
}

uint64_t ContainerBytes(const Kv& kv, uint32_t begin, TileEncoder& encoder) {
  const uint32_t count = std::min(kTileTokens, kv.tokens - begin);
  ContainerHeader header;
  header.token_begin = begin;
  header.num_tokens = count;
  header.dtype = kv.dtype;
  header.tile_tokens = kTileTokens;
  header.cells = CellSet::All(kv.layers * kv.heads);  // one layer a band: more cells than bands of 4 MiB would give
  ContainerBuilder builder(std::move(header));
  for (const Tile& tile : TilesOf(kv, begin, count)) {
    SectionEntry section;
    section.layer = tile.geometry.layer;
    section.kind = static_cast<SectionKind>(tile.geometry.kind);
    section.head_begin = tile.geometry.head;
    builder.BeginSection(section);
    const CodedTile coded = EncodeTile(encoder, tile);
    builder.AddTile(coded.profile, coded.bytes);
  }
  return Check(std::move(builder).Finish()).size();
}

void MeasureContainers(const Kv& kv, Isa isa) {
  TileEncoder encoder({}, isa);
  uint64_t container_bytes = 0;
  for (uint32_t begin = 0; begin < kv.tokens; begin += kTileTokens) {
    container_bytes += ContainerBytes(kv, begin, encoder);
  }
  std::printf("{\"raw_bytes\": %zu, \"container_bytes\": %llu}\n", kv.bytes.size(),
              static_cast<unsigned long long>(container_bytes));
}

}  // namespace
}  // namespace kdn::bench

int main(int argc, char** argv) {
  using namespace kdn::bench;
  if (argc != 10) {
    std::fprintf(stderr, "usage: bench_codec FILE DTYPE LAYERS HEADS TOKENS DIM ACTION ISA MILLISECONDS\n");
    return 2;
  }
  Kv kv;
  const auto dtype = kdn::ParseDType(argv[2]);
  if (!dtype) Fail(std::string("no dtype ") + argv[2]);
  kv.dtype = *dtype;
  kv.layers = static_cast<uint32_t>(std::stoul(argv[3]));
  kv.heads = static_cast<uint32_t>(std::stoul(argv[4]));
  kv.tokens = static_cast<uint32_t>(std::stoul(argv[5]));
  kv.dim = static_cast<uint32_t>(std::stoul(argv[6]));
  Load(argv[1], kv);
  const std::string action = argv[7];
  if (action == "containers") {
    MeasureContainers(kv, ParseIsa(argv[8]));
  } else {
    Measure(AllTiles(kv), action, ParseIsa(argv[8]), std::chrono::milliseconds(std::stoi(argv[9])));
  }
  return 0;
}
