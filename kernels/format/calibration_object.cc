#include "kernels/format/calibration_object.h"

#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr size_t kVersionOffset = 4;
constexpr size_t kKindOffset = 6;
constexpr size_t kFingerprintOffset = 8;  // of kind transform

}  // namespace

std::string_view CalibrationKindName(CalibrationKind kind) {
  switch (kind) {
    case CalibrationKind::kLossless:
      return "lossless";
    case CalibrationKind::kTransform:
      return "transform";
  }
  return "unknown";
}

absl::StatusOr<CalibrationKind> PeekCalibrationKind(ByteSpan bytes) {
  if (bytes.size() < kMinCalibrationBytes || bytes.size() > kMaxCalibrationBytes) {
    return InvalidArgument("calibration object of ", bytes.size(), " bytes: must be ", kMinCalibrationBytes, " to ",
                           kMaxCalibrationBytes);
  }
  if (LoadLe<uint32_t>(bytes.data()) != kCalibrationMagic) {
    return InvalidArgument("not a calibration object: it does not begin with KDNO");
  }
  const uint16_t version = LoadLe<uint16_t>(bytes.data() + kVersionOffset);
  if (version > kCalibrationVersion) {
    return Unimplemented("calibration object of version ", version, ", this software reads up to ",
                         kCalibrationVersion);
  }
  const uint8_t kind = bytes[kKindOffset];
  const bool known = kind == static_cast<uint8_t>(CalibrationKind::kLossless) ||
                     kind == static_cast<uint8_t>(CalibrationKind::kTransform);
  if (version == 0 || !known) {
    return InvalidArgument("calibration object of version ", version, " and kind ", static_cast<int>(kind));
  }
  return static_cast<CalibrationKind>(kind);
}

absl::StatusOr<Fingerprint> FingerprintOfCalibration(ByteSpan bytes) {
  KDN_ASSIGN_OR_RETURN(const CalibrationKind kind, PeekCalibrationKind(bytes));
  if (kind != CalibrationKind::kTransform || bytes.size() < kFingerprintOffset + Digest::kBytes) {
    return InvalidArgument("calibration object of kind ", CalibrationKindName(kind), " and ", bytes.size(),
                           " bytes carries no model's fingerprint");
  }
  return *Digest::FromBytes(bytes.subspan(kFingerprintOffset, Digest::kBytes));
}

absl::StatusOr<CalibrationKind> CheckCalibrationHeader(ByteSpan bytes, const Fingerprint& fingerprint) {
  KDN_ASSIGN_OR_RETURN(const CalibrationKind kind, PeekCalibrationKind(bytes));
  if (kind != CalibrationKind::kTransform) return kind;
  KDN_ASSIGN_OR_RETURN(const Fingerprint own, FingerprintOfCalibration(bytes));
  if (own != fingerprint) {
    return InvalidArgument("calibration object is of model ", own.ToShortHex(), ", not of ", fingerprint.ToShortHex());
  }
  return kind;
}

}  // namespace kdn
