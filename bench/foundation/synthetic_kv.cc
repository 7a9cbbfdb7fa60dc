#include "bench/foundation/synthetic_kv.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <string>

#include "bench/common/measure.h"
#include "kernels/base/sha256.h"

namespace kdn::bench {
namespace {

constexpr uint32_t kMaxHeads = 8;
constexpr uint64_t kHeadBytes = uint64_t{kChunkTokens} * kHeadDim * 2;  // K or V of one head of one layer

uint16_t ToBf16(float value) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16); }

}  // namespace

ModelSpec SpecOfChunkBytes(uint64_t chunk_bytes) {
  const uint64_t heads_in_all = chunk_bytes / (2 * kHeadBytes);
  const uint64_t heads = heads_in_all < kMaxHeads ? heads_in_all : kMaxHeads;
  if (heads == 0 || heads * 2 * kHeadBytes * (heads_in_all / heads) != chunk_bytes) {
    Fail("no model has chunks of " + std::to_string(chunk_bytes) + " bytes");
  }
  const std::string name = "benchmark " + std::to_string(chunk_bytes);
  ModelSpec spec;
  spec.weights_digest = Sha256::Of(AsBytes(name + " weights"));
  spec.tokenizer_digest = Sha256::Of(AsBytes(name + " tokenizer"));
  spec.ropes.push_back({RopeStyle::kHalfSplit, kHeadDim, 0, std::vector<float>(kHeadDim / 2, 0.01f), 1.0f});
  LayerSpec layer;
  layer.num_kv_heads = static_cast<uint32_t>(heads);
  layer.k_head_dim = kHeadDim;
  layer.v_head_dim = kHeadDim;
  spec.layers.assign(heads_in_all / heads, layer);
  return spec;
}

KvView ViewOfChunk(const ModelSpec& spec, uint8_t* data) {
  const uint32_t heads = spec.layers[0].num_kv_heads;
  KvPlane plane;
  plane.token_stride_bytes = int64_t{heads} * kHeadDim * 2;
  plane.head_stride_bytes = int64_t{kHeadDim} * 2;
  plane.channel_stride_bytes = 2;
  KvView view;
  view.num_tokens = kChunkTokens;
  view.head_count = heads;
  for (uint32_t layer = 0; layer < spec.layers.size(); ++layer) {
    KvLayerView layer_view;
    layer_view.layer = layer;
    layer_view.k = plane;
    layer_view.k.data = data + 2 * layer * heads * kHeadBytes;
    layer_view.v = plane;
    layer_view.v.data = layer_view.k.data + heads * kHeadBytes;
    view.layers.push_back(layer_view);
  }
  return view;
}

void FillWithSyntheticKv(uint64_t seed, uint8_t* data, uint64_t size) {
  // Drawing a normal variate for each of 128 million elements takes long: a table of them is sampled instead.
  constexpr size_t kTableSize = 1 << 16;
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> table(kTableSize);
  for (float& value : table) value = normal(random);
  std::array<float, kHeadDim> scales;
  for (float& scale : scales) scale = std::exp(normal(random));
  uint64_t state = seed * 2 + 1;
  for (uint64_t element = 0; element < size / 2; ++element) {
    state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's linear congruential generator
    const uint16_t value = ToBf16(table[state >> 48] * scales[element % kHeadDim]);
    std::memcpy(data + 2 * element, &value, sizeof(value));
  }
}

std::vector<uint32_t> TokensOfChunk(uint64_t number) {
  std::vector<uint32_t> tokens(kChunkTokens);
  for (uint32_t i = 0; i < kChunkTokens; ++i) tokens[i] = i;
  tokens[0] = static_cast<uint32_t>(number);
  tokens[1] = static_cast<uint32_t>(number >> 32);
  return tokens;
}

}  // namespace kdn::bench
