#ifndef KDN_KERNELS_CODEC_ROW_IMPORTANCE_H_
#define KDN_KERNELS_CODEC_ROW_IMPORTANCE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/codec/isa.h"
#include "kernels/codec/transform_object.h"
#include "kernels/layout/kv_view.h"
#include "kernels/layout/model_spec.h"

// Which rows profile transform codes finer: those that later tokens attend to. A row's importance is the attention that
// it gets, as a share; a group's is the geometric mean over its layers; the class counts octaves above the median row.

namespace kdn {

// [group of the object][view token]: classes 0 to 8, 0 for the rows that a layer of the group lacks. Empty for a group
// of which the view lacks a layer or a head. What TransformChoice::row_classes takes.
using RowClasses = std::vector<std::vector<uint8_t>>;

// Classes from the attention that the object's queries, placed behind the view's last token, pay to the K that the view
// holds: softmax over the rows for each query and head, mean over both. `position` is the source position of the view's
// token 0, for which K is rotated. All rows are of class 0 where the object has no queries. Whatever a view holds gives
// some classes: what is not finite counts as unattended. InvalidArgument for device memory. The view fits `spec`, which
// is the object's.
absl::StatusOr<RowClasses> ClassesFromQueries(const ModelSpec& spec, const TransformObject& object, const KvView& view,
                                              uint64_t position, Isa isa = BestIsa());

// Classes from an engine's own attention: column_sums[layer][view token], in any unit that is the same for all tokens
// of a layer, an empty layer where there is none (its groups are then empty). InvalidArgument when a layer that has
// some does not have view.num_tokens.
absl::StatusOr<RowClasses> ClassesFromColumnSums(const TransformObject& object, const KvView& view,
                                                 std::span<const std::vector<float>> column_sums);

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_ROW_IMPORTANCE_H_
