#include <algorithm>
#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/codec/transform_kernels.h"
#include "kernels/codec/transform_row_core.h"

namespace kdn::codec_internal {
namespace {

// Calls take(symbol, frequency) for the symbols of a table in ascending order.
template <typename Take>
void ForEachSymbol(const TransformTable& table, Take take) {
  take(0, table.escape);
  for (uint32_t symbol = 1; symbol <= 2 * uint32_t{table.max_magnitude} + 1; ++symbol) {
    take(symbol, table.magnitudes[TransformMagnitude(TransformSymbolNumber(symbol))]);
  }
}

std::vector<uint32_t> MakeDecodeTable() {
  std::vector<uint32_t> entries;
  entries.reserve(size_t{kTransformTables} * kTransformSlots);
  for (const TransformTable& table : kTransformTableOf) {
    ForEachSymbol(table, [&](uint32_t symbol, uint32_t frequency) {
      for (uint32_t bias = 0; bias < frequency; ++bias) entries.push_back(PackDecodeEntry(frequency, bias, symbol));
    });
  }
  return entries;
}

std::vector<uint32_t> MakeEncodeTable() {
  std::vector<uint32_t> entries(size_t{kTransformTables} * kTransformSymbols);
  for (uint32_t i = 0; i < kTransformTables; ++i) {
    uint32_t cumulative = 0;
    ForEachSymbol(kTransformTableOf[i], [&](uint32_t symbol, uint32_t frequency) {
      entries[size_t{i} * kTransformSymbols + symbol] = PackEncodeEntry(frequency, cumulative);
      cumulative += frequency;
    });
  }
  return entries;
}

// Takes a refill word for a state that needs one. False when there is none.
bool Refill(TransformDecodeJob& job, uint32_t& state) {
  if (!RansNeedsRefill(state)) return true;
  if (job.words_end - job.words < 2) return false;
  state = RansRefill(state, LoadLe<uint16_t>(job.words));
  job.words += 2;
  return true;
}

void Spill(TransformEncodeJob& job, uint32_t& state) {
  *--job.words = static_cast<uint16_t>(state);
  state >>= 16;
}

bool DecodeSteps(TransformDecodeJob& job, uint32_t first, uint32_t last) {
  return DecodeTransformStepsScalar(job, first, last);
}

void EncodeSteps(TransformEncodeJob& job, uint32_t first, uint32_t last) {
  EncodeTransformStepsScalar(job, first, last);
}

void Synthesise(const TransformSynthesisJob& job) {
  for (uint32_t row = 0; row < job.rows; ++row) {
    const int16_t* values = job.values + size_t{row} * job.value_stride;
    for (uint32_t i = 0; i < job.channels; ++i) {
      const uint32_t channel = job.channel + i;
      uint32_t sum = 0;  // modulo 2^32
      for (uint32_t pair = 0; pair < job.pair_count; ++pair) {
        const int16_t* entries = job.pairs + (size_t{pair} * job.width + channel) * 2;
        sum += static_cast<uint32_t>(entries[0] * values[2 * pair]);
        sum += static_cast<uint32_t>(entries[1] * values[2 * pair + 1]);
      }
      job.out[row][i] =
          TransformChannel(static_cast<int32_t>(sum), job.steps[row], job.scales[channel], job.means[channel]);
    }
  }
}

void Analyse(const TransformAnalysisJob& job) {
  for (uint32_t row = 0; row < job.rows; ++row) {
    const float* values = job.values + size_t{row} * job.width;
    float* out = job.out + size_t{row} * job.matrix_stride;
    std::fill_n(out, job.coefficients, 0.0f);
    for (uint32_t i = 0; i < job.width; ++i) {
      const float* entries = job.matrix + size_t{i} * job.matrix_stride;
      for (uint32_t j = 0; j < job.coefficients; ++j) {
        const float product = entries[j] * values[i];
        out[j] = out[j] + product;
      }
    }
  }
}

bool Centre(const float* values, const float* means, uint32_t count, float* out) {
  return CentreCore(values, means, count, out);
}
TransformLevels Quantise(const float* coefficients, float inverse_step, uint32_t count, int16_t* levels) {
  return QuantiseCore(coefficients, inverse_step, count, levels);
}
bool Symbolise(const TransformSymbolJob& job) { return SymboliseCore(job); }
void Attend(const TransformAttentionJob& job) { AttendCore(job); }

constexpr TransformKernels kScalarKernels = {DecodeSteps, EncodeSteps, Synthesise, Analyse,
                                             Centre,      Quantise,    Symbolise,  Attend};

}  // namespace

const uint32_t* TransformDecodeTable() {
  static const auto* const table = new std::vector<uint32_t>(MakeDecodeTable());
  return table->data();
}

const uint32_t* TransformEncodeTable() {
  static const auto* const table = new std::vector<uint32_t>(MakeEncodeTable());
  return table->data();
}

bool DecodeTransformStepsScalar(TransformDecodeJob& job, uint32_t first, uint32_t last) {
  for (uint32_t step = first; step < last; ++step) {
    const uint32_t begin = step * kRansLanes;
    const uint32_t lanes = std::min(kRansLanes, job.symbols - begin);
    int32_t numbers[kRansLanes];
    for (uint32_t lane = 0; lane < lanes; ++lane) {
      uint32_t& state = job.states[lane];
      const uint32_t table = TransformTableIndex(job.contexts[begin + lane]);
      const uint32_t entry = job.table[table * kTransformSlots + RansSlot(state, kTransformProbBits)];
      state = RansAdvance(state, entry, kTransformProbBits);
      if (!Refill(job, state)) return false;
      const uint32_t symbol = DecodeEntrySymbol(entry);
      if (symbol != 0) {
        numbers[lane] = TransformSymbolNumber(symbol);
        continue;
      }
      if (job.escapes_end - job.escapes < 2) return false;
      numbers[lane] = static_cast<int16_t>(LoadLe<uint16_t>(job.escapes));
      job.escapes += 2;
    }
    for (uint32_t lane = 0; lane < lanes; ++lane) {
      const uint32_t context = job.contexts[begin + lane];
      const uint32_t bits = TransformBypassBits(context);
      uint32_t& state = job.states[lane];
      const uint32_t low = RansBypass(state, bits);
      state >>= bits;
      if (!Refill(job, state)) return false;
      job.values[begin + lane] = static_cast<int16_t>(TransformValue(context, numbers[lane], low));
    }
  }
  return true;
}

void EncodeTransformStepsScalar(TransformEncodeJob& job, uint32_t first, uint32_t last) {
  for (uint32_t step = last; step-- > first;) {
    const uint32_t begin = step * kRansLanes;
    const uint32_t lanes = std::min(kRansLanes, job.symbols - begin);
    for (uint32_t lane = lanes; lane-- > 0;) {
      const uint32_t bits = TransformBypassBits(job.contexts[begin + lane]);
      if (bits == 0) continue;
      uint32_t& state = job.states[lane];
      if (RansMustSpillBypass(state, bits)) Spill(job, state);
      state = state << bits | job.lows[begin + lane];
    }
    for (uint32_t lane = lanes; lane-- > 0;) {
      const uint32_t table = TransformTableIndex(job.contexts[begin + lane]);
      const uint32_t entry = job.table[table * kTransformSymbols + job.codes[begin + lane]];
      uint32_t& state = job.states[lane];
      if (RansMustSpill(state, EncodeEntryFrequency(entry), kTransformProbBits)) Spill(job, state);
      state = RansPush(state, entry, kTransformProbBits);
    }
  }
}

const TransformKernels& TransformKernelsFor(Isa isa) {
  const TransformKernels* kernels = isa == Isa::kAvx512 ? Avx512TransformKernels()
                                    : isa == Isa::kAvx2 ? Avx2TransformKernels()
                                                        : nullptr;
  return kernels == nullptr ? kScalarKernels : *kernels;
}

}  // namespace kdn::codec_internal
