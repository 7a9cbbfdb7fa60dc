#ifndef KDN_SERVER_RPC_UPLOAD_H_
#define KDN_SERVER_RPC_UPLOAD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/core/chunk_store.h"
#include "server/rpc/frames.h"
#include "storage/file/aligned_buffer.h"

namespace kdn {

struct UploadLimits {
  uint64_t max_frame_bytes = uint64_t{1} << 20;
  uint64_t max_container_bytes = uint64_t{512} << 20;
  uint32_t max_chunks = 8192;
};

// A chunk that was received whole, or refused.
struct UploadedChunk {
  StoreRequest request;
  uint64_t container_bytes = 0;
  SharedBytes container;  // empty when refused
  absl::Status status;    // why it was refused
  std::string sent_digest;
};

// Puts together the containers of one Store stream. Free of gRPC; not thread-safe. Per frame: Begin, then, if
// NeedsMemory(), Allocate or Reject, then Take; then TakeChunk if ChunkEnded().
//
// Two kinds of errors: a stream that breaks the protocol (frames out of order, missing, too large, after the end) makes
// Begin fail, and the stream must be ended; a chunk that cannot be stored (bad fields, too large, a wrong checksum) is
// refused on its own, and the rest of its frames are read past.
class Upload {
 public:
  // `buffers` gives the memory and must outlive the upload, not the containers; without it each container gets its own.
  explicit Upload(const UploadLimits& limits, BufferCache* buffers = nullptr) : limits_(limits), buffers_(buffers) {}

  // Checks the frame's place in the stream. InvalidArgument, saying what was due and what came.
  absl::Status Begin(const StoreFrameView& frame);
  // A chunk has begun that will be kept, and has no memory yet.
  bool NeedsMemory() const { return in_chunk_ && chunk_.status.ok() && buffer_ == nullptr; }
  uint64_t container_bytes() const { return chunk_.container_bytes; }
  // Memory for container_bytes(), on blocks of direct I/O, not initialised. ResourceExhausted when the system has none:
  // the chunk is refused then.
  void Allocate();
  // Refuses the current chunk.
  void Reject(absl::Status status);
  // Copies the data of the frame that Begin accepted, checking it.
  void Take(const StoreFrameView& frame);

  bool ChunkEnded() const { return in_chunk_ && received_bytes_ == chunk_.container_bytes; }
  UploadedChunk TakeChunk();

  // True between the first and last frame of a chunk.
  bool in_chunk() const { return in_chunk_; }
  // Chunks that have begun.
  uint32_t chunks() const { return next_chunk_; }
  // "chunk 3 at offset 1048576 of 2097152 bytes"
  std::string Position() const;

 private:
  absl::Status BeginChunk(const StoreFrameView& frame);
  absl::Status ReadRequest(const v1::StoreBegin& begin);

  const UploadLimits limits_;
  BufferCache* const buffers_;
  bool in_chunk_ = false;
  uint32_t next_chunk_ = 0;
  uint64_t received_bytes_ = 0;
  uint32_t received_crc_ = 0;  // of the bytes as they are in buffer_
  UploadedChunk chunk_;
  std::shared_ptr<AlignedBuffer> buffer_;  // owned with the store once the chunk is taken
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_UPLOAD_H_
