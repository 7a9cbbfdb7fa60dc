#ifndef KDN_KERNELS_BASE_SHA256_H_
#define KDN_KERNELS_BASE_SHA256_H_

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/base/bytes.h"

namespace kdn {

// A 32-byte SHA-256 or HMAC-SHA-256 value. A plain value type: copyable, ordered bytewise, hashable by Abseil and std.
struct Digest {
  static constexpr size_t kBytes = 32;
  std::array<uint8_t, kBytes> bytes{};

  ByteSpan span() const { return bytes; }
  std::string_view view() const { return AsStringView(bytes); }
  // 64 lower-case hexadecimal digits.
  std::string ToHex() const { return Hex(bytes); }
  // The first 12 hexadecimal digits: for messages, never for identity.
  std::string ToShortHex() const { return Hex(span().first(6)); }
  bool IsZero() const { return *this == Digest{}; }

  // The digest whose 32 raw bytes are `raw`; nullopt when the size is not 32.
  static std::optional<Digest> FromBytes(ByteSpan raw);
  // The digest spelled by 64 hexadecimal digits; nullopt for anything else.
  static std::optional<Digest> FromHex(std::string_view hex);

  friend auto operator<=>(const Digest&, const Digest&) = default;

  template <typename H>
  friend H AbslHashValue(H h, const Digest& d) {
    return H::combine(std::move(h), d.bytes);
  }
};

// Incremental SHA-256 (FIPS 180-4). Movable, not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void Update(ByteSpan bytes);
  // The digest of everything so far. Call once: afterwards the object may only be destroyed or assigned.
  Digest Finish();

  static Digest Of(ByteSpan bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// HMAC-SHA-256 (RFC 2104) of `message` under `key`.
Digest HmacSha256(ByteSpan key, ByteSpan message);

// True when the two are equal, in time that depends on their sizes only.
bool ConstantTimeEqual(ByteSpan a, ByteSpan b);

}  // namespace kdn

template <>
struct std::hash<kdn::Digest> {
  // Digests are uniform: any eight bytes are a hash.
  size_t operator()(const kdn::Digest& d) const noexcept { return kdn::LoadLe<uint64_t>(d.bytes.data()); }
};

#endif  // KDN_KERNELS_BASE_SHA256_H_
