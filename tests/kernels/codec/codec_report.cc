// Measures a profile (lossless if none is named) on dumps of real KV and prints the tables of kernels/codec/README.md.
//
//   codec_report [--profile NAME] [--tile-tokens N] [--dtype NAME] [--isa NAME] [--containers] K.npy V.npy ...
//   codec_report --profile transform --object FILE [--step D] [--tile-tokens N] [--isa NAME] K.npy V.npy ...
//
// Profile transform takes a calibration object, whatever model it names, at the step D or at each of its levels; rows
// of class 0. K is unrotated by SmolLM2's embedding.
//
// A dump is a NumPy file of bf16 bit patterns, uint16 [layer][KV head][token][dim]. Other dtypes are made from it by
// rounding to nearest even. Bytes count everything: the tile, its padding to 16 bytes, a section entry and a tile
// entry.
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/row_importance.h"
#include "kernels/codec/row_kernels.h"
#include "kernels/codec/section_rows.h"
#include "kernels/codec/transform_tile.h"
#include "tests/kernels/codec/float_cast.h"

namespace kdn {
namespace {

constexpr size_t kDirectoryBytesPerTile = 31;
constexpr int kRepeats = 3;

struct Dump {
  uint32_t layers = 0;
  uint32_t heads = 0;
  uint32_t tokens = 0;
  uint32_t dim = 0;
  std::vector<uint16_t> values;
};

Dump LoadDump(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  Dump dump;
  const size_t header_bytes =
      bytes.size() < 10 ? 0 : 10 + static_cast<uint8_t>(bytes[8]) + 256 * static_cast<uint8_t>(bytes[9]);
  const std::string header(bytes.begin(), bytes.begin() + std::min(header_bytes, bytes.size()));
  const size_t shape = header.find("'shape': (");
  if (shape == std::string::npos || std::sscanf(header.c_str() + shape, "'shape': (%u, %u, %u, %u)", &dump.layers,
                                                &dump.heads, &dump.tokens, &dump.dim) != 4) {
    std::fprintf(stderr, "%s is no dump\n", path.c_str());
    std::exit(1);
  }
  dump.values.resize((bytes.size() - header_bytes) / 2);
  std::memcpy(dump.values.data(), bytes.data() + header_bytes, dump.values.size() * 2);
  return dump;
}

struct Tile {
  TileGeometry geometry;
  std::vector<uint8_t> rows;
};

std::vector<Tile> CutTiles(const Dump& dump, KvKind kind, DType dtype, uint32_t tile_tokens) {
  std::vector<Tile> tiles;
  for (uint32_t plane = 0; plane < dump.layers * dump.heads; ++plane) {
    for (uint32_t first = 0; first < dump.tokens; first += tile_tokens) {
      Tile tile;
      tile.geometry = {dtype,
                       std::min(tile_tokens, dump.tokens - first),
                       dump.dim,
                       static_cast<uint16_t>(plane / dump.heads),
                       static_cast<uint16_t>(plane % dump.heads),
                       kind};
      tile.rows.resize(tile.geometry.raw_bytes());
      const uint16_t* in = dump.values.data() + (static_cast<size_t>(plane) * dump.tokens + first) * dump.dim;
      for (uint32_t i = 0; i < tile.geometry.elements(); ++i) {
        StoreCast(dtype, in[i], tile.rows.data() + static_cast<size_t>(i) * DTypeBytes(dtype));
      }
      tiles.push_back(std::move(tile));
    }
  }
  return tiles;
}

struct Totals {
  double raw_bytes = 0;
  double tile_bytes = 0;    // tiles alone
  double stored_bytes = 0;  // with padding and directory
  double encode_seconds = 1e30;
  double decode_seconds = 1e30;
  double copy_seconds = 1e30;  // memcpy of what decoding writes
  size_t tiles = 0;
  size_t other_tiles = 0;  // that fell back to another profile
};

// Processor time of this thread: what other work on the machine does not add to.
double Seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

bool IsExact(ProfileId profile) { return profile == ProfileId::kRaw || profile == ProfileId::kLossless; }

void Fail(const char* what, size_t tile) {
  std::fprintf(stderr, "tile %zu %s\n", tile, what);
  std::exit(1);
}

Totals Measure(const std::vector<Tile>& tiles, ProfileId profile, Isa isa) {
  Totals totals;
  std::vector<std::vector<uint8_t>> coded(tiles.size());
  std::vector<ProfileId> profiles(tiles.size());
  TileEncoder encoder({}, isa);
  TileDecoder decoder({}, isa);
  // Tiles are decoded into places of their own, as into an engine's cache.
  std::vector<size_t> offsets;
  size_t raw_bytes = 0;
  for (const Tile& tile : tiles) {
    offsets.push_back(raw_bytes);
    raw_bytes += tile.rows.size();
  }
  std::vector<uint8_t> rows(raw_bytes);
  const auto place = [&](size_t i) { return MutableByteSpan(rows).subspan(offsets[i], tiles[i].rows.size()); };
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    for (auto& tile : coded) tile.clear();
    double start = Seconds();
    for (size_t i = 0; i < tiles.size(); ++i) {
      profiles[i] = encoder.Encode(tiles[i].geometry, tiles[i].rows, profile, coded[i]).value();
    }
    totals.encode_seconds = std::min(totals.encode_seconds, Seconds() - start);
    start = Seconds();
    for (size_t i = 0; i < tiles.size(); ++i) std::memcpy(place(i).data(), tiles[i].rows.data(), tiles[i].rows.size());
    totals.copy_seconds = std::min(totals.copy_seconds, Seconds() - start);
    start = Seconds();
    for (size_t i = 0; i < tiles.size(); ++i) {
      if (!decoder.Decode(tiles[i].geometry, profiles[i], coded[i], place(i)).ok()) Fail("does not decode", i);
    }
    totals.decode_seconds = std::min(totals.decode_seconds, Seconds() - start);
    for (size_t i = 0; i < tiles.size(); ++i) {
      const bool exact = std::memcmp(place(i).data(), tiles[i].rows.data(), tiles[i].rows.size()) == 0;
      if (!exact && IsExact(profiles[i])) Fail("does not round-trip", i);
    }
  }
  for (size_t i = 0; i < tiles.size(); ++i) {
    totals.raw_bytes += static_cast<double>(tiles[i].rows.size());
    totals.tile_bytes += static_cast<double>(coded[i].size());
    totals.stored_bytes += static_cast<double>(AlignUp(coded[i].size(), 16) + kDirectoryBytesPerTile);
    totals.other_tiles += profiles[i] != profile;
  }
  totals.tiles = tiles.size();
  return totals;
}

struct Options {
  bool containers = false;
  std::string object;  // profile transform
  std::optional<int> step;
  ProfileId profile = ProfileId::kLossless;
  uint32_t tile_tokens = 256;
  std::string dtype;  // empty: all
  std::string isa;    // empty: all
  std::vector<std::string> paths;
};

void Report(const Options& options) {
  const std::vector<std::string>& paths = options.paths;
  std::printf(
      "dtype     isa     ratio(tiles) ratio(all bytes) K      V      other tiles  encode GB/s  decode GB/s  memcpy "
      "GB/s  "
      "decode/memcpy\n");
  for (const DType dtype : {DType::kBf16, DType::kFp16, DType::kFp8E4M3, DType::kFp8E5M2, DType::kFp32}) {
    if (!options.dtype.empty() && options.dtype != DTypeName(dtype)) continue;
    if (!CheckEncodable(options.profile, dtype).ok()) continue;
    std::vector<Tile> tiles[2];
    for (size_t i = 0; i < paths.size(); ++i) {
      const auto kind = static_cast<KvKind>(i % 2);
      for (Tile& tile : CutTiles(LoadDump(paths[i]), kind, dtype, options.tile_tokens))
        tiles[i % 2].push_back(std::move(tile));
    }
    for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
      if (!IsaSupported(isa) || (!options.isa.empty() && options.isa != IsaName(isa))) continue;
      const Totals k = Measure(tiles[0], options.profile, isa);
      const Totals v = Measure(tiles[1], options.profile, isa);
      const double raw = k.raw_bytes + v.raw_bytes;
      std::printf("%-9s %-7s %-12.4f %-16.4f %-6.3f %-6.3f %zu/%zu  %-12.2f %-12.2f %-12.2f %.2f\n",
                  std::string(DTypeName(dtype)).c_str(), std::string(IsaName(isa)).c_str(),
                  raw / (k.tile_bytes + v.tile_bytes), raw / (k.stored_bytes + v.stored_bytes),
                  k.raw_bytes / k.stored_bytes, v.raw_bytes / v.stored_bytes, k.other_tiles + v.other_tiles,
                  k.tiles + v.tiles, raw / (k.encode_seconds + v.encode_seconds) / 1e9,
                  raw / (k.decode_seconds + v.decode_seconds) / 1e9, raw / (k.copy_seconds + v.copy_seconds) / 1e9,
                  (k.copy_seconds + v.copy_seconds) / (k.decode_seconds + v.decode_seconds));
      std::fflush(stdout);
    }
  }
}

ModelSpec SpecOf(const Dump& dump) {
  ModelSpec spec;
  spec.weights_digest = Sha256::Of(AsBytes("weights"));
  spec.tokenizer_digest = Sha256::Of(AsBytes("tokenizer"));
  // SmolLM2's embedding, for profiles that store K before it.
  spec.ropes = {RopeSpec{RopeStyle::kHalfSplit, dump.dim, 0, {}, 1.0f}};
  for (uint32_t i = 0; i < dump.dim / 2; ++i) {
    spec.ropes[0].inv_freq.push_back(static_cast<float>(std::pow(100000.0, -2.0 * i / dump.dim)));
  }
  spec.layers.assign(dump.layers, {AttentionKind::kFull, 0, dump.heads, dump.dim, dump.dim, 0});
  return spec;
}

// The dump as the cache it was taken from: [layer][head][token][dim].
KvView DumpView(Dump& k, Dump& v) {
  KvView view;
  view.num_tokens = k.tokens;
  view.head_count = k.heads;
  const auto plane = [](Dump& dump, uint32_t layer) {
    KvPlane plane;
    const int64_t row = int64_t{2} * dump.dim;
    plane.data = reinterpret_cast<uint8_t*>(dump.values.data()) + layer * dump.heads * dump.tokens * row;
    plane.token_stride_bytes = row;
    plane.head_stride_bytes = row * dump.tokens;
    plane.channel_stride_bytes = 2;
    return plane;
  };
  for (uint32_t layer = 0; layer < k.layers; ++layer)
    view.layers.push_back({layer, 0, plane(k, layer), plane(v, layer)});
  return view;
}

constexpr uint32_t kBlockTokens = 16;

// A paged cache of the dump's size with its blocks in descending order.
struct PagedCache {
  explicit PagedCache(const Dump& dump) {
    const int64_t row = int64_t{2} * dump.dim;
    const int64_t block = row * dump.heads * kBlockTokens;
    blocks.resize(CeilDiv(dump.tokens, kBlockTokens));
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int32_t>(blocks.size() - 1 - i);
    memory.resize(block * blocks.size() * dump.layers * 2);
    view.num_tokens = dump.tokens;
    view.head_count = dump.heads;
    view.block_table = {blocks, kBlockTokens};
    uint8_t* at = memory.data();
    const auto plane = [&] {
      const KvPlane plane = {at, row * dump.heads, row, 2, block};
      at += block * static_cast<int64_t>(blocks.size());
      return plane;
    };
    for (uint32_t layer = 0; layer < dump.layers; ++layer) {
      const KvPlane k = plane();
      view.layers.push_back({layer, 0, k, plane()});
    }
  }
  std::vector<int32_t> blocks;
  std::vector<uint8_t> memory;
  KvView view;
};

// The object of a file, under `spec`, whatever model it names.
std::shared_ptr<const TransformObject> LoadObject(const std::string& path, const ModelSpec& spec) {
  std::ifstream in(path, std::ios::binary);
  std::vector<uint8_t> bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  constexpr size_t kFingerprintOffset = 8;
  const Fingerprint fingerprint = FingerprintOf(spec);
  if (bytes.size() > kFingerprintOffset + Digest::kBytes) {
    std::copy(fingerprint.bytes.begin(), fingerprint.bytes.end(), bytes.begin() + kFingerprintOffset);
  }
  auto object = TransformObject::Parse(bytes, spec);
  if (!object.ok()) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), std::string(object.status().message()).c_str());
    std::exit(1);
  }
  return *std::move(object);
}

// What containers at profile transform need beside the KV.
struct TransformWorld {
  TransformWorld(const Options& options, const ModelSpec& spec, const KvView& view)
      : object(LoadObject(options.object, spec)) {
    objects.Add(object);
    tables.transforms = &objects;
    for (uint32_t group = 0; group < object->groups().size(); ++group) {
      for (uint32_t base = 0; base < object->groups()[group].bases.size(); ++base) object->Analysis(group, base);
    }
    const double start = Seconds();
    classes = ClassesFromQueries(spec, *object, view, 0).value();
    importance_seconds = Seconds() - start;
    choice.object = object.get();
    choice.step = options.step.value_or(object->levels()[0].step);
    choice.row_classes = classes;
  }

  std::shared_ptr<const TransformObject> object;
  TransformObjects objects;
  CodecTables tables;
  RowClasses classes;
  TransformChoice choice;
  double importance_seconds = 0;
};

void ReportContainers(const Options& options) {
  double importance_seconds = 0;
  double raw_bytes = 0;
  double container_bytes = 0;
  double encode_seconds = 0;
  double decode_seconds = 0;
  for (size_t pair = 0; pair < options.paths.size(); pair += 2) {
    Dump k = LoadDump(options.paths[pair]);
    Dump v = LoadDump(options.paths[pair + 1]);
    const ModelSpec spec = SpecOf(k);
    const CellMap cells(spec, 256);
    const KvView source = DumpView(k, v);
    std::optional<TransformWorld> transform;
    if (options.profile == ProfileId::kTransform) {
      transform.emplace(options, spec, source);
      importance_seconds += transform->importance_seconds;
    }
    const TransformChoice* choice = transform.has_value() ? &transform->choice : nullptr;
    const CodecTables tables = transform.has_value() ? transform->tables : CodecTables{};
    PagedCache cache(k);
    for (uint32_t token = 0; token < k.tokens; token += 256) {
      ContainerHeader header;
      header.fingerprint = FingerprintOf(spec);
      header.chunk_digest = Sha256::Of(AsBytes("chunk"));
      header.token_begin = token;
      header.num_tokens = std::min<uint32_t>(256, k.tokens - token);
      header.tile_tokens = DefaultTileTokens(spec, options.profile);
      header.rope_state = StoredRopeState(options.profile);
      header.cells = CellSet::All(cells.num_cells());
      double start = Seconds();
      const auto container = EncodeChunk(spec, cells, header, {&source, token, choice}, options.profile).value();
      encode_seconds += Seconds() - start;
      const ContainerHeader parsed = ParseContainerHeader(container).value();
      start = Seconds();
      const absl::Status status = DecodeContainer(spec, parsed, ByteSpan(container).subspan(parsed.header_bytes),
                                                  {&cache.view, token, 0, header.num_tokens}, tables);
      decode_seconds += Seconds() - start;
      if (!status.ok()) std::exit(1);
      container_bytes += static_cast<double>(container.size());
      raw_bytes += static_cast<double>(ViewBytes(spec, source, token, header.num_tokens));
    }
  }
  std::printf("containers: ratio %.4f, encode %.2f GB/s, decode into pages %.2f GB/s\n", raw_bytes / container_bytes,
              raw_bytes / encode_seconds / 1e9, raw_bytes / decode_seconds / 1e9);
  if (importance_seconds > 0) std::printf("row classes: %.2f GB/s\n", raw_bytes / importance_seconds / 1e9);
}

// The tiles of one dump pair at profile transform: fp32 rows of each group and base.
class TransformReport {
 public:
  TransformReport(const Options& options, Dump k, Dump v)
      : options_(options), k_(std::move(k)), v_(std::move(v)), spec_(SpecOf(k_)) {
    object_ = LoadObject(options.object, spec_);
  }

  const TransformObject& object() const { return *object_; }

  // Adds bytes to `totals`, `energy` and `error` (squared), and sets its seconds.
  void Measure(int step, Isa isa, Totals& totals, double& energy, double& error) {
    TransformTileEncoder encoder(isa);
    TransformTileDecoder decoder(isa);
    double encode_seconds = 0;
    double decode_seconds = 0;
    for (uint32_t group = 0; group < object_->groups().size(); ++group) {
      for (uint32_t base = 0; base < object_->groups()[group].bases.size(); ++base) object_->Analysis(group, base);
      for (uint32_t first = 0; first < k_.tokens; first += options_.tile_tokens) {
        TransformTileInput input;
        input.tokens = std::min(options_.tile_tokens, k_.tokens - first);
        input.group = group;
        input.step = step;
        input.sink_rows = codec_internal::SinkRows(first, input.tokens, codec_internal::kTransformSinkPositions);
        const auto rows = Rows(object_->groups()[group], first, input.tokens);
        for (size_t base = 0; base < rows.size(); ++base) input.rows[base] = rows[base];
        std::vector<uint8_t> coded;
        double start = Seconds();
        if (!encoder.Encode(*object_, input, coded).ok()) Fail("does not encode", group);
        encode_seconds += Seconds() - start;
        start = Seconds();
        if (!decoder.Open(object_->groups()[group], DType::kBf16, input.tokens, coded).ok()) {
          Fail("does not decode", group);
        }
        for (uint32_t base = 0; base < rows.size(); ++base) {
          const uint32_t width = object_->groups()[group].bases[base].width;
          decoded_[base].resize(rows[base].size());
          elements_.resize(rows[base].size() * 2);
          decoder.Rows({base, 0, input.tokens, 0, width, decoded_[base].data(), width});
          codec_internal::RowKernelsFor(isa).narrow(DType::kBf16, decoded_[base].data(), rows[base].size(),
                                                    elements_.data());
        }
        decode_seconds += Seconds() - start;
        for (size_t base = 0; base < rows.size(); ++base) {
          for (size_t i = 0; i < rows[base].size(); ++i) {
            const double off = double{decoded_[base][i]} - rows[base][i];
            error += off * off;
            energy += double{rows[base][i]} * rows[base][i];
          }
          totals.raw_bytes += 2.0 * static_cast<double>(rows[base].size());
        }
        totals.tile_bytes += static_cast<double>(coded.size());
        totals.stored_bytes += static_cast<double>(AlignUp(coded.size(), 16) + kDirectoryBytesPerTile);
        ++totals.tiles;
      }
    }
    totals.encode_seconds = encode_seconds;
    totals.decode_seconds = decode_seconds;
  }

 private:
  std::vector<std::vector<float>> Rows(const TransformGroup& group, uint32_t first, uint32_t tokens) {
    std::vector<std::vector<float>> rows;
    const RopeTable rope(spec_.ropes[0], RopeDirection::kUnrotate, first, tokens);
    for (const TransformBase& base : group.bases) {
      std::vector<float>& values = rows.emplace_back(size_t{tokens} * base.width);
      for (const TransformSlice& slice : base.slices) {
        const Dump& dump = slice.kind == KvKind::kK ? k_ : v_;
        const uint16_t* in =
            dump.values.data() + ((size_t{slice.layer} * dump.heads + slice.head) * dump.tokens + first) * dump.dim;
        for (uint32_t token = 0; token < tokens; ++token) {
          for (uint32_t i = 0; i < slice.dim; ++i) {
            values[size_t{token} * base.width + slice.channel + i] = WidenBf16(in[size_t{token} * dump.dim + i]);
          }
        }
        if (slice.kind == KvKind::kK) rope.Apply(BestIsa(), 0, tokens, base.width, values.data() + slice.channel);
      }
    }
    return rows;
  }

  const Options& options_;
  Dump k_;
  Dump v_;
  ModelSpec spec_;
  std::shared_ptr<const TransformObject> object_;
  std::vector<float> decoded_[2];
  std::vector<uint8_t> elements_;
};

void ReportTransform(const Options& options) {
  std::vector<std::unique_ptr<TransformReport>> reports;
  for (size_t i = 0; i < options.paths.size(); i += 2) {
    reports.push_back(
        std::make_unique<TransformReport>(options, LoadDump(options.paths[i]), LoadDump(options.paths[i + 1])));
  }
  std::vector<int> steps;
  if (options.step.has_value()) steps.push_back(*options.step);
  for (const TransformLevel& level : reports[0]->object().levels()) {
    if (!options.step.has_value()) steps.push_back(level.step);
  }
  std::printf("step  isa     ratio(tiles) ratio(all bytes) relative error  encode GB/s  decode GB/s\n");
  for (const int step : steps) {
    for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
      if (!IsaSupported(isa) || (!options.isa.empty() && options.isa != IsaName(isa))) continue;
      Totals best;
      double energy = 0;
      double error = 0;
      for (int repeat = 0; repeat < kRepeats; ++repeat) {
        Totals sum;
        sum.encode_seconds = sum.decode_seconds = 0;
        energy = error = 0;
        for (const auto& report : reports) {
          Totals one = sum;
          report->Measure(step, isa, one, energy, error);
          one.encode_seconds += sum.encode_seconds;
          one.decode_seconds += sum.decode_seconds;
          sum = one;
        }
        sum.encode_seconds = std::min(sum.encode_seconds, best.encode_seconds);
        sum.decode_seconds = std::min(sum.decode_seconds, best.decode_seconds);
        best = sum;
      }
      std::printf("%-5d %-7s %-12.3f %-16.3f %-15.5f %-12.3f %.3f\n", step, std::string(IsaName(isa)).c_str(),
                  best.raw_bytes / best.tile_bytes, best.raw_bytes / best.stored_bytes, error / energy,
                  best.raw_bytes / best.encode_seconds / 1e9, best.raw_bytes / best.decode_seconds / 1e9);
      std::fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace kdn

int main(int argc, char** argv) {
  kdn::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--tile-tokens" && i + 1 < argc) {
      options.tile_tokens = static_cast<uint32_t>(std::atoi(argv[++i]));
    } else if (argument == "--dtype" && i + 1 < argc) {
      options.dtype = argv[++i];
    } else if (argument == "--isa" && i + 1 < argc) {
      options.isa = argv[++i];
    } else if (argument == "--profile" && i + 1 < argc) {
      const std::optional<kdn::ProfileId> profile = kdn::ParseProfile(argv[++i]);
      const bool known =
          profile.has_value() && (kdn::CheckEncodable(*profile).ok() || *profile == kdn::ProfileId::kTransform);
      if (!known) {
        std::fprintf(stderr, "codec_report: profiles are %s\n", kdn::EncodableProfileNames().c_str());
        return 1;
      }
      options.profile = *profile;
    } else if (argument == "--object" && i + 1 < argc) {
      options.object = argv[++i];
    } else if (argument == "--step" && i + 1 < argc) {
      options.step = std::atoi(argv[++i]);
    } else if (argument == "--containers") {
      options.containers = true;
    } else {
      options.paths.push_back(argument);
    }
  }
  if (options.profile == kdn::ProfileId::kTransform && options.object.empty()) {
    std::fprintf(stderr, "codec_report: profile transform needs --object FILE\n");
    return 1;
  }
  if (options.paths.empty() || options.paths.size() % 2 != 0 || options.tile_tokens < 1 ||
      options.tile_tokens > kdn::kMaxTileTokens) {
    std::fprintf(stderr,
                 "usage: codec_report [--profile NAME] [--tile-tokens N] [--dtype NAME] [--isa NAME] [--containers] "
                 "K.npy V.npy ...\n");
    return 1;
  }
  if (options.profile == kdn::ProfileId::kTransform && !options.containers) {
    kdn::ReportTransform(options);
    return 0;
  }
  options.containers ? kdn::ReportContainers(options) : kdn::Report(options);
  return 0;
}
