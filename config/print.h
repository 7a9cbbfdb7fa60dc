#ifndef KDN_CONFIG_PRINT_H_
#define KDN_CONFIG_PRINT_H_

#include <string>

#include "config/config.h"

namespace kdn::config {

enum class PrintFormat { kYaml, kJson };
enum class PrintOrigins { kNo, kYes };

// All keys with their values in canonical form. No key holds a secret, only paths of files that do.
// YAML, with origins as comments at the ends of lines or without, is a configuration file of the same values. So is
// JSON without origins; with them, every value becomes {"value": ..., "origin": "..."}.
std::string PrintConfig(const Config& config, PrintFormat format, PrintOrigins origins);

// The commented example: every key with its help, type and default. It is committed as config/kdnd.example.yaml.
std::string ExampleFile();

// The text of kdnd --help: usage, options, and all keys with types, defaults and help.
std::string HelpText();

}  // namespace kdn::config

#endif  // KDN_CONFIG_PRINT_H_
