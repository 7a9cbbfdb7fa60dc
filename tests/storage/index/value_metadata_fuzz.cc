#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "storage/index/part_merge.h"
#include "storage/index/value_metadata.h"

// Metadata of a value as a rebuild reads it: parse, validate, merge into the row of an earlier one.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const kdn::ByteSpan bytes(data, size);
  const size_t split = size == 0 ? 0 : data[0] * size / 256;
  std::optional<kdn::v1::ChunkRecord> row;
  for (const kdn::ByteSpan half : {bytes, bytes.subspan(split), bytes.first(split)}) {
    const auto metadata = kdn::ParseValueMetadata(half);
    if (!metadata.ok() || !metadata->has_chunk()) continue;
    if (metadata->storage_key().size() != kdn::Digest::kBytes) std::abort();
    kdn::MergePart(metadata->chunk(), 64, row).status().IgnoreError();
  }
  return 0;
}
