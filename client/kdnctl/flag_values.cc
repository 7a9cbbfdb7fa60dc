#include "client/kdnctl/flag_values.h"

#include <charconv>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include "kernels/base/status.h"

namespace kdn::ctl {
namespace {

constexpr int64_t kMaxDurationMs = 24 * 3600 * 1000;

struct Unit {
  std::string_view name;
  uint64_t factor;
};
constexpr Unit kDurationUnits[] = {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
constexpr Unit kSizeUnits[] = {{"B", 1},     {"KiB", 1u << 10}, {"MiB", 1u << 20},    {"GiB", 1u << 30},
                               {"KB", 1000}, {"MB", 1'000'000}, {"GB", 1'000'000'000}};

struct Quantity {
  uint64_t number = 0;
  std::string_view unit;
};

std::optional<Quantity> Split(std::string_view text) {
  Quantity quantity;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), quantity.number);
  if (error != std::errc()) return std::nullopt;
  quantity.unit = text.substr(static_cast<size_t>(end - text.data()));
  return quantity;
}

// The value in the smallest unit; nullopt for an unknown unit or what does not fit 63 bits.
std::optional<uint64_t> Scale(const Quantity& quantity, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (unit.name != quantity.unit) continue;
    if (quantity.number > static_cast<uint64_t>(INT64_MAX) / unit.factor) return std::nullopt;
    return quantity.number * unit.factor;
  }
  return std::nullopt;
}

// A validator that turns the text into what `parse` makes of it; its errors are shown as they are.
CLI::Option* Transform(CLI::Option* option, std::function<std::string(std::string&)> parse, const char* type) {
  return option->transform(CLI::Validator(std::move(parse), ""))->type_name(type);
}

}  // namespace

CLI::Option* AddDuration(CLI::App& app, const std::string& name, DurationValue value, const std::string& help) {
  const auto parse = [least_ms = value.least_ms](std::string& text) -> std::string {
    const std::optional<Quantity> quantity = Split(text);
    if (quantity && quantity->unit.empty()) {
      return StrCat("'", text, "' has no unit: write ", text, "ms, ", text, "s or ", text, "m");
    }
    const std::optional<uint64_t> ms = quantity ? Scale(*quantity, kDurationUnits) : std::nullopt;
    if (!ms) return StrCat("'", text, "' is no duration: write 500ms, 5s, 10m or 24h");
    if (*ms < static_cast<uint64_t>(least_ms) || *ms > static_cast<uint64_t>(kMaxDurationMs)) {
      return StrCat("'", text, "' is not within ", least_ms, "ms to 24h");
    }
    text = std::to_string(*ms);
    return "";
  };
  return Transform(app.add_option(name, value.value_ms, help), parse, "DURATION");
}

CLI::Option* AddSize(CLI::App& app, const std::string& name, uint64_t& bytes, const std::string& help) {
  const auto parse = [](std::string& text) -> std::string {
    const std::optional<Quantity> quantity = Split(text);
    const std::optional<uint64_t> size = quantity ? Scale(*quantity, kSizeUnits) : std::nullopt;
    if (!size) return StrCat("'", text, "' is no size: write 256KiB, 2MiB or 2MB");
    text = std::to_string(*size);
    return "";
  };
  return Transform(app.add_option(name, bytes, help), parse, "SIZE");
}

CLI::Option* AddChoice(CLI::App& app, const std::string& name, std::string& value, const std::string& words,
                       const std::string& help) {
  const auto check = [words](std::string& text) -> std::string {
    const bool known = !text.empty() && StrCat("|", words, "|").find(StrCat("|", text, "|")) != std::string::npos;
    return known && text.find('|') == std::string::npos ? "" : StrCat("'", text, "' is not one of ", words);
  };
  return Transform(app.add_option(name, value, help), check, words.c_str());
}

CLI::Option* AddFile(CLI::App& app, const std::string& name, std::string& path, const std::string& help) {
  return app.add_option(name, path, help)->type_name(kFileType);
}

}  // namespace kdn::ctl
