#include "storage/rocksdb/quarantine.h"

#include <cstdlib>
#include <map>
#include <vector>

#include "kernels/base/status.h"
#include "storage/rocksdb/durable_file.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {

absl::StatusOr<std::string> Quarantine(rocksdb::Env& env, const QuarantineRule& rule) {
  const std::string prefix = rule.name + ".quarantined-";
  std::map<int64_t, std::string> kept;  // by <n>
  std::vector<std::string> names;
  KDN_RETURN_IF_ERROR(FromRocks(env.GetChildren(rule.parent, &names), rule.parent));
  for (const std::string& name : names) {
    if (name.compare(0, prefix.size(), prefix) != 0) continue;
    kept[std::strtoll(name.c_str() + name.rfind('-') + 1, nullptr, 10)] = rule.parent + "/" + name;
  }
  const int64_t number = kept.empty() ? 0 : kept.rbegin()->first + 1;
  const std::string target = StrCat(rule.parent, "/", prefix, rule.unix_seconds, "-", number);
  KDN_RETURN_IF_ERROR(FromRocks(env.RenameFile(rule.parent + "/" + rule.name, target), target));
  KDN_RETURN_IF_ERROR(SyncDirectory(env, rule.parent));
  kept.emplace(number, target);
  // What cannot be removed now is tried again next time.
  for (; kept.size() > rule.max_kept; kept.erase(kept.begin())) RemoveTree(env, kept.begin()->second);
  return target;
}

}  // namespace kdn
