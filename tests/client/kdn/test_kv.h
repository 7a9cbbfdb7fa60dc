#ifndef KDN_TESTS_CLIENT_KDN_TEST_KV_H_
#define KDN_TESTS_CLIENT_KDN_TEST_KV_H_

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/layout/kv_view.h"
#include "kernels/layout/model_spec.h"

// Small models and the KV memory of engines, for tests.

namespace kdn::testing {

struct TestModel {
  uint32_t layers = 2;
  uint32_t heads = 2;
  uint32_t head_dim = 32;
  uint32_t window = 0;  // > 0: odd layers slide
  uint8_t seed = 1;
};

inline ModelSpec MakeSpec(const TestModel& model) {
  ModelSpec spec;
  spec.weights_digest.bytes.fill(model.seed);
  spec.tokenizer_digest.bytes.fill(7);
  spec.ropes.push_back({});
  for (uint32_t i = 0; i < model.layers; ++i) {
    LayerSpec layer;
    layer.num_kv_heads = model.heads;
    layer.k_head_dim = layer.v_head_dim = model.head_dim;
    if (model.window > 0 && i % 2 == 1) {
      layer.attention = AttentionKind::kSlidingWindow;
      layer.window = model.window;
    }
    spec.layers.push_back(layer);
  }
  return spec;
}

inline std::vector<uint32_t> MakeTokens(size_t count, uint32_t seed = 0) {
  std::vector<uint32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<uint32_t>(i * 2654435761u + seed) % 50000;
  return tokens;
}

// KV of every layer and a range of heads in one mapping of its own, so that it can be made inaccessible:
// [layer][K, V][token][head][channel] of bf16.
class HostKv {
 public:
  HostKv(const ModelSpec& spec, uint32_t tokens, uint32_t head_begin = 0, uint32_t head_count = 0)
      : spec_(spec),
        tokens_(tokens),
        head_begin_(head_begin),
        heads_(head_count == 0 ? spec.layers[0].num_kv_heads : head_count) {
    bytes_ = PlaneBytes() * 2 * spec.layers.size();
    memory_ = static_cast<uint8_t*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  }
  ~HostKv() { munmap(memory_, bytes_); }
  HostKv(const HostKv&) = delete;
  HostKv& operator=(const HostKv&) = delete;

  KvView view(uint32_t num_tokens = UINT32_MAX) const {
    KvView view;
    view.num_tokens = std::min(num_tokens, tokens_);
    view.head_begin = head_begin_;
    view.head_count = heads_;
    for (uint32_t i = 0; i < spec_.layers.size(); ++i) {
      KvLayerView layer;
      layer.layer = i;
      layer.k = Plane(i, 0);
      layer.v = Plane(i, 1);
      view.layers.push_back(layer);
    }
    return view;
  }

  // bf16 values as a model has them: about normal, so that lossless coding compresses.
  void Fill(uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i + 1 < bytes_; i += 2) {
      const float value = normal(random);
      uint32_t bits;
      std::memcpy(&bits, &value, 4);
      memory_[i] = static_cast<uint8_t>(bits >> 16);
      memory_[i + 1] = static_cast<uint8_t>(bits >> 24);
    }
  }
  void Clear(uint8_t byte) { std::memset(memory_, byte, bytes_); }

  // Rows [begin, end) of all layers and planes (global heads [head_begin, +count) of both) are equal.
  bool SameRows(const HostKv& other, uint32_t begin, uint32_t end) const {
    for (uint32_t layer = 0; layer < spec_.layers.size(); ++layer) {
      if (!SameLayerRows(other, layer, begin, end)) return false;
    }
    return true;
  }
  bool SameLayerRows(const HostKv& other, uint32_t layer, uint32_t begin, uint32_t end) const {
    const uint32_t first = std::max(head_begin_, other.head_begin_);
    const uint32_t last = std::min(head_begin_ + heads_, other.head_begin_ + other.heads_);
    for (int kind = 0; kind < 2; ++kind) {
      for (uint32_t t = begin; t < end; ++t) {
        for (uint32_t h = first; h < last; ++h) {
          if (std::memcmp(Row(layer, kind, t, h), other.Row(layer, kind, t, h), RowBytes()) != 0) return false;
        }
      }
    }
    return true;
  }

  // Any access from now on is a fault.
  void Forbid() const { mprotect(memory_, bytes_, PROT_NONE); }
  void Allow() const { mprotect(memory_, bytes_, PROT_READ | PROT_WRITE); }

 private:
  size_t RowBytes() const { return spec_.layers[0].k_head_dim * 2; }
  size_t PlaneBytes() const { return RowBytes() * heads_ * tokens_; }
  const uint8_t* Row(uint32_t layer, int kind, uint32_t token, uint32_t head) const {
    return memory_ + (layer * 2 + kind) * PlaneBytes() + (token * heads_ + head - head_begin_) * RowBytes();
  }
  KvPlane Plane(uint32_t layer, int kind) const {
    KvPlane plane;
    plane.data = memory_ + (layer * 2 + kind) * PlaneBytes();
    plane.channel_stride_bytes = 2;
    plane.head_stride_bytes = static_cast<int64_t>(RowBytes());
    plane.token_stride_bytes = static_cast<int64_t>(RowBytes() * heads_);
    return plane;
  }

  const ModelSpec spec_;
  const uint32_t tokens_;
  const uint32_t head_begin_;
  const uint32_t heads_;
  size_t bytes_ = 0;
  uint8_t* memory_ = nullptr;
};

}  // namespace kdn::testing

#endif  // KDN_TESTS_CLIENT_KDN_TEST_KV_H_
