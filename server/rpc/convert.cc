#include "server/rpc/convert.h"

#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/format/profile.h"

namespace kdn {

absl::StatusOr<Digest> ReadDigest(std::string_view field, const std::string& bytes) {
  const std::optional<Digest> digest = Digest::FromBytes(AsBytes(bytes));
  if (!digest.has_value()) return InvalidArgument(field, " has ", bytes.size(), " bytes, not ", Digest::kBytes);
  return *digest;
}

absl::StatusOr<std::vector<Digest>> ReadDigests(std::string_view field,
                                                const google::protobuf::RepeatedPtrField<std::string>& digests) {
  std::vector<Digest> out;
  out.reserve(static_cast<size_t>(digests.size()));
  for (const std::string& bytes : digests) {
    const std::optional<Digest> digest = Digest::FromBytes(AsBytes(bytes));
    if (!digest.has_value()) {
      return InvalidArgument(field, "[", out.size(), "] has ", bytes.size(), " bytes, not ", Digest::kBytes);
    }
    out.push_back(*digest);
  }
  return out;
}

absl::StatusOr<std::optional<CellSet>> ReadCells(std::string_view field, const v1::Cells& cells) {
  const std::string& bitmap = cells.bitmap();
  if (bitmap.empty()) return std::optional<CellSet>();
  if (bitmap.size() > kMaxBitmapBytes) {
    return InvalidArgument(field, " has a bitmap of ", bitmap.size(), " bytes, at most ", kMaxBitmapBytes);
  }
  KDN_ASSIGN_OR_RETURN(CellSet set, CellSet::FromBytes(AsBytes(bitmap), static_cast<uint32_t>(bitmap.size() * 8)));
  return std::optional<CellSet>(std::move(set));
}

ProfileId ReadProfile(uint32_t number) {
  return number <= kMaxProfileId ? static_cast<ProfileId>(number) : ProfileId::kTransform;
}

std::optional<OfferedCoding> ReadCoding(const v1::FindMissingRequest& request) {
  if (!request.has_profile()) return std::nullopt;
  const bool unrotated = request.rope_state() == static_cast<uint32_t>(RopeState::kUnrotated);
  return OfferedCoding{ReadProfile(request.profile()), unrotated ? RopeState::kUnrotated : RopeState::kRotated};
}

absl::StatusOr<ChunkOffer> ReadOffer(const v1::ChunkOffer& offer) {
  ChunkOffer out;
  KDN_ASSIGN_OR_RETURN(out.chunk_digest, ReadDigest("chunk_digest", offer.chunk_digest()));
  KDN_ASSIGN_OR_RETURN(out.cells, ReadCells("cells", offer.cells()));
  out.partial.reserve(static_cast<size_t>(offer.partial_size()));
  for (const v1::CellRows& rows : offer.partial()) out.partial.push_back({rows.cell(), rows.first_row()});
  return out;
}

void WriteDigest(const Digest& digest, std::string& out) { out.assign(digest.view()); }

namespace {

std::string_view KStateName(KState state) {
  switch (state) {
    case KState::kUnknown:
      return "";
    case KState::kRotated:
      return "rotated";
    case KState::kUnrotated:
      return "unrotated";
    case KState::kMixed:
      return "mixed";
  }
  return "";
}

}  // namespace

void WriteObjectInfo(const ObjectInfo& info, v1::ObjectSummary& out) {
  WriteDigest(info.digest, *out.mutable_digest());
  WriteDigest(info.fingerprint, *out.mutable_fingerprint());
  out.set_kind(static_cast<uint32_t>(info.kind));
  out.set_object_bytes(info.object_bytes);
  out.set_created_ms(info.created_ms);
  out.set_display_name(info.display_name);
  out.set_active(info.active);
}

void WriteCells(const CellSet& cells, v1::Cells& out) {
  if (cells.Empty()) return;
  const std::vector<uint8_t> bitmap = cells.ToBytes();
  out.set_bitmap(bitmap.data(), bitmap.size());
}

void WriteChunkInfo(const ChunkInfo& info, v1::ChunkSummary& out) {
  WriteDigest(info.chunk_digest, *out.mutable_chunk_digest());
  WriteDigest(info.fingerprint, *out.mutable_fingerprint());
  out.set_token_begin(info.token_begin);
  out.set_num_tokens(info.num_tokens);
  out.set_stored_bytes(info.stored_bytes);
  out.set_raw_bytes(info.raw_bytes);
  out.set_profile(std::string(ProfileName(info.profile)));
  out.set_cells_present(info.cells_present);
  out.set_cells_total(info.cells_total);
  out.set_created_ms(info.created_ms);
  out.set_expires_ms(info.expires_ms);
  out.set_pinned(info.pinned);
  out.set_pinned_until_ms(info.pinned_until_ms);
  out.set_in_ram(info.in_ram);
  for (const std::string& document : info.documents) out.add_documents(document);
  out.set_k_state(std::string(KStateName(info.k_state)));
  out.set_kind(info.kind == ChunkKind::kSegment ? "segment" : "prefix");
}

void WriteChunkDetails(const ChunkDetails& details, v1::InspectChunkResponse& out) {
  WriteChunkInfo(details.info, *out.mutable_summary());
  for (const PartInfo& part : details.parts) {
    v1::PartSummary& summary = *out.add_parts();
    summary.set_container_bytes(part.container_bytes);
    summary.set_header_bytes(part.header.header_bytes);
    summary.set_sections(static_cast<uint32_t>(part.header.sections.size()));
    const auto is_wide = [](const SectionEntry& section) { return section.wide; };
    summary.set_wide_sections(
        static_cast<uint32_t>(std::count_if(part.header.sections.begin(), part.header.sections.end(), is_wide)));
    summary.set_tiles(static_cast<uint32_t>(part.header.tiles.size()));
    for (const TileEntry& tile : part.header.tiles) {
      const std::string profile(ProfileName(tile.profile));
      ++(*summary.mutable_tiles_by_profile())[profile];
      (*summary.mutable_bytes_by_profile())[profile] += tile.length;
    }
    for (const uint32_t cell : part.cells) summary.add_cells(cell);
    summary.set_value_group(part.value_group);
    summary.set_value_offset(part.value_offset);
    if (part.header.tiles.empty()) continue;  // its header could not be read
    const KState k_state = part.header.rope_state == RopeState::kRotated ? KState::kRotated : KState::kUnrotated;
    summary.set_k_state(std::string(KStateName(k_state)));
    for (const Digest& digest : part.header.calibration) WriteDigest(digest, *summary.add_calibration());
  }
}

}  // namespace kdn
