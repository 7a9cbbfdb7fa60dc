#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "kernels/format/container.h"
#include "kernels/format/container_layout.h"

namespace kdn {
namespace {

void WritePrelude(const ContainerHeader& header, uint32_t tile_directory_bytes, ByteWriter& writer) {
  writer.U32(kContainerMagic);
  writer.U8(kContainerMajor);
  writer.U8(kContainerMinor);
  writer.U16(0);
  writer.U32(header.required_features);
  writer.U32(header.optional_features);
  writer.U32(0);  // header bytes: patched
  writer.U32(0);  // header CRC: patched
  writer.U64(header.body_bytes);
  writer.U32(static_cast<uint32_t>(header.sections.size()));
  writer.U32(tile_directory_bytes);
  writer.U64(0);
}

void WriteIdentity(const ContainerHeader& header, ByteWriter& writer) {
  writer.Bytes(header.fingerprint.span());
  writer.Bytes(header.chunk_digest.span());
  writer.U64(header.token_begin);
  writer.U32(header.num_tokens);
  writer.U32(header.tile_tokens);
  writer.U8(static_cast<uint8_t>(header.dtype));
  writer.U8(static_cast<uint8_t>(header.rope_state));
  writer.U8(static_cast<uint8_t>(header.calibration.size()));
  writer.U8(0);
  writer.U16(static_cast<uint16_t>(header.extensions.size()));
  writer.U16(0);
  writer.U32(header.cells.num_cells());
  writer.U32(0);
  writer.Bytes(header.cells.ToBytes());
  for (const Digest& digest : header.calibration) writer.Bytes(digest.span());
  for (const HeaderExtension& extension : header.extensions) {
    writer.U16(extension.type);
    writer.U16(0);
    writer.U32(static_cast<uint32_t>(extension.bytes.size()));
    writer.Bytes(extension.bytes);
  }
}

void WriteSection(const SectionEntry& section, ByteWriter& writer) {
  writer.U16(section.layer);
  writer.U8(section.layer_count);
  writer.U8(StoredKind(section));
  writer.U16(section.head_begin);
  writer.U16(section.head_count);
  writer.U32(section.first_row);
  writer.U64(section.offset);
  writer.U32(section.length);
  writer.U32(section.crc32c);
}

std::vector<uint8_t> EncodeTileDirectory(const ContainerHeader& header) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  int64_t previous = 0;
  for (const TileEntry& tile : header.tiles) {
    writer.U8(static_cast<uint8_t>(tile.profile));
    writer.SignedVarint(int64_t{tile.length} - previous);
    previous = tile.length;
  }
  return out;
}

}  // namespace

ContainerBuilder::ContainerBuilder(ContainerHeader header) : header_(std::move(header)) {
  header_.sections.clear();
  header_.tiles.clear();
  header_.required_features &= ~kFeatureWideSections;
}

void ContainerBuilder::BeginSection(const SectionEntry& scope) {
  EndSection();
  SectionEntry section = scope;
  section.offset = body_.size();
  section.tile_begin = static_cast<uint32_t>(header_.tiles.size());
  if (section.wide) header_.required_features |= kFeatureWideSections;
  header_.sections.push_back(section);
}

void ContainerBuilder::AddTile(ProfileId profile, ByteSpan coded) {
  const SectionEntry& section = header_.sections.back();
  header_.tiles.push_back(
      {profile, static_cast<uint32_t>(body_.size() - section.offset), static_cast<uint32_t>(coded.size())});
  body_.insert(body_.end(), coded.begin(), coded.end());
  body_.resize(AlignUp(body_.size(), kContainerAlignment));
}

void ContainerBuilder::EndSection() {
  if (header_.sections.empty()) return;
  SectionEntry& section = header_.sections.back();
  section.length = static_cast<uint32_t>(body_.size() - section.offset);
  section.tile_count = static_cast<uint32_t>(header_.tiles.size() - section.tile_begin);
  section.crc32c = Crc32c(ByteSpan(body_).subspan(section.offset));
}

absl::StatusOr<std::vector<uint8_t>> ContainerBuilder::Finish() && {
  EndSection();
  header_.body_bytes = body_.size();
  const std::vector<uint8_t> tile_directory = EncodeTileDirectory(header_);
  std::vector<uint8_t> out;
  out.reserve(kContainerPreludeBytes + kIdentityBytes + header_.sections.size() * kSectionEntryBytes +
              tile_directory.size() + body_.size() + 4096);
  ByteWriter writer(out);
  WritePrelude(header_, static_cast<uint32_t>(tile_directory.size()), writer);
  WriteIdentity(header_, writer);
  for (const SectionEntry& section : header_.sections) WriteSection(section, writer);
  writer.Bytes(tile_directory);
  writer.PadTo(kContainerAlignment);
  StoreLe<uint32_t>(static_cast<uint32_t>(out.size()), out.data() + 16);
  StoreLe<uint32_t>(Crc32c(out), out.data() + kHeaderCrcOffset);
  // The reader's checks are the one statement of what is valid: what this build writes, it must read.
  KDN_RETURN_IF_ERROR(Annotate(ToStatus(ParseContainerHeader(out)), "built container"));
  writer.Bytes(body_);
  return out;
}

}  // namespace kdn
