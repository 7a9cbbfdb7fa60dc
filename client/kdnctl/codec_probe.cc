#include "client/kdnctl/codec_probe.h"

#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/tile_codec.h"
#include "kernels/codec/transform_object.h"
#include "kernels/format/calibration_object.h"

namespace kdn::ctl {
namespace {

// Of an object of kind transform.
constexpr size_t kGroupsOffset = 40;
constexpr size_t kLevelsOffset = 42;
constexpr size_t kQueriesOffset = 44;
constexpr size_t kTransformHeaderBytes = 48;
constexpr size_t kLevelBytes = 16;
constexpr double kTenths = 10.0;
constexpr double kMicro = 1e-6;

constexpr DType kDTypes[] = {DType::kBf16, DType::kFp16, DType::kFp8E4M3, DType::kFp8E5M2, DType::kFp32};

}  // namespace

std::vector<ProfileFacts> AllProfiles() {
  std::vector<ProfileFacts> all;
  for (uint8_t id = 0; id <= kMaxProfileId; ++id) {
    ProfileFacts& facts = all.emplace_back();
    facts.profile = static_cast<ProfileId>(id);
    facts.encodes = CheckEncodable(facts.profile).ok();
    facts.is_exact = LosesNoMoreThan(facts.profile, ProfileId::kLossless);
    facts.needs_calibration = facts.profile == ProfileId::kTransform;
    for (const DType dtype : kDTypes) {
      if (!CheckEncodable(facts.profile, dtype).ok()) continue;
      facts.dtypes += StrCat(facts.dtypes.empty() ? "" : " ", DTypeName(dtype));
    }
  }
  return all;
}

std::string_view QualityOf(std::string_view profile, std::string_view k_state) {
  const std::optional<ProfileId> id = ParseProfile(profile);
  if (!id.has_value()) return "unknown";
  switch (*id) {
    case ProfileId::kRaw:
    case ProfileId::kLossless:
      if (k_state.empty()) return "unknown";
      return k_state == "rotated" ? "exact" : "k_rounded";
    case ProfileId::kInt8:
      return "high";
    case ProfileId::kQ4:
      return "good";
    case ProfileId::kTransform:
    case ProfileId::kCacheGen:
      return "by_level";
  }
  return "unknown";
}

absl::StatusOr<TransformFacts> ReadTransformFacts(ByteSpan object) {
  KDN_ASSIGN_OR_RETURN(const CalibrationKind kind, PeekCalibrationKind(object));
  if (kind != CalibrationKind::kTransform || object.size() < kTransformHeaderBytes) {
    return InvalidArgument("object of kind ", CalibrationKindName(kind), " and ", object.size(),
                           " bytes has no levels");
  }
  TransformFacts facts;
  facts.groups = LoadLe<uint16_t>(object.data() + kGroupsOffset);
  facts.queries = LoadLe<uint16_t>(object.data() + kQueriesOffset);
  const uint32_t levels = LoadLe<uint16_t>(object.data() + kLevelsOffset);
  if (levels > kMaxTransformLevels || object.size() < kTransformHeaderBytes + levels * kLevelBytes) {
    return InvalidArgument("object of ", object.size(), " bytes announces ", levels, " levels");
  }
  for (uint32_t i = 0; i < levels; ++i) {
    const uint8_t* at = object.data() + kTransformHeaderBytes + i * kLevelBytes;
    LevelFacts& level = facts.levels.emplace_back();
    level.ratio = LoadLe<uint16_t>(at) / kTenths;
    level.step = static_cast<int16_t>(LoadLe<uint16_t>(at + 2));
    const uint32_t kl = LoadLe<uint32_t>(at + 4);
    if (kl != kUnknownTransformKl) level.expected_kl = kl * kMicro;
  }
  return facts;
}

namespace {

// KV bytes of a row of the section in one layer and head.
uint64_t RowBytes(const SectionEntry& section, const LayerSpec& layer, DType dtype) {
  const uint64_t channels = section.kind == SectionKind::kK   ? layer.k_head_dim
                            : section.kind == SectionKind::kV ? layer.v_head_dim
                                                              : layer.k_head_dim + layer.v_head_dim;
  return channels * DTypeBytes(dtype);
}

}  // namespace

std::map<std::string, ProfileUse> UseByProfile(const ContainerHeader& header, const ModelSpec* spec) {
  std::map<std::string, ProfileUse> uses;
  for (const SectionEntry& section : header.sections) {
    const std::span<const TileEntry> tiles = header.TilesOf(section);
    const uint32_t rows = header.num_tokens - section.first_row;
    const size_t row_groups = CeilDiv(rows, header.tile_tokens);
    for (size_t i = 0; i < tiles.size(); ++i) {
      ProfileUse& use = uses[std::string(ProfileName(tiles[i].profile))];
      ++use.tiles;
      use.stored_bytes += tiles[i].length;
      if (spec == nullptr || row_groups == 0) continue;
      // Tiles run layer-major, then head, then row groups; a wide section's cover all layers and heads at once.
      const auto begin = static_cast<uint32_t>(i % row_groups) * header.tile_tokens;
      const uint64_t tile_rows = std::min(header.tile_tokens, rows - begin);
      const uint64_t layer_tiles = section.wide ? 0 : tiles.size() / section.layer_count;
      for (uint32_t layer = 0; layer < section.layer_count; ++layer) {
        if (!section.wide && i / layer_tiles != layer) continue;
        const uint64_t heads = section.wide ? section.head_count : 1;
        use.raw_bytes += tile_rows * heads * RowBytes(section, spec->layers[section.layer + layer], header.dtype);
      }
    }
  }
  return uses;
}

}  // namespace kdn::ctl
