#ifndef KDN_KERNELS_CODEC_RANS_CORE_H_
#define KDN_KERNELS_CODEC_RANS_CORE_H_

#include <cstdint>

#include "kernels/base/host_device.h"
#include "kernels/layout/dtype.h"

// The arithmetic of the lossless profile, shared by the scalar reference, the SIMD coders (which must agree with it bit
// for bit) and a CUDA warp: range asymmetric numeral systems (Duda 2013) with 32 interleaved 32-bit states, 16-bit
// renormalisation and one refill word at most per lane and step, and the split of an element into exponent and raw
// bits. TILE_FORMATS.md has the bytes.

namespace kdn {

inline constexpr uint32_t kRansLanes = 32;
inline constexpr uint32_t kRansLowerBound = uint32_t{1} << 16;  // states stay in [kRansLowerBound, 2^32) between steps
inline constexpr uint32_t kRansSymbols = 16;
inline constexpr uint32_t kRansEscape = 15;  // the exponent follows in the escape bytes
inline constexpr uint32_t kRansMinProbBits = 9;
inline constexpr uint32_t kRansMaxProbBits = 11;

// One slot of a decoding table: bits 0..11 frequency, 12..23 slot minus cumulative frequency, 24..31 symbol.
KDN_HD constexpr uint32_t PackDecodeEntry(uint32_t frequency, uint32_t bias, uint32_t symbol) {
  return frequency | (bias << 12) | (symbol << 24);
}
KDN_HD constexpr uint32_t DecodeEntryFrequency(uint32_t entry) { return entry & 0xfff; }
KDN_HD constexpr uint32_t DecodeEntryBias(uint32_t entry) { return (entry >> 12) & 0xfff; }
KDN_HD constexpr uint32_t DecodeEntrySymbol(uint32_t entry) { return entry >> 24; }

// One symbol of an encoding table: bits 0..15 frequency, 16..31 cumulative frequency.
KDN_HD constexpr uint32_t PackEncodeEntry(uint32_t frequency, uint32_t cumulative) {
  return frequency | (cumulative << 16);
}
KDN_HD constexpr uint32_t EncodeEntryFrequency(uint32_t entry) { return entry & 0xffff; }
KDN_HD constexpr uint32_t EncodeEntryCumulative(uint32_t entry) { return entry >> 16; }

// Decoding: slot of the table to look at, state after its entry, and the refill that must follow when the state fell
// below kRansLowerBound.
KDN_HD constexpr uint32_t RansSlot(uint32_t state, uint32_t prob_bits) {
  return state & ((uint32_t{1} << prob_bits) - 1);
}
KDN_HD constexpr uint32_t RansAdvance(uint32_t state, uint32_t entry, uint32_t prob_bits) {
  return DecodeEntryFrequency(entry) * (state >> prob_bits) + DecodeEntryBias(entry);
}
KDN_HD constexpr bool RansNeedsRefill(uint32_t state) { return state < kRansLowerBound; }
KDN_HD constexpr uint32_t RansRefill(uint32_t state, uint32_t word) { return (state << 16) | word; }

// Encoding runs backwards: spill the low 16 bits first when the state would leave its range, then push the symbol.
// Frequencies are below 2^prob_bits, so that the bound does not overflow.
KDN_HD constexpr bool RansMustSpill(uint32_t state, uint32_t frequency, uint32_t prob_bits) {
  return state >= (frequency << (32 - prob_bits));
}
KDN_HD constexpr uint32_t RansPush(uint32_t state, uint32_t entry, uint32_t prob_bits) {
  const uint32_t frequency = EncodeEntryFrequency(entry);
  return ((state / frequency) << prob_bits) + state % frequency + EncodeEntryCumulative(entry);
}

// An element of `exponent_bits` + `mantissa_bits` + 1 bits, sign on top. Raw bits are the element without its exponent
// field: sign and mantissa, `byte_planes` bytes and `bit_planes` bits.
struct ElementFields {
  uint32_t bytes = 0;
  uint32_t exponent_bits = 0;
  uint32_t mantissa_bits = 0;

  KDN_HD constexpr uint32_t raw_bits() const { return mantissa_bits + 1; }
  KDN_HD constexpr uint32_t byte_planes() const { return raw_bits() / 8; }
  KDN_HD constexpr uint32_t bit_planes() const { return raw_bits() % 8; }
  // Bytes of the raw record of one step (one element in each lane).
  KDN_HD constexpr uint32_t record_bytes() const { return raw_bits() * (kRansLanes / 8); }
  KDN_HD constexpr uint32_t exponent_mask() const { return (uint32_t{1} << exponent_bits) - 1; }
  KDN_HD constexpr uint32_t mantissa_mask() const { return (uint32_t{1} << mantissa_bits) - 1; }
};

// Fields of a known dtype.
KDN_HD constexpr ElementFields FieldsOf(DType dtype) {
  switch (dtype) {
    case DType::kBf16:
      return {2, 8, 7};
    case DType::kFp16:
      return {2, 5, 10};
    case DType::kFp8E4M3:
      return {1, 4, 3};
    case DType::kFp8E5M2:
      return {1, 5, 2};
    case DType::kFp32:
      return {4, 8, 23};
  }
  return {};
}

KDN_HD constexpr uint32_t ExponentOf(ElementFields fields, uint32_t element) {
  return (element >> fields.mantissa_bits) & fields.exponent_mask();
}
KDN_HD constexpr uint32_t RawBitsOf(ElementFields fields, uint32_t element) {
  const uint32_t sign = element >> (fields.exponent_bits + fields.mantissa_bits);
  return (sign << fields.mantissa_bits) | (element & fields.mantissa_mask());
}
KDN_HD constexpr uint32_t JoinElement(ElementFields fields, uint32_t exponent, uint32_t raw_bits) {
  const uint32_t sign = raw_bits >> fields.mantissa_bits;
  return (sign << (fields.exponent_bits + fields.mantissa_bits)) |
         ((exponent & fields.exponent_mask()) << fields.mantissa_bits) | (raw_bits & fields.mantissa_mask());
}

// Raw bits of `lane` from a step's raw record: byte planes first (32 bytes each), then bit planes (32 bits each, bit i
// is lane i).
KDN_HD constexpr uint32_t LoadRawBits(ElementFields fields, const uint8_t* record, uint32_t lane) {
  uint32_t raw = 0;
  for (uint32_t plane = 0; plane < fields.byte_planes(); ++plane) {
    raw |= static_cast<uint32_t>(record[plane * kRansLanes + lane]) << (8 * plane);
  }
  const uint8_t* planes = record + fields.byte_planes() * kRansLanes;
  for (uint32_t plane = 0; plane < fields.bit_planes(); ++plane) {
    const uint32_t bit = (planes[plane * 4 + lane / 8] >> (lane % 8)) & 1;
    raw |= bit << (8 * fields.byte_planes() + plane);
  }
  return raw;
}

// Writes them; the record must be zero before its first lane is stored.
KDN_HD constexpr void StoreRawBits(ElementFields fields, uint32_t raw, uint8_t* record, uint32_t lane) {
  for (uint32_t plane = 0; plane < fields.byte_planes(); ++plane) {
    record[plane * kRansLanes + lane] = static_cast<uint8_t>(raw >> (8 * plane));
  }
  uint8_t* planes = record + fields.byte_planes() * kRansLanes;
  for (uint32_t plane = 0; plane < fields.bit_planes(); ++plane) {
    const uint32_t bit = (raw >> (8 * fields.byte_planes() + plane)) & 1;
    planes[plane * 4 + lane / 8] = static_cast<uint8_t>(planes[plane * 4 + lane / 8] | (bit << (lane % 8)));
  }
}

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_RANS_CORE_H_
