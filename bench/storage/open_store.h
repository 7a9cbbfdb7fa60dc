#ifndef KDN_BENCH_STORAGE_OPEN_STORE_H_
#define KDN_BENCH_STORAGE_OPEN_STORE_H_

#include <memory>
#include <string>

#include "storage/blob/value_store.h"

namespace kdn::bench {

// The value store named `kind` ("segments", "rocksdb", or the baseline "plain") on the existing folder `folder`, as
// the daemon would open it. Failures end the program.
std::unique_ptr<ValueStore> OpenStore(const std::string& kind, SyncMode sync, const std::string& folder);

}  // namespace kdn::bench

#endif  // KDN_BENCH_STORAGE_OPEN_STORE_H_
