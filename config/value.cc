#include "config/value.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

#include "kernels/base/status.h"

namespace kdn::config {
namespace {

constexpr size_t kMaxQuotedBytes = 64;
constexpr uint64_t kMaxBytes = std::numeric_limits<int64_t>::max();
constexpr int64_t kMaxDurationMs = int64_t{100} * 365 * 24 * 3600 * 1000;

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr std::array<Unit, 9> kByteUnits = {{{"B", 1},
                                             {"KiB", uint64_t{1} << 10},
                                             {"MiB", uint64_t{1} << 20},
                                             {"GiB", uint64_t{1} << 30},
                                             {"TiB", uint64_t{1} << 40},
                                             {"KB", 1'000},
                                             {"MB", 1'000'000},
                                             {"GB", 1'000'000'000},
                                             {"TB", 1'000'000'000'000}}};

// From the largest down, as FormatDuration tries them. A day is not tried, so that a week prints as 168h.
constexpr std::array<Unit, 4> kDurationUnits = {{{"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}, {"ms", 1}}};
constexpr Unit kDay = {"d", 86'400'000};

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  });
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Moves the leading digits of `text` into `value`. False if there is none or they overflow.
bool TakeNumber(std::string_view& text, uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

absl::Status BytesError(std::string_view text) {
  return InvalidArgument("expected a size such as 256MiB, 2GB or 1048576, got ", Quoted(text));
}

absl::Status DurationError(std::string_view text) {
  return InvalidArgument("expected a duration such as 50ms, 30s, 10m or 168h, got ", Quoted(text));
}

absl::Status HostPortError(std::string_view text) {
  return InvalidArgument("expected host:port such as 127.0.0.1:9460 or [::1]:9460, got ", Quoted(text));
}

const Unit* FindDurationUnit(std::string_view name) {
  if (name == kDay.name) return &kDay;
  const auto unit = std::find_if(kDurationUnits.begin(), kDurationUnits.end(),
                                 [name](const Unit& candidate) { return candidate.name == name; });
  return unit == kDurationUnits.end() ? nullptr : &*unit;
}

bool IsHost(std::string_view host, bool bracketed) {
  constexpr size_t kMaxHostBytes = 253;
  if (host.empty() || host.size() > kMaxHostBytes) return false;
  return std::all_of(host.begin(), host.end(), [bracketed](char c) {
    if (bracketed) return std::isxdigit(static_cast<unsigned char>(c)) != 0 || c == ':' || c == '.';
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_';
  });
}

// Bytes of the UTF-8 sequence at the start of `text`, or 0 if it is malformed, overlong, a surrogate or too large.
size_t Utf8SequenceBytes(std::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  const bool out_of_range = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
                            (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
  return out_of_range ? 0 : length;
}

}  // namespace

absl::StatusOr<bool> ParseBool(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return InvalidArgument("expected true or false, got ", Quoted(text));
}

absl::StatusOr<int64_t> ParseInteger(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return InvalidArgument("expected an integer such as 128, got ", Quoted(text));
  }
  return value;
}

absl::StatusOr<uint64_t> ParseBytes(std::string_view text) {
  std::string_view rest = text;
  uint64_t number = 0;
  if (!TakeNumber(rest, number)) return BytesError(text);
  if (rest.starts_with(' ')) rest.remove_prefix(1);
  uint64_t factor = 1;
  if (!rest.empty()) {
    const auto unit = std::find_if(kByteUnits.begin(), kByteUnits.end(),
                                   [rest](const Unit& candidate) { return EqualsIgnoringCase(candidate.name, rest); });
    if (unit == kByteUnits.end()) {
      constexpr std::string_view kAmbiguous = "kmgtKMGT";
      if (rest.size() == 1 && kAmbiguous.find(rest[0]) != std::string_view::npos) {
        const char letter = static_cast<char>(std::toupper(static_cast<unsigned char>(rest[0])));
        return InvalidArgument("ambiguous unit in ", Quoted(text), ": write ", letter, "iB (powers of 1024) or ",
                               letter, "B (powers of 1000)");
      }
      return BytesError(text);
    }
    factor = unit->factor;
  }
  if (number > kMaxBytes / factor) return InvalidArgument("size is too large: ", Quoted(text));
  return number * factor;
}

std::string FormatBytes(uint64_t bytes) {
  if (bytes == 0) return "0";
  std::string best = std::to_string(bytes);
  size_t best_digits = best.size();
  // Fewest digits win; binary units come first in the table and so win ties.
  for (const Unit& unit : kByteUnits) {
    if (unit.factor == 1 || bytes % unit.factor != 0) continue;
    const std::string digits = std::to_string(bytes / unit.factor);
    if (digits.size() >= best_digits) continue;
    best_digits = digits.size();
    best = StrCat(digits, unit.name);
  }
  return best;
}

absl::StatusOr<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  if (text == "0") return std::chrono::milliseconds(0);
  std::string_view rest = text;
  uint64_t total_ms = 0;
  if (rest.empty()) return DurationError(text);
  while (!rest.empty()) {
    uint64_t number = 0;
    if (!TakeNumber(rest, number)) return DurationError(text);
    const size_t unit_bytes = static_cast<size_t>(std::find_if(rest.begin(), rest.end(), IsDigit) - rest.begin());
    const std::string_view unit_name = rest.substr(0, unit_bytes);
    rest.remove_prefix(unit_bytes);
    if (unit_name.empty()) return InvalidArgument("duration ", Quoted(text), " needs a unit: ms, s, m, h or d");
    const Unit* unit = FindDurationUnit(unit_name);
    if (unit == nullptr) return DurationError(text);
    if (number > (static_cast<uint64_t>(kMaxDurationMs) - total_ms) / unit->factor) {
      return InvalidArgument("duration is longer than 100 years: ", Quoted(text));
    }
    total_ms += number * unit->factor;
  }
  return std::chrono::milliseconds(static_cast<int64_t>(total_ms));
}

std::string FormatDuration(std::chrono::milliseconds duration) {
  const auto duration_ms = static_cast<uint64_t>(duration.count());
  if (duration_ms == 0) return "0s";
  const auto unit = std::find_if(kDurationUnits.begin(), kDurationUnits.end(),
                                 [duration_ms](const Unit& candidate) { return duration_ms % candidate.factor == 0; });
  return StrCat(duration_ms / unit->factor, unit->name);
}

absl::StatusOr<double> ParseRatio(std::string_view text) {
  std::string_view number = text;
  const bool percent = number.ends_with('%');
  if (percent) number.remove_suffix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size() || !std::isfinite(value)) {
    return InvalidArgument("expected a ratio such as 0.9 or 90%, got ", Quoted(text));
  }
  return percent ? value / 100 : value;
}

std::string FormatRatio(double ratio) {
  std::array<char, 32> buffer;
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), ratio);
  return std::string(buffer.data(), end);
}

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return HostPortError(text);
  std::string_view host = text.substr(0, colon);
  const std::string_view port_text = text.substr(colon + 1);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (!IsHost(host, bracketed)) return HostPortError(text);
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (error != std::errc() || end != port_text.data() + port_text.size()) {
    return InvalidArgument("expected a port of 0..65535 in ", Quoted(text));
  }
  return HostPort{std::string(host), port, {}};
}

absl::StatusOr<HostPort> ParseUnixAddress(std::string_view text) {
  const bool prefixed = text.starts_with(kUnixPrefix);
  const std::string_view path = prefixed ? text.substr(kUnixPrefix.size()) : std::string_view();
  if (!path.starts_with('/') || path.ends_with('/')) {
    return InvalidArgument("expected unix: and the absolute path of a socket such as unix:/run/kdn/kdn.sock, got ",
                           Quoted(text));
  }
  if (path.size() > kMaxUnixPathBytes) {
    return InvalidArgument("the path of a Unix socket has at most ", kMaxUnixPathBytes, " bytes, got ", path.size());
  }
  if (path.find_first_of("%?#") != std::string_view::npos || !IsPrintableUtf8(path)) {
    return InvalidArgument("the path of a Unix socket cannot hold %, ?, # or control characters, got ", Quoted(text));
  }
  return HostPort{{}, 0, std::string(path)};
}

std::string Quoted(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text.substr(0, kMaxQuotedBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7F) {
      out.append({'\\', 'x', kHex[byte >> 4], kHex[byte & 15]});
    } else {
      if (c == '"' || c == '\\') out.push_back('\\');
      out.push_back(c);
    }
  }
  out.push_back('"');
  if (text.size() > kMaxQuotedBytes) out.append(StrCat("... (", text.size(), " bytes)"));
  return out;
}

bool IsPrintableUtf8(std::string_view text) {
  while (!text.empty()) {
    const auto lead = static_cast<unsigned char>(text[0]);
    if (lead < 0x20 || lead == 0x7F) return false;
    const size_t length = Utf8SequenceBytes(text);
    if (length == 0) return false;
    // C1 controls, which YAML does not allow raw in a document.
    if (lead == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace kdn::config
