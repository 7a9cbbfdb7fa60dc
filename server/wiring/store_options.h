#ifndef KDN_SERVER_WIRING_STORE_OPTIONS_H_
#define KDN_SERVER_WIRING_STORE_OPTIONS_H_

#include "config/config.h"
#include "server/core/options.h"

namespace kdn {

ChunkStoreOptions MakeStoreOptions(const config::Config& config);

}  // namespace kdn

#endif  // KDN_SERVER_WIRING_STORE_OPTIONS_H_
