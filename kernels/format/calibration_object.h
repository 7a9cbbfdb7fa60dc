#ifndef KDN_KERNELS_FORMAT_CALIBRATION_OBJECT_H_
#define KDN_KERNELS_FORMAT_CALIBRATION_OBJECT_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/base/sha256.h"
#include "kernels/layout/model_spec.h"

// What all calibration objects have in common: a header by which they are told apart, and the SHA-256 of their bytes as
// their name. What follows is the business of the profile (kernels/codec/TILE_FORMATS.md).

namespace kdn {

inline constexpr uint32_t kCalibrationMagic = 0x4f4e444b;  // "KDNO"
inline constexpr uint16_t kCalibrationVersion = 1;
inline constexpr size_t kMinCalibrationBytes = 24;
inline constexpr uint64_t kMaxCalibrationBytes = uint64_t{64} << 20;

// Persisted values.
enum class CalibrationKind : uint8_t {
  kLossless = 1,   // tables of profile lossless; of no model, or of any of its shape
  kTransform = 2,  // transforms of profile transform, of the model whose fingerprint they carry
};

// "lossless", "transform"; "unknown" for other values.
std::string_view CalibrationKindName(CalibrationKind kind);

// The kind of the object whose bytes these are, judged by size and header alone. The input is hostile. InvalidArgument
// for a wrong size, magic, kind, or another model's fingerprint; Unimplemented for a later version.
absl::StatusOr<CalibrationKind> CheckCalibrationHeader(ByteSpan bytes, const Fingerprint& fingerprint);

// As above, of an object of whatever model.
absl::StatusOr<CalibrationKind> PeekCalibrationKind(ByteSpan bytes);

// The fingerprint that an object carries. InvalidArgument also for a kind that carries none.
absl::StatusOr<Fingerprint> FingerprintOfCalibration(ByteSpan bytes);

}  // namespace kdn

#endif  // KDN_KERNELS_FORMAT_CALIBRATION_OBJECT_H_
