#ifndef KDN_SERVER_RPC_FRAMES_H_
#define KDN_SERVER_RPC_FRAMES_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kdn/v1/kdn.pb.h"
#include "kernels/base/bytes.h"
#include "server/core/chunk_store.h"

// The bulk messages of kdn.v1 as bytes: what the generated code would read and write, without copying the payload. Free
// of gRPC.

namespace kdn {

// Largest data of a frame that leaves the server, whatever is configured or asked for.
inline constexpr uint64_t kMaxSentFrameBytes = uint64_t{1} << 20;
inline constexpr uint64_t kMinSentFrameBytes = uint64_t{4} << 10;
// Largest StoreBegin and miss message.
inline constexpr uint64_t kMaxStoreBeginBytes = 4096;
inline constexpr size_t kMaxMissMessageBytes = 1024;
// Pieces of payload that one frame is made of.
inline constexpr size_t kMaxPiecesPerFrame = 64;

// A parsed kdn.v1.StoreFrame. Reused from frame to frame, so that its buffers are.
struct StoreFrameView {
  bool has_begin = false;
  v1::StoreBegin begin;
  uint32_t chunk_index = 0;
  uint64_t offset = 0;
  uint32_t crc32c = 0;
  std::vector<ByteSpan> data;  // pieces of the input
  uint64_t data_bytes = 0;     // their sum
};

// Parses the message whose bytes are `pieces`, one behind the other. They are hostile: every read is bounded, and
// nothing is allocated beyond kMaxStoreBeginBytes and a span per piece. Fields may come in any order and unknown ones
// are skipped, as protobuf does. InvalidArgument, naming the field, for what the generated code would refuse, a known
// field of another wire type or that comes twice, a begin beyond kMaxStoreBeginBytes; `frame` is unspecified then.
absl::Status ParseStoreFrame(std::span<const ByteSpan> pieces, StoreFrameView& frame);

// One message on a Retrieve stream: `header` with the pieces of `payload` behind it are a kdn.v1.RetrieveFrame.
struct RetrieveFrame {
  std::vector<uint8_t> header;
  std::vector<SharedBytes> payload;
  uint64_t payload_bytes = 0;
};

// Cuts one retrieved chunk into frames: of each part a begin, then its slices, joined where they are contiguous, and an
// end; or a miss. Not thread-safe.
class ChunkFramer {
 public:
  // `max_frame_bytes` > 0.
  ChunkFramer(uint32_t chunk_index, RetrievedChunk chunk, uint64_t max_frame_bytes);

  bool done() const { return done_; }
  // Requires !done(). Computes the checksum of the payload.
  RetrieveFrame Next();

 private:
  RetrieveFrame MissFrame();
  // Takes up to max_frame_bytes_ contiguous bytes of the current part.
  RetrieveFrame TakePayload(uint64_t& offset);
  void DropEmpty();

  const uint32_t chunk_index_;
  const RetrievedChunk chunk_;
  const uint64_t max_frame_bytes_;
  size_t part_ = 0;
  size_t slice_ = 0;
  uint64_t at_ = 0;  // in the slice
  bool part_begun_ = false;
  bool done_ = false;
};

// Bytes that the chunk's slices hold.
uint64_t PayloadBytes(const RetrievedChunk& chunk);

}  // namespace kdn

#endif  // KDN_SERVER_RPC_FRAMES_H_
