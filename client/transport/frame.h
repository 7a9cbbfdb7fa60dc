#ifndef KDN_CLIENT_TRANSPORT_FRAME_H_
#define KDN_CLIENT_TRANSPORT_FRAME_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kdn/v1/kdn.pb.h"
#include "kernels/base/bytes.h"

// The bulk messages of kdn.v1 as bytes: what the generated code would read and write, without copying the payload.

namespace kdn {

// Largest `data` of a frame, either way.
inline constexpr uint32_t kMaxFrameDataBytes = uint32_t{1} << 20;
// What Retrieve asks for: the first half of a small value is copied while the second is on its way.
inline constexpr uint32_t kRetrieveFrameDataBytes = kMaxFrameDataBytes / 2;
// Largest part_begin and miss_message that are read.
inline constexpr uint32_t kMaxPartBeginBytes = uint32_t{256} << 10;
inline constexpr uint32_t kMaxMissMessageBytes = uint32_t{4} << 10;

// A parsed kdn.v1.RetrieveFrame. Reused from frame to frame, so that its buffers are.
struct RetrieveFrameView {
  uint32_t chunk_index = 0;
  uint32_t part = 0;
  uint64_t offset = 0;
  uint32_t crc32c = 0;
  bool has_part_begin = false;
  v1::PartBegin part_begin;
  uint32_t miss = 0;  // v1::MissReason; 0 = none
  std::string miss_message;
  bool chunk_end = false;
  std::vector<ByteSpan> data;  // pieces of the input
  uint64_t data_bytes = 0;     // their sum
};

// Parses the message whose bytes are `pieces`, one behind the other. They are hostile: every read is bounded, nothing
// is allocated beyond the limits above. Fields may come in any order and unknown ones are skipped, as protobuf does;
// InvalidArgument, naming the field, for what the generated code would refuse and for a field that comes twice, data
// or a submessage beyond the limits. `frame` is unspecified then.
absl::Status ParseRetrieveFrame(std::span<const ByteSpan> pieces, RetrieveFrameView& frame);

// What precedes the payload of one kdn.v1.StoreFrame: appended with `data_bytes` bytes of payload it is the whole
// message. `begin` is null on all but the first frame of a chunk.
struct StoreFrameHeader {
  const v1::StoreBegin* begin = nullptr;
  uint32_t chunk_index = 0;
  uint64_t offset = 0;
  uint32_t crc32c = 0;
  uint32_t data_bytes = 0;
};
std::vector<uint8_t> EncodeStoreFrameHeader(const StoreFrameHeader& header);

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_FRAME_H_
