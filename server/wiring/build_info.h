#ifndef KDN_SERVER_WIRING_BUILD_INFO_H_
#define KDN_SERVER_WIRING_BUILD_INFO_H_

#include <string>

namespace kdn {

struct BuildInfo {
  std::string version;   // of the project
  std::string commit;    // as git described it when the build was configured, or "unknown"
  std::string compiler;  // "gcc 12.2.0"
  std::string build;     // compiler and libraries, in one line
};

BuildInfo ThisBuild();

// What kdnd --version prints.
std::string VersionText();

}  // namespace kdn

#endif  // KDN_SERVER_WIRING_BUILD_INFO_H_
