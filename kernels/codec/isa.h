#ifndef KDN_KERNELS_CODEC_ISA_H_
#define KDN_KERNELS_CODEC_ISA_H_

#include <cstdint>
#include <string_view>

// Which implementation of the coders runs. All of them produce the same bytes and the same values.

namespace kdn {

enum class Isa : uint8_t {
  kScalar = 0,  // the readable reference, any machine
  kAvx2 = 1,    // with POPCNT and F16C
  kAvx512 = 2,  // F, BW, DQ and VL, with BMI1 and BMI2
};

// Whether this build and this machine can run `isa`.
bool IsaSupported(Isa isa);

// The fastest supported one.
Isa BestIsa();

// "scalar", "avx2", "avx512".
std::string_view IsaName(Isa isa);

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_ISA_H_
