#ifndef KDN_CLIENT_KDN_CALIBRATION_H_
#define KDN_CLIENT_KDN_CALIBRATION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/sha256.h"
#include "kernels/format/calibration_object.h"
#include "kernels/layout/model_spec.h"

// Calibration objects as the client's calls name them: proto/kdn/v1/kdn.proto documents the fields.

namespace kdn {

struct CalibrationInfo {
  Digest digest;  // SHA-256 of its bytes
  Fingerprint fingerprint;
  CalibrationKind kind = CalibrationKind::kTransform;
  uint64_t object_bytes = 0;
  int64_t created_ms = 0;
  std::string display_name;
  bool active = false;  // what clients encode with unless told otherwise
};

enum class CalibrationActivation { kLeave, kActivate };

struct PutCalibrationOptions {
  CalibrationActivation activation = CalibrationActivation::kLeave;
  std::string display_name;  // at most 256 bytes
  int64_t timeout_ms = 0;    // 0 = ClientOptions::transfer_timeout_ms
};

struct PutCalibrationResult {
  CalibrationInfo info;
  bool created = false;  // false: the server had it
};

enum class CalibrationDeletion { kUnlessActive, kForced };

// Shared by the client's cache and whoever uses it.
using CalibrationBytes = std::shared_ptr<const std::vector<uint8_t>>;

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_CALIBRATION_H_
