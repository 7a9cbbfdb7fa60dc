#ifndef KDN_CONFIG_KEY_TABLE_H_
#define KDN_CONFIG_KEY_TABLE_H_

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/status.h"
#include "config/config.h"

namespace kdn::config {

// How a key reaches its member of Config, for reading and for writing.
template <typename T>
struct Access {
  T& (*mutable_at)(Config&);
  const T& (*at)(const Config&);
};

// Inclusive bounds. kOrZero additionally allows zero (which then means "off", "never" or "automatic": the help says).
enum class Zero { kWithinBounds, kOrZero };

template <typename T>
struct Bounded {
  Access<T> access;
  T min;
  T max;
  Zero zero;
};

enum class StringRule {
  kPath,  // may be empty
  kNonEmptyPath,
  kName,  // 1 to 63 of a-z 0-9 . _ -, the first a letter or digit
};

struct StringField {
  Access<std::string> access;
  StringRule rule;
};
struct BoolField {
  Access<bool> access;
};
struct IntegerField : Bounded<int64_t> {};
struct BytesField : Bounded<uint64_t> {};
struct DurationField : Bounded<std::chrono::milliseconds> {};
struct RatioField : Bounded<double> {};
struct EnumField {
  // Spellings in the order of the enumerators, which count from 0.
  std::span<const std::string_view> names;
  void (*set)(Config&, int);
  int (*get)(const Config&);
};
enum class EmptyAddress { kRefused, kMeansOff };
enum class UnixSocket { kRefused, kAccepted };
struct HostPortField {
  Access<HostPort> access;
  EmptyAddress empty;
  UnixSocket unix_socket;
};

using Field =
    std::variant<StringField, BoolField, IntegerField, BytesField, DurationField, RatioField, EnumField, HostPortField>;

// One key. Parsing, validation, printing, help and the example file are all derived from these rows.
struct KeySpec {
  std::string_view name;          // "section.key"
  std::string_view default_text;  // as one would write it in the file; valid for `field`
  Field field;
  std::string_view help;  // one line, no full stop

  std::string_view section() const { return name.substr(0, name.find('.')); }
  std::string_view key() const { return name.substr(name.find('.') + 1); }
};

// All keys, those of a section together, in the order of printing.
std::span<const KeySpec> KeyTable();

// The row of `name`, or nullptr.
const KeySpec* FindKey(std::string_view name);

bool IsSection(std::string_view section);

// Parses `text` and writes it to the member of `config` that `spec` names; origins are left alone. InvalidArgument,
// with what was expected, an example and the value, if the text is not of the key's type or out of bounds; `config` is
// then unchanged.
absl::Status SetValue(const KeySpec& spec, std::string_view text, Config& config);

// The value of the key in canonical form: SetValue() accepts it and yields the same value.
std::string ValueText(const KeySpec& spec, const Config& config);

// The type for people, with choices or bounds: "none|token|mtls", "size 64KiB..3MiB", "true|false".
std::string TypeText(const KeySpec& spec);

// "KDN_SERVER__LISTEN" for server.listen.
std::string EnvironmentName(const KeySpec& spec);

}  // namespace kdn::config

#endif  // KDN_CONFIG_KEY_TABLE_H_
