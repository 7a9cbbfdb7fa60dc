#ifndef KDN_KERNELS_CUDA_TILE_DECODE_CORE_H_
#define KDN_KERNELS_CUDA_TILE_DECODE_CORE_H_

#include "kernels/codec/int8_core.h"
#include "kernels/codec/lossless_channels_core.h"
#include "kernels/codec/q4_core.h"
#include "kernels/codec/rans_core.h"
#include "kernels/cuda/emit_core.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/tile_job.h"

// Decoding of a tile by 32 lanes, one source for host and device: the bytes of TILE_FORMATS.md to rows in their place,
// bit for bit what TileDecoder makes. A tile is decoded in groups of StageRows rows, which pass through `stage`
// (StageWords words that the lanes share). CheckTileJob must have accepted the job.

namespace kdn::cuda_internal {

inline constexpr uint32_t kLosslessStatesOffset = 4;
inline constexpr uint32_t kLosslessChannelsOffset = kLosslessStatesOffset + 4 * kRansLanes;

KDN_HD inline uint32_t LoadWord16(const uint8_t* p) { return p[0] | static_cast<uint32_t>(p[1]) << 8; }
KDN_HD inline uint32_t LoadWord32(const uint8_t* p) { return LoadWord16(p) | LoadWord16(p + 2) << 16; }

KDN_HD inline uint32_t LoadElementBits(const uint8_t* p, uint32_t bytes) {
  if (bytes == 1) return *p;
  return bytes == 2 ? LoadWord16(p) : LoadWord32(p);
}

KDN_HD inline uint32_t Smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

// Groups of rows that a job needs: calls produce(first, count) and writes what it staged. Groups without a wanted row
// are left out when `skip` says that no later group depends on them.
template <typename Lanes, typename Produce>
KDN_HD void DecodeByGroups(const TileJob& job, const uint32_t* stage, bool skip, Produce produce) {
  const uint32_t rows_of_group = StageRows(job.dim);
  for (uint32_t first = 0; first < job.tokens; first += rows_of_group) {
    const uint32_t count = Smaller(rows_of_group, job.tokens - first);
    const bool wanted = first < job.row_begin + job.row_count && first + count > job.row_begin;
    if (skip && !wanted) continue;
    const StageKind kind = produce(first, count);
    Lanes::Sync();
    if (wanted) EmitRows<Lanes>(job, stage, kind, first, count);
    Lanes::Sync();
  }
}

template <typename Lanes>
KDN_HD TileOutcome DecodeRaw(const TileJob& job, uint32_t* stage) {
  const uint32_t bytes = DTypeBytes(job.dtype);
  DecodeByGroups<Lanes>(job, stage, true, [&](uint32_t first, uint32_t count) {
    const uint8_t* from = job.coded + size_t{first} * job.dim * bytes;
    Lanes::Strided(count * job.dim, [&](uint32_t i) { stage[i] = LoadElementBits(from + size_t{i} * bytes, bytes); });
    return StageKind::kElements;
  });
  return TileOutcome::kDecoded;
}

template <typename Lanes>
KDN_HD TileOutcome DecodeInt8(const TileJob& job, uint32_t* stage) {
  const bool by_channel = job.kind == KvKind::kK;
  const uint8_t* const codes = job.coded + ((2 * (by_channel ? job.dim : job.tokens) + 15) & ~15u);
  DecodeByGroups<Lanes>(job, stage, true, [&](uint32_t first, uint32_t count) {
    Lanes::Strided(count * job.dim, [&](uint32_t i) {
      const uint32_t scale_index = by_channel ? i % job.dim : first + i / job.dim;
      const float scale = WidenBf16(static_cast<uint16_t>(LoadWord16(job.coded + size_t{2} * scale_index)));
      const auto code = static_cast<int8_t>(codes[size_t{first} * job.dim + i]);
      const float value = Int8Dequantise(code, scale);
      stage[i] = job.dtype == DType::kBf16 ? Narrow<DType::kBf16>(value) : Narrow<DType::kFp16>(value);
    });
    return StageKind::kElements;
  });
  return TileOutcome::kDecoded;
}

// The rows of a q4 tile that stand behind its raw ones.
struct Q4Rows {
  const uint8_t* tile;
  Q4Layout layout;
  uint32_t raw_rows;
  int base;
  bool has_means;
  uint32_t dim;

  KDN_HD int32_t Level(uint32_t row, uint32_t channel, uint32_t block_channel, uint32_t block_size) const {
    const uint8_t* codes = tile + kQ4HeaderBytes + (size_t{row - raw_rows} * dim + block_channel) / 2;
    const uint32_t within = channel - block_channel;
    const bool high = within >= block_size / 2;
    const uint8_t code = codes[high ? within - block_size / 2 : within];
    return Q4Level(high ? code >> 4 : code & 15);
  }

  KDN_HD float Value(int32_t sum, uint32_t row, uint32_t channel, uint32_t block) const {
    const float factor = Q4Factor(tile[layout.scales + size_t{row - raw_rows} * layout.blocks + block], base);
    const float product = static_cast<float>(sum) * factor;
    const float value = BitsFloat(FloatBits(product) ^ Q4Sign(channel) << 31);
    if (!has_means) return value;
    return value + WidenFp16(static_cast<uint16_t>(LoadWord16(tile + layout.means + size_t{2} * channel)));
  }
};

// Coded rows [first, first + count), which follow each other in the stage.
template <typename Lanes>
KDN_HD void TransformQ4Block(const Q4Rows& rows, uint32_t first, uint32_t count, uint32_t channel, uint32_t block,
                             uint32_t* stage) {
  const uint32_t size = Q4BlockAt(rows.dim, channel);
  const auto place = [&](uint32_t i) { return i / size * rows.dim + channel + i % size; };
  Lanes::Strided(count * size, [&](uint32_t i) {
    stage[place(i)] = static_cast<uint32_t>(rows.Level(first + i / size, channel + i % size, channel, size));
  });
  Lanes::Sync();
  for (uint32_t stride = size / 2; stride > 0; stride /= 2) {
    Lanes::Strided(count * (size / 2), [&](uint32_t pair) {
      const uint32_t within = pair % (size / 2);
      const uint32_t at = pair / (size / 2) * rows.dim + channel + within + (within & ~(stride - 1));
      const uint32_t a = stage[at];
      const uint32_t b = stage[at + stride];
      stage[at] = a + b;
      stage[at + stride] = a - b;
    });
    Lanes::Sync();
  }
  Lanes::Strided(count * size, [&](uint32_t i) {
    const auto sum = static_cast<int32_t>(stage[place(i)]);
    stage[place(i)] = FloatBits(rows.Value(sum, first + i / size, channel + i % size, block));
  });
}

template <typename Lanes>
KDN_HD TileOutcome DecodeQ4(const TileJob& job, uint32_t* stage) {
  const uint32_t raw_rows = LoadWord16(job.coded + 2);
  const bool has_means = (job.coded[0] & kQ4HasMeans) != 0;
  const Q4Rows rows = {job.coded, Q4LayoutOf(job.tokens, job.dim, raw_rows, has_means),
                       raw_rows,  static_cast<int8_t>(job.coded[1]),
                       has_means, job.dim};
  DecodeByGroups<Lanes>(job, stage, true, [&](uint32_t first, uint32_t count) {
    const uint32_t raw_count = first < raw_rows ? Smaller(count, raw_rows - first) : 0;
    Lanes::Strided(raw_count * job.dim, [&](uint32_t i) {
      const uint32_t bits = LoadWord16(job.coded + rows.layout.raw_rows + size_t{2} * (size_t{first} * job.dim + i));
      stage[i] =
          FloatBits(job.dtype == DType::kFp16 ? WidenElement<DType::kFp16>(bits) : WidenElement<DType::kBf16>(bits));
    });
    for (uint32_t channel = 0, block = 0; raw_count < count && channel < job.dim; ++block) {
      TransformQ4Block<Lanes>(rows, first + raw_count, count - raw_count, channel, block, stage + raw_count * job.dim);
      channel += Q4BlockAt(job.dim, channel);
    }
    return StageKind::kValues;
  });
  return TileOutcome::kDecoded;
}

// A lossless tile on its way; words and escapes move forward, the same for every lane.
template <typename Lanes>
struct LosslessTile {
  const TileJob& job;
  ElementFields fields;
  const uint8_t* raw;
  const uint8_t* words;
  uint32_t words_left;
  const uint8_t* escapes;
  uint32_t escapes_left;
  typename Lanes::template PerLane<uint32_t> states;

  KDN_HD explicit LosslessTile(const TileJob& tile)
      : job(tile), fields(FieldsOf(tile.dtype)), raw(tile.coded + kLosslessChannelsOffset + tile.dim) {
    const uint32_t steps = (tile.tokens * tile.dim + kRansLanes - 1) / kRansLanes;
    words = raw + size_t{steps} * fields.record_bytes();
    words_left = LoadWord32(tile.coded) >> 8;
    escapes = words + size_t{2} * words_left;
    escapes_left = static_cast<uint32_t>(tile.coded + tile.coded_bytes - escapes);
    Lanes::Each([&](uint32_t lane) { states[lane] = LoadWord32(tile.coded + kLosslessStatesOffset + 4 * lane); });
  }

  // Elements 32 * step ... of the tile, `active` of them, to `out`. False when words or escapes end early.
  KDN_HD bool Step(uint32_t step, uint32_t active, uint32_t* out) {
    typename Lanes::template PerLane<uint32_t> entries;
    typename Lanes::template PerLane<ChannelClass> channels;
    const uint32_t refills = Lanes::Ballot([&](uint32_t lane) {
      if (lane >= active) return false;
      const uint32_t channel = (step * kRansLanes + lane) % job.dim;
      channels[lane] = UnpackChannel(job.coded[kLosslessChannelsOffset + channel], job.coded[0]);
      const uint32_t slot = RansSlot(states[lane], job.lossless_prob_bits);
      entries[lane] =
          job.lossless_table[(static_cast<uint32_t>(channels[lane].shape) << job.lossless_prob_bits) + slot];
      states[lane] = RansAdvance(states[lane], entries[lane], job.lossless_prob_bits);
      return RansNeedsRefill(states[lane]);
    });
    const uint32_t escaping =
        Lanes::Ballot([&](uint32_t lane) { return lane < active && DecodeEntrySymbol(entries[lane]) == kRansEscape; });
    const uint32_t words_used = CountBits(refills);
    const uint32_t escapes_used = CountBits(escaping);
    if (words_used > words_left || escapes_used > escapes_left) return false;
    const uint8_t* record = raw + size_t{step} * fields.record_bytes();
    Lanes::Each([&](uint32_t lane) {
      if (lane >= active) return;
      if ((refills >> lane & 1) != 0) {
        states[lane] = RansRefill(states[lane], LoadWord16(words + size_t{2} * CountBelow(refills, lane)));
      }
      uint32_t exponent = channels[lane].offset - DecodeEntrySymbol(entries[lane]);
      if ((escaping >> lane & 1) != 0) exponent = escapes[CountBelow(escaping, lane)];
      out[lane] = JoinElement(fields, exponent, LoadRawBits(fields, record, lane));
    });
    words += size_t{2} * words_used;
    words_left -= words_used;
    escapes += escapes_used;
    escapes_left -= escapes_used;
    return true;
  }

  KDN_HD bool Finished() {
    const uint32_t wrong = Lanes::Ballot([&](uint32_t lane) { return states[lane] != kRansLowerBound; });
    return words_left == 0 && escapes_left == 0 && wrong == 0;
  }
};

template <typename Lanes>
KDN_HD TileOutcome DecodeLossless(const TileJob& job, uint32_t* stage) {
  LosslessTile<Lanes> tile(job);
  bool complete = true;
  DecodeByGroups<Lanes>(job, stage, false, [&](uint32_t first, uint32_t count) {
    const uint32_t elements = count * job.dim;
    const uint32_t first_step = first * job.dim / kRansLanes;
    for (uint32_t at = 0; complete && at < elements; at += kRansLanes) {
      complete = tile.Step(first_step + at / kRansLanes, Smaller(kRansLanes, elements - at), stage + at);
    }
    return StageKind::kElements;
  });
  if (!complete) return TileOutcome::kEndsEarly;
  return tile.Finished() ? TileOutcome::kDecoded : TileOutcome::kLeftOver;
}

template <typename Lanes>
KDN_HD TileOutcome DecodeTile(const TileJob& job, uint32_t* stage) {
  switch (job.profile) {
    case ProfileId::kRaw:
      return DecodeRaw<Lanes>(job, stage);
    case ProfileId::kLossless:
      return DecodeLossless<Lanes>(job, stage);
    case ProfileId::kInt8:
      return DecodeInt8<Lanes>(job, stage);
    case ProfileId::kQ4:
      return DecodeQ4<Lanes>(job, stage);
    default:
      return TileOutcome::kUnknownProfile;
  }
}

}  // namespace kdn::cuda_internal

#endif  // KDN_KERNELS_CUDA_TILE_DECODE_CORE_H_
