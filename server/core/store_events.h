#ifndef KDN_SERVER_CORE_STORE_EVENTS_H_
#define KDN_SERVER_CORE_STORE_EVENTS_H_

#include <cstdint>
#include <string_view>

#include "server/core/chunk_store.h"

namespace kdn {

// What happens inside the store, for whoever counts it (server/metrics). Called from any thread, must not block. The
// default implementations do nothing, so that a listener overrides what it wants.
class StoreEvents {
 public:
  virtual ~StoreEvents() = default;
  virtual void OnLookup(uint64_t chunks, uint64_t hit_chunks, uint64_t tokens, uint64_t hit_tokens) {}
  virtual void OnHit(std::string_view tier, uint64_t tokens, uint64_t bytes) {}
  virtual void OnMiss(MissReason reason) {}
  virtual void OnStored(StoreOutcome outcome, uint64_t tokens, uint64_t stored_bytes, uint64_t raw_bytes) {}
  // Cells that were stored already with other bytes: the first were kept.
  virtual void OnDivergence(uint64_t cells) {}
  virtual void OnStoreRejected(std::string_view reason) {}  // canonical code's name, lower case
  virtual void OnEvicted(std::string_view reason, uint64_t chunks, uint64_t bytes) {}
  virtual void OnReinserted(uint64_t chunks, uint64_t bytes) {}
  // One container stored, or delivered in part or whole, by the highest-numbered profile among its tiles.
  virtual void OnProfileStored(ProfileId profile, uint64_t stored_bytes, uint64_t raw_bytes) {}
  virtual void OnProfileDelivered(ProfileId profile, uint64_t bytes) {}
  virtual void OnObjectStored(uint64_t bytes) {}
  // A read of a calibration object: "delivered", "absent" or "damaged".
  virtual void OnObjectRead(std::string_view outcome, uint64_t bytes) {}
  virtual void OnCorruption(std::string_view where) {}  // "values", "index", "upload"
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_STORE_EVENTS_H_
