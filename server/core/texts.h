#ifndef KDN_SERVER_CORE_TEXTS_H_
#define KDN_SERVER_CORE_TEXTS_H_

#include "absl/status/statusor.h"
#include "server/core/core_context.h"

namespace kdn {

// The StoreText and LookupText use cases. Thread-safe.
class Texts {
 public:
  explicit Texts(CoreContext& context) : c_(context) {}

  absl::StatusOr<uint64_t> Store(const Caller& caller, const StoreTextRequest& request);
  absl::StatusOr<StoredText> Lookup(const Caller& caller, const Fingerprint& fingerprint, const Digest& text_digest);

 private:
  absl::Status Write(const TenantRef& tenant, v1::TextRecord record);

  CoreContext& c_;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_TEXTS_H_
