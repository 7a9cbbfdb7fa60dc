#ifndef KDN_STORAGE_ROCKSDB_ROW_CODEC_H_
#define KDN_STORAGE_ROCKSDB_ROW_CODEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "google/protobuf/message_lite.h"
#include "kernels/base/sha256.h"
#include "storage/index/chunk_index.h"

// Keys and values of the index's column families. Keys begin with the tenant's number big-endian, so that a tenant is
// one key range. Values are a serialized record and a CRC-32C over family, key and record: a row that was damaged, or
// that stands under another key, is never taken for another.

namespace kdn {

// Numbers are part of each row's checksum: never reused.
enum class Family : uint8_t {
  kMeta = 0,
  kChunks = 1,
  kChunksByModel = 2,
  kChunksByDocument = 3,
  kTexts = 4,
  kModels = 5,
  kTenants = 6,
};
inline constexpr int kNumFamilies = 7;

inline constexpr size_t kTenantKeyBytes = 4;
inline constexpr size_t kRowKeyBytes = kTenantKeyBytes + Digest::kBytes;
inline constexpr size_t kSecondaryKeyBytes = kRowKeyBytes + Digest::kBytes;

std::string TenantKey(TenantId tenant);
// Chunks, texts, models: tenant, digest.
std::string RowKey(TenantId tenant, const Digest& digest);
// Chunks of a model or document: tenant, owner (fingerprint or SHA-256 of the document's name), chunk key. Calibration
// objects stand among a model's chunks, and beside the documents' under an owner of their own.
std::string SecondaryKey(TenantId tenant, const Digest& owner, const Digest& chunk_key);
Digest DocumentOwner(std::string_view document);
Digest ObjectsOwner(const Digest& fingerprint);

// Nullopt when `key` has another size.
std::optional<std::pair<TenantId, Digest>> ParseRowKey(std::string_view key);
// The last 32 bytes of a secondary key.
std::optional<Digest> ParseSecondaryKey(std::string_view key);
TenantId KeyTenant(std::string_view key);

std::string SealRow(Family family, std::string_view key, const google::protobuf::MessageLite& record);
std::string SealBytes(Family family, std::string_view key, std::string_view bytes);
// The bytes that were sealed, inside `value`; DataLoss when family, key and checksum do not agree.
absl::StatusOr<std::string_view> OpenBytes(Family family, std::string_view key, std::string_view value);
// Parses a sealed row into `record`.
absl::Status OpenRow(Family family, std::string_view key, std::string_view value,
                     google::protobuf::MessageLite& record);

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_ROW_CODEC_H_
