#include "kernels/format/profile.h"

#include <array>

namespace kdn {
namespace {

constexpr std::array<std::string_view, kMaxProfileId + 1> kNames = {"raw", "lossless",  "int8",
                                                                    "q4",  "transform", "cachegen"};
constexpr int kUnknownLoss = -1;

int LossRank(ProfileId profile) {
  switch (profile) {
    case ProfileId::kRaw:
    case ProfileId::kLossless:
      return 0;
    case ProfileId::kInt8:
      return 1;
    case ProfileId::kQ4:
      return 2;
    case ProfileId::kTransform:
    case ProfileId::kCacheGen:
      return 3;
  }
  return kUnknownLoss;
}

}  // namespace

std::string_view ProfileName(ProfileId profile) {
  const auto index = static_cast<uint8_t>(profile);
  return index < kNames.size() ? kNames[index] : "unknown";
}

std::optional<ProfileId> ParseProfile(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<ProfileId>(i);
  }
  return std::nullopt;
}

bool LosesNoMoreThan(ProfileId stored, ProfileId lossiest) {
  const int loss = LossRank(stored);
  return loss != kUnknownLoss && loss <= LossRank(lossiest);
}

bool LosesAlike(ProfileId a, ProfileId b) { return LosesNoMoreThan(a, b) && LosesNoMoreThan(b, a); }

}  // namespace kdn
