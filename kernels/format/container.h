#ifndef KDN_KERNELS_FORMAT_CONTAINER_H_
#define KDN_KERNELS_FORMAT_CONTAINER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/base/sha256.h"
#include "kernels/format/profile.h"
#include "kernels/layout/cell_map.h"
#include "kernels/layout/dtype.h"
#include "kernels/layout/model_spec.h"

// The container: one or more cells of a chunk as bytes. FORMAT.md specifies it byte by byte; this header is its parsed
// form. A container is a header (identity, section directory, tile directory, CRC) followed by a body of sections; each
// section holds tiles. The header alone suffices to fetch, check and decode any subset of sections.

namespace kdn {

inline constexpr uint32_t kContainerMagic = 0x434e444b;  // "KDNC"
inline constexpr uint8_t kContainerMajor = 1;
inline constexpr uint8_t kContainerMinor = 0;
inline constexpr size_t kContainerPreludeBytes = 48;  // enough to learn header and body sizes
inline constexpr size_t kContainerAlignment = 16;     // of sections and tiles
inline constexpr uint32_t kMaxHeaderBytes = uint32_t{32} << 20;
inline constexpr uint32_t kMaxSections = uint32_t{1} << 18;
inline constexpr uint32_t kMaxTiles = uint32_t{1} << 22;  // of all sections
inline constexpr uint32_t kMaxContainerTokens = uint32_t{1} << 16;
inline constexpr uint32_t kMaxContainerCells = uint32_t{1} << 20;
inline constexpr uint32_t kMaxExtensions = 64;
inline constexpr uint32_t kTileTokensMultiple = 16;
inline constexpr uint32_t kMaxCalibrationObjects = 16;
inline constexpr uint32_t kMaxSectionBytes = uint32_t{1} << 30;
inline constexpr uint64_t kMaxBodyBytes = uint64_t{1} << 34;

// Whether the stored K has its rotary embedding applied. Not part of any identity: a lossless (rotated) and a transform
// (unrotated) copy of one chunk share its digest. Persisted values.
enum class RopeState : uint8_t {
  kRotated = 1,    // as the engine caches it, at the source positions of the token range
  kUnrotated = 2,  // before RoPE: the decoder rotates to the destination positions
};

// What a section holds. Persisted values.
enum class SectionKind : uint8_t { kK = 0, kV = 1, kJointKv = 2 };

// Required feature: the container has wide sections. Set exactly when it has one.
inline constexpr uint32_t kFeatureWideSections = uint32_t{1} << 0;

struct TileEntry {
  ProfileId profile = ProfileId::kRaw;
  uint32_t offset = 0;  // in the section; a multiple of kContainerAlignment
  uint32_t length = 0;  // exact bytes, without the padding to the next tile
};

// One section: K, V or both, of `layer_count` layers x `head_count` heads, over rows [first_row, num_tokens) of the
// chunk. A narrow section lies within one cell; its tiles run layer-major, then head, then kind, then row groups of
// tile_tokens counted from first_row (the last one may be short). A wide section codes its whole scope together: one
// tile a row group, at profile transform, which no narrow tile has. It lies within one band and belongs to the cells of
// all its heads; its kind is kJointKv, or kK where V is derived from latents.
struct SectionEntry {
  uint16_t layer = 0;
  uint8_t layer_count = 1;
  SectionKind kind = SectionKind::kK;
  bool wide = false;
  uint16_t head_begin = 0;
  uint16_t head_count = 1;
  uint32_t first_row = 0;
  uint64_t offset = 0;      // in the body; a multiple of kContainerAlignment
  uint32_t length = 0;      // bytes with the padding of the last tile: a multiple of kContainerAlignment
  uint32_t crc32c = 0;      // over those bytes
  uint32_t tile_begin = 0;  // into ContainerHeader::tiles (derived, not stored)
  uint32_t tile_count = 0;  // derived from rows and tile_tokens, not stored
};

// A named block of further header bytes. Readers skip types they do not know (what must be understood sets a required
// feature bit as well). Persisted types: FORMAT.md.
struct HeaderExtension {
  uint16_t type = 0;
  std::vector<uint8_t> bytes;
};

struct ContainerHeader {
  uint8_t major = kContainerMajor;
  uint8_t minor = kContainerMinor;
  uint32_t required_features = 0;  // a set bit this reader does not know: Unimplemented
  uint32_t optional_features = 0;
  uint32_t header_bytes = 0;  // bytes before the body (filled by parser and builder)
  uint64_t body_bytes = 0;

  Fingerprint fingerprint;
  Digest chunk_digest;
  uint64_t token_begin = 0;  // source position of the chunk's first token
  uint32_t num_tokens = 0;
  DType dtype = DType::kBf16;
  RopeState rope_state = RopeState::kRotated;
  uint32_t tile_tokens = 0;
  CellSet cells;                    // the cells this container holds, complete
  std::vector<Digest> calibration;  // objects the tiles refer to
  std::vector<HeaderExtension> extensions;
  std::vector<SectionEntry> sections;  // ascending offset, layer-major, K before V
  std::vector<TileEntry> tiles;        // of all sections, in order

  std::span<const TileEntry> TilesOf(const SectionEntry& section) const {
    return std::span(tiles).subspan(section.tile_begin, section.tile_count);
  }
  bool HasWideSections() const { return (required_features & kFeatureWideSections) != 0; }
};

struct ContainerSizes {
  uint32_t header_bytes = 0;
  uint64_t body_bytes = 0;
};

// Sizes declared by the first kContainerPreludeBytes of a container, checked against the limits above. InvalidArgument
// on a wrong magic, size or a short prelude; Unimplemented on another major version or unknown required features.
absl::StatusOr<ContainerSizes> PeekContainer(ByteSpan prelude);

// The header of the container that starts with `bytes` (at least header_bytes of it; what follows is ignored). The
// input is hostile. DataLoss when the header's CRC does not match, InvalidArgument when it contradicts itself (sections
// that overlap, leave the body or are unaligned, tiles beyond their section or of a profile that is not for it, counts
// beyond the limits, bits out of range), Unimplemented as PeekContainer.
absl::StatusOr<ContainerHeader> ParseContainerHeader(ByteSpan bytes);

// OK when the container fits the model: dtype, token count <= chunk length, every section inside the spec's layers and
// heads, and exactly the sections of the cells it claims. InvalidArgument else, naming section, field and value.
absl::Status CheckAgainstModel(const ContainerHeader& header, const ModelSpec& spec, const CellMap& cells);

// Ids [begin, end) of the cells that a section belongs to: one of a narrow section, one a head of a wide one. Whoever
// asks for any of them gets the section. Requires CheckAgainstModel OK.
struct CellRange {
  uint32_t begin = 0;
  uint32_t end = 0;

  bool Intersects(const CellSet& set) const {
    for (uint32_t cell = begin; cell < end; ++cell) {
      if (set.Contains(cell)) return true;
    }
    return false;
  }
};
CellRange CellsOfSection(const SectionEntry& section, const CellMap& cells);

// First row that `cell` holds (0 = every row); the sections of one cell agree on it. Requires CheckAgainstModel OK and
// the cell present.
uint32_t FirstRowOfCell(const ContainerHeader& header, const CellMap& cells, uint32_t cell);

// A 64-bit digest of the coded content of one cell: over length and CRC of its sections in order, and their rows. Equal
// for equal content whatever other cells share the container; a wide section counts, with its scope, for each of its
// cells. Requirements as FirstRowOfCell.
uint64_t CellContentDigest(const ContainerHeader& header, const CellMap& cells, uint32_t cell);

// The least lossy profile that a reader must accept to be given KV of profile `lossiest` and this RoPE state: itself,
// or q4 where K of a rotary embedding is stored before it, since exact profiles then hold what was rounded on the way
// there and is rounded on the way back. A profile that this build does not know loses as much as any.
ProfileId RequiredProfile(ProfileId lossiest, RopeState rope_state, const ModelSpec& spec);
// The same of a container: of the lossiest of its tiles.
ProfileId RequiredProfile(const ContainerHeader& header, const ModelSpec& spec);

// OK when `section_bytes` (exactly section.length of them) match the section's CRC; DataLoss else.
absl::Status VerifySection(const SectionEntry& section, ByteSpan section_bytes);

// Builds containers. Not thread-safe. Usage: fill `header` identity fields, AddSection for every section in layer-major
// order with tiles of coded bytes, then Finish.
class ContainerBuilder {
 public:
  // Takes the identity fields of `header`; its sections, tiles, sizes and kFeatureWideSections are ignored.
  explicit ContainerBuilder(ContainerHeader header);

  // Room for this many body bytes, so that adding tiles does not copy what is there. Optional.
  void ReserveBody(size_t body_bytes) { body_.reserve(body_bytes); }

  // Starts a section; only scope, kind, wide and first_row of `scope` are read.
  void BeginSection(const SectionEntry& scope);
  // Appends one tile's coded bytes to the current section.
  void AddTile(ProfileId profile, ByteSpan coded);

  // The container's bytes. InvalidArgument when a limit is exceeded or tile count or profiles of a section do not match
  // its scope. The builder is spent afterwards.
  absl::StatusOr<std::vector<uint8_t>> Finish() &&;

 private:
  void EndSection();

  ContainerHeader header_;
  std::vector<uint8_t> body_;
};

}  // namespace kdn

#endif  // KDN_KERNELS_FORMAT_CONTAINER_H_
