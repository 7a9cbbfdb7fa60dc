#include <cassert>
#include <cstring>

#include "kernels/base/bytes.h"
#include "kernels/codec/lossless_kernels.h"

namespace kdn::codec_internal {
namespace {

uint32_t LoadElement(uint32_t bytes, const uint8_t* p) {
  switch (bytes) {
    case 1:
      return *p;
    case 2:
      return LoadLe<uint16_t>(p);
    default:
      return LoadLe<uint32_t>(p);
  }
}

void StoreElement(uint32_t bytes, uint32_t element, uint8_t* p) {
  switch (bytes) {
    case 1:
      *p = static_cast<uint8_t>(element);
      break;
    case 2:
      StoreLe(static_cast<uint16_t>(element), p);
      break;
    default:
      StoreLe(element, p);
  }
}

uint32_t LanesOfStep(uint32_t elements, uint32_t step) {
  const uint32_t left = elements - step * kRansLanes;
  return left < kRansLanes ? left : kRansLanes;
}

void SplitFullSteps(DType dtype, const uint8_t* elements, uint32_t steps, uint8_t* exponents, uint8_t* records) {
  SplitElements(dtype, elements, steps * kRansLanes, exponents, records);
}

void SymboliseFullSteps(SymbolJob& job, uint32_t steps) { SymboliseElements(job, 0, steps * kRansLanes); }

void Price(const uint32_t* counts, const uint32_t* costs, uint32_t* totals) {
  for (uint32_t shape = 0; shape < kCostShapes; ++shape) {
    totals[shape] = 0;
    for (uint32_t symbol = 0; symbol < kRansSymbols; ++symbol) {
      totals[shape] += counts[symbol] * costs[symbol * kCostShapes + shape];
    }
  }
}

constexpr LosslessKernels kScalarKernels = {DecodeStepsScalar, EncodeStepsScalar, SplitFullSteps, SymboliseFullSteps,
                                            Price};

}  // namespace

bool DecodeStepsScalar(DecodeJob& job, uint32_t first, uint32_t last) {
  const ElementFields fields = job.fields;
  for (uint32_t step = first; step < last; ++step) {
    const uint32_t lanes = LanesOfStep(job.elements, step);
    const uint32_t* pattern = job.pattern + static_cast<size_t>(step % job.pattern_steps) * kRansLanes;
    const uint8_t* record = job.raw + static_cast<size_t>(step) * fields.record_bytes();
    uint8_t* out = job.out + static_cast<size_t>(step) * kRansLanes * fields.bytes;
    for (uint32_t lane = 0; lane < lanes; ++lane) {
      uint32_t& state = job.states[lane];
      const uint32_t entry = job.table[(pattern[lane] & 0xffff) + RansSlot(state, job.prob_bits)];
      state = RansAdvance(state, entry, job.prob_bits);
      if (RansNeedsRefill(state)) {
        if (job.words == job.words_end) return false;
        state = RansRefill(state, LoadLe<uint16_t>(job.words));
        job.words += 2;
      }
      uint32_t exponent = (pattern[lane] >> 16) - DecodeEntrySymbol(entry);
      if (DecodeEntrySymbol(entry) == kRansEscape) {
        if (job.escapes == job.escapes_end) return false;
        exponent = *job.escapes++;
      }
      StoreElement(fields.bytes, JoinElement(fields, exponent, LoadRawBits(fields, record, lane)),
                   out + lane * fields.bytes);
    }
  }
  return true;
}

void EncodeStepsScalar(EncodeJob& job, uint32_t first, uint32_t last) {
  for (uint32_t step = last; step-- > first;) {
    const uint32_t* pattern = job.pattern + static_cast<size_t>(step % job.pattern_steps) * kRansLanes;
    const uint8_t* symbols = job.symbols + static_cast<size_t>(step) * kRansLanes;
    for (uint32_t lane = LanesOfStep(job.elements, step); lane-- > 0;) {
      uint32_t& state = job.states[lane];
      const uint32_t entry = job.table[(pattern[lane] & 0xffff) + symbols[lane]];
      if (RansMustSpill(state, EncodeEntryFrequency(entry), job.prob_bits)) {
        *--job.words = static_cast<uint16_t>(state);
        state >>= 16;
      }
      state = RansPush(state, entry, job.prob_bits);
    }
  }
}

void SplitElements(DType dtype, const uint8_t* elements, uint32_t count, uint8_t* exponents, uint8_t* records) {
  const ElementFields fields = FieldsOf(dtype);
  std::memset(records, 0, static_cast<size_t>(CeilDiv(count, kRansLanes)) * fields.record_bytes());
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t element = LoadElement(fields.bytes, elements + static_cast<size_t>(i) * fields.bytes);
    exponents[i] = static_cast<uint8_t>(ExponentOf(fields, element));
    uint8_t* record = records + static_cast<size_t>(i / kRansLanes) * fields.record_bytes();
    StoreRawBits(fields, RawBitsOf(fields, element), record, i % kRansLanes);
  }
}

void SymboliseElements(SymbolJob& job, uint32_t begin, uint32_t end) {
  for (uint32_t i = begin; i < end; ++i) {
    const uint8_t exponent = job.symbols[i];
    const auto symbol = static_cast<uint8_t>(job.offsets[i % (job.pattern_steps * kRansLanes)] - exponent);
    if (symbol >= kRansEscape) *job.escapes++ = exponent;
    job.symbols[i] = symbol < kRansEscape ? symbol : uint8_t{kRansEscape};
  }
}

const LosslessKernels& KernelsFor(Isa isa) {
  const LosslessKernels* kernels = &kScalarKernels;
  if (isa == Isa::kAvx2) kernels = Avx2Kernels();
  if (isa == Isa::kAvx512) kernels = Avx512Kernels();
  assert(kernels != nullptr);
  return *kernels;
}

}  // namespace kdn::codec_internal
