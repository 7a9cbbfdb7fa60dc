#ifndef KDN_SERVER_CORE_RETRIEVING_H_
#define KDN_SERVER_CORE_RETRIEVING_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/core/chunk_cells.h"
#include "server/core/core_context.h"

namespace kdn {

// The Retrieve use case. Thread-safe.
class Retrieving {
 public:
  explicit Retrieving(CoreContext& context) : c_(context) {}

  absl::StatusOr<RetrievedChunk> Retrieve(const Caller& caller, const RetrieveQuery& query);

 private:
  struct Request;
  struct PartRequest;

  // One look at the row and its values. `retry` is set when a value was gone because it moved meanwhile.
  absl::StatusOr<RetrievedChunk> Attempt(const Request& request, bool& retry);
  // What to read of which part of the row, by its index there. NotFound when cells or rows are missing,
  // FailedPrecondition when the reader does not accept the variants that have them.
  static absl::StatusOr<std::map<int, PartRequest>> ChooseParts(const Request& request, const v1::ChunkRecord& row);
  absl::StatusOr<RetrievedPart> ReadPart(const Request& request, const PartRequest& part);
  absl::StatusOr<RetrievedPart> ReadSections(const Request& request, const PartRequest& part);
  static absl::StatusOr<ContainerHeader> ParseHeader(const Request& request, const PartRequest& part, ByteSpan bytes);
  // What to answer after reading a part failed; removes the part from the row when its value is gone or damaged.
  absl::StatusOr<RetrievedChunk> HandleFailure(const Request& request, const ValueLocation& location,
                                               const absl::Status& status, bool& retry);
  RetrievedChunk Miss(MissReason reason, std::string message);

  CoreContext& c_;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_RETRIEVING_H_
