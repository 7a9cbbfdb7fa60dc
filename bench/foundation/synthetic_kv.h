#ifndef KDN_BENCH_FOUNDATION_SYNTHETIC_KV_H_
#define KDN_BENCH_FOUNDATION_SYNTHETIC_KV_H_

#include <cstdint>
#include <vector>

#include "kernels/layout/kv_view.h"
#include "kernels/layout/model_spec.h"

namespace kdn::bench {

inline constexpr uint32_t kChunkTokens = 256;
inline constexpr uint32_t kHeadDim = 128;

// A bf16 model of which one chunk of kChunkTokens tokens has `chunk_bytes` of KV: a multiple of 128 KiB (one head of
// one layer), or the program ends. Up to 8 KV heads a layer, as in an 8B model. No other model has its fingerprint.
ModelSpec SpecOfChunkBytes(uint64_t chunk_bytes);

// A view of one chunk that lies in `chunk_bytes` contiguous bytes at `data`: [layer][K, V][token][head][channel].
KvView ViewOfChunk(const ModelSpec& spec, uint8_t* data);

// Fills `size` bytes with bf16 values drawn from normal distributions whose scale differs per channel, as K and V have:
// about as compressible as real KV.
void FillWithSyntheticKv(uint64_t seed, uint8_t* data, uint64_t size);

// The tokens of chunk `number`: distinct for each (no two share a prefix).
std::vector<uint32_t> TokensOfChunk(uint64_t number);

}  // namespace kdn::bench

#endif  // KDN_BENCH_FOUNDATION_SYNTHETIC_KV_H_
