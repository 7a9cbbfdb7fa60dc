#ifndef KDN_KERNELS_BASE_STATUS_H_
#define KDN_KERNELS_BASE_STATUS_H_

#include <concepts>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// The one place where std::string_view meets absl::string_view: in Debian's Abseil the two are different types that do
// not convert into each other. KDN's headers use std::string_view.

namespace kdn {

inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view FromAbsl(absl::string_view text) { return {text.data(), text.size()}; }

namespace internal {

inline void AppendPiece(std::string& out, std::string_view piece) { out.append(piece); }
inline void AppendPiece(std::string& out, char piece) { out.push_back(piece); }
template <typename T>
requires(std::integral<T> || std::floating_point<T>) &&
    (!std::same_as<T, char>)&&(!std::same_as<T, bool>)void AppendPiece(std::string& out, T piece) {
  out.append(std::to_string(piece));
}

}  // namespace internal

// Concatenates strings, characters and numbers.
template <typename... Pieces>
std::string StrCat(const Pieces&... pieces) {
  std::string out;
  (internal::AppendPiece(out, pieces), ...);
  return out;
}

// Status constructors over pieces: InvalidArgument("tile ", index, " has ", n, " bytes, at most ", limit).
#define KDN_STATUS_MAKER(Name)                           \
  template <typename... Pieces>                          \
  absl::Status Name(const Pieces&... pieces) {           \
    return absl::Name##Error(ToAbsl(StrCat(pieces...))); \
  }
KDN_STATUS_MAKER(Aborted)
KDN_STATUS_MAKER(AlreadyExists)
KDN_STATUS_MAKER(Cancelled)
KDN_STATUS_MAKER(DataLoss)
KDN_STATUS_MAKER(DeadlineExceeded)
KDN_STATUS_MAKER(FailedPrecondition)
KDN_STATUS_MAKER(Internal)
KDN_STATUS_MAKER(InvalidArgument)
KDN_STATUS_MAKER(NotFound)
KDN_STATUS_MAKER(OutOfRange)
KDN_STATUS_MAKER(PermissionDenied)
KDN_STATUS_MAKER(ResourceExhausted)
KDN_STATUS_MAKER(Unauthenticated)
KDN_STATUS_MAKER(Unavailable)
KDN_STATUS_MAKER(Unimplemented)
#undef KDN_STATUS_MAKER

// `status` with "context: " put before its message, payloads kept; OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

inline absl::Status ToStatus(const absl::Status& status) { return status; }
template <typename T>
absl::Status ToStatus(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

}  // namespace kdn

#define KDN_CONCAT_INNER(a, b) a##b
#define KDN_CONCAT(a, b) KDN_CONCAT_INNER(a, b)

// Returns the status of `expression` from the enclosing function unless it is OK.
#define KDN_RETURN_IF_ERROR(expression)                                                             \
  do {                                                                                              \
    if (absl::Status kdn_status = ::kdn::ToStatus(expression); !kdn_status.ok()) return kdn_status; \
  } while (false)

// Assigns the value of the StatusOr `expression` to `lhs`, or returns its status.
#define KDN_ASSIGN_OR_RETURN(lhs, expression) \
  KDN_ASSIGN_OR_RETURN_INNER(KDN_CONCAT(kdn_status_or_, __LINE__), lhs, expression)
#define KDN_ASSIGN_OR_RETURN_INNER(tmp, lhs, expression) \
  auto tmp = (expression);                               \
  if (!tmp.ok()) return std::move(tmp).status();         \
  lhs = std::move(tmp).value()

#endif  // KDN_KERNELS_BASE_STATUS_H_
