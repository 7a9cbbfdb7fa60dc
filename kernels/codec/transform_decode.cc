#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/row_kernels.h"
#include "kernels/codec/tile_geometry.h"
#include "kernels/codec/transform_tile.h"

namespace kdn {
namespace {

using codec_internal::kTransformBlockRows;
using codec_internal::TransformDecodeJob;
using codec_internal::TransformSynthesisJob;

// No symbol is so likely that it takes less than this share of a bit: a bound on what a tile can unfold to.
constexpr uint64_t kMaxSymbolsPerBit = 4;

// The class symbol whose interval holds `slot`, and the slot's distance from the interval's start in `bias`.
uint32_t FindClass(uint32_t slot, uint32_t& bias) {
  uint32_t symbol = 0;
  bias = slot;
  while (bias >= kTransformClassFrequencies[symbol]) bias -= kTransformClassFrequencies[symbol++];
  return symbol;
}

}  // namespace

bool TransformCodes(DType dtype) { return dtype != DType::kFp32; }

absl::StatusOr<TransformTileHeader> ReadTransformTileHeader(ByteSpan coded) {
  if (coded.size() < kTransformWordsOffset) {
    return DataLoss("transform tile: ", coded.size(), " bytes, at least ", kTransformWordsOffset, " expected");
  }
  ByteReader in(coded);
  TransformTileHeader header;
  header.step = static_cast<int16_t>(in.U16());
  header.group = in.U16();
  header.calibration = in.U8();
  const uint32_t reserved = in.U8();
  header.raw_rows = in.U16();
  header.word_count = in.U32();
  header.escape_count = in.U32();
  if (header.step < -kTransformMaxStep || header.step > kTransformMaxStep || reserved != 0) {
    return DataLoss("transform tile: step ", header.step, " or a reserved byte is out of range");
  }
  return header;
}

absl::Status TransformTileDecoder::CheckSizes(ByteSpan coded) const {
  const uint64_t raw_bytes = uint64_t{2} * header_.raw_rows * group_->width();
  const uint64_t total =
      kTransformWordsOffset + uint64_t{2} * header_.word_count + uint64_t{2} * header_.escape_count + raw_bytes;
  if (coded.size() != total) return DataLoss("transform tile: ", coded.size(), " bytes, not ", total);
  return absl::OkStatus();
}

absl::Status TransformTileDecoder::Open(const TransformGroup& group, DType dtype, uint32_t tokens, ByteSpan coded) {
  KDN_ASSIGN_OR_RETURN(header_, ReadTransformTileHeader(coded));
  group_ = &group;
  raw_dtype_ = TransformRawRowDType(dtype);
  KDN_RETURN_IF_ERROR(CheckSizes(coded));
  TransformDecodeJob job;
  for (uint32_t lane = 0; lane < kRansLanes; ++lane) {
    job.states[lane] = LoadLe<uint32_t>(coded.data() + kTransformStatesOffset + 4 * lane);
    if (job.states[lane] < kRansLowerBound) return DataLoss("transform tile: lane ", lane, " starts in a wrong state");
  }
  job.table = codec_internal::TransformDecodeTable();
  job.words = coded.data() + kTransformWordsOffset;
  job.words_end = job.words + size_t{2} * header_.word_count;
  job.escapes = job.words_end;
  job.escapes_end = job.escapes + size_t{2} * header_.escape_count;
  raw_rows_ = job.escapes_end;
  classes_.resize(tokens);
  KDN_RETURN_IF_ERROR(DecodeClasses(job));
  KDN_RETURN_IF_ERROR(LayOutSymbols());
  return DecodeCoefficients(job);
}

absl::Status TransformTileDecoder::DecodeClasses(TransformDecodeJob& job) {
  uint32_t raw_rows = 0;
  raw_index_.resize(classes_.size());
  for (size_t row = 0; row < classes_.size(); ++row) {
    uint32_t& state = job.states[row % kRansLanes];
    uint32_t bias = 0;
    const uint32_t symbol = FindClass(RansSlot(state, kTransformProbBits), bias);
    state = kTransformClassFrequencies[symbol] * (state >> kTransformProbBits) + bias;
    if (RansNeedsRefill(state)) {
      if (job.words_end - job.words < 2) return DataLoss("transform tile: words end among the row classes");
      state = RansRefill(state, LoadLe<uint16_t>(job.words));
      job.words += 2;
    }
    classes_[row] = static_cast<uint8_t>(symbol);
    raw_index_[row] = raw_rows;
    raw_rows += symbol == kTransformRawRow;
  }
  if (raw_rows != header_.raw_rows) {
    return DataLoss("transform tile: ", raw_rows, " rows of the raw class, ", header_.raw_rows, " raw rows");
  }
  return absl::OkStatus();
}

absl::Status TransformTileDecoder::LayOutSymbols() {
  uint64_t symbols = 0;
  for (size_t base = 0; base < group_->bases.size(); ++base) {
    for (uint32_t row_class = 0; row_class < kTransformClasses; ++row_class) {
      coefficients_[base][row_class] =
          group_->bases[base].CodedCoefficients(TransformStepExponent(header_.step, row_class));
    }
    for (const uint8_t row_class : classes_) {
      symbols += row_class == kTransformRawRow ? 0 : coefficients_[base][row_class];
    }
  }
  const uint64_t bits = uint64_t{16} * header_.word_count + uint64_t{16} * kRansLanes;
  if (symbols > kMaxSymbolsPerBit * bits) {
    return DataLoss("transform tile: ", symbols, " coefficients in ", header_.word_count, " words");
  }
  symbols_ = static_cast<uint32_t>(symbols);
  contexts_.resize(AlignUp(symbols, kRansLanes));
  values_.resize(contexts_.size());
  uint32_t at = 0;
  for (size_t base = 0; base < group_->bases.size(); ++base) {
    // The first row of a class fills in its contexts; the others copy them.
    uint32_t first[kTransformClasses];
    std::fill(std::begin(first), std::end(first), UINT32_MAX);
    value_begin_[base].resize(classes_.size());
    for (size_t row = 0; row < classes_.size(); ++row) {
      const uint32_t row_class = classes_[row];
      value_begin_[base][row] = at;
      if (row_class == kTransformRawRow) continue;
      const uint32_t count = coefficients_[base][row_class];
      if (first[row_class] == UINT32_MAX) {
        first[row_class] = at;
        const int32_t exponent = TransformStepExponent(header_.step, row_class);
        for (uint32_t j = 0; j < count; ++j) {
          contexts_[at + j] = static_cast<uint8_t>(TransformContext(group_->bases[base].sigmas[j], exponent));
        }
      } else {
        std::copy_n(contexts_.begin() + first[row_class], count, contexts_.begin() + at);
      }
      at += count;
    }
  }
  return absl::OkStatus();
}

absl::Status TransformTileDecoder::DecodeCoefficients(TransformDecodeJob& job) {
  job.symbols = symbols_;
  job.contexts = contexts_.data();
  job.values = values_.data();
  const uint32_t full_steps = symbols_ / kRansLanes;
  const auto steps = static_cast<uint32_t>(CeilDiv(symbols_, kRansLanes));
  if (!codec_internal::TransformKernelsFor(isa_).decode(job, 0, full_steps) ||
      !codec_internal::DecodeTransformStepsScalar(job, full_steps, steps)) {
    return DataLoss("transform tile: words or escapes end early");
  }
  if (job.words != job.words_end || job.escapes != job.escapes_end) {
    return DataLoss("transform tile: ", job.words_end - job.words, " bytes of words and ",
                    job.escapes_end - job.escapes, " of escapes are left over");
  }
  const auto wrong = std::find_if(std::begin(job.states), std::end(job.states),
                                  [](uint32_t state) { return state != kRansLowerBound; });
  if (wrong != std::end(job.states)) {
    return DataLoss("transform tile: lane ", wrong - std::begin(job.states), " ends in a wrong state");
  }
  return absl::OkStatus();
}

void TransformTileDecoder::SynthesiseBlock(const TransformRows& wanted, std::span<const uint32_t> rows) {
  const TransformBase& base = group_->bases[wanted.base];
  TransformSynthesisJob job;
  uint32_t most = 0;
  for (const uint32_t row : rows) most = std::max(most, coefficients_[wanted.base][classes_[row]]);
  job.pair_count = static_cast<uint32_t>(CeilDiv(most, 2));
  job.value_stride = 2 * job.pair_count;
  block_.resize(size_t{kTransformBlockRows} * job.value_stride);
  for (size_t i = 0; i < rows.size(); ++i) {
    const uint32_t row_class = classes_[rows[i]];
    const uint32_t count = coefficients_[wanted.base][row_class];
    const auto to = block_.begin() + static_cast<ptrdiff_t>(i * job.value_stride);
    std::copy_n(values_.begin() + value_begin_[wanted.base][rows[i]], count, to);
    std::fill(to + count, to + job.value_stride, int16_t{0});
    job.steps[i] = TransformStep(TransformStepExponent(header_.step, row_class));
    job.out[i] = wanted.out + (rows[i] - wanted.first_row) * wanted.out_stride;
  }
  job.pairs = base.pairs.data();
  job.scales = base.scales.data();
  job.means = base.means.data();
  job.width = base.width;
  job.channel = wanted.first_channel;
  job.channels = wanted.channels;
  job.values = block_.data();
  job.rows = static_cast<uint32_t>(rows.size());
  codec_internal::TransformKernelsFor(isa_).synthesise(job);
}

void TransformTileDecoder::Rows(const TransformRows& wanted) {
  size_t channel = wanted.first_channel;  // in a raw row, which holds all bases
  for (uint32_t base = 0; base < wanted.base; ++base) channel += group_->bases[base].width;
  uint32_t block[kTransformBlockRows];
  uint32_t filled = 0;
  for (uint32_t row = wanted.first_row; row < wanted.first_row + wanted.rows; ++row) {
    if (classes_[row] == kTransformRawRow) {
      const size_t element = size_t{raw_index_[row]} * group_->width() + channel;
      codec_internal::RowKernelsFor(isa_).widen(raw_dtype_, raw_rows_ + 2 * element, wanted.channels,
                                                wanted.out + (row - wanted.first_row) * wanted.out_stride);
      continue;
    }
    block[filled++] = row;
    if (filled < kTransformBlockRows) continue;
    SynthesiseBlock(wanted, block);
    filled = 0;
  }
  if (filled > 0) SynthesiseBlock(wanted, std::span(block).first(filled));
}

}  // namespace kdn
