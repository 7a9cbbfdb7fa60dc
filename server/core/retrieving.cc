#include "server/core/retrieving.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "kernels/base/status.h"
#include "storage/evict/chunk_rows.h"
#include "storage/index/part_merge.h"

namespace kdn {
namespace {

// A value may move (eviction keeps what is read) between reading the row and the value; more often than this in a row
// means something else is wrong.
constexpr int kMaxAttempts = 4;
// A read from disk of at least this share (1 / n) of a value's cells reads it whole and caches it: the other ranks of
// the same reader come for the rest.
constexpr uint32_t kWholeReadShare = 4;

// The sections of `cells`, merged where they touch: ranges in the container, ascending.
std::vector<ByteRange> RangesOf(const ContainerHeader& header, const CellMap& map, const CellSet& cells) {
  std::vector<ByteRange> ranges;
  for (const SectionEntry& section : header.sections) {
    if (!CellsOfSection(section, map).Intersects(cells)) continue;
    const uint64_t begin = header.header_bytes + section.offset;
    if (!ranges.empty() && ranges.back().offset + ranges.back().length == begin) {
      ranges.back().length += section.length;
    } else {
      ranges.push_back({begin, section.length});
    }
  }
  return ranges;
}

absl::Status VerifySections(const ContainerHeader& header, const ByteRange& range, ByteSpan bytes) {
  for (const SectionEntry& section : header.sections) {
    const uint64_t begin = header.header_bytes + section.offset;
    if (begin < range.offset || begin >= range.offset + range.length) continue;
    KDN_RETURN_IF_ERROR(VerifySection(section, bytes.subspan(begin - range.offset, section.length)));
  }
  return absl::OkStatus();
}

absl::Status TooLossy(const v1::PartRecord& part, ProfileId lossiest) {
  if (part.required_profile() != 0) {
    return FailedPrecondition("K is stored before its rotary embedding, accepted up to ", ProfileName(lossiest));
  }
  return FailedPrecondition("stored as ", ProfileName(RequiredProfileOf(part)), ", accepted up to ",
                            ProfileName(lossiest));
}

}  // namespace

struct Retrieving::Request {
  TenantRef tenant;
  ModelRef model;
  const RetrieveQuery& query;
  const CellSet& wanted;
  ChunkKey key;
};

struct Retrieving::PartRequest {
  ValueLocation location;
  uint32_t header_bytes = 0;
  CellSet cells;              // wanted of it
  uint32_t listed_cells = 0;  // that readers take from it

  bool Whole() const { return cells.Count() == listed_cells; }
};

absl::StatusOr<RetrievedChunk> Retrieving::Retrieve(const Caller& caller, const RetrieveQuery& query) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(const ModelRef model, c_.registry().FindModel(tenant, query.fingerprint));
  KDN_ASSIGN_OR_RETURN(const CellSet wanted, WantedCells(query.cells, model->cells().num_cells()));
  const Request request{tenant, model, query, wanted, CoreContext::KeyOf(tenant, query.chunk_digest)};
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    bool retry = false;
    KDN_ASSIGN_OR_RETURN(RetrievedChunk chunk, Attempt(request, retry));
    if (!retry) return chunk;
  }
  return Miss(MissReason::kEvicted, "the chunk kept moving while it was read");
}

RetrievedChunk Retrieving::Miss(MissReason reason, std::string message) {
  c_.misses.fetch_add(1, std::memory_order_relaxed);
  c_.events().OnMiss(reason);
  RetrievedChunk chunk;
  chunk.miss = reason;
  chunk.miss_message = std::move(message);
  return chunk;
}

absl::StatusOr<RetrievedChunk> Retrieving::Attempt(const Request& request, bool& retry) {
  const absl::StatusOr<std::optional<v1::ChunkRecord>> read = c_.index().GetChunk(request.key);
  if (absl::IsDataLoss(read.status())) {
    c_.NoteCorruption("index", read.status());
    return Miss(MissReason::kCorrupt, "the chunk's index row is damaged");
  }
  KDN_RETURN_IF_ERROR(read);
  if (!read->has_value()) return Miss(MissReason::kAbsent, "");
  const v1::ChunkRecord& row = **read;
  if (row.fingerprint() != request.query.fingerprint.view()) {
    return Miss(MissReason::kIncompatible, "the chunk is stored for another model");
  }
  if (IsExpired(row, c_.NowMs())) {
    absl::MutexLock lock(&c_.locks().For(request.key));
    KDN_ASSIGN_OR_RETURN(const auto current, c_.ReadRow(request.key));
    if (current.has_value() && IsExpired(*current, c_.NowMs())) {
      KDN_RETURN_IF_ERROR(c_.RemoveRow(request.key, *current));
    }
    return Miss(MissReason::kExpired, "");
  }

  absl::StatusOr<std::map<int, PartRequest>> parts = ChooseParts(request, row);
  if (absl::IsFailedPrecondition(parts.status())) {
    return Miss(MissReason::kIncompatible, std::string(FromAbsl(parts.status().message())));
  }
  if (!parts.ok()) return Miss(MissReason::kIncomplete, std::string(FromAbsl(parts.status().message())));

  RetrievedChunk chunk;
  chunk.num_tokens = row.num_tokens();
  bool from_ram = true;
  uint64_t bytes = 0;
  std::vector<std::pair<ProfileId, uint64_t>> bytes_by_part;
  for (const auto& [index, part] : *parts) {
    absl::StatusOr<RetrievedPart> retrieved = ReadPart(request, part);
    if (!retrieved.ok()) return HandleFailure(request, part.location, retrieved.status(), retry);
    from_ram &= retrieved->from_ram;
    uint64_t part_bytes = 0;
    for (const RetrievedPart::Slice& slice : retrieved->slices) part_bytes += slice.bytes.size();
    bytes_by_part.emplace_back(static_cast<ProfileId>(row.parts(index).profile()), part_bytes);
    bytes += part_bytes;
    chunk.parts.push_back(*std::move(retrieved));
  }
  c_.Touch(request.key, row);
  if (!from_ram) c_.disk_hits.fetch_add(1, std::memory_order_relaxed);
  c_.events().OnHit(from_ram ? "ram" : "disk", row.num_tokens(), bytes);
  for (const auto& [profile, part_bytes] : bytes_by_part) c_.events().OnProfileDelivered(profile, part_bytes);
  return chunk;
}

absl::StatusOr<std::map<int, Retrieving::PartRequest>> Retrieving::ChooseParts(const Request& request,
                                                                               const v1::ChunkRecord& row) {
  const CellMap& cells = request.model->cells();
  const RetrieveQuery& query = request.query;
  const std::vector<HeldCell> held = HeldCells(row, cells.num_cells(), query.lossiest);
  // Without a prefix the reader takes what there is.
  std::vector<uint32_t> needed(cells.num_cells());
  for (uint32_t cell = 0; cell < cells.num_cells(); ++cell) {
    needed[cell] = query.prefix_end != 0 ? NeededRow(cells, cell, query.prefix_end, row)
                   : held[cell].held()   ? held[cell].first_row
                                         : row.num_tokens();
  }
  const std::vector<HeldCell> chosen = CellsForReader(row, needed, query.lossiest);
  std::map<int, PartRequest> parts;
  for (const uint32_t cell : request.wanted.ToVector()) {
    if (query.prefix_end != 0 && needed[cell] >= row.num_tokens()) continue;
    if (!chosen[cell].held()) {
      const HeldCell lossy = CellsForReader(row, needed, std::nullopt)[cell];
      if (!lossy.held()) return NotFound("cell ", cell, " is not stored, or too few rows of it");
      return TooLossy(row.parts(lossy.part), *query.lossiest);
    }
    PartRequest& part = parts[chosen[cell].part];
    if (part.cells.num_cells() == 0) {
      const v1::PartRecord& record = row.parts(chosen[cell].part);
      part.location = LocationOf(record);
      part.header_bytes = record.header_bytes();
      part.cells = CellSet(cells.num_cells());
      part.listed_cells = static_cast<uint32_t>(record.cells_size());
    }
    part.cells.Insert(cell);
  }
  return parts;
}

absl::StatusOr<ContainerHeader> Retrieving::ParseHeader(const Request& request, const PartRequest& part,
                                                        ByteSpan bytes) {
  absl::StatusOr<ContainerHeader> header = ParseContainerHeader(bytes);
  // What was whole when it was stored and does not parse now is damaged, whatever the parser makes of it.
  if (!header.ok()) return DataLoss("stored container: ", FromAbsl(header.status().message()));
  if (header->fingerprint != request.query.fingerprint || header->chunk_digest != request.query.chunk_digest ||
      header->header_bytes != part.header_bytes || header->header_bytes + header->body_bytes != part.location.length ||
      !CheckAgainstModel(*header, request.model->spec(), request.model->cells()).ok()) {
    return DataLoss("the value at group ", part.location.group, " offset ", part.location.offset,
                    " is another container than its row says");
  }
  return header;
}

absl::StatusOr<RetrievedPart> Retrieving::ReadPart(const Request& request, const PartRequest& part) {
  RetrievedPart result;
  result.container_bytes = part.location.length;
  result.header_bytes = part.header_bytes;
  result.cells = part.cells;
  std::optional<SharedBytes> whole;
  if (std::optional<RamTier::Found> found = c_.ram().FindWithChecksums(part.location); found.has_value()) {
    result.from_ram = true;
    result.checksums = std::move(found->checksums);
    whole = std::move(found->bytes);
  }
  std::optional<ContainerHeader> header;
  if (!whole.has_value()) {
    const bool worth_caching =
        c_.ram().capacity_bytes() > 0 && part.cells.Count() >= CeilDiv(part.listed_cells, kWholeReadShare);
    if (!part.Whole() && !worth_caching) return ReadSections(request, part);
    KDN_ASSIGN_OR_RETURN(whole, c_.values().Get(part.location, {0, part.location.length}));
    KDN_ASSIGN_OR_RETURN(header, ParseHeader(request, part, whole->span()));
    c_.ram().Insert(part.location, *whole);
  }
  if (part.Whole()) {
    result.slices.push_back({0, *std::move(whole)});
    return result;
  }
  if (!header.has_value()) {
    KDN_ASSIGN_OR_RETURN(header, ParseHeader(request, part, whole->span()));
  }
  result.slices.push_back({0, whole->Slice(0, part.header_bytes)});
  for (const ByteRange& range : RangesOf(*header, request.model->cells(), part.cells)) {
    result.slices.push_back({range.offset, whole->Slice(range.offset, range.length)});
  }
  return result;
}

absl::StatusOr<RetrievedPart> Retrieving::ReadSections(const Request& request, const PartRequest& part) {
  RetrievedPart result;
  result.container_bytes = part.location.length;
  result.header_bytes = part.header_bytes;
  result.cells = part.cells;
  KDN_ASSIGN_OR_RETURN(SharedBytes head, c_.values().Get(part.location, {0, part.header_bytes}));
  KDN_ASSIGN_OR_RETURN(const ContainerHeader header, ParseHeader(request, part, head.span()));
  result.slices.push_back({0, std::move(head)});
  for (const ByteRange& range : RangesOf(header, request.model->cells(), part.cells)) {
    KDN_ASSIGN_OR_RETURN(SharedBytes bytes, c_.values().Get(part.location, range));
    if (c_.options().verify_on_read) KDN_RETURN_IF_ERROR(VerifySections(header, range, bytes.span()));
    result.slices.push_back({range.offset, std::move(bytes)});
  }
  return result;
}

absl::StatusOr<RetrievedChunk> Retrieving::HandleFailure(const Request& request, const ValueLocation& location,
                                                         const absl::Status& status, bool& retry) {
  const bool gone = absl::IsNotFound(status);
  const bool damaged = absl::IsDataLoss(status) || absl::IsOutOfRange(status);
  if (!gone && !damaged) {
    if (absl::IsUnavailable(status)) return status;
    return Miss(MissReason::kEvicted, StrCat("the value could not be read: ", FromAbsl(status.message())));
  }
  absl::MutexLock lock(&c_.locks().For(request.key));
  KDN_ASSIGN_OR_RETURN(const auto row, c_.ReadRow(request.key));
  const int part = row.has_value() ? FindPart(*row, location) : -1;
  if (row.has_value() && part < 0) {
    retry = true;
    return RetrievedChunk();
  }
  if (damaged) c_.NoteCorruption("values", status);
  if (row.has_value()) KDN_RETURN_IF_ERROR(c_.RemovePart(request.key, *row, part));
  return Miss(damaged ? MissReason::kCorrupt : MissReason::kEvicted, std::string(FromAbsl(status.message())));
}

}  // namespace kdn
