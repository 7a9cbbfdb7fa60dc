#include "storage/rocksdb/tenant_file.h"

#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/base/status.h"
#include "storage/rocksdb/durable_file.h"

namespace kdn {
namespace {

constexpr std::string_view kMagic = "KDNTENAN";
constexpr uint32_t kFormat = 1;

absl::Status Parse(std::string_view bytes, TenantMap& tenants) {
  ByteReader reader(AsBytes(bytes));
  if (AsStringView(reader.Bytes(kMagic.size())) != kMagic) return DataLoss("not a tenants file");
  const uint32_t format = reader.U32();
  if (reader.ok() && format > kFormat) {
    return FailedPrecondition("tenants file of format ", format, ", this version reads up to ", kFormat,
                              ": start the version that wrote it");
  }
  const uint32_t count = reader.U32();
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    const TenantId id = reader.U32();
    const ByteSpan record = reader.Bytes(reader.U32());
    v1::TenantRecord tenant;
    if (!reader.ok() || !tenant.ParseFromArray(record.data(), static_cast<int>(record.size()))) {
      return DataLoss("tenant ", i, " of ", count, " does not parse");
    }
    tenants.emplace(id, std::move(tenant));
  }
  if (!reader.ok() || reader.remaining() != 0) return DataLoss("tenants file has a wrong length");
  return absl::OkStatus();
}

}  // namespace

TenantFile::TenantFile(rocksdb::Env& env, const std::string& path)
    : env_(env), copies_{path + "/tenants", path + "/tenants.copy"} {}

absl::StatusOr<TenantFile::Loaded> TenantFile::Load() {
  Loaded loaded;
  for (const std::string& copy : copies_) {
    const auto bytes = ReadDurableFile(env_, copy);
    if (absl::IsNotFound(bytes.status())) continue;
    TenantMap tenants;
    const absl::Status parsed = bytes.ok() ? Parse(*bytes, tenants) : bytes.status();
    if (parsed.ok()) {
      ++loaded.intact_copies;
      loaded.tenants.merge(tenants);
    } else if (absl::IsDataLoss(parsed)) {
      ++loaded.damaged_copies;
    } else {
      return Annotate(parsed, copy);
    }
  }
  return loaded;
}

absl::Status TenantFile::Save(const TenantMap& tenants) {
  std::vector<uint8_t> bytes;
  ByteWriter writer(bytes);
  writer.Bytes(AsBytes(kMagic));
  writer.U32(kFormat);
  writer.U32(static_cast<uint32_t>(tenants.size()));
  for (const auto& [id, record] : tenants) {
    const std::string serialized = record.SerializeAsString();
    writer.U32(id);
    writer.U32(static_cast<uint32_t>(serialized.size()));
    writer.Bytes(AsBytes(serialized));
  }
  for (const std::string& copy : copies_) KDN_RETURN_IF_ERROR(ReplaceDurableFile(env_, copy, AsStringView(bytes)));
  return absl::OkStatus();
}

void TenantFile::SetDamagedAside() {
  for (const std::string& copy : copies_) {
    if (absl::IsDataLoss(ReadDurableFile(env_, copy).status())) {
      env_.RenameFile(copy, copy + ".damaged").PermitUncheckedError();  // Save writes a new one in any case
    }
  }
}

}  // namespace kdn
