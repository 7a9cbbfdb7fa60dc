#ifndef KDN_KERNELS_FORMAT_PROFILE_H_
#define KDN_KERNELS_FORMAT_PROFILE_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace kdn {

// How a tile is coded. Persisted in every container's tile directory: never renumber.
enum class ProfileId : uint8_t {
  kRaw = 0,        // P0: the elements themselves
  kLossless = 1,   // P1: rANS-coded exponents
  kInt8 = 2,       // P2
  kQ4 = 3,         // P3
  kTransform = 4,  // P4
  kCacheGen = 5,   // CG
};

inline constexpr uint8_t kMaxProfileId = 5;

// The user's name ("raw", "lossless", "int8", "q4", "transform", "cachegen"); "unknown" for other values.
std::string_view ProfileName(ProfileId profile);
std::optional<ProfileId> ParseProfile(std::string_view name);

// Whether KV stored as `stored` may be given to who accepts `lossiest`. From exact to lossiest: raw and lossless; int8;
// q4; transform and cachegen, which have levels of their own.
bool LosesNoMoreThan(ProfileId stored, ProfileId lossiest);

// Whether who accepts one accepts the other: they are of one class of loss, of which there are kLossClasses.
bool LosesAlike(ProfileId a, ProfileId b);
inline constexpr int kLossClasses = 4;

}  // namespace kdn

#endif  // KDN_KERNELS_FORMAT_PROFILE_H_
