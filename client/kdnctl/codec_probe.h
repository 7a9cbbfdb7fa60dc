#ifndef KDN_CLIENT_KDNCTL_CODEC_PROBE_H_
#define KDN_CLIENT_KDNCTL_CODEC_PROBE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/format/container.h"
#include "kernels/layout/model_spec.h"

// What codec commands show of files: pure functions of their bytes, which are hostile.

namespace kdn::ctl {

// How a profile may be used, and what it costs.
struct ProfileFacts {
  ProfileId profile = ProfileId::kRaw;
  bool encodes = false;  // this build
  bool is_exact = false;
  bool needs_calibration = false;
  std::string dtypes;
};
std::vector<ProfileFacts> AllProfiles();

// How close KV of that profile is to what was stored: "exact", "k_rounded" (exact but for one rounding of K, stored
// before its rotary embedding), "high" (int8), "good" (q4), "by_level" (transform, cachegen), "unknown" (where the
// state of K was not noted).
std::string_view QualityOf(std::string_view profile, std::string_view k_state);

// A quality that an object of kind transform offers.
struct LevelFacts {
  double ratio = 0;
  int step = 0;  // sixteenths of an octave
  std::optional<double> expected_kl;
};
struct TransformFacts {
  uint32_t groups = 0;
  uint32_t queries = 0;  // per KV head
  std::vector<LevelFacts> levels;
};
// From an object's header and levels alone. InvalidArgument when it is no object of kind transform or is truncated.
absl::StatusOr<TransformFacts> ReadTransformFacts(ByteSpan object);

struct ProfileUse {
  uint64_t tiles = 0;
  uint64_t stored_bytes = 0;
  uint64_t raw_bytes = 0;  // KV before coding; 0 without the model's spec
};
// By profile name; `spec` null: raw bytes stay 0. Requires CheckAgainstModel OK with it.
std::map<std::string, ProfileUse> UseByProfile(const ContainerHeader& header, const ModelSpec* spec);

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_CODEC_PROBE_H_
