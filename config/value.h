#ifndef KDN_CONFIG_VALUE_H_
#define KDN_CONFIG_VALUE_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "config/config.h"

namespace kdn::config {

// Text forms of the value types. Each Parse function answers InvalidArgument naming what was expected, an example and
// the (shortened, escaped) text; each Format function returns the shortest text that parses back to the same value.
inline constexpr size_t kMaxValueBytes = 4096;

absl::StatusOr<bool> ParseBool(std::string_view text);

absl::StatusOr<int64_t> ParseInteger(std::string_view text);

// An integer with an optional unit: B, KiB, MiB, GiB, TiB (powers of 1024), KB, MB, GB, TB (powers of 1000), in any
// letter case. Refuses the ambiguous K, M, G, T and what does not fit 63 bits.
absl::StatusOr<uint64_t> ParseBytes(std::string_view text);
std::string FormatBytes(uint64_t bytes);

// One or more integers each with a unit of ms, s, m, h, d, as in 50ms or 1h30m; or 0. At most 100 years.
absl::StatusOr<std::chrono::milliseconds> ParseDuration(std::string_view text);
std::string FormatDuration(std::chrono::milliseconds duration);

// A decimal such as 0.9, or a percentage such as 90%. Never NaN or infinite.
absl::StatusOr<double> ParseRatio(std::string_view text);
std::string FormatRatio(double ratio);

// host:port or [IPv6]:port. The host is checked for its characters, not resolved.
absl::StatusOr<HostPort> ParseHostPort(std::string_view text);

// unix:/path: absolute, of at most kMaxUnixPathBytes, without the characters that a URI gives a meaning.
inline constexpr std::string_view kUnixPrefix = "unix:";
inline constexpr size_t kMaxUnixPathBytes = 107;
absl::StatusOr<HostPort> ParseUnixAddress(std::string_view text);

// `text` in double quotes, at most 64 bytes of it, with what is not printable ASCII escaped: for messages.
std::string Quoted(std::string_view text);

// True if `text` is valid UTF-8 without control characters.
bool IsPrintableUtf8(std::string_view text);

}  // namespace kdn::config

#endif  // KDN_CONFIG_VALUE_H_
