#ifndef KDN_CLIENT_KDN_C_INTERNAL_H_
#define KDN_CLIENT_KDN_C_INTERNAL_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "client/kdn/client.h"
#include "client/kdn/client_impl.h"
#include "client/kdn/kdn.h"
#include "kernels/base/status.h"
#include "kernels/codec/tile_codec.h"

// What the files behind kdn.h share.

struct kdn_model {
  kdn::ModelHandle handle;
};

struct kdn_client {
  // One asynchronous operation, from its submission until its completion is handed out.
  struct Operation {
    std::shared_ptr<kdn::internal::OperationState> state;  // shared with its future half, the running operation
    bool complete = false;
    kdn_completion completion{};
  };

  kdn::ClientImpl& impl() { return kdn::ClientImpl::Of(*client); }

  std::unique_ptr<kdn::Client> client;
  int event_fd = -1;
  absl::Mutex mutex;
  kdn_op next_op ABSL_GUARDED_BY(mutex) = 1;
  std::map<kdn_op, Operation> operations ABSL_GUARDED_BY(mutex);
  std::deque<kdn_op> ready ABSL_GUARDED_BY(mutex);  // complete, not handed out
};

namespace kdn::c_api {

// Remembers the message for kdn_last_error and converts the code.
kdn_status Report(const absl::Status& status);

// Runs `body`, which returns a Status; nothing it throws gets out.
template <typename Body>
kdn_status Guarded(Body body) noexcept {
  try {
    return Report(body());
  } catch (const std::bad_alloc&) {
    return Report(absl::ResourceExhaustedError("out of memory"));
  } catch (...) {
    return Report(absl::InternalError("unexpected exception"));
  }
}

// The profile of that name; nullopt for NULL. InvalidArgument, listing them, when there is no such one.
inline absl::StatusOr<std::optional<ProfileId>> ReadProfile(const char* name) {
  if (name == nullptr) return std::optional<ProfileId>();
  const std::optional<ProfileId> profile = ParseProfile(name);
  if (profile.has_value()) return profile;
  return InvalidArgument("there is no profile \"", std::string_view(name), "\", only ", EncodableProfileNames());
}

inline Digest ReadDigest(const uint8_t bytes[32]) {
  Digest digest;
  std::memcpy(digest.bytes.data(), bytes, Digest::kBytes);
  return digest;
}

inline std::string_view OrEmpty(const char* text) { return text == nullptr ? std::string_view() : text; }

// A copy of `from` as this build knows the struct: what an older caller does not have keeps the value of `defaults`.
template <typename Struct>
absl::StatusOr<Struct> ReadStruct(const Struct* from, const Struct& defaults, std::string_view name) {
  if (from == nullptr) return InvalidArgument(name, " is null");
  constexpr size_t kMaxStructBytes = 4096;
  if (from->struct_size < sizeof(size_t) || from->struct_size > kMaxStructBytes) {
    return InvalidArgument(name, " was not initialised: struct_size is ", from->struct_size);
  }
  Struct read = defaults;
  std::memcpy(&read, from, std::min(sizeof(Struct), from->struct_size));
  return read;
}

// Memory for kdn_bytes_free: a copy with a terminating zero.
kdn_bytes CopyBytes(std::string_view bytes);

struct SpanArguments {
  std::span<const uint32_t> token_ids;  // the caller's
  SpanOptions options;
};
absl::StatusOr<SpanArguments> ReadSpan(const kdn_span* from);
// The block table stays the caller's.
absl::StatusOr<KvView> ReadView(const kdn_view* from);

}  // namespace kdn::c_api

#endif  // KDN_CLIENT_KDN_C_INTERNAL_H_
