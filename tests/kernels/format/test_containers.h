#ifndef KDN_TESTS_KERNELS_FORMAT_TEST_CONTAINERS_H_
#define KDN_TESTS_KERNELS_FORMAT_TEST_CONTAINERS_H_

#include <algorithm>
#include <optional>
#include <vector>

#include "kernels/base/sha256.h"
#include "kernels/format/container.h"
#include "kernels/layout/cell_map.h"

// Containers of made-up bytes for tests that care about structure, not about KV.

namespace kdn::testing {

// Scope of a wide section; it takes the place of the narrow ones where the container has all of its cells.
struct WideScope {
  uint16_t layer = 0;
  uint8_t layer_count = 1;
  uint16_t head_begin = 0;
  uint16_t head_count = 1;

  bool Covers(uint32_t at_layer, uint32_t head) const {
    return at_layer >= layer && at_layer - layer < layer_count && head >= head_begin && head - head_begin < head_count;
  }
};

struct ContainerRecipe {
  Digest chunk_digest = Sha256::Of(AsBytes("chunk"));
  uint64_t token_begin = 0;
  uint32_t num_tokens = 256;
  uint32_t tile_tokens = 64;
  std::optional<CellSet> cells;  // nullopt = all
  uint32_t windowed_first_row = 0;
  uint8_t salt = 0;                     // other content, same shape
  ProfileId profile = ProfileId::kRaw;  // of narrow tiles
  RopeState rope_state = RopeState::kRotated;
  uint32_t shrink = 1;  // narrow tiles have one of so many of their bytes
  std::vector<WideScope> wide = {};
};

// The wide scopes of the recipe whose cells are all in `cells`.
inline std::vector<WideScope> WideScopesOf(const ContainerRecipe& recipe, const CellMap& map, const CellSet& cells) {
  std::vector<WideScope> scopes;
  for (const WideScope& scope : recipe.wide) {
    bool whole = true;
    for (uint32_t i = 0; i < scope.head_count; ++i) {
      whole &= cells.Contains(map.CellOf(scope.layer, scope.head_begin + i));
    }
    if (whole) scopes.push_back(scope);
  }
  return scopes;
}

// One wide section: opaque tiles of another length each, whose bytes follow from its scope and salt.
inline void AddWideSection(const WideScope& wide, uint32_t first_row, const LayerSpec& model,
                           const ContainerRecipe& recipe, ContainerBuilder& builder) {
  SectionEntry scope;
  scope.layer = wide.layer;
  scope.layer_count = wide.layer_count;
  scope.kind = model.v_head_dim == 0 ? SectionKind::kK : SectionKind::kJointKv;
  scope.wide = true;
  scope.head_begin = wide.head_begin;
  scope.head_count = wide.head_count;
  scope.first_row = first_row;
  builder.BeginSection(scope);
  size_t length = 100 + 10 * wide.layer_count + wide.head_count;
  for (uint32_t row = first_row; row < recipe.num_tokens; row += recipe.tile_tokens, length += 7) {
    const auto fill = static_cast<uint8_t>(128 + wide.layer * 5 + wide.head_begin * 3 + recipe.salt);
    builder.AddTile(ProfileId::kTransform, std::vector<uint8_t>(length, fill));
  }
}

// A container of tiles whose bytes follow from layer, head and salt, and of the recipe's wide sections.
inline std::vector<uint8_t> MakeContainer(const ModelSpec& spec, const CellMap& map, const ContainerRecipe& recipe) {
  ContainerHeader header;
  header.fingerprint = FingerprintOf(spec);
  header.chunk_digest = recipe.chunk_digest;
  header.token_begin = recipe.token_begin;
  header.num_tokens = recipe.num_tokens;
  header.dtype = spec.dtype;
  header.tile_tokens = recipe.tile_tokens;
  header.rope_state = recipe.rope_state;
  header.cells = recipe.cells.value_or(CellSet::All(map.num_cells()));
  const std::vector<WideScope> wide_scopes = WideScopesOf(recipe, map, header.cells);
  ContainerBuilder builder(header);
  for (uint32_t layer = 0; layer < spec.layers.size(); ++layer) {
    const LayerSpec& model = spec.layers[layer];
    for (const WideScope& wide : wide_scopes) {
      if (wide.layer != layer) continue;
      AddWideSection(wide, model.window > 0 ? recipe.windowed_first_row : 0, model, recipe, builder);
    }
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      const uint32_t dim = kind == KvKind::kK ? model.k_head_dim : model.v_head_dim;
      for (uint32_t head = 0; head < model.num_kv_heads && dim > 0; ++head) {
        if (!header.cells.Contains(map.CellOf(layer, head))) continue;
        if (std::any_of(wide_scopes.begin(), wide_scopes.end(),
                        [&](const WideScope& wide) { return wide.Covers(layer, head); })) {
          continue;
        }
        SectionEntry scope;
        scope.layer = static_cast<uint16_t>(layer);
        scope.kind = kind == KvKind::kK ? SectionKind::kK : SectionKind::kV;
        scope.head_begin = static_cast<uint16_t>(head);
        scope.first_row = model.window > 0 ? recipe.windowed_first_row : 0;
        builder.BeginSection(scope);
        for (uint32_t row = scope.first_row; row < recipe.num_tokens; row += recipe.tile_tokens) {
          const uint32_t rows = std::min(recipe.tile_tokens, recipe.num_tokens - row);
          const auto fill = static_cast<uint8_t>(layer * 7 + head * 3 + static_cast<uint32_t>(kind) + recipe.salt);
          const size_t bytes = size_t{rows} * dim * DTypeBytes(spec.dtype) / recipe.shrink;
          builder.AddTile(recipe.profile, std::vector<uint8_t>(bytes, fill));
        }
      }
    }
  }
  return std::move(builder).Finish().value();
}

}  // namespace kdn::testing

#endif  // KDN_TESTS_KERNELS_FORMAT_TEST_CONTAINERS_H_
