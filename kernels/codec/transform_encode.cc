#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/lossless_kernels.h"
#include "kernels/codec/row_kernels.h"
#include "kernels/codec/tile_geometry.h"
#include "kernels/codec/transform_tile.h"

namespace kdn {
namespace {

using codec_internal::kTransformBlockRows;
using codec_internal::kWordSlack;
using codec_internal::TransformAnalysisJob;
using codec_internal::TransformEncodeJob;
using codec_internal::TransformKernels;
using codec_internal::TransformKernelsFor;
using codec_internal::TransformLevels;
using codec_internal::TransformSymbolJob;

// Sums of levels that keep a decoder's 32-bit sums from overflowing: 127 * 32 * this < 2^31.
constexpr uint32_t kMaxLevelSum = (uint32_t{1} << 31) / (127 * kTransformValueUnits) - 1;

absl::Status CheckInput(const TransformObject& object, const TransformTileInput& input) {
  if (input.group >= object.groups().size()) {
    return InvalidArgument("transform tile: group ", input.group, " of ", object.groups().size());
  }
  if (input.tokens < 1 || input.tokens > kMaxTileTokens || input.sink_rows > input.tokens) {
    return InvalidArgument("transform tile: ", input.tokens, " rows, ", input.sink_rows, " sinks");
  }
  if (!TransformCodes(input.dtype) || input.calibration > 255) {
    return InvalidArgument("transform tile of ", DTypeName(input.dtype), ", calibration ", input.calibration);
  }
  if (input.step < -kTransformMaxStep || input.step > kTransformMaxStep) {
    return InvalidArgument("transform tile: step ", input.step, ", not within +-", kTransformMaxStep);
  }
  const TransformGroup& group = object.groups()[input.group];
  for (size_t base = 0; base < group.bases.size(); ++base) {
    if (input.rows[base].size() != size_t{input.tokens} * group.bases[base].width) {
      return InvalidArgument("transform tile: ", input.rows[base].size(), " values of base ", base, " for ",
                             input.tokens, " rows of ", group.bases[base].width);
    }
  }
  const bool classes_ok =
      (input.row_classes.empty() || input.row_classes.size() == input.tokens) &&
      std::all_of(input.row_classes.begin(), input.row_classes.end(), [](uint8_t c) { return c < kTransformClasses; });
  return classes_ok ? absl::OkStatus() : InvalidArgument("transform tile: row classes are not one of 0..8 a row");
}

}  // namespace

absl::Status TransformTileEncoder::Encode(const TransformObject& object, const TransformTileInput& input,
                                          std::vector<uint8_t>& out) {
  KDN_RETURN_IF_ERROR(CheckInput(object, input));
  const TransformGroup& group = object.groups()[input.group];
  ChooseClasses(input);
  Quantise(object, input);
  Symbolise(group);
  TransformEncodeJob job;
  EncodeSymbols(job);
  WriteTile(group, input, job, out);
  return absl::OkStatus();
}

void TransformTileEncoder::ChooseClasses(const TransformTileInput& input) {
  classes_.assign(input.tokens, 0);
  std::copy(input.row_classes.begin(), input.row_classes.end(), classes_.begin());
  std::fill_n(classes_.begin(), input.sink_rows, static_cast<uint8_t>(kTransformRawRow));
}

void TransformTileEncoder::Quantise(const TransformObject& object, const TransformTileInput& input) {
  const TransformGroup& group = object.groups()[input.group];
  for (uint32_t base = 0; base < group.bases.size(); ++base) {
    for (ClassPlan& plan : work_[base].plans) plan.made = false;
    work_[base].levels.resize(classes_.size() * group.bases[base].rank);
  }
  pending_.clear();
  for (uint32_t token = 0; token < classes_.size(); ++token) {
    if (classes_[token] != kTransformRawRow) pending_.push_back(token);
  }
  while (!pending_.empty()) {  // at most once a class
    beyond_.assign(classes_.size(), 0);
    for (uint32_t base = 0; base < group.bases.size(); ++base) {
      PlanBase(group.bases[base], input.step, work_[base]);
      QuantiseBase(group.bases[base], object.Analysis(input.group, base), input.rows[base], work_[base]);
    }
    std::erase_if(pending_, [this](uint32_t token) { return beyond_[token] == 0; });
    for (const uint32_t token : pending_) {
      classes_[token] =
          classes_[token] == 0 ? static_cast<uint8_t>(kTransformRawRow) : static_cast<uint8_t>(classes_[token] - 1);
    }
    std::erase_if(pending_, [this](uint32_t token) { return classes_[token] == kTransformRawRow; });
  }
}

void TransformTileEncoder::PlanBase(const TransformBase& base, int32_t step, BaseWork& work) {
  for (const uint32_t token : pending_) {
    const uint32_t row_class = classes_[token];
    if (row_class == kTransformRawRow || work.plans[row_class].made) continue;
    ClassPlan& plan = work.plans[row_class];
    const int32_t exponent = TransformStepExponent(step, row_class);
    plan.made = true;
    plan.coefficients = base.CodedCoefficients(exponent);
    plan.inverse_step = 1.0f / TransformStep(exponent);
    plan.contexts.resize(plan.coefficients);
    plan.bypass_bits.resize(plan.coefficients);
    plan.max_magnitudes.resize(plan.coefficients);
    for (uint32_t j = 0; j < plan.coefficients; ++j) {
      const auto context = static_cast<uint32_t>(TransformContext(base.sigmas[j], exponent));
      plan.contexts[j] = static_cast<uint8_t>(context);
      plan.bypass_bits[j] = static_cast<uint8_t>(TransformBypassBits(context));
      plan.max_magnitudes[j] = kTransformTableOf[TransformTableIndex(context)].max_magnitude;
    }
  }
}

void TransformTileEncoder::QuantiseBase(const TransformBase& base, std::span<const float> analysis,
                                        std::span<const float> rows, BaseWork& work) {
  const TransformKernels& kernels = TransformKernelsFor(isa_);
  centred_.resize(size_t{kTransformBlockRows} * base.width);
  coefficients_.resize(size_t{kTransformBlockRows} * TransformObject::AnalysisStride(base));
  uint32_t block[kTransformBlockRows];
  uint32_t filled = 0;
  for (const uint32_t token : pending_) {
    // What one base found beyond its class, or not finite, another need not look at.
    if (beyond_[token] != 0 || classes_[token] == kTransformRawRow) continue;
    const float* row = rows.data() + size_t{token} * base.width;
    if (!kernels.centre(row, base.means.data(), base.width, centred_.data() + size_t{filled} * base.width)) {
      classes_[token] = kTransformRawRow;
      continue;
    }
    block[filled++] = token;
    if (filled < kTransformBlockRows) continue;
    QuantiseBlock(base, analysis, block, work);
    filled = 0;
  }
  if (filled > 0) QuantiseBlock(base, analysis, std::span(block).first(filled), work);
}

void TransformTileEncoder::QuantiseBlock(const TransformBase& base, std::span<const float> analysis,
                                         std::span<const uint32_t> tokens, BaseWork& work) {
  const TransformKernels& kernels = TransformKernelsFor(isa_);
  TransformAnalysisJob job;
  job.matrix = analysis.data();
  job.matrix_stride = TransformObject::AnalysisStride(base);
  job.width = base.width;
  for (const uint32_t token : tokens) {
    job.coefficients = std::max(job.coefficients, work.plans[classes_[token]].coefficients);
  }
  job.coefficients = static_cast<uint32_t>(AlignUp(job.coefficients, 16));
  job.values = centred_.data();
  job.rows = static_cast<uint32_t>(tokens.size());
  job.out = coefficients_.data();
  kernels.analyse(job);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const ClassPlan& plan = work.plans[classes_[tokens[i]]];
    const TransformLevels levels =
        kernels.quantise(coefficients_.data() + i * job.matrix_stride, plan.inverse_step, plan.coefficients,
                         work.levels.data() + size_t{tokens[i]} * base.rank);
    if (!levels.fits || levels.magnitude > kMaxLevelSum) beyond_[tokens[i]] = 1;
  }
}

void TransformTileEncoder::Symbolise(const TransformGroup& group) {
  size_t symbols = 0;
  for (uint32_t base = 0; base < group.bases.size(); ++base) {
    for (const uint8_t row_class : classes_) {
      if (row_class != kTransformRawRow) symbols += work_[base].plans[row_class].coefficients;
    }
  }
  // Vectors of the last step may read behind the symbols.
  const size_t room = AlignUp(symbols, kRansLanes);
  contexts_.resize(room);
  codes_.resize(room);
  lows_.resize(room);
  escapes_.clear();
  size_t at = 0;
  for (uint32_t base = 0; base < group.bases.size(); ++base) {
    for (uint32_t token = 0; token < classes_.size(); ++token) {
      if (classes_[token] == kTransformRawRow) continue;
      const ClassPlan& plan = work_[base].plans[classes_[token]];
      TransformSymbolJob job;
      job.count = plan.coefficients;
      job.levels = work_[base].levels.data() + size_t{token} * group.bases[base].rank;
      job.bypass_bits = plan.bypass_bits.data();
      job.max_magnitudes = plan.max_magnitudes.data();
      job.codes = codes_.data() + at;
      job.lows = lows_.data() + at;
      std::copy(plan.contexts.begin(), plan.contexts.end(), contexts_.begin() + static_cast<ptrdiff_t>(at));
      if (TransformKernelsFor(isa_).symbolise(job)) {
        for (uint32_t j = 0; j < job.count; ++j) {
          if (job.codes[j] == 0) escapes_.push_back(static_cast<int16_t>(job.levels[j] >> plan.bypass_bits[j]));
        }
      }
      at += plan.coefficients;
    }
  }
  symbols_ = static_cast<uint32_t>(symbols);
}

void TransformTileEncoder::EncodeSymbols(TransformEncodeJob& job) {
  // A word a symbol, another for its bypass bits, and one a class.
  const size_t most = size_t{2} * symbols_ + classes_.size();
  words_.resize(most + 2 * kWordSlack);
  job.symbols = symbols_;
  job.contexts = contexts_.data();
  job.codes = codes_.data();
  job.lows = lows_.data();
  job.table = codec_internal::TransformEncodeTable();
  job.words = words_.data() + kWordSlack + most;
  std::fill(std::begin(job.states), std::end(job.states), kRansLowerBound);
  const uint32_t full_steps = symbols_ / kRansLanes;
  codec_internal::EncodeTransformStepsScalar(job, full_steps, static_cast<uint32_t>(CeilDiv(symbols_, kRansLanes)));
  TransformKernelsFor(isa_).encode(job, 0, full_steps);

  uint32_t cumulative[kTransformClassSymbols] = {};
  for (uint32_t i = 1; i < kTransformClassSymbols; ++i) {
    cumulative[i] = cumulative[i - 1] + kTransformClassFrequencies[i - 1];
  }
  for (size_t row = classes_.size(); row-- > 0;) {
    const uint32_t frequency = kTransformClassFrequencies[classes_[row]];
    uint32_t& state = job.states[row % kRansLanes];
    if (RansMustSpill(state, frequency, kTransformProbBits)) {
      *--job.words = static_cast<uint16_t>(state);
      state >>= 16;
    }
    state = RansPush(state, PackEncodeEntry(frequency, cumulative[classes_[row]]), kTransformProbBits);
  }
}

void TransformTileEncoder::WriteTile(const TransformGroup& group, const TransformTileInput& input,
                                     const TransformEncodeJob& job, std::vector<uint8_t>& out) const {
  const auto word_count = static_cast<size_t>(words_.data() + words_.size() - kWordSlack - job.words);
  const auto raw_rows = static_cast<size_t>(std::count(classes_.begin(), classes_.end(), kTransformRawRow));
  const size_t at = out.size();
  out.resize(at + kTransformWordsOffset + 2 * (word_count + escapes_.size() + raw_rows * group.width()));
  uint8_t* tile = out.data() + at;
  StoreLe<uint16_t>(static_cast<uint16_t>(input.step), tile);
  StoreLe<uint16_t>(static_cast<uint16_t>(input.group), tile + 2);
  tile[4] = static_cast<uint8_t>(input.calibration);
  tile[5] = 0;
  StoreLe<uint16_t>(static_cast<uint16_t>(raw_rows), tile + 6);
  StoreLe<uint32_t>(static_cast<uint32_t>(word_count), tile + 8);
  StoreLe<uint32_t>(static_cast<uint32_t>(escapes_.size()), tile + 12);
  for (uint32_t lane = 0; lane < kRansLanes; ++lane) {
    StoreLe(job.states[lane], tile + kTransformStatesOffset + 4 * lane);
  }
  tile += kTransformWordsOffset;
  for (size_t i = 0; i < word_count; ++i, tile += 2) StoreLe<uint16_t>(job.words[i], tile);
  for (const int16_t escape : escapes_) {
    StoreLe<uint16_t>(static_cast<uint16_t>(escape), tile);
    tile += 2;
  }
  const codec_internal::RowKernels& kernels = codec_internal::RowKernelsFor(isa_);
  for (size_t token = 0; token < classes_.size(); ++token) {
    if (classes_[token] != kTransformRawRow) continue;
    for (size_t base = 0; base < group.bases.size(); ++base) {
      const uint32_t width = group.bases[base].width;
      kernels.narrow(TransformRawRowDType(input.dtype), input.rows[base].data() + token * width, width, tile);
      tile += size_t{2} * width;
    }
  }
}

}  // namespace kdn
