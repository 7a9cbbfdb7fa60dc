#include "server/rpc/upload.h"

#include <optional>
#include <utility>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"

namespace kdn {
absl::Status Upload::Begin(const StoreFrameView& frame) {
  if (frame.data_bytes > limits_.max_frame_bytes) {
    return InvalidArgument("store stream: frame of ", frame.data_bytes, " bytes of data, at most ",
                           limits_.max_frame_bytes);
  }
  if (!in_chunk_) return BeginChunk(frame);
  if (frame.has_begin) return InvalidArgument("store stream: a begin in the middle of ", Position());
  if (frame.chunk_index + 1 != next_chunk_) {
    return InvalidArgument("store stream: frame of chunk ", frame.chunk_index, " in the middle of ", Position());
  }
  if (frame.offset != received_bytes_) {
    return InvalidArgument("store stream: frame at offset ", frame.offset, " in ", Position());
  }
  if (frame.data_bytes == 0) return InvalidArgument("store stream: frame without data in ", Position());
  if (frame.data_bytes > chunk_.container_bytes - received_bytes_) {
    return InvalidArgument("store stream: ", frame.data_bytes, " bytes of data run past the end of ", Position());
  }
  return absl::OkStatus();
}

absl::Status Upload::BeginChunk(const StoreFrameView& frame) {
  if (!frame.has_begin) {
    return InvalidArgument("store stream: frame of chunk ", frame.chunk_index, " at offset ", frame.offset,
                           " where the begin of chunk ", next_chunk_, " is due");
  }
  if (frame.chunk_index != next_chunk_) {
    return InvalidArgument("store stream: begin of chunk ", frame.chunk_index, " where chunk ", next_chunk_, " is due");
  }
  if (next_chunk_ >= limits_.max_chunks) {
    return InvalidArgument("store stream: more than ", limits_.max_chunks, " chunks");
  }
  if (frame.offset != 0) return InvalidArgument("store stream: chunk ", next_chunk_, " begins at ", frame.offset);
  if (frame.data_bytes == 0) return InvalidArgument("store stream: begin of chunk ", next_chunk_, " without data");
  if (frame.data_bytes > frame.begin.container_bytes()) {
    return InvalidArgument("store stream: ", frame.data_bytes, " bytes of data in chunk ", next_chunk_, " of ",
                           frame.begin.container_bytes(), " bytes");
  }
  ++next_chunk_;
  in_chunk_ = true;
  received_bytes_ = 0;
  received_crc_ = 0;
  chunk_ = UploadedChunk();
  chunk_.container_bytes = frame.begin.container_bytes();
  chunk_.status = ReadRequest(frame.begin);
  return absl::OkStatus();
}

absl::Status Upload::ReadRequest(const v1::StoreBegin& begin) {
  const std::optional<Digest> fingerprint = Digest::FromBytes(AsBytes(begin.fingerprint()));
  const std::optional<Digest> digest = Digest::FromBytes(AsBytes(begin.chunk_digest()));
  if (digest.has_value()) chunk_.sent_digest = begin.chunk_digest();
  if (!fingerprint.has_value()) {
    return InvalidArgument("fingerprint has ", begin.fingerprint().size(), " bytes, not ", Digest::kBytes);
  }
  if (!digest.has_value()) {
    return InvalidArgument("chunk_digest has ", begin.chunk_digest().size(), " bytes, not ", Digest::kBytes);
  }
  if (begin.kind() != static_cast<uint32_t>(ChunkKind::kPrefix) &&
      begin.kind() != static_cast<uint32_t>(ChunkKind::kSegment)) {
    return InvalidArgument("kind ", begin.kind(), " is neither prefix (1) nor segment (2)");
  }
  if (begin.document().size() > kMaxDocumentNameBytes) {
    return InvalidArgument("document name of ", begin.document().size(), " bytes, at most ", kMaxDocumentNameBytes);
  }
  if (begin.container_bytes() > limits_.max_container_bytes) {
    return ResourceExhausted("container of ", begin.container_bytes(), " bytes, at most ", limits_.max_container_bytes,
                             " (limits.max_container_bytes)");
  }
  StoreRequest& request = chunk_.request;
  if (!begin.parent_digest().empty()) {
    request.parent_digest = Digest::FromBytes(AsBytes(begin.parent_digest()));
    if (!request.parent_digest.has_value()) {
      return InvalidArgument("parent_digest has ", begin.parent_digest().size(), " bytes, not ", Digest::kBytes);
    }
  }
  request.fingerprint = *fingerprint;
  request.chunk_digest = *digest;
  request.kind = static_cast<ChunkKind>(begin.kind());
  request.ttl_ms = begin.ttl_ms();
  request.document = begin.document();
  return absl::OkStatus();
}

void Upload::Allocate() {
  const uint64_t bytes = chunk_.container_bytes;
  buffer_ = buffers_ != nullptr ? buffers_->Take(bytes) : std::make_shared<AlignedBuffer>(bytes);
  if (buffer_ != nullptr && buffer_->size() == 0) buffer_ = nullptr;
  if (buffer_ == nullptr) Reject(ResourceExhausted("no memory for a container of ", chunk_.container_bytes, " bytes"));
}

void Upload::Reject(absl::Status status) {
  chunk_.status = std::move(status);
  buffer_.reset();
}

void Upload::Take(const StoreFrameView& frame) {
  if (chunk_.status.ok()) {
    uint8_t* to = buffer_->data() + received_bytes_;
    uint32_t crc = 0;
    for (const ByteSpan piece : frame.data) {
      crc = CopyAndCrc32c(crc, piece, to);
      to += piece.size();
    }
    if (crc != frame.crc32c) {
      Reject(DataLoss("frame at offset ", received_bytes_, " has CRC-32C ", crc, ", announced was ", frame.crc32c));
    }
    received_crc_ = Crc32cCombine(received_crc_, crc, frame.data_bytes);
  }
  received_bytes_ += frame.data_bytes;
}

UploadedChunk Upload::TakeChunk() {
  in_chunk_ = false;
  if (chunk_.status.ok()) {
    const ByteSpan bytes(buffer_->data(), chunk_.container_bytes);
    chunk_.request.container_crc32c = received_crc_;
    chunk_.container = SharedBytes(std::move(buffer_), bytes);
  }
  buffer_.reset();
  return std::move(chunk_);
}

std::string Upload::Position() const {
  return StrCat("chunk ", next_chunk_ - 1, " at offset ", received_bytes_, " of ", chunk_.container_bytes, " bytes");
}

}  // namespace kdn
