#include "storage/rocksdb/row_codec.h"

#include <utility>

#include "kernels/base/bytes.h"
#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr size_t kChecksumBytes = 4;
// A document of such a name would share the range; who visits looks at the rows.
constexpr std::string_view kObjectsTag{"\0kdn objects of model\0", 22};

uint32_t RowChecksum(Family family, std::string_view key, std::string_view bytes) {
  const uint8_t tag = static_cast<uint8_t>(family);
  uint32_t crc = Crc32c({&tag, 1});
  crc = Crc32cExtend(crc, AsBytes(key));
  return Crc32cExtend(crc, AsBytes(bytes));
}

void AppendChecksum(Family family, std::string_view key, std::string& row) {
  uint8_t checksum[kChecksumBytes];
  StoreLe<uint32_t>(RowChecksum(family, key, row), checksum);
  row.append(reinterpret_cast<const char*>(checksum), kChecksumBytes);
}

Digest DigestAt(std::string_view key, size_t offset) {
  return *Digest::FromBytes(AsBytes(key.substr(offset, Digest::kBytes)));
}

}  // namespace

std::string TenantKey(TenantId tenant) {
  std::string key(kTenantKeyBytes, '\0');
  for (size_t i = 0; i < kTenantKeyBytes; ++i) key[i] = static_cast<char>(tenant >> (8 * (kTenantKeyBytes - 1 - i)));
  return key;
}

std::string RowKey(TenantId tenant, const Digest& digest) {
  std::string key = TenantKey(tenant);
  key.append(digest.view());
  return key;
}

std::string SecondaryKey(TenantId tenant, const Digest& owner, const Digest& chunk_key) {
  std::string key = RowKey(tenant, owner);
  key.append(chunk_key.view());
  return key;
}

Digest DocumentOwner(std::string_view document) { return Sha256::Of(AsBytes(document)); }

Digest ObjectsOwner(const Digest& fingerprint) {
  std::string name(kObjectsTag);
  name.append(fingerprint.view());
  return Sha256::Of(AsBytes(name));
}

TenantId KeyTenant(std::string_view key) {
  TenantId tenant = 0;
  for (size_t i = 0; i < kTenantKeyBytes && i < key.size(); ++i) tenant = tenant << 8 | static_cast<uint8_t>(key[i]);
  return tenant;
}

std::optional<std::pair<TenantId, Digest>> ParseRowKey(std::string_view key) {
  if (key.size() != kRowKeyBytes) return std::nullopt;
  return std::pair{KeyTenant(key), DigestAt(key, kTenantKeyBytes)};
}

std::optional<Digest> ParseSecondaryKey(std::string_view key) {
  if (key.size() != kSecondaryKeyBytes) return std::nullopt;
  return DigestAt(key, kRowKeyBytes);
}

std::string SealRow(Family family, std::string_view key, const google::protobuf::MessageLite& record) {
  std::string row;
  record.AppendToString(&row);
  AppendChecksum(family, key, row);
  return row;
}

std::string SealBytes(Family family, std::string_view key, std::string_view bytes) {
  std::string row(bytes);
  AppendChecksum(family, key, row);
  return row;
}

absl::StatusOr<std::string_view> OpenBytes(Family family, std::string_view key, std::string_view value) {
  if (value.size() < kChecksumBytes) return DataLoss("index row of ", value.size(), " bytes");
  const std::string_view bytes = value.substr(0, value.size() - kChecksumBytes);
  const uint32_t stored = LoadLe<uint32_t>(AsBytes(value).data() + bytes.size());
  if (stored != RowChecksum(family, key, bytes)) {
    return DataLoss("index row of ", value.size(), " bytes in family ", static_cast<int>(family),
                    " fails its checksum");
  }
  return bytes;
}

absl::Status OpenRow(Family family, std::string_view key, std::string_view value,
                     google::protobuf::MessageLite& record) {
  KDN_ASSIGN_OR_RETURN(const std::string_view bytes, OpenBytes(family, key, value));
  if (!record.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return DataLoss("index row of ", value.size(), " bytes in family ", static_cast<int>(family), " does not parse");
  }
  return absl::OkStatus();
}

}  // namespace kdn
