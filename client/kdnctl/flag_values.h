#ifndef KDN_CLIENT_KDNCTL_FLAG_VALUES_H_
#define KDN_CLIENT_KDNCTL_FLAG_VALUES_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace kdn::ctl {

// Options of kdnctl whose values have a form. What get_type_name() says of each is what help shows and completion
// offers: words apart by '|', or kFileType.
inline constexpr char kFileType[] = "FILE";

// An integer with its unit, as in 500ms, 5s, 10m or 24h, from `least_ms` to a day.
struct DurationValue {
  int64_t& value_ms;
  int64_t least_ms;
};
CLI::Option* AddDuration(CLI::App& app, const std::string& name, DurationValue value, const std::string& help);

// A size with its unit: 256KiB, 2MiB.
CLI::Option* AddSize(CLI::App& app, const std::string& name, uint64_t& bytes, const std::string& help);

// One of `words` ("table|json|yaml").
CLI::Option* AddChoice(CLI::App& app, const std::string& name, std::string& value, const std::string& words,
                       const std::string& help);

// The path of a file.
CLI::Option* AddFile(CLI::App& app, const std::string& name, std::string& path, const std::string& help);

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_FLAG_VALUES_H_
