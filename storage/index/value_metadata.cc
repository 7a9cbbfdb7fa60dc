#include "storage/index/value_metadata.h"

#include <algorithm>

#include "kernels/base/status.h"
#include "storage/index/utf8.h"

namespace kdn {
namespace {

// Of a chunk's metadata, beside tenant, row and part: storage key, format, field headers, times and pins.
constexpr size_t kChunkMetadataOverheadBytes = 256;
// Keys of 32 bytes and their field headers; leaves room for the tenant's name below kMaxValueMetadataBytes.
constexpr size_t kMaxKeysPerTombstone = 1800;

bool IsDigest(const std::string& raw) { return raw.size() == Digest::kBytes; }

bool AllDigests(const google::protobuf::RepeatedPtrField<std::string>& raw) {
  return std::all_of(raw.begin(), raw.end(), IsDigest);
}

absl::Status CheckTombstone(const v1::Tombstone& tombstone) {
  if (!AllDigests(tombstone.chunk_keys()) || !AllDigests(tombstone.text_keys()) ||
      !AllDigests(tombstone.fingerprints())) {
    return DataLoss("value metadata: a tombstone names a key that is not ", Digest::kBytes, " bytes");
  }
  return absl::OkStatus();
}

absl::Status CheckChunk(const v1::ChunkRecord& chunk) {
  if (!IsDigest(chunk.fingerprint()) || !IsDigest(chunk.chunk_digest())) {
    return DataLoss("value metadata: chunk with a fingerprint of ", chunk.fingerprint().size(), " and a digest of ",
                    chunk.chunk_digest().size(), " bytes");
  }
  if (!chunk.parent_key().empty() && !IsDigest(chunk.parent_key())) {
    return DataLoss("value metadata: parent key of ", chunk.parent_key().size(), " bytes");
  }
  if (chunk.parts_size() != 1) return DataLoss("value metadata: chunk with ", chunk.parts_size(), " parts, not 1");
  return absl::OkStatus();
}

bool HasUtf8Only(const v1::ValueMetadata& metadata) {
  const auto& documents = metadata.chunk().documents();
  const auto& extra_keys = metadata.text().extra_keys();
  return IsUtf8(metadata.tenant()) && IsUtf8(metadata.text().document()) && IsUtf8(metadata.model().display_name()) &&
         IsUtf8(metadata.chunk().object().display_name()) && std::all_of(documents.begin(), documents.end(), IsUtf8) &&
         std::all_of(extra_keys.begin(), extra_keys.end(), IsUtf8);
}

absl::StatusOr<std::string> Serialize(const v1::ValueMetadata& metadata) {
  if (metadata.tenant().empty() || metadata.tenant().size() > kMaxTenantNameBytes) {
    return InvalidArgument("value metadata: tenant name of ", metadata.tenant().size(), " bytes");
  }
  if (!HasUtf8Only(metadata)) return InvalidArgument("value metadata: a name is not UTF-8");
  std::string out;
  if (!metadata.SerializeToString(&out) || out.size() > kMaxValueMetadataBytes) {
    return InvalidArgument("value metadata: ", metadata.ByteSizeLong(), " bytes, at most ", kMaxValueMetadataBytes);
  }
  return out;
}

v1::ValueMetadata Blank(const std::string& tenant, ByteSpan storage_key) {
  v1::ValueMetadata metadata;
  metadata.set_format(kValueMetadataFormat);
  metadata.set_tenant(tenant);
  metadata.set_storage_key(std::string(AsStringView(storage_key)));
  return metadata;
}

}  // namespace

absl::StatusOr<v1::ValueMetadata> ParseValueMetadata(ByteSpan bytes) {
  if (bytes.size() > kMaxValueMetadataBytes) {
    return DataLoss("value metadata: ", bytes.size(), " bytes, at most ", kMaxValueMetadataBytes);
  }
  v1::ValueMetadata metadata;
  if (!metadata.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return DataLoss("value metadata: ", bytes.size(), " bytes that do not parse");
  }
  if (metadata.format() > kValueMetadataFormat) {
    return FailedPrecondition("value metadata of format ", metadata.format(), ", this version reads up to ",
                              kValueMetadataFormat);
  }
  if (metadata.format() == 0) return DataLoss("value metadata: no format");
  if (metadata.tenant().empty() || metadata.tenant().size() > kMaxTenantNameBytes) {
    return DataLoss("value metadata: tenant name of ", metadata.tenant().size(), " bytes");
  }
  const int kinds = metadata.has_chunk() + metadata.has_model() + metadata.has_text() + metadata.has_tombstone();
  if (kinds != 1) return DataLoss("value metadata: ", kinds, " kinds of record, not 1");
  if (metadata.has_tombstone()) {
    KDN_RETURN_IF_ERROR(CheckTombstone(metadata.tombstone()));
    return metadata;
  }
  if (!IsDigest(metadata.storage_key())) {
    return DataLoss("value metadata: storage key of ", metadata.storage_key().size(), " bytes");
  }
  if (metadata.has_chunk()) KDN_RETURN_IF_ERROR(CheckChunk(metadata.chunk()));
  return metadata;
}

absl::StatusOr<std::string> SerializeChunkMetadata(const std::string& tenant, const Digest& storage_key,
                                                   const v1::ChunkRecord& row, const v1::PartRecord& part) {
  v1::ValueMetadata metadata = Blank(tenant, storage_key.span());
  v1::ChunkRecord& chunk = *metadata.mutable_chunk();
  chunk = row;
  chunk.clear_parts();
  v1::PartRecord& only = *chunk.add_parts();
  only = part;
  only.clear_value_group();
  only.clear_value_offset();
  only.clear_value_length();
  if (const absl::Status checked = CheckChunk(chunk); !checked.ok())
    return InvalidArgument(FromAbsl(checked.message()));
  return Serialize(metadata);
}

bool ChunkMetadataFits(const std::string& tenant, const v1::ChunkRecord& row) {
  size_t part_bytes = 0;
  size_t most_part_bytes = 0;
  for (const v1::PartRecord& part : row.parts()) {
    part_bytes += part.ByteSizeLong();
    most_part_bytes = std::max(most_part_bytes, part.ByteSizeLong());
  }
  const size_t bytes = row.ByteSizeLong() - part_bytes + most_part_bytes + tenant.size() + kChunkMetadataOverheadBytes;
  return bytes <= kMaxValueMetadataBytes;
}

absl::StatusOr<ValueLocation> PutModelValue(ValueStore& values, const std::string& tenant, const v1::ModelRecord& model,
                                            const Digest& fingerprint) {
  v1::ValueMetadata metadata = Blank(tenant, fingerprint.span());
  *metadata.mutable_model() = model;
  KDN_ASSIGN_OR_RETURN(const std::string bytes, Serialize(metadata));
  return values.Put(AsBytes(bytes), {});
}

absl::StatusOr<ValueLocation> PutTextValue(ValueStore& values, const std::string& tenant, const Digest& storage_key,
                                           const v1::TextRecord& text) {
  v1::ValueMetadata metadata = Blank(tenant, storage_key.span());
  *metadata.mutable_text() = text;
  metadata.mutable_text()->clear_token_ids();
  metadata.mutable_text()->clear_chunk_digests();
  KDN_ASSIGN_OR_RETURN(const std::string bytes, Serialize(metadata));
  return values.Put(AsBytes(bytes), AsBytes(text.SerializeAsString()));
}

absl::Status PutTombstones(ValueStore& values, const std::string& tenant, const Deletions& deletions) {
  v1::ValueMetadata metadata = Blank(tenant, {});
  size_t keys = 0;
  const auto flush = [&]() -> absl::Status {
    if (keys == 0) return absl::OkStatus();
    KDN_ASSIGN_OR_RETURN(const std::string bytes, Serialize(metadata));
    KDN_RETURN_IF_ERROR(values.Put(AsBytes(bytes), {}));
    metadata.clear_tombstone();
    keys = 0;
    return absl::OkStatus();
  };
  const auto add = [&](const std::vector<Digest>& digests, auto adder) -> absl::Status {
    for (const Digest& digest : digests) {
      (metadata.mutable_tombstone()->*adder)(digest.bytes.data(), Digest::kBytes);
      if (++keys == kMaxKeysPerTombstone) KDN_RETURN_IF_ERROR(flush());
    }
    return absl::OkStatus();
  };
  using Adder = void (v1::Tombstone::*)(const void*, size_t);
  KDN_RETURN_IF_ERROR(add(deletions.chunk_keys, static_cast<Adder>(&v1::Tombstone::add_chunk_keys)));
  KDN_RETURN_IF_ERROR(add(deletions.text_keys, static_cast<Adder>(&v1::Tombstone::add_text_keys)));
  KDN_RETURN_IF_ERROR(add(deletions.fingerprints, static_cast<Adder>(&v1::Tombstone::add_fingerprints)));
  return flush();
}

absl::StatusOr<ValueLocation> MoveTombstone(ValueStore& values, const std::string& tenant,
                                            const v1::Tombstone& tombstone, const ValueLocation& from) {
  v1::ValueMetadata metadata = Blank(tenant, {});
  v1::Tombstone& copy = *metadata.mutable_tombstone();
  copy = tombstone;
  if (!copy.has_first_written()) {
    copy.mutable_first_written()->set_group(from.group);
    copy.mutable_first_written()->set_offset(from.offset);
  }
  KDN_ASSIGN_OR_RETURN(const std::string bytes, Serialize(metadata));
  return values.Put(AsBytes(bytes), {});
}

}  // namespace kdn
