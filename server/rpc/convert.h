#ifndef KDN_SERVER_RPC_CONVERT_H_
#define KDN_SERVER_RPC_CONVERT_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "google/protobuf/repeated_field.h"
#include "kdn/v1/admin.pb.h"
#include "kdn/v1/kdn.pb.h"
#include "server/core/chunk_store.h"
#include "server/core/options.h"

// Messages of kdn.v1 to and from the types of server/core. The messages are hostile: InvalidArgument names the field
// and what is wrong with it.

namespace kdn {

// Largest cell bitmap that is read.
inline constexpr size_t kMaxBitmapBytes = kMaxCellsPerModel / 8;

absl::StatusOr<Digest> ReadDigest(std::string_view field, const std::string& bytes);
// "field[index]" in messages.
absl::StatusOr<std::vector<Digest>> ReadDigests(std::string_view field,
                                                const google::protobuf::RepeatedPtrField<std::string>& digests);
// nullopt for an empty bitmap: all cells. The set has eight ids for each byte, which the store fits to the model.
absl::StatusOr<std::optional<CellSet>> ReadCells(std::string_view field, const v1::Cells& cells);
// A profile's number; one that this build does not know loses as much as any.
ProfileId ReadProfile(uint32_t number);
// nullopt when the request names no profile.
std::optional<OfferedCoding> ReadCoding(const v1::FindMissingRequest& request);
absl::StatusOr<ChunkOffer> ReadOffer(const v1::ChunkOffer& offer);

void WriteCells(const CellSet& cells, v1::Cells& out);
void WriteChunkInfo(const ChunkInfo& info, v1::ChunkSummary& out);
void WriteChunkDetails(const ChunkDetails& details, v1::InspectChunkResponse& out);
void WriteObjectInfo(const ObjectInfo& info, v1::ObjectSummary& out);
void WriteDigest(const Digest& digest, std::string& out);

}  // namespace kdn

#endif  // KDN_SERVER_RPC_CONVERT_H_
