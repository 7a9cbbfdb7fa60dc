#ifndef KDN_CONFIG_ENVIRONMENT_H_
#define KDN_CONFIG_ENVIRONMENT_H_

#include <map>
#include <string>

namespace kdn::config {

// Variables by name.
using Environment = std::map<std::string, std::string>;

// The environment of this process: the only place of the daemon that reads it, called by main() before it starts
// threads. Everything else takes an Environment.
Environment ProcessEnvironment();

}  // namespace kdn::config

#endif  // KDN_CONFIG_ENVIRONMENT_H_
