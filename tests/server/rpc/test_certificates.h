#ifndef KDN_TESTS_SERVER_RPC_TEST_CERTIFICATES_H_
#define KDN_TESTS_SERVER_RPC_TEST_CERTIFICATES_H_

#include <memory>
#include <string>

namespace kdn::testing {

struct TestPair {
  std::string certificate_pem;
  std::string key_pem;
};

// A certificate authority that lives for one test. Keys are P-256, certificates valid for one day.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& common_name);
  ~TestAuthority();
  const std::string& certificate_pem() const { return certificate_pem_; }
  // A pair for servers and clients; the common name is also its DNS name.
  TestPair Issue(const std::string& common_name) const;

 private:
  struct Keys;
  std::unique_ptr<Keys> keys_;
  std::string certificate_pem_;
};

}  // namespace kdn::testing

#endif  // KDN_TESTS_SERVER_RPC_TEST_CERTIFICATES_H_
