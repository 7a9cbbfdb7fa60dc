#ifndef KDN_STORAGE_SEGMENT_RECOVERY_H_
#define KDN_STORAGE_SEGMENT_RECOVERY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "storage/file/file_system.h"
#include "storage/segment/segment.h"

namespace kdn {

struct RecoveredSegment {
  std::shared_ptr<Segment> segment;  // sealed, file closed
  bool empty = false;                // holds nothing and never acknowledged anything: may be removed
};

// Takes up the segment file `path` as the last process left it. With an intact clean-close mark that is two reads.
// Without it every record header is read, whole records at the end whose payload is torn are cut off, and the mark is
// written, so that the segment is never looked through again; nothing is cut off when the device failed a read.
// FailedPrecondition when a newer program wrote the segment; damage is no error.
absl::StatusOr<RecoveredSegment> RecoverSegment(FileSystem& file_system, const std::string& path, uint64_t id,
                                                DirectIo direct_io);

}  // namespace kdn

#endif  // KDN_STORAGE_SEGMENT_RECOVERY_H_
