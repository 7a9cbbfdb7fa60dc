// The half of key_table.h that gives rows their behaviour: text to member and back, by the type of the field.
#include <algorithm>
#include <cctype>

#include "absl/status/statusor.h"
#include "config/key_table.h"
#include "config/value.h"
#include "kernels/base/status.h"

namespace kdn::config {
namespace {

std::string Format(int64_t value) { return std::to_string(value); }
std::string Format(uint64_t value) { return FormatBytes(value); }
std::string Format(std::chrono::milliseconds value) { return FormatDuration(value); }
std::string Format(double value) { return FormatRatio(value); }

template <typename T>
std::string BoundsText(const Bounded<T>& field) {
  const bool zero_apart = field.zero == Zero::kOrZero && field.min > T{};
  return StrCat(Format(field.min), "..", Format(field.max), zero_apart ? " or 0" : "");
}

template <typename T>
absl::Status SetBounded(const Bounded<T>& field, const absl::StatusOr<T>& parsed, Config& config) {
  KDN_RETURN_IF_ERROR(parsed);
  const T value = *parsed;
  const bool allowed_zero = field.zero == Zero::kOrZero && value == T{};
  if (!allowed_zero && (value < field.min || value > field.max)) {
    return InvalidArgument("expected ", BoundsText(field), ", got ", Format(value));
  }
  field.access.mutable_at(config) = value;
  return absl::OkStatus();
}

std::string JoinNames(std::span<const std::string_view> names, std::string_view separator) {
  std::string out;
  for (const std::string_view name : names) {
    if (!out.empty()) out.append(separator);
    out.append(name);
  }
  return out;
}

absl::Status CheckName(std::string_view text) {
  constexpr size_t kMaxNameBytes = 63;
  const auto is_alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  const bool valid = !text.empty() && text.size() <= kMaxNameBytes && is_alphanumeric(text[0]) &&
                     std::all_of(text.begin(), text.end(),
                                 [&](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
  if (valid) return absl::OkStatus();
  return InvalidArgument("expected a name of 1 to 63 characters a-z 0-9 . _ - such as team-a, got ", Quoted(text));
}

// What is refused here may be a secret that was put in the place of a path: it is not repeated in the message.
absl::Status CheckPath(std::string_view text) {
  if (text.find("-----BEGIN") != std::string_view::npos) {
    return InvalidArgument("expected the path of a file such as /etc/kdn/server.pem, got the content of one");
  }
  if (!IsPrintableUtf8(text)) {
    return InvalidArgument("expected a path of UTF-8 without control characters, got ", text.size(), " other bytes");
  }
  return absl::OkStatus();
}

struct Setter {
  std::string_view text;
  Config& config;

  absl::Status operator()(const StringField& field) const {
    KDN_RETURN_IF_ERROR(field.rule == StringRule::kName ? CheckName(text) : CheckPath(text));
    if (field.rule == StringRule::kNonEmptyPath && text.empty()) {
      return InvalidArgument("expected a path such as /var/lib/kdn, got an empty value");
    }
    field.access.mutable_at(config) = std::string(text);
    return absl::OkStatus();
  }
  absl::Status operator()(const BoolField& field) const {
    KDN_ASSIGN_OR_RETURN(field.access.mutable_at(config), ParseBool(text));
    return absl::OkStatus();
  }
  absl::Status operator()(const IntegerField& field) const { return SetBounded(field, ParseInteger(text), config); }
  absl::Status operator()(const BytesField& field) const { return SetBounded(field, ParseBytes(text), config); }
  absl::Status operator()(const DurationField& field) const { return SetBounded(field, ParseDuration(text), config); }
  absl::Status operator()(const RatioField& field) const { return SetBounded(field, ParseRatio(text), config); }
  absl::Status operator()(const EnumField& field) const {
    const auto found = std::find(field.names.begin(), field.names.end(), text);
    if (found == field.names.end()) {
      return InvalidArgument("expected one of ", JoinNames(field.names, ", "), ", got ", Quoted(text));
    }
    field.set(config, static_cast<int>(found - field.names.begin()));
    return absl::OkStatus();
  }
  absl::Status operator()(const HostPortField& field) const {
    if (text.empty() && field.empty == EmptyAddress::kMeansOff) {
      field.access.mutable_at(config) = HostPort{};
      return absl::OkStatus();
    }
    const bool is_unix = field.unix_socket == UnixSocket::kAccepted && text.starts_with(kUnixPrefix);
    KDN_ASSIGN_OR_RETURN(field.access.mutable_at(config), is_unix ? ParseUnixAddress(text) : ParseHostPort(text));
    return absl::OkStatus();
  }
};

struct Getter {
  const Config& config;

  std::string operator()(const StringField& field) const { return field.access.at(config); }
  std::string operator()(const BoolField& field) const { return field.access.at(config) ? "true" : "false"; }
  std::string operator()(const EnumField& field) const {
    return std::string(field.names[static_cast<size_t>(field.get(config))]);
  }
  std::string operator()(const HostPortField& field) const { return ToString(field.access.at(config)); }
  template <typename T>
  std::string operator()(const Bounded<T>& field) const {
    return Format(field.access.at(config));
  }
};

struct TypeWriter {
  std::string operator()(const StringField& field) const { return field.rule == StringRule::kName ? "name" : "path"; }
  std::string operator()(const BoolField&) const { return "true|false"; }
  std::string operator()(const IntegerField& field) const { return StrCat("integer ", BoundsText(field)); }
  std::string operator()(const BytesField& field) const { return StrCat("size ", BoundsText(field)); }
  std::string operator()(const DurationField& field) const { return StrCat("duration ", BoundsText(field)); }
  std::string operator()(const RatioField& field) const { return StrCat("ratio ", BoundsText(field)); }
  std::string operator()(const EnumField& field) const { return JoinNames(field.names, "|"); }
  std::string operator()(const HostPortField& field) const {
    return StrCat("host:port", field.unix_socket == UnixSocket::kAccepted ? " or unix:/path" : "",
                  field.empty == EmptyAddress::kMeansOff ? " or \"\"" : "");
  }
};

}  // namespace

absl::Status SetValue(const KeySpec& spec, std::string_view text, Config& config) {
  if (text.size() > kMaxValueBytes) {
    return InvalidArgument("expected at most ", kMaxValueBytes, " bytes, got ", text.size());
  }
  return std::visit(Setter{text, config}, spec.field);
}

std::string ValueText(const KeySpec& spec, const Config& config) { return std::visit(Getter{config}, spec.field); }

std::string TypeText(const KeySpec& spec) { return std::visit(TypeWriter{}, spec.field); }

std::string EnvironmentName(const KeySpec& spec) {
  std::string name = StrCat("KDN_", spec.section(), "__", spec.key());
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

}  // namespace kdn::config
