#include "client/kdnctl/report.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace kdn::ctl {
namespace {

constexpr std::string_view kSchema = "kdn.ctl/v1";

std::vector<size_t> ColumnWidths(const Table& table) {
  std::vector<size_t> widths;
  const auto widen = [&widths](const std::vector<std::string>& row) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  };
  widen(table.columns);
  for (const auto& row : table.rows) widen(row);
  return widths;
}

void AppendRow(std::string& out, const std::vector<std::string>& row, const std::vector<size_t>& widths) {
  std::string line;
  for (size_t i = 0; i < row.size(); ++i) {
    line += row[i];
    if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
  }
  out += line + "\n";
}

std::string RenderTable(const Table& table) {
  const std::vector<size_t> widths = ColumnWidths(table);
  std::string out;
  if (!table.columns.empty()) AppendRow(out, table.columns, widths);
  for (const auto& row : table.rows) AppendRow(out, row, widths);
  return out;
}

// JSON scalars are YAML scalars, so a YAML document needs block structure only.
void AppendYaml(std::string& out, const Json& value, size_t indent) {
  const std::string margin(indent, ' ');
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, item] : value.items()) {
      out += margin + Json(key).dump() + ":";
      if (item.is_structured() && !item.empty()) {
        out += "\n";
        AppendYaml(out, item, indent + 2);
      } else {
        out += " " + item.dump() + "\n";
      }
    }
    return;
  }
  for (const Json& item : value) {
    if (!item.is_structured() || item.empty()) {
      out += margin + "- " + item.dump() + "\n";
      continue;
    }
    std::string block;
    AppendYaml(block, item, indent + 2);
    block.replace(indent, 1, "-");
    out += block;
  }
}

}  // namespace

std::string Render(const Report& report, OutputFormat format) {
  if (format == OutputFormat::kTable) {
    std::string out;
    for (const Table& table : report.tables) {
      if (!out.empty()) out += "\n";
      out += RenderTable(table);
    }
    return out;
  }
  Json document = Json::object();
  document["schema"] = kSchema;
  document.update(report.document);
  if (format == OutputFormat::kJson) return document.dump(2) + "\n";
  std::string out;
  AppendYaml(out, document, 0);
  return out;
}

std::string HumanBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string HumanCount(uint64_t count) {
  std::string digits = std::to_string(count);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(at, ",");
  return digits;
}

std::string HumanRatio(uint64_t raw_bytes, uint64_t coded_bytes) {
  if (raw_bytes == 0 || coded_bytes == 0) return "-";
  char text[32];
  std::snprintf(text, sizeof(text), "%.2fx", static_cast<double>(raw_bytes) / static_cast<double>(coded_bytes));
  return text;
}

std::string HumanDuration(int64_t duration_ms) {
  struct Unit {
    const char* name;
    int64_t seconds;
  };
  static constexpr Unit kUnits[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}};
  constexpr int kMostUnits = 2;
  int64_t left = duration_ms / 1000;
  std::string text;
  int units = 0;
  for (const Unit& unit : kUnits) {
    if (units == kMostUnits || (left < unit.seconds && (units == 0 || left == 0))) continue;
    text += (units++ == 0 ? "" : " ") + std::to_string(left / unit.seconds) + unit.name;
    left %= unit.seconds;
  }
  return text.empty() ? "0s" : text;
}

std::string HumanTime(int64_t unix_ms) {
  if (unix_ms == 0) return "-";
  const std::time_t seconds = unix_ms / 1000;
  std::tm parts;
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace kdn::ctl
