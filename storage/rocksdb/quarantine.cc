#include "storage/rocksdb/quarantine.h"

#include <cstdlib>
#include <filesystem>
#include <map>
#include <system_error>

#include "kernels/base/status.h"
#include "storage/rocksdb/durable_file.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {

absl::StatusOr<std::string> Quarantine(rocksdb::Env& env, const QuarantineRule& rule) {
  const std::string prefix = rule.name + ".quarantined-";
  std::map<int64_t, std::filesystem::path> kept;  // by <n>
  std::error_code ignored;                        // what cannot be listed or removed now is next time
  for (const auto& entry : std::filesystem::directory_iterator(rule.parent, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.compare(0, prefix.size(), prefix) != 0) continue;
    kept[std::strtoll(name.c_str() + name.rfind('-') + 1, nullptr, 10)] = entry.path();
  }
  const int64_t number = kept.empty() ? 0 : kept.rbegin()->first + 1;
  const std::string target = StrCat(rule.parent, "/", prefix, rule.unix_seconds, "-", number);
  KDN_RETURN_IF_ERROR(FromRocks(env.RenameFile(rule.parent + "/" + rule.name, target), target));
  KDN_RETURN_IF_ERROR(SyncDirectory(env, rule.parent));
  kept.emplace(number, target);
  for (; kept.size() > rule.max_kept; kept.erase(kept.begin())) {
    std::filesystem::remove_all(kept.begin()->second, ignored);
  }
  return target;
}

}  // namespace kdn
