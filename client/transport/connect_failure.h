#ifndef KDN_CLIENT_TRANSPORT_CONNECT_FAILURE_H_
#define KDN_CLIENT_TRANSPORT_CONNECT_FAILURE_H_

#include <string>
#include <string_view>

namespace kdn {

enum class LinkSecurity { kPlaintext, kTls };

// Why a connection could not be made, in words for whoever operates it: "connection refused", "the name of the host is
// not known". `message` is gRPC's account; where it says nothing known, it is returned as it is.
std::string DescribeConnectFailure(std::string_view message, LinkSecurity security);

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_CONNECT_FAILURE_H_
