#ifndef KDN_KERNELS_CUDA_LANES_H_
#define KDN_KERNELS_CUDA_LANES_H_

#include <cstdint>

#include "kernels/base/host_device.h"

// The 32 lanes of a warp as a policy, so that one source of the decoders runs as a warp on a GPU and as loops on a
// host: tests and fuzzers run the latter. A decoder is written in phases: what a phase does to a lane depends on that
// lane and on what every lane did in earlier phases, never on another lane in the same one.
//
//   PerLane<T>         a value a lane
//   Each(f)            f(lane) for every lane
//   Ballot(f)          the mask of the lanes for which f(lane) is true
//   Strided(count, f)  f(i) for every i below count, lanes taking turns
//   Sync()             orders what lanes wrote to shared memory before what they read after it

namespace kdn {

inline constexpr uint32_t kLanes = 32;

struct HostLanes {
  template <typename T>
  struct PerLane {
    T values[kLanes] = {};
    KDN_HD T& operator[](uint32_t lane) { return values[lane]; }
  };

  template <typename F>
  KDN_HD static void Each(F f) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) f(lane);
  }
  template <typename F>
  KDN_HD static uint32_t Ballot(F f) {
    uint32_t mask = 0;
    for (uint32_t lane = 0; lane < kLanes; ++lane) mask |= (f(lane) ? 1u : 0u) << lane;
    return mask;
  }
  template <typename F>
  KDN_HD static void Strided(uint32_t count, F f) {
    for (uint32_t i = 0; i < count; ++i) f(i);
  }
  KDN_HD static void Sync() {}
};

#if defined(__CUDACC__)

// A full warp. Every lane calls every method.
struct WarpLanes {
  template <typename T>
  struct PerLane {
    T value = {};
    __device__ T& operator[](uint32_t) { return value; }
  };

  __device__ static uint32_t Lane() { return threadIdx.x % kLanes; }

  template <typename F>
  __device__ static void Each(F f) {
    f(Lane());
  }
  template <typename F>
  __device__ static uint32_t Ballot(F f) {
    return __ballot_sync(0xffffffffu, f(Lane()));
  }
  template <typename F>
  __device__ static void Strided(uint32_t count, F f) {
    for (uint32_t i = Lane(); i < count; i += kLanes) f(i);
  }
  __device__ static void Sync() { __syncwarp(); }
};

#endif

KDN_HD inline uint32_t CountBits(uint32_t mask) {
#if defined(__CUDA_ARCH__)
  return static_cast<uint32_t>(__popc(mask));
#else
  return static_cast<uint32_t>(__builtin_popcount(mask));
#endif
}

// How many lanes of `mask` come before `lane`.
KDN_HD inline uint32_t CountBelow(uint32_t mask, uint32_t lane) { return CountBits(mask & ((1u << lane) - 1)); }

}  // namespace kdn

#endif  // KDN_KERNELS_CUDA_LANES_H_
