#include "storage/segment/recovery.h"

#include <optional>
#include <utility>
#include <vector>

#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "storage/file/aligned_buffer.h"
#include "storage/segment/format.h"
#include "storage/segment/record_walker.h"

namespace kdn {
namespace {

constexpr uint64_t kScratchBytes = 1 << 20;

struct OpenSegment {
  File& file;
  uint64_t size = 0;
  SegmentIdentity identity;
  bool header_intact = false;
  AlignedBuffer scratch{kScratchBytes};
};

// The whole block at `offset`; DataLoss when the file ends before it or the device fails.
absl::StatusOr<ByteSpan> ReadBlock(OpenSegment& open, uint64_t offset) {
  const MutableByteSpan block = open.scratch.span().first(kSegmentBlockBytes);
  const auto got = open.file.ReadAt(offset, block);
  KDN_RETURN_IF_ERROR(got);
  if (*got < kSegmentBlockBytes) return DataLoss("file ends at ", offset + *got);
  return ByteSpan(block);
}

// Sets identity.nonce: from the segment header, else from the footer, else from the first record.
absl::Status Identify(OpenSegment& open, const absl::StatusOr<SegmentFooter>& footer) {
  const auto block = ReadBlock(open, 0);
  const absl::StatusOr<SegmentHeader> header =
      block.ok() ? ParseSegmentHeader(*block) : absl::StatusOr<SegmentHeader>(block.status());
  if (absl::IsFailedPrecondition(header.status())) return header.status();
  open.header_intact = header.ok() && header->id == open.identity.id;
  if (open.header_intact) {
    open.identity.nonce = header->nonce;
  } else if (footer.ok()) {
    open.identity.nonce = footer->nonce;
  } else if (const auto first = ReadBlock(open, kFirstRecordOffset); first.ok()) {
    const auto record = ParseRecordHeader(*first, open.identity, kFirstRecordOffset);
    if (record.ok()) open.identity.nonce = record->segment_nonce;
  }
  return absl::OkStatus();
}

absl::StatusOr<SegmentFooter> ReadFooter(OpenSegment& open) {
  if (open.size % kSegmentBlockBytes != 0 || open.size < kFirstRecordOffset + kSegmentBlockBytes) {
    return DataLoss("no room for a footer in ", open.size, " bytes");
  }
  const uint64_t offset = open.size - kSegmentBlockBytes;
  KDN_ASSIGN_OR_RETURN(const ByteSpan block, ReadBlock(open, offset));
  KDN_ASSIGN_OR_RETURN(const SegmentFooter footer, ParseSegmentFooter(block));
  if (footer.id != open.identity.id || footer.data_end != offset) {
    return DataLoss("footer of segment ", footer.id, " for data up to ", footer.data_end);
  }
  return footer;
}

struct Findings {
  SegmentState state;
  bool met_read_error = false;
};

// Looks at every record header, then backwards from the end at payloads, until one is whole.
Findings Examine(OpenSegment& open) {
  RecordWalker walker(open.file, open.identity, open.size);
  std::vector<RecordHeader> values;
  while (const auto record = walker.Next()) {
    const bool whole = record->header.has_value() && record->header->End() <= open.size;
    if (whole) values.push_back(*record->header);
  }
  Findings findings;
  findings.met_read_error = walker.met_read_error();
  while (!values.empty()) {
    const auto intact = PayloadIntact(open.file, values.back(), open.scratch.span());
    findings.met_read_error = findings.met_read_error || !intact.ok();
    if (!intact.ok() || *intact) break;
    values.pop_back();
  }
  if (!values.empty()) findings.state.readable_end = values.back().End();
  findings.state.record_count = values.size();
  for (const RecordHeader& value : values) findings.state.payload_bytes += value.payload_bytes;
  return findings;
}

// Cuts the file after the last whole record and marks it as closed. The cut is durable before the mark is written.
absl::Status CutAndMark(OpenSegment& open, const SegmentState& state) {
  // Also where nothing is cut: it gives back what was reserved behind the end.
  KDN_RETURN_IF_ERROR(open.file.Truncate(state.readable_end));
  KDN_RETURN_IF_ERROR(open.file.Sync());
  const MutableByteSpan block = open.scratch.span().first(kSegmentBlockBytes);
  EncodeSegmentFooter({.id = open.identity.id,
                       .nonce = open.identity.nonce.value_or(0),
                       .record_count = state.record_count,
                       .payload_bytes = state.payload_bytes,
                       .data_end = state.readable_end},
                      block.data());
  KDN_RETURN_IF_ERROR(open.file.WriteAt(state.readable_end, block));
  return open.file.Sync();
}

SegmentState RecoverState(OpenSegment& open, const std::string& path) {
  // Without the nonce a record cannot be told from bytes that look like one: nothing is walked, nothing is cut.
  if (!open.identity.nonce.has_value()) return {.readable_end = kFirstRecordOffset, .disk_bytes = open.size};
  Findings findings = Examine(open);
  SegmentState& state = findings.state;
  state.disk_bytes = open.size;
  Log(LogLevel::kInfo, "segment recovered",
      {{"path", path}, {"records", state.record_count}, {"bytes", open.size}, {"kept_bytes", state.readable_end}});
  if (findings.met_read_error) return state;
  const absl::Status marked = CutAndMark(open, state);
  if (marked.ok()) {
    state.disk_bytes = state.readable_end + kSegmentBlockBytes;
  } else {
    Log(LogLevel::kWarn, "segment left without its clean-close mark", {{"path", path}, {"error", marked.ToString()}});
  }
  return state;
}

}  // namespace

absl::StatusOr<RecoveredSegment> RecoverSegment(FileSystem& file_system, const std::string& path, uint64_t id,
                                                DirectIo direct_io) {
  KDN_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, file_system.Open(path, OpenMode::kReadWrite, direct_io));
  OpenSegment open{.file = *file, .identity = {.id = id}};
  if (open.scratch.size() == 0) return ResourceExhausted("no memory to recover ", path);
  KDN_ASSIGN_OR_RETURN(open.size, file->Size());
  const absl::StatusOr<SegmentFooter> footer = ReadFooter(open);
  if (absl::IsFailedPrecondition(footer.status())) return Annotate(footer.status(), path);
  KDN_RETURN_IF_ERROR(Annotate(Identify(open, footer), path));

  SegmentState state;
  const bool closed_cleanly = footer.ok() && footer->nonce == open.identity.nonce;
  if (closed_cleanly) {
    state = {.readable_end = footer->data_end,
             .disk_bytes = open.size,
             .record_count = footer->record_count,
             .payload_bytes = footer->payload_bytes};
  } else if (open.size > kFirstRecordOffset) {
    state = RecoverState(open, path);
  } else {
    state.disk_bytes = open.size;
  }
  state.sealed = true;
  RecoveredSegment recovered;
  recovered.segment = std::make_shared<Segment>(file_system, path, open.identity, direct_io);
  recovered.segment->SetState(state);
  recovered.empty = state.disk_bytes <= kFirstRecordOffset + kSegmentBlockBytes && state.record_count == 0;
  return recovered;
}

}  // namespace kdn
