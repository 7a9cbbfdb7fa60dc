#include "kernels/codec/q4_encode_core.h"
#include "kernels/codec/q4_kernels.h"

namespace kdn::codec_internal {
namespace {

void DecodeRows(const Q4DecodeJob& job, uint32_t first, uint32_t count, float* out) {
  for (uint32_t row = first; row < first + count; ++row, out += job.dim) {
    for (uint32_t block = 0, channel = 0; block < job.blocks; ++block) {
      DecodeQ4BlockScalar(job, row, block, channel, out + channel);
      channel += Q4BlockAt(job.dim, channel);
    }
  }
}

bool EncodeRows(const Q4EncodeJob& job) { return EncodeQ4Rows<PlainBlocks>(job); }

void SumRows(const float* values, uint32_t rows, uint32_t dim, float* sums) { SumRowsCore(values, rows, dim, sums); }

constexpr Q4Kernels kScalar = {DecodeRows, EncodeRows, SumRows};

}  // namespace

void DecodeQ4BlockScalar(const Q4DecodeJob& job, uint32_t row, uint32_t block, uint32_t channel, float* out) {
  const uint32_t size = Q4BlockAt(job.dim, channel);
  const uint8_t* codes = job.codes + (size_t{row} * job.dim + channel) / 2;
  int32_t levels[kQ4MaxBlock];
  for (uint32_t i = 0; i < size / 2; ++i) {
    levels[i] = kQ4Levels[codes[i] & 15];
    levels[i + size / 2] = kQ4Levels[codes[i] >> 4];
  }
  for (uint32_t stride = size / 2; stride > 0; stride /= 2) {
    for (uint32_t i = 0; i < size; ++i) {
      if ((i & stride) != 0) continue;
      const int32_t a = levels[i];
      const int32_t b = levels[i + stride];
      levels[i] = a + b;
      levels[i + stride] = a - b;
    }
  }
  const float factor = Q4Factor(job.scales[size_t{row} * job.blocks + block], job.base);
  for (uint32_t i = 0; i < size; ++i) {
    const float product = static_cast<float>(levels[i]) * factor;
    const float value = BitsFloat(FloatBits(product) ^ job.signs[channel + i]);
    out[i] = job.means == nullptr ? value : value + job.means[channel + i];
  }
}

const Q4Kernels& Q4KernelsFor(Isa isa) {
  if (isa == Isa::kAvx512 && Avx512Q4Kernels() != nullptr) return *Avx512Q4Kernels();
  if (isa == Isa::kAvx2 && Avx2Q4Kernels() != nullptr) return *Avx2Q4Kernels();
  return kScalar;
}

}  // namespace kdn::codec_internal
