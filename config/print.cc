#include "config/print.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>

#include "config/key_table.h"
#include "kernels/base/status.h"

namespace kdn::config {
namespace {

// True if YAML reads the text back as it is, without quotes.
bool IsPlainScalar(std::string_view text) {
  constexpr std::array<std::string_view, 4> kNullWords = {"null", "Null", "NULL", "~"};
  if (text.empty() || std::find(kNullWords.begin(), kNullWords.end(), text) != kNullWords.end()) return false;
  const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '/' || c == '.'; };
  return is_word(text.front()) && is_word(text.back()) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return is_word(c) || c == '-' || c == '_' || c == ':'; });
}

// Strings of a Config have no control characters, so that two escapes suffice.
std::string YamlScalar(std::string_view text) {
  if (IsPlainScalar(text)) return std::string(text);
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  out.push_back('"');
  return out;
}

std::string PrintYaml(const Config& config, PrintOrigins origins) {
  constexpr size_t kOriginColumn = 48;
  std::string out;
  std::string_view section;
  for (const KeySpec& spec : KeyTable()) {
    if (spec.section() != section) {
      section = spec.section();
      out.append(StrCat(section, ":\n"));
    }
    std::string line = StrCat("  ", spec.key(), ": ", YamlScalar(ValueText(spec, config)));
    if (origins == PrintOrigins::kYes) {
      line.append(line.size() < kOriginColumn ? kOriginColumn - line.size() : 1, ' ');
      line.append(StrCat("# ", ToString(config.OriginOf(spec.name))));
    }
    out.append(line).push_back('\n');
  }
  return out;
}

struct JsonValue {
  const KeySpec& spec;
  const Config& config;

  nlohmann::ordered_json operator()(const BoolField& field) const { return field.access.at(config); }
  nlohmann::ordered_json operator()(const IntegerField& field) const { return field.access.at(config); }
  nlohmann::ordered_json operator()(const RatioField& field) const { return field.access.at(config); }
  template <typename Other>
  nlohmann::ordered_json operator()(const Other&) const {
    return ValueText(spec, config);
  }
};

std::string PrintJson(const Config& config, PrintOrigins origins) {
  nlohmann::ordered_json out;
  for (const KeySpec& spec : KeyTable()) {
    nlohmann::ordered_json value = std::visit(JsonValue{spec, config}, spec.field);
    auto& slot = out[std::string(spec.section())][std::string(spec.key())];
    if (origins == PrintOrigins::kNo) {
      slot = std::move(value);
    } else {
      slot["value"] = std::move(value);
      slot["origin"] = ToString(config.OriginOf(spec.name));
    }
  }
  // Names of files may hold any bytes; dump() must not throw over them.
  return out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

// "# " lines of at most kColumns, broken between words.
void AppendComment(std::string& out, std::string_view indent, std::string_view text) {
  constexpr size_t kColumns = 100;
  std::string line;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (!line.empty() && indent.size() + line.size() + 3 + word.size() > kColumns) {
      out.append(StrCat(indent, "# ", line, "\n"));
      line.clear();
    }
    if (!line.empty()) line.push_back(' ');
    line.append(word);
  }
  out.append(StrCat(indent, "# ", line, "\n"));
}

}  // namespace

std::string PrintConfig(const Config& config, PrintFormat format, PrintOrigins origins) {
  return format == PrintFormat::kYaml ? PrintYaml(config, origins) : PrintJson(config, origins);
}

std::string ExampleFile() {
  const Config defaults;
  std::string out;
  AppendComment(out, "", "kdnd.yaml: every key of the daemon at its default. Remove what you do not change.");
  AppendComment(out, "",
                "Precedence: flag --section.key=value, then environment KDN_SECTION__KEY, then this file, then the "
                "default. kdnd --check-config --config FILE checks a file, kdnd --print-config shows where each value "
                "comes from.");
  AppendComment(out, "",
                "Sizes: 1048576, 256MiB (powers of 1024), 2GB (powers of 1000). Durations: 50ms, 30s, 10m, "
                "168h. Ratios: 0.9 or 90%.");
  std::string_view section;
  for (const KeySpec& spec : KeyTable()) {
    if (spec.section() != section) {
      section = spec.section();
      out.append(StrCat("\n", section, ":\n"));
    }
    AppendComment(out, "  ", StrCat(spec.help, ". (", TypeText(spec), ")"));
    out.append(StrCat("  ", spec.key(), ": ", YamlScalar(ValueText(spec, defaults)), "\n"));
  }
  return out;
}

}  // namespace kdn::config
