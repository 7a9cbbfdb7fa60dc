#include "storage/evict/chunk_rows.h"

namespace kdn {

Digest StorageKey(const v1::TenantRecord& tenant, const Digest& digest) {
  return HmacSha256(AsBytes(tenant.secret()), digest.span());
}

ValueLocation LocationOf(const v1::PartRecord& part) {
  return {.group = part.value_group(), .offset = part.value_offset(), .length = part.value_length()};
}

void SetLocation(const ValueLocation& location, v1::PartRecord& part) {
  part.set_value_group(location.group);
  part.set_value_offset(location.offset);
  part.set_value_length(location.length);
}

bool IsExpired(const v1::ChunkRecord& record, int64_t now_ms) {
  return record.expires_ms() != 0 && record.expires_ms() <= now_ms;
}

bool IsExpired(const v1::TextRecord& record, int64_t now_ms) {
  return record.expires_ms() != 0 && record.expires_ms() <= now_ms;
}

bool IsPinned(const v1::ChunkRecord& record, int64_t now_ms) {
  return record.pinned() && (record.pinned_until_ms() == 0 || record.pinned_until_ms() > now_ms);
}

std::optional<ChunkKey> ParentKey(TenantId tenant, const v1::ChunkRecord& record) {
  const std::optional<Digest> parent = Digest::FromBytes(AsBytes(record.parent_key()));
  if (!parent.has_value()) return std::nullopt;
  return ChunkKey{tenant, *parent};
}

LiveBytes LiveBytesOf(const v1::ChunkRecord& record) {
  LiveBytes live;
  for (const v1::PartRecord& part : record.parts()) live += {part.value_length(), part.raw_bytes()};
  return live;
}

uint64_t StoredBytes(const v1::ChunkRecord& record) {
  uint64_t bytes = 0;
  for (const v1::PartRecord& part : record.parts()) bytes += part.value_length();
  return bytes;
}

int FindPart(const v1::ChunkRecord& record, const ValueLocation& location) {
  for (int i = 0; i < record.parts_size(); ++i) {
    if (LocationOf(record.parts(i)) == location) return i;
  }
  return -1;
}

}  // namespace kdn
