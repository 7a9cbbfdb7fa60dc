#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "client/kdn/admin.h"
#include "client/kdn/client_impl.h"
#include "kdn/v1/admin.pb.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Json = nlohmann::ordered_json;

constexpr size_t kMaxRequestBytes = size_t{1} << 20;

Json ToJson(const Message& message);

// Value of a field, or of its element `index` when repeated.
Json ValueToJson(const Message& message, const FieldDescriptor* field, int index) {
  const Reflection* reflection = message.GetReflection();
  const bool repeated = index >= 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(message, field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return repeated ? reflection->GetRepeatedUInt32(message, field, index) : reflection->GetUInt32(message, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return repeated ? reflection->GetRepeatedUInt64(message, field, index) : reflection->GetUInt64(message, field);
    case FieldDescriptor::CPPTYPE_INT64:
      return repeated ? reflection->GetRepeatedInt64(message, field, index) : reflection->GetInt64(message, field);
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text =
          repeated ? reflection->GetRepeatedString(message, field, index) : reflection->GetString(message, field);
      return field->type() == FieldDescriptor::TYPE_BYTES ? Hex(AsBytes(text)) : text;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(repeated ? reflection->GetRepeatedMessage(message, field, index)
                             : reflection->GetMessage(message, field));
    default:
      return nullptr;
  }
}

Json MapToJson(const Message& message, const FieldDescriptor* field) {
  Json object = Json::object();
  const Reflection* reflection = message.GetReflection();
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    const Message& entry = reflection->GetRepeatedMessage(message, field, i);
    const Descriptor* type = entry.GetDescriptor();
    object[entry.GetReflection()->GetString(entry, type->map_key())] = ValueToJson(entry, type->map_value(), -1);
  }
  return object;
}

Json ToJson(const Message& message) {
  Json object = Json::object();
  const Descriptor* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    if (field->is_map()) {
      object[field->name()] = MapToJson(message, field);
    } else if (field->is_repeated()) {
      Json array = Json::array();
      const int size = message.GetReflection()->FieldSize(message, field);
      for (int k = 0; k < size; ++k) array.push_back(ValueToJson(message, field, k));
      object[field->name()] = std::move(array);
    } else {
      object[field->name()] = ValueToJson(message, field, -1);
    }
  }
  return object;
}

absl::Status SetFromJson(const Json& value, const FieldDescriptor* field, Message& message) {
  const Reflection* reflection = message.GetReflection();
  const auto wrong_type = [field] { return InvalidArgument("request field ", field->name(), " has the wrong type"); };
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      if (!value.is_boolean()) return wrong_type();
      reflection->SetBool(&message, field, value.get<bool>());
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_UINT32:
      if (!value.is_number_unsigned() || value.get<uint64_t>() > UINT32_MAX) return wrong_type();
      reflection->SetUInt32(&message, field, value.get<uint32_t>());
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_UINT64:
      if (!value.is_number_unsigned()) return wrong_type();
      reflection->SetUInt64(&message, field, value.get<uint64_t>());
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_STRING: {
      if (!value.is_string()) return wrong_type();
      std::string text = value.get<std::string>();
      if (field->type() == FieldDescriptor::TYPE_BYTES) {
        std::vector<uint8_t> bytes;
        if (!ParseHex(text, bytes)) return InvalidArgument("request field ", field->name(), " is not hexadecimal");
        text.assign(bytes.begin(), bytes.end());
      }
      reflection->SetString(&message, field, text);
      return absl::OkStatus();
    }
    default:
      return wrong_type();
  }
}

absl::Status RequestFromJson(std::string_view text, Message& request) {
  if (text.size() > kMaxRequestBytes) return InvalidArgument("the request has ", text.size(), " bytes of JSON");
  const Json json = Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return InvalidArgument("the request is no JSON object");
  for (const auto& [name, value] : json.items()) {
    const FieldDescriptor* field = request.GetDescriptor()->FindFieldByName(name);
    if (field == nullptr || field->is_repeated()) {
      return InvalidArgument(request.GetDescriptor()->name(), " has no field \"", name, "\"");
    }
    KDN_RETURN_IF_ERROR(SetFromJson(value, field, request));
  }
  return absl::OkStatus();
}

std::string Dump(const Json& json) {
  return json.dump(/*indent=*/-1, /*indent_char=*/' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace

absl::StatusOr<std::string> Admin::CallJson(std::string_view method, std::string_view request_json,
                                            int64_t timeout_ms) {
  KDN_RETURN_IF_ERROR(client_.CheckProcess());
  if (method == "Health") {
    KDN_ASSIGN_OR_RETURN(const std::string status, Health());
    return Dump(Json{{"status", status}});
  }
  const google::protobuf::ServiceDescriptor* service =
      v1::StatusRequest::descriptor()->file()->FindServiceByName("Admin");
  const google::protobuf::MethodDescriptor* found = service->FindMethodByName(std::string(method));
  if (found == nullptr) return InvalidArgument("the Admin service has no method \"", method, "\"");
  auto* factory = google::protobuf::MessageFactory::generated_factory();
  const std::unique_ptr<Message> request(factory->GetPrototype(found->input_type())->New());
  const std::unique_ptr<Message> response(factory->GetPrototype(found->output_type())->New());
  KDN_RETURN_IF_ERROR(RequestFromJson(request_json.empty() ? "{}" : request_json, *request));
  KDN_RETURN_IF_ERROR(client_.CallAdmin(method, *request, timeout_ms, *response));
  return Dump(ToJson(*response));
}

}  // namespace kdn
