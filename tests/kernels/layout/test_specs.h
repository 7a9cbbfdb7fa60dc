#ifndef KDN_TESTS_KERNELS_LAYOUT_TEST_SPECS_H_
#define KDN_TESTS_KERNELS_LAYOUT_TEST_SPECS_H_

#include <random>
#include <string>

#include "kernels/base/bytes.h"
#include "kernels/layout/model_spec.h"

// Model specs for tests: shapes of real model families, with made-up digests.

namespace kdn::testing {

inline RopeSpec PlainRope(uint32_t rotary_dim, float theta_step = 0.9f) {
  RopeSpec rope{RopeStyle::kHalfSplit, rotary_dim, 0, {}, 1.0f};
  float freq = 1.0f;
  for (uint32_t i = 0; i < rotary_dim / 2; ++i, freq *= theta_step) rope.inv_freq.push_back(freq);
  return rope;
}

inline ModelSpec SpecWithoutLayers(DType dtype, uint32_t rotary_dim) {
  ModelSpec spec;
  spec.weights_digest = Sha256::Of(AsBytes("weights"));
  spec.tokenizer_digest = Sha256::Of(AsBytes("tokenizer"));
  spec.dtype = dtype;
  spec.ropes = {PlainRope(rotary_dim)};
  return spec;
}

// Llama-like: `layers` equal full-attention layers.
inline ModelSpec FullAttentionSpec(uint32_t layers, uint32_t kv_heads, uint32_t head_dim, DType dtype = DType::kBf16) {
  ModelSpec spec = SpecWithoutLayers(dtype, head_dim);
  spec.layers.assign(layers, {AttentionKind::kFull, 0, kv_heads, head_dim, head_dim, 0});
  return spec;
}

// SmolLM2-135M's shape: 30 layers, 3 KV heads x 64.
inline ModelSpec SmolLm2Spec() { return FullAttentionSpec(30, 3, 64); }

// Gemma-3-like: every sixth layer full, the others sliding; one KV head.
inline ModelSpec SlidingSpec(uint32_t layers, uint32_t head_dim, uint32_t window) {
  ModelSpec spec = SpecWithoutLayers(DType::kBf16, head_dim);
  spec.ropes.push_back(PlainRope(head_dim, 0.8f));
  for (uint32_t i = 0; i < layers; ++i) {
    if (i % 6 == 5) {
      spec.layers.push_back({AttentionKind::kFull, 0, 1, head_dim, head_dim, 0});
    } else {
      spec.layers.push_back({AttentionKind::kSlidingWindow, window, 1, head_dim, head_dim, 1});
    }
  }
  return spec;
}

// DeepSeek-like: one 576-wide latent whose last 64 channels rotate.
inline ModelSpec LatentSpec(uint32_t layers) {
  ModelSpec spec = SpecWithoutLayers(DType::kBf16, 64);
  spec.ropes[0].rotary_offset = 512;
  spec.layers.assign(layers, {AttentionKind::kLatent, 0, 1, 576, 0, 0});
  return spec;
}

// A valid spec of random shape, small enough for tests: full, sliding, chunked or latent layers mixed.
inline ModelSpec RandomSpec(std::mt19937& rng) {
  const auto pick = [&rng](uint32_t low, uint32_t high) -> uint32_t { return low + rng() % (high - low + 1); };
  ModelSpec spec = SpecWithoutLayers(static_cast<DType>(pick(1, 5)), 16);
  const uint32_t layers = pick(1, 6);
  const uint32_t kv_heads = pick(1, 4);
  const uint32_t head_dim = 16 * pick(1, 5);
  for (uint32_t i = 0; i < layers; ++i) {
    LayerSpec layer{AttentionKind::kFull, 0, kv_heads, head_dim, 16 * pick(1, 5), 0};
    switch (pick(0, 3)) {
      case 1:
        layer.attention = AttentionKind::kSlidingWindow;
        layer.window = pick(1, 96);
        break;
      case 2:
        layer.attention = AttentionKind::kChunkedWindow;
        layer.window = pick(1, 96);
        break;
      default:
        break;
    }
    if (kv_heads == 1 && pick(0, 3) == 0) layer = {AttentionKind::kLatent, 0, 1, head_dim, 0, 0};
    spec.layers.push_back(layer);
  }
  return spec;
}

}  // namespace kdn::testing

#endif  // KDN_TESTS_KERNELS_LAYOUT_TEST_SPECS_H_
