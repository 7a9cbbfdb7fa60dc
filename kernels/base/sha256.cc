#include "kernels/base/sha256.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cstdlib>

namespace kdn {
namespace {

// Digest calls fail only when the process is out of memory or OpenSSL has no SHA-256: neither can be carried on from.
void Require(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

std::optional<Digest> Digest::FromBytes(ByteSpan raw) {
  if (raw.size() != kBytes) return std::nullopt;
  Digest digest;
  std::copy(raw.begin(), raw.end(), digest.bytes.begin());
  return digest;
}

std::optional<Digest> Digest::FromHex(std::string_view hex) {
  std::vector<uint8_t> raw;
  if (!ParseHex(hex, raw)) return std::nullopt;
  return FromBytes(raw);
}

struct Sha256::State {
  State() : context(EVP_MD_CTX_new()) {
    Require(context != nullptr && EVP_DigestInit_ex(context, EVP_sha256(), nullptr));
  }
  ~State() { EVP_MD_CTX_free(context); }
  EVP_MD_CTX* context;
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::Update(ByteSpan bytes) { Require(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size())); }

Digest Sha256::Finish() {
  Digest digest;
  unsigned int written = 0;
  Require(EVP_DigestFinal_ex(state_->context, digest.bytes.data(), &written) && written == Digest::kBytes);
  return digest;
}

Digest Sha256::Of(ByteSpan bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.Finish();
}

Digest HmacSha256(ByteSpan key, ByteSpan message) {
  Digest digest;
  unsigned int written = 0;
  Require(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), message.data(), message.size(),
               digest.bytes.data(), &written) != nullptr &&
          written == Digest::kBytes);
  return digest;
}

bool ConstantTimeEqual(ByteSpan a, ByteSpan b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace kdn
