#include "client/kdnctl/bench_objects.h"

#include <algorithm>
#include <random>

#include "kernels/base/status.h"
#include "kernels/chunk/chunker.h"
#include "kernels/format/container.h"

namespace kdn::ctl {
namespace {

constexpr uint32_t kTokens = 256;
constexpr uint32_t kHeadDim = 256;

ModelSpec MadeUpSpec(uint64_t layers, uint64_t seed) {
  ModelSpec spec;
  spec.weights_digest = Sha256::Of(AsBytes(StrCat("kdnctl bench ", seed)));
  spec.tokenizer_digest = Sha256::Of(AsBytes("kdnctl bench"));
  spec.dtype = DType::kBf16;
  spec.ropes.resize(1);
  spec.layers.assign(layers, {AttentionKind::kFull, 0, 1, kHeadDim, kHeadDim, 0});
  return spec;
}

}  // namespace

BenchObjects::BenchObjects(uint64_t chunk_bytes, uint32_t chunks, uint64_t seed)
    : spec_(MadeUpSpec(std::clamp<uint64_t>(chunk_bytes / kBenchPlaneBytes, 1, kMaxLayers), seed)) {
  std::vector<uint32_t> tokens(size_t{chunks} * kTokens);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint32_t>(i);
  const ChunkingContext context{FingerprintOf(spec_), kTokens, {}};
  // Segments stand for themselves, so that workers may store them in any order.
  for (const ChunkId& chunk : SegmentChunks(context, ContextDigest(context, {}), 0, tokens)) {
    digests_.push_back(chunk.digest);
    containers_.push_back(MakeContainer(chunk.digest, chunk.begin, seed + digests_.size()));
  }
}

std::vector<uint8_t> BenchObjects::MakeContainer(const Digest& digest, uint64_t token_begin, uint64_t seed) const {
  const CellMap cells(spec_, kTokens);
  ContainerHeader header;
  header.fingerprint = FingerprintOf(spec_);
  header.chunk_digest = digest;
  header.token_begin = token_begin;
  header.num_tokens = kTokens;
  header.dtype = spec_.dtype;
  header.tile_tokens = kTokens;
  header.cells = CellSet::All(cells.num_cells());
  ContainerBuilder builder(header);
  std::mt19937_64 rng(seed);
  std::vector<uint8_t> tile(size_t{kTokens} * kHeadDim * DTypeBytes(spec_.dtype));
  const auto num_layers = static_cast<uint16_t>(spec_.layers.size());
  for (uint16_t layer = 0; layer < num_layers; ++layer) {
    for (const SectionKind kind : {SectionKind::kK, SectionKind::kV}) {
      for (size_t at = 0; at < tile.size(); at += sizeof(uint64_t)) StoreLe<uint64_t>(rng(), tile.data() + at);
      builder.BeginSection({.layer = layer, .kind = kind});
      builder.AddTile(ProfileId::kRaw, tile);
    }
  }
  // The builder refuses only what breaks its limits, which the constants above keep.
  return std::move(builder).Finish().value();
}

}  // namespace kdn::ctl
