#ifndef KDN_TESTS_KERNELS_CODEC_TEST_TILES_H_
#define KDN_TESTS_KERNELS_CODEC_TEST_TILES_H_

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/codec/tile_geometry.h"
#include "tests/kernels/codec/float_cast.h"

// Deterministic tiles for tests: integers of std::mt19937_64 only, so that every platform makes the same.

namespace kdn {

enum class TilePattern {
  kKvLike,        // Gaussian channels of varying scale and mean
  kConstant,      // one value everywhere
  kZeros,         // all bits zero
  kSpecials,      // NaN, infinities, subnormals, signed zeros and ordinary values
  kWideRange,     // exponents spread so far that many escape
  kSparse,        // mostly zero
  kDeadChannels,  // KV-like, some channels all zero or far smaller
  kRandomBits,    // incompressible
};

inline constexpr TilePattern kAllPatterns[] = {
    TilePattern::kKvLike,    TilePattern::kConstant, TilePattern::kZeros,        TilePattern::kSpecials,
    TilePattern::kWideRange, TilePattern::kSparse,   TilePattern::kDeadChannels, TilePattern::kRandomBits};

inline std::string PatternName(TilePattern pattern) {
  const char* const names[] = {"kv-like", "constant", "zeros", "specials", "wide", "sparse", "dead", "random"};
  return names[static_cast<int>(pattern)];
}

// Roughly normal, mean 0, variance 1.
inline float RoughNormal(std::mt19937_64& random) {
  int64_t sum = 0;
  for (int i = 0; i < 12; ++i) sum += static_cast<int64_t>(random() >> 48);
  return static_cast<float>(sum - 12 * 32768) / 65536.0f;
}

inline uint16_t ToBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline uint16_t PatternElement(TilePattern pattern, uint32_t channel, std::mt19937_64& random) {
  const float scale = static_cast<float>(uint32_t{1} << (channel * 7 % 6)) / 8.0f;
  const float mean = channel % 5 == 3 ? 3.0f : 0.0f;
  const uint16_t kv_like = ToBf16((RoughNormal(random) + mean) * scale);
  const uint16_t specials[] = {0x7f80, 0xff80, 0x7fc1, 0xffff, 0x0001, 0x807f, 0x0000, 0x8000, kv_like, kv_like};
  switch (pattern) {
    case TilePattern::kKvLike:
      return kv_like;
    case TilePattern::kConstant:
      return 0xbf9d;
    case TilePattern::kZeros:
      return 0;
    case TilePattern::kSpecials:
      return specials[random() % 10];
    case TilePattern::kWideRange:
      return static_cast<uint16_t>(random() % 4 == 0 ? random() : kv_like);
    case TilePattern::kSparse:
      return random() % 8 == 0 ? kv_like : 0;
    case TilePattern::kDeadChannels:
      if (channel % 7 == 2) return 0;
      return channel % 7 == 4 ? static_cast<uint16_t>(kv_like & 0x87ff) : kv_like;
    case TilePattern::kRandomBits:
      return static_cast<uint16_t>(random());
  }
  return 0;
}

// Rows of a tile. Random bits fill the element whatever the dtype; the other patterns are cast from bf16, and fp32
// gets random low mantissa bits where the pattern is KV-like.
inline std::vector<uint8_t> MakeRows(const TileGeometry& geometry, TilePattern pattern, uint64_t seed) {
  std::mt19937_64 random(seed);
  const uint32_t bytes = DTypeBytes(geometry.dtype);
  std::vector<uint8_t> rows(geometry.raw_bytes());
  for (uint32_t i = 0; i < geometry.elements(); ++i) {
    uint8_t* out = rows.data() + static_cast<size_t>(i) * bytes;
    const uint16_t value = PatternElement(pattern, i % geometry.dim, random);
    uint32_t element = CastFromBf16(geometry.dtype, value);
    if (pattern == TilePattern::kRandomBits) element = static_cast<uint32_t>(random());
    if (pattern == TilePattern::kKvLike && geometry.dtype == DType::kFp32) element |= random() & 0xffff;
    for (uint32_t b = 0; b < bytes; ++b) out[b] = static_cast<uint8_t>(element >> (8 * b));
  }
  return rows;
}

inline constexpr DType kAllDTypes[] = {DType::kBf16, DType::kFp16, DType::kFp8E4M3, DType::kFp8E5M2, DType::kFp32};

}  // namespace kdn

#endif  // KDN_TESTS_KERNELS_CODEC_TEST_TILES_H_
