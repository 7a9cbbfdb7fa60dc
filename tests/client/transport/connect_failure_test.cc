#include "client/transport/connect_failure.h"

#include <gtest/gtest.h>

namespace kdn {
namespace {

TEST(ConnectFailureTest, NamesTheCauseInFewWords) {
  EXPECT_EQ(DescribeConnectFailure("failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed "
                                   "to connect to remote host: Connection refused",
                                   LinkSecurity::kPlaintext),
            "connection refused");
  EXPECT_EQ(DescribeConnectFailure("DNS resolution failed for nowhere:9460: C-ares status", LinkSecurity::kTls),
            "the name of the host is not known");
  EXPECT_EQ(DescribeConnectFailure("last error: Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", LinkSecurity::kTls),
            "the server's certificate is not signed by an authority that is trusted here");
}

TEST(ConnectFailureTest, AskForTlsWhereAPlainConnectionIsCutOff) {
  EXPECT_EQ(DescribeConnectFailure("last error: Socket closed", LinkSecurity::kPlaintext),
            "the server ended the connection at once: it may want TLS");
  EXPECT_EQ(DescribeConnectFailure("last error: Socket closed", LinkSecurity::kTls),
            "the TLS handshake failed: the server may speak no TLS, or want a client certificate");
}

TEST(ConnectFailureTest, KeepsWhatItDoesNotKnow) {
  EXPECT_EQ(DescribeConnectFailure("something else", LinkSecurity::kTls), "something else");
}

}  // namespace
}  // namespace kdn
