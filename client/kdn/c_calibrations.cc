#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "client/kdn/c_internal.h"

namespace kdn::c_api {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const CalibrationInfo& info) {
  return {{"digest", info.digest.ToHex()},
          {"fingerprint", info.fingerprint.ToHex()},
          {"kind", CalibrationKindName(info.kind)},
          {"object_bytes", info.object_bytes},
          {"created_ms", info.created_ms},
          {"display_name", info.display_name},
          {"active", info.active}};
}

kdn_bytes Dump(const Json& json) {
  return CopyBytes(json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace));
}

std::optional<Fingerprint> FingerprintOfModel(const kdn_model* model) {
  if (model == nullptr) return std::nullopt;
  return model->handle.fingerprint();
}

}  // namespace
}  // namespace kdn::c_api

using kdn::InvalidArgument;
using kdn::c_api::Guarded;
using kdn::c_api::OrEmpty;

// C has neither default arguments nor overloads.
// NOLINTBEGIN(readability-function-size)
extern "C" {

kdn_status kdn_calibration_put(kdn_client* client, const kdn_model* model, const uint8_t* data, size_t size,
                               const char* display_name, int32_t activate, int64_t timeout_ms, kdn_bytes* json) {
  return Guarded([&]() -> absl::Status {
    const kdn::ByteSpan bytes(data, size);
    std::optional<kdn::Fingerprint> fingerprint = kdn::c_api::FingerprintOfModel(model);
    if (!fingerprint.has_value()) {
      KDN_ASSIGN_OR_RETURN(fingerprint, kdn::FingerprintOfCalibration(bytes));
    }
    kdn::PutCalibrationOptions options;
    options.display_name = OrEmpty(display_name);
    if (activate != 0) options.activation = kdn::CalibrationActivation::kActivate;
    options.timeout_ms = timeout_ms;
    KDN_ASSIGN_OR_RETURN(const kdn::PutCalibrationResult put,
                         client->client->PutCalibration(*fingerprint, bytes, options));
    if (json == nullptr) return absl::OkStatus();
    nlohmann::ordered_json object = kdn::c_api::ToJson(put.info);
    object["created"] = put.created;
    *json = kdn::c_api::Dump(object);
    return absl::OkStatus();
  });
}

kdn_status kdn_calibration_get(kdn_client* client, const kdn_model* model, const uint8_t digest[32], int64_t timeout_ms,
                               kdn_bytes* bytes) {
  return Guarded([&]() -> absl::Status {
    KDN_ASSIGN_OR_RETURN(const kdn::CalibrationBytes found,
                         client->client->GetCalibration(kdn::c_api::FingerprintOfModel(model),
                                                        kdn::c_api::ReadDigest(digest), timeout_ms));
    *bytes = kdn::c_api::CopyBytes(kdn::AsStringView(*found));
    return absl::OkStatus();
  });
}

kdn_status kdn_calibration_list(kdn_client* client, const kdn_model* model, int64_t timeout_ms, kdn_bytes* json) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr) return InvalidArgument("model is null");
    KDN_ASSIGN_OR_RETURN(const std::vector<kdn::CalibrationInfo> infos,
                         client->client->ListCalibrations(model->handle.fingerprint(), timeout_ms));
    nlohmann::ordered_json objects = nlohmann::ordered_json::array();
    for (const kdn::CalibrationInfo& info : infos) objects.push_back(kdn::c_api::ToJson(info));
    *json = kdn::c_api::Dump(objects);
    return absl::OkStatus();
  });
}

kdn_status kdn_calibration_activate(kdn_client* client, const kdn_model* model, const uint8_t digest[32],
                                    int64_t timeout_ms) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr) return InvalidArgument("model is null");
    return client->client->ActivateCalibration(model->handle.fingerprint(), kdn::c_api::ReadDigest(digest), timeout_ms)
        .status();
  });
}

kdn_status kdn_calibration_delete(kdn_client* client, const kdn_model* model, const uint8_t digest[32], int32_t force,
                                  int64_t timeout_ms) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr) return InvalidArgument("model is null");
    const auto deletion = force != 0 ? kdn::CalibrationDeletion::kForced : kdn::CalibrationDeletion::kUnlessActive;
    return client->client->DeleteCalibration(model->handle.fingerprint(), kdn::c_api::ReadDigest(digest), deletion,
                                             timeout_ms);
  });
}

}  // extern "C"
// NOLINTEND(readability-function-size)
