#include "storage/segment/format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr std::array<uint8_t, 8> kHeaderMagic = {'K', 'D', 'N', 'S', 'E', 'G', '\r', '\n'};
constexpr std::array<uint8_t, 8> kFooterMagic = {'K', 'D', 'N', 'E', 'N', 'D', '\r', '\n'};
constexpr std::array<uint8_t, 4> kRecordMagic = {'K', 'R', 'E', 'C'};
constexpr uint16_t kMajorVersion = 1;
constexpr uint16_t kMinorVersion = 0;
constexpr uint8_t kRecordVersion = 1;
constexpr uint64_t kBlockCrcOffset = kSegmentBlockBytes - 4;
constexpr uint64_t kRecordCrcOffset = kRecordHeaderBytes - 4;
constexpr size_t kNameDigits = 20;
constexpr std::string_view kNameSuffix = ".seg";

// Magic, versions and block size at the front, checksum at the end: what header and footer have in common.
void BeginBlock(const std::array<uint8_t, 8>& magic, uint8_t* block) {
  std::memset(block, 0, kSegmentBlockBytes);
  std::copy(magic.begin(), magic.end(), block);
  StoreLe<uint16_t>(kMajorVersion, block + 8);
  StoreLe<uint16_t>(kMinorVersion, block + 10);
  StoreLe<uint32_t>(kSegmentBlockBytes, block + 12);
}

void EndBlock(uint8_t* block) { StoreLe<uint32_t>(Crc32c(ByteSpan(block, kBlockCrcOffset)), block + kBlockCrcOffset); }

absl::Status CheckBlock(const std::array<uint8_t, 8>& magic, ByteSpan block) {
  if (block.size() != kSegmentBlockBytes) {
    return DataLoss("segment block of ", block.size(), " bytes instead of ", kSegmentBlockBytes);
  }
  if (!std::equal(magic.begin(), magic.end(), block.begin())) return DataLoss("segment block without its magic");
  const uint32_t stored = LoadLe<uint32_t>(block.data() + kBlockCrcOffset);
  const uint32_t computed = Crc32c(block.first(kBlockCrcOffset));
  if (stored != computed) return DataLoss("segment block with checksum ", computed, " instead of ", stored);
  const uint16_t major = LoadLe<uint16_t>(block.data() + 8);
  if (major != kMajorVersion) {
    return FailedPrecondition("segment of format version ", major, ", this program knows version ", kMajorVersion);
  }
  const uint32_t block_bytes = LoadLe<uint32_t>(block.data() + 12);
  if (block_bytes != kSegmentBlockBytes) {
    return FailedPrecondition("segment with blocks of ", block_bytes, " bytes instead of ", kSegmentBlockBytes);
  }
  return absl::OkStatus();
}

}  // namespace

void EncodeSegmentHeader(const SegmentHeader& header, uint8_t* block) {
  BeginBlock(kHeaderMagic, block);
  StoreLe<uint64_t>(header.id, block + 16);
  StoreLe<uint64_t>(header.nonce, block + 24);
  StoreLe<uint64_t>(header.created_wall_ms, block + 32);
  EndBlock(block);
}

absl::StatusOr<SegmentHeader> ParseSegmentHeader(ByteSpan block) {
  KDN_RETURN_IF_ERROR(CheckBlock(kHeaderMagic, block));
  return SegmentHeader{.id = LoadLe<uint64_t>(block.data() + 16),
                       .nonce = LoadLe<uint64_t>(block.data() + 24),
                       .created_wall_ms = LoadLe<uint64_t>(block.data() + 32)};
}

void EncodeSegmentFooter(const SegmentFooter& footer, uint8_t* block) {
  BeginBlock(kFooterMagic, block);
  StoreLe<uint64_t>(footer.id, block + 16);
  StoreLe<uint64_t>(footer.nonce, block + 24);
  StoreLe<uint64_t>(footer.record_count, block + 32);
  StoreLe<uint64_t>(footer.payload_bytes, block + 40);
  StoreLe<uint64_t>(footer.data_end, block + 48);
  EndBlock(block);
}

absl::StatusOr<SegmentFooter> ParseSegmentFooter(ByteSpan block) {
  KDN_RETURN_IF_ERROR(CheckBlock(kFooterMagic, block));
  return SegmentFooter{.id = LoadLe<uint64_t>(block.data() + 16),
                       .nonce = LoadLe<uint64_t>(block.data() + 24),
                       .record_count = LoadLe<uint64_t>(block.data() + 32),
                       .payload_bytes = LoadLe<uint64_t>(block.data() + 40),
                       .data_end = LoadLe<uint64_t>(block.data() + 48)};
}

void EncodeRecordHeader(const RecordHeader& header, uint8_t* out) {
  std::copy(kRecordMagic.begin(), kRecordMagic.end(), out);
  out[4] = kRecordVersion;
  out[5] = static_cast<uint8_t>(header.kind);
  StoreLe<uint16_t>(static_cast<uint16_t>(header.HeadBytes() / kSegmentBlockBytes), out + 6);
  StoreLe<uint64_t>(header.segment_id, out + 8);
  StoreLe<uint64_t>(header.segment_nonce, out + 16);
  StoreLe<uint64_t>(header.record_offset, out + 24);
  StoreLe<uint64_t>(header.sequence, out + 32);
  StoreLe<uint64_t>(header.payload_bytes, out + 40);
  StoreLe<uint32_t>(header.metadata_bytes, out + 48);
  StoreLe<uint32_t>(header.metadata_crc, out + 52);
  StoreLe<uint32_t>(header.payload_crc, out + 56);
  StoreLe<uint32_t>(Crc32c(ByteSpan(out, kRecordCrcOffset)), out + kRecordCrcOffset);
}

absl::StatusOr<RecordHeader> ParseRecordHeader(ByteSpan bytes, const SegmentIdentity& segment, uint64_t record_offset) {
  if (bytes.size() < kRecordHeaderBytes) return DataLoss("record header cut off after ", bytes.size(), " bytes");
  const uint8_t* p = bytes.data();
  if (!std::equal(kRecordMagic.begin(), kRecordMagic.end(), p)) {
    return DataLoss("no record at offset ", record_offset, " of segment ", segment.id);
  }
  if (Crc32c(ByteSpan(p, kRecordCrcOffset)) != LoadLe<uint32_t>(p + kRecordCrcOffset)) {
    return DataLoss("damaged record header at offset ", record_offset, " of segment ", segment.id);
  }
  const RecordHeader header{.kind = static_cast<RecordKind>(p[5]),
                            .segment_id = LoadLe<uint64_t>(p + 8),
                            .segment_nonce = LoadLe<uint64_t>(p + 16),
                            .record_offset = LoadLe<uint64_t>(p + 24),
                            .sequence = LoadLe<uint64_t>(p + 32),
                            .payload_bytes = LoadLe<uint64_t>(p + 40),
                            .metadata_bytes = LoadLe<uint32_t>(p + 48),
                            .metadata_crc = LoadLe<uint32_t>(p + 52),
                            .payload_crc = LoadLe<uint32_t>(p + 56)};
  if (header.segment_id != segment.id || header.record_offset != record_offset ||
      (segment.nonce.has_value() && header.segment_nonce != *segment.nonce)) {
    return DataLoss("a record of another place (segment ", header.segment_id, ", offset ", header.record_offset,
                    ") at offset ", record_offset, " of segment ", segment.id);
  }
  if (p[4] != kRecordVersion || p[5] > static_cast<uint8_t>(RecordKind::kVoid)) {
    return DataLoss("record of unknown version ", p[4], " or kind ", p[5], " at offset ", record_offset, " of segment ",
                    segment.id);
  }
  if (header.metadata_bytes > kMaxMetadataBytes || header.payload_bytes > kMaxPayloadBytes ||
      LoadLe<uint16_t>(p + 6) * kSegmentBlockBytes != header.HeadBytes()) {
    return DataLoss("record at offset ", record_offset, " of segment ", segment.id, " declares ", header.metadata_bytes,
                    " metadata and ", header.payload_bytes, " payload bytes");
  }
  return header;
}

absl::StatusOr<ByteSpan> RecordMetadata(const RecordHeader& header, ByteSpan head) {
  if (head.size() < kRecordHeaderBytes + header.metadata_bytes) {
    return DataLoss("metadata cut off at offset ", header.record_offset, " of segment ", header.segment_id);
  }
  const ByteSpan metadata = head.subspan(kRecordHeaderBytes, header.metadata_bytes);
  if (Crc32c(metadata) != header.metadata_crc) {
    return DataLoss("damaged metadata at offset ", header.record_offset, " of segment ", header.segment_id);
  }
  return metadata;
}

uint64_t EncodeLocationOffset(uint64_t record_offset, uint64_t head_bytes) {
  return record_offset | (head_bytes / kSegmentBlockBytes);
}

ValueLocation LocationOf(const RecordHeader& header) {
  return {.group = header.segment_id,
          .offset = EncodeLocationOffset(header.record_offset, header.HeadBytes()),
          .length = header.payload_bytes};
}

std::string SegmentFileName(uint64_t id) {
  const std::string digits = std::to_string(id);
  return std::string(kNameDigits - digits.size(), '0') + digits + std::string(kNameSuffix);
}

std::optional<uint64_t> ParseSegmentFileName(std::string_view name) {
  if (name.size() != kNameDigits + kNameSuffix.size() || !name.ends_with(kNameSuffix)) return std::nullopt;
  uint64_t id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + kNameDigits, id);
  if (error != std::errc() || end != name.data() + kNameDigits) return std::nullopt;
  return id;
}

}  // namespace kdn
