#include "server/rpc/authenticator.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "kernels/base/status.h"

namespace kdn {
namespace {

std::string HashOf(std::string_view token) { return Sha256::Of(AsBytes(token)).ToHex(); }

class AuthenticatorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "tokens." + ::testing::UnitTest::GetInstance()->current_test_info()->name();
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::unique_ptr<Authenticator> WithTokens(const std::string& text) {
    Write(text);
    auto authenticator = Authenticator::Make({Authenticator::Mode::kToken, path_, "default"});
    EXPECT_TRUE(authenticator.ok()) << authenticator.status();
    return authenticator.ok() ? *std::move(authenticator) : nullptr;
  }
  void Write(const std::string& text) { std::ofstream(path_, std::ios::trunc) << text; }

  static absl::StatusOr<Identity> Try(const Authenticator& authenticator, std::string_view authorization) {
    return authenticator.Authenticate({authorization, {}});
  }

  std::string path_;
};

TEST_F(AuthenticatorTest, FindsTheTenantOfAToken) {
  const auto a = WithTokens("# comment\n\nacme " + HashOf("one") + "\n  ops\t" + HashOf("two") + " operator\r\n");
  const absl::StatusOr<Identity> one = Try(*a, "Bearer one");
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(one->caller.tenant, "acme");
  EXPECT_FALSE(one->is_operator);
  const absl::StatusOr<Identity> two = Try(*a, "Bearer two");
  ASSERT_TRUE(two.ok());
  EXPECT_EQ(two->caller.tenant, "ops");
  EXPECT_TRUE(two->is_operator);
}

TEST_F(AuthenticatorTest, RefusesWhatIsNoToken) {
  const auto a = WithTokens("acme " + HashOf("one") + "\n");
  for (const std::string& bad :
       {std::string("Bearer two"), std::string("Bearer "), std::string("bearer one"), std::string("one"), std::string(),
        "Bearer " + HashOf("one"), "Bearer " + std::string(kMaxTokenBytes + 1, 'x')}) {
    EXPECT_EQ(Try(*a, bad).status().code(), absl::StatusCode::kUnauthenticated) << bad;
  }
  EXPECT_EQ(a->Authenticate({}).status().code(), absl::StatusCode::kUnauthenticated);
  // A certificate is no token.
  EXPECT_EQ(a->Authenticate({std::nullopt, {"acme"}}).status().code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(AuthenticatorTest, ReloadTakesNewTokensAndKeepsTheOldOnesOnAnError) {
  const auto a = WithTokens("acme " + HashOf("one") + "\n");
  Write("acme " + HashOf("two") + "\n");
  ASSERT_TRUE(a->Reload().ok());
  EXPECT_FALSE(Try(*a, "Bearer one").ok());
  EXPECT_TRUE(Try(*a, "Bearer two").ok());
  Write("acme nonsense\n");
  EXPECT_FALSE(a->Reload().ok());
  EXPECT_TRUE(Try(*a, "Bearer two").ok());
  std::filesystem::remove(path_);
  EXPECT_EQ(a->Reload().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(Try(*a, "Bearer two").ok());
}

TEST_F(AuthenticatorTest, NamesTheLineThatIsWrongWithoutRepeatingIt) {
  const std::string good = "acme " + HashOf("one") + "\n";
  for (const std::string& bad : {std::string("secret-token"), "acme " + HashOf("x").substr(1), "-acme " + HashOf("x"),
                                 "acme " + HashOf("x") + " root", "acme " + HashOf("x") + " operator more",
                                 std::string(64, 'a') + " " + HashOf("x")}) {
    const absl::Status status = ParseTokens(good + bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_NE(FromAbsl(status.message()).find("line 2"), std::string_view::npos) << status;
    EXPECT_EQ(FromAbsl(status.message()).find("secret"), std::string_view::npos) << status;
  }
}

TEST_F(AuthenticatorTest, TakesTheTenantFromACertificate) {
  const auto a = Authenticator::Make({Authenticator::Mode::kCertificate, "", "ops"});
  ASSERT_TRUE(a.ok());
  const absl::StatusOr<Identity> engine = (*a)->Authenticate({std::nullopt, {"engine-7"}});
  ASSERT_TRUE(engine.ok());
  EXPECT_EQ(engine->caller.tenant, "engine-7");
  EXPECT_FALSE(engine->is_operator);
  EXPECT_TRUE((*a)->Authenticate({std::nullopt, {"ops"}})->is_operator);
  EXPECT_EQ((*a)->Authenticate({}).status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ((*a)->Authenticate({std::nullopt, {"a", "b"}}).status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ((*a)->Authenticate({std::nullopt, {"with space"}}).status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ((*a)->Authenticate({"Bearer ops", {}}).status().code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(AuthenticatorTest, WithoutAuthenticationEveryoneIsTheDefaultTenant) {
  const auto a = Authenticator::Make({Authenticator::Mode::kNone, "", "home"});
  ASSERT_TRUE(a.ok());
  EXPECT_EQ((*a)->Authenticate({"Bearer whatever", {}})->caller.tenant, "home");
  EXPECT_TRUE((*a)->Authenticate({})->is_operator);
}

TEST_F(AuthenticatorTest, AMissingTokensFileIsAnError) {
  const auto a = Authenticator::Make({Authenticator::Mode::kToken, path_ + ".none", "default"});
  EXPECT_EQ(a.status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace kdn
