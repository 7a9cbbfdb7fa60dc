#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "client/transport/frame.h"
#include "client/transport/retrieve_assembler.h"

// Input: the first byte says how to cut the rest into pieces. What the hand-written parser accepts, the generated one
// must read alike; and the assembler must survive the frame.

namespace {

void Check(bool condition) {
  if (!condition) std::abort();
}

class Sink : public kdn::RetrieveSink {
 public:
  absl::StatusOr<kdn::MutableByteSpan> OnPartBegin(uint32_t, uint32_t, const kdn::v1::PartBegin& begin) override {
    if (begin.container_bytes() > 4096) return absl::ResourceExhaustedError("too large");
    memory_.assign(begin.container_bytes(), 0);
    return kdn::MutableByteSpan(memory_);
  }
  absl::Status OnPartProgress(uint32_t, uint32_t, uint64_t end) override {
    Check(end <= memory_.size());
    return absl::OkStatus();
  }
  absl::Status OnPartEnd(uint32_t, uint32_t) override { return absl::OkStatus(); }
  void OnChunkEnd(uint32_t) override {}
  void OnChunkMiss(uint32_t, kdn::MissReason, std::string_view) override {}

 private:
  std::vector<uint8_t> memory_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t piece_bytes = data[0] % 64 + 1;
  const kdn::ByteSpan message(data + 1, size - 1);
  std::vector<kdn::ByteSpan> pieces;
  for (size_t at = 0; at < message.size(); at += piece_bytes) {
    pieces.push_back(message.subspan(at, std::min(piece_bytes, message.size() - at)));
  }
  kdn::RetrieveFrameView frame;
  if (!kdn::ParseRetrieveFrame(pieces, frame).ok()) return 0;
  kdn::v1::RetrieveFrame theirs;
  if (theirs.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    std::string joined;
    for (const kdn::ByteSpan piece : frame.data) joined.append(kdn::AsStringView(piece));
    Check(joined == theirs.data() && frame.data_bytes == joined.size());
    Check(frame.chunk_index == theirs.chunk_index() && frame.part == theirs.part());
    Check(frame.offset == theirs.offset() && frame.crc32c == theirs.crc32c());
    Check(frame.has_part_begin == theirs.has_part_begin() && frame.chunk_end == theirs.chunk_end());
    Check(frame.miss == static_cast<uint32_t>(theirs.miss()) && frame.miss_message == theirs.miss_message());
  }
  Sink sink;
  kdn::RetrieveAssembler assembler(4, sink);
  static_cast<void>(assembler.Add(frame));
  static_cast<void>(assembler.Add(frame));
  return 0;
}
