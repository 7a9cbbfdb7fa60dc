#include "kernels/base/log.h"

#include <fmt/chrono.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>

#include "kernels/base/bytes.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

std::atomic<LogFormat> g_format{LogFormat::kJson};

spdlog::logger& Sink() {
  // Leaked on purpose: threads may log while statics are destroyed.
  static spdlog::logger* const logger = [] {
    auto* made = new spdlog::logger("kdn", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->flush_on(spdlog::level::debug);
    made->set_level(spdlog::level::info);
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

const char* LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

std::string JsonValue(const LogField& field) {
  return std::visit(
      [](const auto& value) {
        return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
      },
      field.value);
}

std::string TimeStamp() {
  const auto now = std::chrono::system_clock::now();
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03d}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)), millis);
}

}  // namespace

void ConfigureLog(LogLevel level, LogFormat format) {
  g_format.store(format);
  Sink().set_level(ToSpdlog(level));
}

std::string FormatLogLine(LogFormat format, LogLevel level, std::string_view event,
                          std::initializer_list<LogField> fields) {
  std::string line;
  if (format == LogFormat::kJson) {
    line = StrCat("\"level\":\"", LevelName(level), "\",\"event\":", nlohmann::json(event).dump());
    for (const LogField& field : fields) line += StrCat(",", nlohmann::json(field.name).dump(), ":", JsonValue(field));
    return line;
  }
  line = StrCat(LevelName(level), " ", event);
  for (const LogField& field : fields) line += StrCat(" ", field.name, "=", JsonValue(field));
  return line;
}

void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  if (!Sink().should_log(ToSpdlog(level))) return;
  const LogFormat format = g_format.load();
  const std::string line = FormatLogLine(format, level, event, fields);
  if (format == LogFormat::kJson) {
    Sink().log(ToSpdlog(level), "{{\"time\":\"{}\",{}}}", TimeStamp(), line);
  } else {
    Sink().log(ToSpdlog(level), "{} {}", TimeStamp(), line);
  }
}

}  // namespace kdn
