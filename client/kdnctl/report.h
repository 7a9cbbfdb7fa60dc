#ifndef KDN_CLIENT_KDNCTL_REPORT_H_
#define KDN_CLIENT_KDNCTL_REPORT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

// What a command found, once as a document (for machines) and once as tables (for people). Every command makes both, so
// that every command honours -o.

namespace kdn::ctl {

enum class OutputFormat { kTable, kJson, kYaml };

// Keys keep the order in which they were set.
using Json = nlohmann::ordered_json;

struct Table {
  std::vector<std::string> columns;  // empty: rows are "name value" pairs
  std::vector<std::vector<std::string>> rows;
};

struct Report {
  Json document = Json::object();
  std::vector<Table> tables;
};

// The document with "schema": "kdn.ctl/v1" in front, as JSON or YAML, or the tables. Ends in a newline unless empty.
std::string Render(const Report& report, OutputFormat format);

// "6.1 GiB", "512 B".
std::string HumanBytes(uint64_t bytes);
// "12,480".
std::string HumanCount(uint64_t count);
// "2.31x", "-" when either is 0 (unknown).
std::string HumanRatio(uint64_t raw_bytes, uint64_t coded_bytes);
// "2026-11-21T13:14:15Z"; "-" for 0.
std::string HumanTime(int64_t unix_ms);
// "3d 4h", "5m 20s", "0s": the two largest units.
std::string HumanDuration(int64_t duration_ms);

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_REPORT_H_
