#ifndef KDN_CLIENT_TRANSPORT_RETRIEVE_ASSEMBLER_H_
#define KDN_CLIENT_TRANSPORT_RETRIEVE_ASSEMBLER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/frame.h"
#include "client/transport/miss_reason.h"
#include "kernels/base/bytes.h"

namespace kdn {

inline constexpr uint32_t kMaxPartsPerChunk = 1024;

// Receives what a Retrieve stream delivers. Called from one thread at a time, in stream order; chunk indexes ascend by
// one, and each chunk ends with exactly one OnChunkEnd or OnChunkMiss, except those after a broken stream's last frame.
class RetrieveSink {
 public:
  virtual ~RetrieveSink() = default;

  // A container of begin.container_bytes follows. Returns that many bytes of memory for it (or more), which the
  // stream writes until OnPartEnd, OnChunkMiss for this chunk, or the end of the call. `begin` is the server's word:
  // nothing in it is checked but header_bytes <= sent_bytes <= container_bytes. An error turns the chunk into a miss:
  // ResourceExhausted into kOverBudget, DataLoss into kCorrupt, everything else into kIncompatible. May block.
  virtual absl::StatusOr<MutableByteSpan> OnPartBegin(uint32_t chunk, uint32_t part, const v1::PartBegin& begin) = 0;
  // Another frame of the part has been written and its checksum was right: of what is sent, everything before `end` (an
  // offset in the container) is there. Errors as above.
  virtual absl::Status OnPartProgress(uint32_t chunk, uint32_t part, uint64_t end) = 0;
  // Every byte announced for the part has been written; after the last OnPartProgress. Errors as above.
  virtual absl::Status OnPartEnd(uint32_t chunk, uint32_t part) = 0;
  virtual void OnChunkEnd(uint32_t chunk) = 0;
  virtual void OnChunkMiss(uint32_t chunk, MissReason reason, std::string_view message) = 0;
};

// The order of frames on a Retrieve stream, checked; payloads copied once, into the sink's memory, with their checksum
// computed over what was written. Not thread-safe.
//
// A frame whose data does not match its checksum makes its chunk a miss kCorrupt; the stream goes on. A frame that has
// no place in the stream (out of order, beyond its part, after a chunk's end, for a chunk not asked for) is an error:
// InvalidArgument, and the stream must be given up.
class RetrieveAssembler {
 public:
  // `sink` must outlive the assembler.
  RetrieveAssembler(uint32_t num_chunks, RetrieveSink& sink) : num_chunks_(num_chunks), sink_(sink) {}

  absl::Status Add(const RetrieveFrameView& frame);

  // True when every chunk has ended.
  bool complete() const { return chunk_ == num_chunks_; }
  // Chunks that have ended: [0, chunks_ended()).
  uint32_t chunks_ended() const { return chunk_; }
  uint64_t received_bytes() const { return received_bytes_; }

 private:
  absl::Status BeginPart(const RetrieveFrameView& frame);
  absl::Status AddData(const RetrieveFrameView& frame);
  void EndChunk();
  void Fail(MissReason reason, std::string_view message);
  void Fail(const absl::Status& status);
  bool InPart() const { return part_received_ < part_sent_; }

  const uint32_t num_chunks_;
  RetrieveSink& sink_;
  uint32_t chunk_ = 0;
  uint32_t next_part_ = 0;  // of the current chunk
  bool failed_ = false;     // the current chunk is a miss already: its other frames are read past
  MutableByteSpan memory_;
  uint64_t part_bytes_ = 0;
  uint64_t part_header_bytes_ = 0;
  uint64_t part_sent_ = 0;
  uint64_t part_received_ = 0;
  uint64_t part_next_offset_ = 0;
  uint64_t received_bytes_ = 0;
};

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_RETRIEVE_ASSEMBLER_H_
