#ifndef KDN_STORAGE_INDEX_VALUE_METADATA_H_
#define KDN_STORAGE_INDEX_VALUE_METADATA_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kdn/v1/record.pb.h"
#include "kernels/base/bytes.h"
#include "kernels/base/sha256.h"
#include "storage/blob/value_store.h"

// The metadata that travels with every value: what a rebuild of the index reads. Whoever stores something that must
// outlive the index writes it through these. Thread-safe.

namespace kdn {

inline constexpr uint32_t kValueMetadataFormat = 1;
inline constexpr size_t kMaxValueMetadataBytes = 64 * 1024;
inline constexpr size_t kMaxTenantNameBytes = 512;

// Parses and validates `bytes`: format known, a tenant name, exactly one of chunk, model, text, tombstone, and digests
// of 32 bytes where digests belong. DataLoss says what is wrong; FailedPrecondition for a format of a later version.
// Input is hostile.
absl::StatusOr<v1::ValueMetadata> ParseValueMetadata(ByteSpan bytes);

// Serialized metadata of one part of a chunk: `row` as it will be committed, of whose parts only `part` travels, with
// its location cleared. InvalidArgument when it exceeds kMaxValueMetadataBytes.
absl::StatusOr<std::string> SerializeChunkMetadata(const std::string& tenant, const Digest& storage_key,
                                                   const v1::ChunkRecord& row, const v1::PartRecord& part);

// Whether SerializeChunkMetadata takes each part of `row`, whatever times and pins are set later.
bool ChunkMetadataFits(const std::string& tenant, const v1::ChunkRecord& row);

// Keep a model, a text row, deletions as values. Errors are Put's; InvalidArgument for what cannot be written.
absl::StatusOr<ValueLocation> PutModelValue(ValueStore& values, const std::string& tenant, const v1::ModelRecord& model,
                                            const Digest& fingerprint);
absl::StatusOr<ValueLocation> PutTextValue(ValueStore& values, const std::string& tenant, const Digest& storage_key,
                                           const v1::TextRecord& text);

struct Deletions {
  std::vector<Digest> chunk_keys;
  std::vector<Digest> text_keys;
  std::vector<Digest> fingerprints;  // the models, with all their chunks and texts
};
// As many values as needed. Write before the index commit that deletes the rows.
absl::Status PutTombstones(ValueStore& values, const std::string& tenant, const Deletions& deletions);

// Writes again, for its group to be dropped, a tombstone that was read from `from`. The copy deletes what the first one
// did, and nothing that was stored after it.
absl::StatusOr<ValueLocation> MoveTombstone(ValueStore& values, const std::string& tenant,
                                            const v1::Tombstone& tombstone, const ValueLocation& from);

}  // namespace kdn

#endif  // KDN_STORAGE_INDEX_VALUE_METADATA_H_
