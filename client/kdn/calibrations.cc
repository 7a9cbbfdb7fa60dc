#include <algorithm>
#include <utility>

#include "client/kdn/client_impl.h"
#include "kernels/base/status.h"
#include "kernels/codec/transform_object.h"

// Calibration objects: put, get, list, and what store and retrieve find them by.

namespace kdn {
namespace {

// How long another client's activation may go unnoticed.
constexpr int64_t kActiveCalibrationNanos = int64_t{10} * 1'000'000'000;
constexpr size_t kMaxKnownModels = 1024;
constexpr size_t kMaxParsedTransforms = 4;

absl::StatusOr<CalibrationInfo> FromWire(const v1::ObjectSummary& wire) {
  CalibrationInfo info;
  const std::optional<Digest> digest = Digest::FromBytes(AsBytes(wire.digest()));
  const std::optional<Digest> fingerprint = Digest::FromBytes(AsBytes(wire.fingerprint()));
  if (!digest.has_value() || !fingerprint.has_value() || wire.kind() > UINT8_MAX) {
    return DataLoss("the server describes an object with a digest of ", wire.digest().size(),
                    " bytes, a fingerprint of ", wire.fingerprint().size(), ", kind ", wire.kind());
  }
  info.digest = *digest;
  info.fingerprint = *fingerprint;
  info.kind = static_cast<CalibrationKind>(wire.kind());
  info.object_bytes = wire.object_bytes();
  info.created_ms = wire.created_ms();
  info.display_name = wire.display_name();
  info.active = wire.active();
  return info;
}

void SetDigest(const Digest& digest, std::string* out) {
  out->assign(reinterpret_cast<const char*>(digest.bytes.data()), Digest::kBytes);
}

}  // namespace

absl::StatusOr<PutCalibrationResult> ClientImpl::PutCalibration(const Fingerprint& fingerprint, ByteSpan bytes,
                                                                const PutCalibrationOptions& options) {
  KDN_RETURN_IF_ERROR(CheckProcess());
  KDN_RETURN_IF_ERROR(CheckCalibrationHeader(bytes, fingerprint));
  v1::PutObjectBegin begin;
  SetDigest(fingerprint, begin.mutable_fingerprint());
  SetDigest(Sha256::Of(bytes), begin.mutable_digest());
  begin.set_object_bytes(bytes.size());
  begin.set_display_name(options.display_name);
  begin.set_activate(options.activation == CalibrationActivation::kActivate);
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(options.timeout_ms, options_.transfer_timeout_ms));
  v1::PutObjectResponse response;
  KDN_RETURN_IF_ERROR(transport_->PutObject(begin, bytes, limits, response));
  ForgetActive(fingerprint);
  PutCalibrationResult result;
  KDN_ASSIGN_OR_RETURN(result.info, FromWire(response.object()));
  result.created = response.created();
  return result;
}

absl::StatusOr<CalibrationBytes> ClientImpl::FindCalibration(const std::optional<Fingerprint>& fingerprint,
                                                             const Digest& digest, const CallLimits& limits) {
  KDN_RETURN_IF_ERROR(CheckProcess());
  return calibrations_.Get(digest, limits, [&]() -> absl::StatusOr<std::vector<uint8_t>> {
    v1::GetObjectRequest request;
    if (fingerprint.has_value()) SetDigest(*fingerprint, request.mutable_fingerprint());
    SetDigest(digest, request.mutable_digest());
    std::vector<uint8_t> bytes;
    KDN_RETURN_IF_ERROR(transport_->GetObject(request, limits, bytes));
    return bytes;
  });
}

absl::StatusOr<CalibrationBytes> ClientImpl::GetCalibration(const std::optional<Fingerprint>& fingerprint,
                                                            const Digest& digest, int64_t timeout_ms) {
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(timeout_ms, options_.transfer_timeout_ms));
  return FindCalibration(fingerprint, digest, limits);
}

absl::StatusOr<std::vector<CalibrationInfo>> ClientImpl::ListCalibrations(const Fingerprint& fingerprint,
                                                                          const CallLimits& limits) {
  v1::ListObjectsRequest request;
  SetDigest(fingerprint, request.mutable_fingerprint());
  v1::ListObjectsResponse response;
  KDN_RETURN_IF_ERROR(CallKdn("ListObjects", request, limits, response));
  std::vector<CalibrationInfo> infos;
  for (const v1::ObjectSummary& object : response.objects()) {
    KDN_ASSIGN_OR_RETURN(CalibrationInfo info, FromWire(object));
    infos.push_back(std::move(info));
  }
  return infos;
}

absl::StatusOr<std::vector<CalibrationInfo>> ClientImpl::ListCalibrations(const Fingerprint& fingerprint,
                                                                          int64_t timeout_ms) {
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(timeout_ms, options_.call_timeout_ms));
  return ListCalibrations(fingerprint, limits);
}

absl::StatusOr<CalibrationInfo> ClientImpl::ActivateCalibration(const Fingerprint& fingerprint, const Digest& digest,
                                                                int64_t timeout_ms) {
  v1::ActivateObjectRequest request;
  SetDigest(fingerprint, request.mutable_fingerprint());
  SetDigest(digest, request.mutable_digest());
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(timeout_ms, options_.transfer_timeout_ms));
  v1::ActivateObjectResponse response;
  KDN_RETURN_IF_ERROR(CallKdn("ActivateObject", request, limits, response));
  ForgetActive(fingerprint);
  return FromWire(response.object());
}

absl::Status ClientImpl::DeleteCalibration(const Fingerprint& fingerprint, const Digest& digest,
                                           CalibrationDeletion deletion, int64_t timeout_ms) {
  v1::DeleteObjectRequest request;
  SetDigest(fingerprint, request.mutable_fingerprint());
  SetDigest(digest, request.mutable_digest());
  request.set_force(deletion == CalibrationDeletion::kForced);
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(timeout_ms, options_.call_timeout_ms));
  v1::DeleteObjectResponse response;
  KDN_RETURN_IF_ERROR(CallKdn("DeleteObject", request, limits, response));
  ForgetActive(fingerprint);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const TransformObject>> ClientImpl::FindTransform(const ModelHandle& model,
                                                                                 const Digest& digest,
                                                                                 const CallLimits& limits) {
  // Another model's object of this digest goes on to Parse, which refuses it.
  const auto known = [&]() -> std::shared_ptr<const TransformObject> {
    mutex_.AssertHeld();
    const auto found = std::find_if(transforms_.begin(), transforms_.end(), [&](const auto& object) {
      return object->digest() == digest && object->fingerprint() == model.fingerprint();
    });
    return found == transforms_.end() ? nullptr : *found;
  };
  {
    absl::MutexLock lock(&mutex_);
    if (auto object = known(); object != nullptr) return object;
  }
  KDN_ASSIGN_OR_RETURN(const CalibrationBytes bytes, FindCalibration(model.fingerprint(), digest, limits));
  KDN_ASSIGN_OR_RETURN(std::shared_ptr<const TransformObject> object, TransformObject::Parse(*bytes, model.spec()));
  absl::MutexLock lock(&mutex_);
  if (auto other = known(); other != nullptr) return other;
  if (transforms_.size() >= kMaxParsedTransforms) transforms_.erase(transforms_.begin());
  transforms_.push_back(object);
  return object;
}

absl::StatusOr<std::optional<CalibrationInfo>> ClientImpl::ActiveCalibration(const Fingerprint& fingerprint,
                                                                             CalibrationKind kind,
                                                                             const CallLimits& limits) {
  const int64_t now = clock_.MonotonicNanos();
  const auto active = [kind](const std::vector<CalibrationInfo>& infos) {
    const auto found = std::find_if(infos.begin(), infos.end(),
                                    [kind](const CalibrationInfo& info) { return info.active && info.kind == kind; });
    return found == infos.end() ? std::nullopt : std::optional(*found);
  };
  {
    absl::MutexLock lock(&mutex_);
    const auto known = known_calibrations_.find(fingerprint);
    if (known != known_calibrations_.end() && now < known->second.until_nanos) return active(known->second.infos);
  }
  KDN_ASSIGN_OR_RETURN(std::vector<CalibrationInfo> infos, ListCalibrations(fingerprint, limits));
  std::optional<CalibrationInfo> found = active(infos);
  absl::MutexLock lock(&mutex_);
  if (known_calibrations_.size() >= kMaxKnownModels) known_calibrations_.clear();
  known_calibrations_[fingerprint] = {std::move(infos), now + kActiveCalibrationNanos};
  return found;
}

void ClientImpl::ForgetActive(const Fingerprint& fingerprint) {
  absl::MutexLock lock(&mutex_);
  known_calibrations_.erase(fingerprint);
}

}  // namespace kdn
