#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/base/crc32c.h"
#include "storage/segment/format.h"
#include "storage/segment/record_walker.h"
#include "storage/segment/recovery.h"
#include "storage/segment/segment.h"
#include "tests/storage/torture/fault_file_system.h"

// Takes the input as the bytes of a segment file that another process left behind: parses, recovers, scans and reads
// it. A first byte with its lowest bit set makes the fuzzer's work easier: checksums are put right before the file is
// used, so that what lies behind them is reached.

namespace {

constexpr uint64_t kMaxFileBytes = 64 * 4096;
constexpr char kPath[] = "/data/00000000000000000001.seg";

void FixBlock(uint8_t* block) {
  kdn::StoreLe<uint32_t>(kdn::Crc32c(kdn::ByteSpan(block, kdn::kSegmentBlockBytes - 4)),
                         block + kdn::kSegmentBlockBytes - 4);
}

void FixChecksums(std::vector<uint8_t>& file) {
  constexpr uint64_t kBlock = kdn::kSegmentBlockBytes;
  for (uint64_t at = kBlock; at + kBlock <= file.size(); at += kBlock) {
    uint8_t* header = file.data() + at;
    const uint64_t metadata_bytes = kdn::LoadLe<uint32_t>(header + 48);
    if (metadata_bytes <= file.size() - at - kdn::kRecordHeaderBytes) {
      const kdn::ByteSpan metadata(header + kdn::kRecordHeaderBytes, metadata_bytes);
      kdn::StoreLe<uint32_t>(kdn::Crc32c(metadata), header + 52);
    }
    kdn::StoreLe<uint32_t>(kdn::Crc32c(kdn::ByteSpan(header, 60)), header + 60);
  }
  if (file.size() >= kBlock) FixBlock(file.data());
  if (file.size() >= 2 * kBlock && file.size() % kBlock == 0) FixBlock(file.data() + file.size() - kBlock);
}

void Expect(bool condition) {
  if (!condition) std::abort();
}

// Every intact value that a scan meets must read: whole, unless its payload is damaged, and in part.
void ScanAndRead(kdn::Segment& segment) {
  kdn::BufferCache buffers(1 << 20);
  std::vector<kdn::ScannedValue> values;
  const auto visit = [&](const kdn::ScannedValue& value) {
    Expect(value.metadata.size() <= kdn::kMaxMetadataBytes);
    values.push_back(value);
  };
  Expect(segment.Scan({.verify_payload = true}, visit).ok());
  for (const kdn::ScannedValue& value : values) {
    const auto whole = segment.Read(value.location, {0, value.location.length}, buffers);
    Expect(!value.status.ok() || whole.ok());
    Expect(!whole.ok() || whole->size() == value.location.length);
    const auto part = segment.Read(value.location, {value.location.length / 2, value.location.length / 3}, buffers);
    Expect(!value.status.ok() || part.ok());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 || size > kMaxFileBytes) return 0;
  std::vector<uint8_t> bytes(data + 1, data + size);
  if ((data[0] & 1) != 0) FixChecksums(bytes);
  // Small inputs get their last block filled up: a file that ends inside a block is cut there anyway.
  if ((data[0] & 2) != 0) bytes.resize(kdn::AlignUp(bytes.size(), kdn::kSegmentBlockBytes));

  kdn::FaultFileSystem file_system(1);
  file_system.SetContents(kPath, bytes);
  const auto first = kdn::RecoverSegment(file_system, kPath, 1, kdn::DirectIo::kAuto);
  if (!first.ok()) return 0;
  ScanAndRead(*first->segment);
  const std::vector<uint8_t> repaired = file_system.Contents(kPath);
  // What recovery left behind is taken up again without a further change.
  const auto second = kdn::RecoverSegment(file_system, kPath, 1, kdn::DirectIo::kAuto);
  Expect(second.ok());
  Expect(file_system.Contents(kPath) == repaired);
  Expect(second->segment->state().record_count == first->segment->state().record_count);
  ScanAndRead(*second->segment);
  return 0;
}
