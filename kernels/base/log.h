#ifndef KDN_KERNELS_BASE_LOG_H_
#define KDN_KERNELS_BASE_LOG_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

// Structured log of the daemon: one event a line on stderr, as JSON or as readable text. Libraries that run inside
// somebody else's process (client/) do not log. Never pass token ids, text, KV or keys: lengths, counts, short digests.

namespace kdn {

enum class LogLevel { kDebug, kInfo, kWarn, kError };
enum class LogFormat { kJson, kText };

struct LogField {
  std::string_view name;
  std::variant<int64_t, uint64_t, double, std::string_view, std::string> value;
};

// Sets the process-wide threshold and format. Thread-safe; default kInfo, kJson.
void ConfigureLog(LogLevel level, LogFormat format);

// Writes one event: `event` is a short constant phrase ("segment sealed"), `fields` its values. Thread-safe.
void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});

// The line Log would write, without its time stamp: for tests and for other sinks.
std::string FormatLogLine(LogFormat format, LogLevel level, std::string_view event,
                          std::initializer_list<LogField> fields);

}  // namespace kdn

#endif  // KDN_KERNELS_BASE_LOG_H_
