#include <cstdint>
#include <cstdlib>

#include "server/rpc/frames.h"
#include "server/rpc/upload.h"

// Store frames are hostile: whatever parses must lie inside the message and mean what the generated code reads, and no
// order of frames may write outside the container. The first byte says how the message is cut in two.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const kdn::ByteSpan message(data + 1, size - 1);
  const size_t cut = data[0] % (message.size() + 1);
  const kdn::ByteSpan pieces[] = {message.first(cut), message.subspan(cut)};
  kdn::StoreFrameView frame;
  if (!kdn::ParseStoreFrame(pieces, frame).ok()) return 0;
  uint64_t bytes = 0;
  for (const kdn::ByteSpan piece : frame.data) {
    const bool inside =
        piece.data() >= message.data() && piece.data() + piece.size() <= message.data() + message.size();
    if (!piece.empty() && !inside) std::abort();
    bytes += piece.size();
  }
  if (bytes != frame.data_bytes) std::abort();
  kdn::v1::StoreFrame generated;
  if (!generated.ParseFromArray(message.data(), static_cast<int>(message.size()))) std::abort();
  if (generated.data().size() != bytes || generated.offset() != frame.offset) std::abort();

  // The same frame again and again, as a stream.
  constexpr uint64_t kSmallContainer = 4096;
  constexpr int kFrames = 4;
  kdn::Upload upload({kSmallContainer, kSmallContainer, kFrames});
  for (int i = 0; i < kFrames && upload.Begin(frame).ok(); ++i) {
    if (upload.NeedsMemory()) upload.Allocate();
    upload.Take(frame);
    frame.has_begin = false;
    frame.offset += frame.data_bytes;
    if (upload.ChunkEnded()) upload.TakeChunk();
  }
  return 0;
}
