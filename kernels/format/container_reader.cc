#include <algorithm>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "kernels/format/container.h"
#include "kernels/format/container_layout.h"

namespace kdn {
namespace {

struct Counts {
  uint32_t sections = 0;
  uint32_t tile_directory_bytes = 0;
  uint32_t cells = 0;
  uint8_t calibration = 0;
  uint16_t extensions = 0;
};

absl::Status CheckPreludeFields(ByteSpan prelude) {
  ByteReader reader(prelude);
  if (const uint32_t magic = reader.U32(); magic != kContainerMagic) {
    return InvalidArgument("not a container: it starts with ", Hex(prelude.first(4)), ", not with KDNC");
  }
  const uint8_t major = reader.U8();
  reader.U8();  // minor: any is readable
  if (major != kContainerMajor) {
    return Unimplemented("container version ", static_cast<int>(major), ", this build reads ",
                         static_cast<int>(kContainerMajor));
  }
  if (const uint16_t reserved = reader.U16(); reserved != 0) {
    return InvalidArgument("container has ", reserved, " in a reserved field");
  }
  if (const uint32_t unknown = reader.U32() & ~kKnownRequiredFeatures; unknown != 0) {
    return Unimplemented("container needs features 0x", Hex(prelude.subspan(8, 4)),
                         " (little-endian bits) that this build does not have");
  }
  return absl::OkStatus();
}

// Reads the prelude (already checked by PeekContainer) and the fixed identity fields.
absl::Status ReadFixedFields(ByteReader& reader, ContainerHeader& header, Counts& counts) {
  reader.Bytes(4);
  header.major = reader.U8();
  header.minor = reader.U8();
  reader.U16();
  header.required_features = reader.U32();
  header.optional_features = reader.U32();
  header.header_bytes = reader.U32();
  reader.U32();  // CRC, checked before
  header.body_bytes = reader.U64();
  counts.sections = reader.U32();
  counts.tile_directory_bytes = reader.U32();
  const uint64_t reserved = reader.U64();
  header.fingerprint = *Digest::FromBytes(reader.Bytes(Digest::kBytes));
  header.chunk_digest = *Digest::FromBytes(reader.Bytes(Digest::kBytes));
  header.token_begin = reader.U64();
  header.num_tokens = reader.U32();
  header.tile_tokens = reader.U32();
  const uint8_t dtype = reader.U8();
  const uint8_t rope_state = reader.U8();
  counts.calibration = reader.U8();
  const uint8_t reserved_byte = reader.U8();
  counts.extensions = reader.U16();
  const uint16_t reserved_short = reader.U16();
  counts.cells = reader.U32();
  const uint32_t reserved_word = reader.U32();
  if ((reserved | reserved_byte | reserved_short | reserved_word) != 0) {
    return InvalidArgument("container has a value in a reserved field");
  }
  if (!IsKnownDType(dtype)) return InvalidArgument("container has dtype ", static_cast<int>(dtype));
  if (rope_state != 1 && rope_state != 2)
    return InvalidArgument("container has RoPE state ", static_cast<int>(rope_state));
  header.dtype = static_cast<DType>(dtype);
  header.rope_state = static_cast<RopeState>(rope_state);
  return absl::OkStatus();
}

absl::Status CheckCounts(const ContainerHeader& header, const Counts& counts) {
  if (header.num_tokens == 0 || header.num_tokens > kMaxContainerTokens) {
    return InvalidArgument("container has ", header.num_tokens, " tokens: must be 1 to ", kMaxContainerTokens);
  }
  if (header.tile_tokens == 0 || header.tile_tokens > kMaxContainerTokens ||
      header.tile_tokens % kTileTokensMultiple != 0) {
    return InvalidArgument("container has tiles of ", header.tile_tokens, " tokens: must be a multiple of ",
                           kTileTokensMultiple, " up to ", kMaxContainerTokens);
  }
  if (counts.sections == 0 || counts.sections > kMaxSections) {
    return InvalidArgument("container has ", counts.sections, " sections: must be 1 to ", kMaxSections);
  }
  if (counts.cells == 0 || counts.cells > kMaxContainerCells) {
    return InvalidArgument("container speaks of ", counts.cells, " cells: must be 1 to ", kMaxContainerCells);
  }
  if (counts.calibration > kMaxCalibrationObjects || counts.extensions > kMaxExtensions) {
    return InvalidArgument("container names ", static_cast<int>(counts.calibration), " calibration objects and ",
                           counts.extensions, " extensions: at most ", kMaxCalibrationObjects, " and ", kMaxExtensions);
  }
  return absl::OkStatus();
}

absl::Status ReadVariableFields(ByteReader& reader, const Counts& counts, ContainerHeader& header) {
  const ByteSpan bitmap = reader.Bytes(CeilDiv(counts.cells, 8));
  if (!reader.ok()) return InvalidArgument("container's cell bitmap leaves the header");
  KDN_ASSIGN_OR_RETURN(header.cells, CellSet::FromBytes(bitmap, counts.cells));
  for (int i = 0; i < counts.calibration; ++i) {
    const auto digest = Digest::FromBytes(reader.Bytes(Digest::kBytes));
    if (!digest) return InvalidArgument("container's calibration digests leave the header");
    header.calibration.push_back(*digest);
  }
  for (int i = 0; i < counts.extensions; ++i) {
    HeaderExtension extension;
    extension.type = reader.U16();
    const uint16_t reserved = reader.U16();
    const ByteSpan bytes = reader.Bytes(reader.U32());
    if (!reader.ok() || reserved != 0) return InvalidArgument("container's extension ", i, " leaves the header");
    extension.bytes.assign(bytes.begin(), bytes.end());
    header.extensions.push_back(std::move(extension));
  }
  return absl::OkStatus();
}

SectionEntry ReadSection(ByteReader& reader) {
  SectionEntry section;
  section.layer = reader.U16();
  section.layer_count = reader.U8();
  const uint8_t kind = reader.U8();
  section.kind = static_cast<SectionKind>(kind & ~kWideSectionBit);
  section.wide = (kind & kWideSectionBit) != 0;
  section.head_begin = reader.U16();
  section.head_count = reader.U16();
  section.first_row = reader.U32();
  section.offset = reader.U64();
  section.length = reader.U32();
  section.crc32c = reader.U32();
  return section;
}

absl::Status CheckSection(const ContainerHeader& header, const SectionEntry& section, uint64_t expected_offset) {
  const std::string where = StrCat("section ", header.sections.size());
  if (static_cast<uint8_t>(section.kind) > 2 || section.layer_count == 0 || section.head_count == 0) {
    return InvalidArgument(where, " has kind ", static_cast<int>(section.kind), ", ",
                           static_cast<int>(section.layer_count), " layers, ", section.head_count, " heads");
  }
  if (section.wide && (section.kind == SectionKind::kV || !header.HasWideSections())) {
    return InvalidArgument(where, " is wide, of kind ", static_cast<int>(section.kind), ", in a container of features ",
                           header.required_features);
  }
  if (section.layer + section.layer_count > static_cast<int>(kMaxLayers) ||
      section.head_begin + section.head_count > static_cast<int>(kMaxKvHeads)) {
    return InvalidArgument(where, " reaches beyond layer ", kMaxLayers, " or head ", kMaxKvHeads);
  }
  if (section.first_row >= header.num_tokens) {
    return InvalidArgument(where, " starts at row ", section.first_row, " of ", header.num_tokens);
  }
  if (section.offset != expected_offset) {
    return InvalidArgument(where, " lies at ", section.offset, " of the body, the one before ends at ",
                           expected_offset);
  }
  if (section.length > kMaxSectionBytes || section.length % kContainerAlignment != 0 ||
      section.length > header.body_bytes - section.offset) {
    return InvalidArgument(where, " has ", section.length, " bytes: not a multiple of ", kContainerAlignment,
                           ", beyond ", kMaxSectionBytes, " or outside the body of ", header.body_bytes);
  }
  return absl::OkStatus();
}

absl::Status ReadSections(ByteReader& reader, uint32_t count, ContainerHeader& header) {
  if (count > reader.remaining() / kSectionEntryBytes) {
    return InvalidArgument("container declares ", count, " sections, its header has room for ",
                           reader.remaining() / kSectionEntryBytes);
  }
  header.sections.reserve(count);
  uint64_t offset = 0;
  uint64_t tiles = 0;
  for (uint32_t i = 0; i < count; ++i) {
    SectionEntry section = ReadSection(reader);
    KDN_RETURN_IF_ERROR(CheckSection(header, section, offset));
    const uint64_t tile_count = TileCountOf(section, header.num_tokens, header.tile_tokens);
    if (tiles + tile_count > kMaxTiles) return InvalidArgument("container has more than ", kMaxTiles, " tiles");
    section.tile_begin = static_cast<uint32_t>(tiles);
    section.tile_count = static_cast<uint32_t>(tile_count);
    tiles += tile_count;
    offset += section.length;
    header.sections.push_back(section);
  }
  if (offset != header.body_bytes) {
    return InvalidArgument("sections take ", offset, " bytes, the body has ", header.body_bytes);
  }
  const auto is_wide = [](const SectionEntry& section) { return section.wide; };
  if (header.HasWideSections() && std::none_of(header.sections.begin(), header.sections.end(), is_wide)) {
    return InvalidArgument("container needs the feature of wide sections and has none");
  }
  return absl::OkStatus();
}

absl::Status ReadTiles(ByteReader& reader, ContainerHeader& header) {
  const SectionEntry& last = header.sections.back();
  const uint64_t tiles = uint64_t{last.tile_begin} + last.tile_count;
  if (tiles > reader.remaining() / kMinTileEntryBytes) {
    return InvalidArgument("container has ", tiles, " tiles, its tile directory ", reader.remaining(), " bytes");
  }
  header.tiles.reserve(tiles);
  int64_t length = 0;
  for (const SectionEntry& section : header.sections) {
    uint64_t offset = 0;
    for (uint32_t i = 0; i < section.tile_count; ++i) {
      const auto profile = static_cast<ProfileId>(reader.U8());
      const int64_t delta = reader.SignedVarint();
      if (!reader.ok() || delta > int64_t{kMaxSectionBytes} || delta < -int64_t{kMaxSectionBytes}) {
        return InvalidArgument("tile directory ends inside, or jumps at, tile ", section.tile_begin + i);
      }
      if ((profile == ProfileId::kTransform) != section.wide) {
        return InvalidArgument("tile ", section.tile_begin + i, " of a ", section.wide ? "wide" : "narrow",
                               " section has profile ", static_cast<int>(profile));
      }
      length += delta;
      if (length < 0 || offset + length > section.length) {
        return InvalidArgument("tile ", section.tile_begin + i, " has ", length, " bytes at ", offset,
                               " of a section of ", section.length);
      }
      header.tiles.push_back({profile, static_cast<uint32_t>(offset), static_cast<uint32_t>(length)});
      offset = AlignUp(offset + length, kContainerAlignment);
    }
    if (offset != section.length) {
      return InvalidArgument("tiles take ", offset, " bytes of a section of ", section.length);
    }
  }
  if (reader.remaining() != 0) return InvalidArgument("tile directory has ", reader.remaining(), " bytes too many");
  return absl::OkStatus();
}

absl::Status CheckHeaderCrc(ByteSpan header) {
  static constexpr uint8_t kZero[4] = {};
  uint32_t crc = Crc32c(header.first(kHeaderCrcOffset));
  crc = Crc32cExtend(crc, kZero);
  crc = Crc32cExtend(crc, header.subspan(kHeaderCrcOffset + sizeof(kZero)));
  if (const uint32_t stored = LoadLe<uint32_t>(header.data() + kHeaderCrcOffset); crc != stored) {
    return DataLoss("container header's CRC32C is ", crc, ", it says ", stored);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ContainerSizes> PeekContainer(ByteSpan prelude) {
  if (prelude.size() < kContainerPreludeBytes) {
    return InvalidArgument("container has ", prelude.size(), " bytes, its prelude alone takes ",
                           kContainerPreludeBytes);
  }
  KDN_RETURN_IF_ERROR(CheckPreludeFields(prelude));
  const ContainerSizes sizes{LoadLe<uint32_t>(prelude.data() + 16), LoadLe<uint64_t>(prelude.data() + 24)};
  if (sizes.header_bytes < kContainerPreludeBytes + kIdentityBytes || sizes.header_bytes > kMaxHeaderBytes ||
      sizes.header_bytes % kContainerAlignment != 0) {
    return InvalidArgument("container declares a header of ", sizes.header_bytes, " bytes: must be ",
                           kContainerPreludeBytes + kIdentityBytes, " to ", kMaxHeaderBytes, ", a multiple of ",
                           kContainerAlignment);
  }
  if (sizes.body_bytes > kMaxBodyBytes) {
    return InvalidArgument("container declares a body of ", sizes.body_bytes, " bytes, at most ", kMaxBodyBytes);
  }
  return sizes;
}

absl::StatusOr<ContainerHeader> ParseContainerHeader(ByteSpan bytes) {
  KDN_ASSIGN_OR_RETURN(const ContainerSizes sizes, PeekContainer(bytes));
  if (bytes.size() < sizes.header_bytes) {
    return InvalidArgument("container declares a header of ", sizes.header_bytes, " bytes, ", bytes.size(),
                           " are there");
  }
  const ByteSpan header_bytes = bytes.first(sizes.header_bytes);
  KDN_RETURN_IF_ERROR(CheckHeaderCrc(header_bytes));
  ContainerHeader header;
  Counts counts;
  ByteReader reader(header_bytes);
  KDN_RETURN_IF_ERROR(ReadFixedFields(reader, header, counts));
  KDN_RETURN_IF_ERROR(CheckCounts(header, counts));
  KDN_RETURN_IF_ERROR(ReadVariableFields(reader, counts, header));
  KDN_RETURN_IF_ERROR(ReadSections(reader, counts.sections, header));
  ByteReader tile_reader(reader.Bytes(counts.tile_directory_bytes));
  if (!reader.ok()) {
    return InvalidArgument("container's tile directory of ", counts.tile_directory_bytes, " bytes leaves the header");
  }
  KDN_RETURN_IF_ERROR(ReadTiles(tile_reader, header));
  const ByteSpan padding = reader.Bytes(reader.remaining());
  if (padding.size() >= kContainerAlignment ||
      std::any_of(padding.begin(), padding.end(), [](uint8_t b) { return b; })) {
    return InvalidArgument("container header ends in ", padding.size(), " bytes that belong to nothing");
  }
  return header;
}

absl::Status VerifySection(const SectionEntry& section, ByteSpan section_bytes) {
  if (section_bytes.size() != section.length) {
    return DataLoss("section of layer ", section.layer, " head ", section.head_begin, " has ", section_bytes.size(),
                    " bytes, its directory says ", section.length);
  }
  if (const uint32_t crc = Crc32c(section_bytes); crc != section.crc32c) {
    return DataLoss("section of layer ", section.layer, " head ", section.head_begin, " has CRC32C ", crc,
                    ", its directory says ", section.crc32c);
  }
  return absl::OkStatus();
}

}  // namespace kdn
