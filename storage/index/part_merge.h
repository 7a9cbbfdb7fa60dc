#ifndef KDN_STORAGE_INDEX_PART_MERGE_H_
#define KDN_STORAGE_INDEX_PART_MERGE_H_

#include <functional>
#include <optional>

#include "absl/status/statusor.h"
#include "kdn/v1/record.pb.h"
#include "kernels/format/profile.h"

// What a chunk's row becomes when parts are found or lost. Pure functions.

namespace kdn {

// The least lossy profile that readers must accept to be given the part.
ProfileId RequiredProfileOf(const v1::PartRecord& part);

enum class MergeOutcome {
  kUnchanged,  // the row names this part already, or has every cell of it with the same loss
  kChanged,
};

// Adds `found` (a chunk of one part, its location filled in, written after what the row holds) to `row`; an empty `row`
// becomes `found`. A cell stays with the part of the same class of loss that has it unless `found` holds more of its
// rows; parts that lose more, or less, are variants of it beside `found`, whichever came first. Lifetime and pin are
// taken from `found`, documents are united (at most max_documents). DataLoss when the two are different chunks.
absl::StatusOr<MergeOutcome> MergePart(const v1::ChunkRecord& found, int max_documents,
                                       std::optional<v1::ChunkRecord>& row);

// Removes the parts for which `gone` holds; true when there were any.
bool RemoveParts(const std::function<bool(const v1::PartRecord&)>& gone, v1::ChunkRecord& row);

}  // namespace kdn

#endif  // KDN_STORAGE_INDEX_PART_MERGE_H_
