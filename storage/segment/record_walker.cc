#include "storage/segment/record_walker.h"

#include <algorithm>
#include <utility>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr uint64_t kWindowBytes = 1 << 20;
static_assert(kWindowBytes >= kMaxHeadBlocks * kSegmentBlockBytes);

bool AllZero(ByteSpan bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

}  // namespace

RecordWalker::RecordWalker(File& file, const SegmentIdentity& segment, uint64_t end)
    : file_(file), segment_(segment), end_(end & ~(kSegmentBlockBytes - 1)), window_(kWindowBytes) {}

ByteSpan RecordWalker::Load(uint64_t offset, uint64_t bytes) {
  bytes = std::min({bytes, end_ - offset, uint64_t{window_.size()}});
  const auto got = file_.ReadAt(offset, window_.span().first(bytes));
  if (!got.ok() || *got < bytes) {
    met_read_error_ = true;
    return {};
  }
  return window_.span().first(bytes);
}

std::optional<RecordHeader> RecordWalker::HeaderAt(uint64_t offset, ByteSpan block) const {
  const auto header = ParseRecordHeader(block, segment_, offset);
  if (!header.ok()) return std::nullopt;
  // A failed write that was overwritten by shorter ones can leave its header behind them; its number gives it away.
  if (last_sequence_.has_value() && header->sequence <= *last_sequence_) return std::nullopt;
  return *header;
}

WalkedRecord RecordWalker::Describe(const RecordHeader& header) {
  last_sequence_ = header.sequence;
  WalkedRecord record{.offset = header.record_offset, .end = header.End(), .header = header};
  if (header.End() > end_) {
    record.end = end_;
    record.status = DataLoss("record at offset ", header.record_offset, " of segment ", segment_.id, " ends at ",
                             header.End(), ", past the end of the data at ", end_);
    return record;
  }
  if (header.kind == RecordKind::kVoid) return record;
  const auto metadata = RecordMetadata(header, Load(header.record_offset, header.HeadBytes()));
  if (metadata.ok()) {
    record.metadata = *metadata;
  } else {
    record.status = metadata.status();
  }
  return record;
}

std::optional<WalkedRecord> RecordWalker::PassGap(uint64_t offset) {
  const uint64_t start = offset;
  bool zeros = true;
  bool found = false;
  while (offset < end_ && !found) {
    ByteSpan window = Load(offset, kWindowBytes);
    if (window.empty()) window = Load(offset, kSegmentBlockBytes);
    if (window.empty()) {
      zeros = false;
      offset += kSegmentBlockBytes;
      continue;
    }
    for (; !window.empty(); window = window.subspan(kSegmentBlockBytes), offset += kSegmentBlockBytes) {
      found = HeaderAt(offset, window).has_value();
      if (found) break;
      zeros = zeros && AllZero(window.first(kSegmentBlockBytes));
    }
  }
  position_ = offset;
  if (zeros) return std::nullopt;
  return WalkedRecord{
      .offset = start,
      .end = offset,
      .status = DataLoss("no intact record between offsets ", start, " and ", offset, " of segment ", segment_.id)};
}

std::optional<WalkedRecord> RecordWalker::Next() {
  while (position_ < end_) {
    const uint64_t offset = position_;
    const auto header = HeaderAt(offset, Load(offset, kSegmentBlockBytes));
    if (!header.has_value()) {
      if (auto gap = PassGap(offset)) return gap;
      continue;
    }
    WalkedRecord record = Describe(*header);
    position_ = record.end;
    if (header->kind == RecordKind::kVoid && record.status.ok()) continue;
    return record;
  }
  return std::nullopt;
}

absl::StatusOr<bool> PayloadIntact(File& file, const RecordHeader& header, MutableByteSpan scratch) {
  uint32_t crc = 0;
  for (uint64_t done = 0; done < header.payload_bytes;) {
    const uint64_t want = std::min<uint64_t>(header.payload_bytes - done, scratch.size());
    const auto got = file.ReadAt(header.PayloadOffset() + done, scratch.first(AlignUp(want, kSegmentBlockBytes)));
    KDN_RETURN_IF_ERROR(got);
    if (*got < want) return false;
    crc = Crc32cExtend(crc, ByteSpan(scratch).first(want));
    done += want;
  }
  return crc == header.payload_crc;
}

}  // namespace kdn
