#ifndef KDN_CLIENT_TRANSPORT_TRANSPORT_H_
#define KDN_CLIENT_TRANSPORT_TRANSPORT_H_

#include <google/protobuf/message_lite.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/cancel_token.h"
#include "client/transport/retrieve_assembler.h"
#include "client/transport/transport_stats.h"
#include "kdn/v1/kdn.pb.h"
#include "kernels/base/bytes.h"

namespace kdn {

// What bounds one call.
struct CallLimits {
  int64_t deadline_nanos = 0;     // on Clock::MonotonicNanos
  CancelToken* cancel = nullptr;  // optional; must outlive the call
};

// One container on its way to the server.
struct OutgoingContainer {
  v1::StoreBegin begin;
  ByteSpan bytes;  // begin.container_bytes() of them
  // Keeps `bytes` alive and unchanged. The transport drops it when nothing refers to the bytes any more, which may be
  // after Store returned, on any thread.
  std::shared_ptr<const void> owner;
};

// Gives Store its containers, one by one.
class StoreSource {
 public:
  virtual ~StoreSource() = default;
  // The next container, nullopt after the last. An error ends the call with that status. May block until the deadline
  // of the call.
  virtual absl::StatusOr<std::optional<OutgoingContainer>> Next() = 0;
};

// A link to one server. Thread-safe; every call blocks its thread until its result, its deadline or its cancellation.
// When a call returns, it no longer writes any memory that it was given.
//
// Errors: Unavailable when the server is not reachable, DeadlineExceeded, Cancelled, the server's own, DataLoss or
// InvalidArgument for answers that break the protocol.
class Transport {
 public:
  virtual ~Transport() = default;

  // A unary call: `method` is its full name, "/kdn.v1.Kdn/Lookup".
  virtual absl::Status Call(std::string_view method, const google::protobuf::MessageLite& request,
                            const CallLimits& limits, google::protobuf::MessageLite& response) = 0;

  // Delivers the chunks asked for to `sink`. OK when every one of them ended. What the sink was told before an error
  // holds.
  virtual absl::Status Retrieve(const v1::RetrieveRequest& request, const CallLimits& limits, RetrieveSink& sink) = 0;

  // Sends what `source` gives. An error may leave any number of the chunks stored.
  virtual absl::Status Store(StoreSource& source, const CallLimits& limits, v1::StoreResponse& response) = 0;

  // Sends a calibration object of begin.object_bytes() bytes.
  virtual absl::Status PutObject(const v1::PutObjectBegin& begin, ByteSpan bytes, const CallLimits& limits,
                                 v1::PutObjectResponse& response) = 0;
  // Receives one, of at most kMaxCalibrationBytes, as many bytes as announced. Not compared with its digest.
  virtual absl::Status GetObject(const v1::GetObjectRequest& request, const CallLimits& limits,
                                 std::vector<uint8_t>& bytes) = 0;

  // Gives up the connections, so that nothing refers to memory handed to Store any more; the next call connects anew.
  virtual void DropConnections() = 0;

  virtual TransportStats stats() const = 0;
};

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_TRANSPORT_H_
