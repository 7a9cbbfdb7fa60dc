#include "server/core/objects.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "storage/evict/chunk_rows.h"
#include "storage/index/value_metadata.h"

namespace kdn {
namespace {

constexpr std::string_view kKeyDomain = "kdn.v1 calibration object";
// Reads of a value that moved meanwhile.
constexpr int kMaxAttempts = 4;

Digest DigestOf(const std::string& raw) { return Digest::FromBytes(AsBytes(raw)).value_or(Digest{}); }

absl::Status NotStored(const Fingerprint& fingerprint, const Digest& digest) {
  return NotFound("calibration object ", digest.ToHex(), " is not stored for model ", fingerprint.ToShortHex());
}

}  // namespace

struct Objects::Row {
  ChunkKey key;
  v1::ChunkRecord record;
};

ChunkKey Objects::KeyOf(const TenantRef& tenant, const Fingerprint& fingerprint, const Digest& digest) {
  std::string name(kKeyDomain);
  name.append(fingerprint.view());
  name.append(digest.view());
  return CoreContext::KeyOf(tenant, Sha256::Of(AsBytes(name)));
}

absl::StatusOr<std::vector<Objects::Row>> Objects::ReadRows(const TenantRef& tenant, const Fingerprint& fingerprint) {
  std::vector<Row> rows;
  KDN_RETURN_IF_ERROR(
      c_.index().VisitObjectsOfModel(tenant->id, fingerprint, [&](const ChunkKey& key, const v1::ChunkRecord& record) {
        if (record.parts_size() == 1) rows.push_back({key, record});
        return true;
      }));
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return std::pair(b.record.created_ms(), a.key.key) < std::pair(a.record.created_ms(), b.key.key);
  });
  return rows;
}

std::vector<ObjectInfo> Objects::InfosOf(const std::vector<Row>& rows) {
  std::vector<ObjectInfo> infos;
  for (const Row& row : rows) {
    ObjectInfo& info = infos.emplace_back();
    info.digest = DigestOf(row.record.chunk_digest());
    info.fingerprint = DigestOf(row.record.fingerprint());
    info.kind = static_cast<CalibrationKind>(row.record.object().kind());
    info.object_bytes = row.record.parts(0).value_length();
    info.created_ms = row.record.created_ms();
    info.display_name = row.record.object().display_name();
    const uint64_t activation = row.record.object().activation();
    info.active = activation != 0 && std::all_of(rows.begin(), rows.end(), [&](const Row& other) {
                    return other.record.object().kind() != row.record.object().kind() ||
                           other.record.object().activation() <= activation;
                  });
  }
  return infos;
}

absl::StatusOr<std::vector<ObjectInfo>> Objects::List(const Caller& caller, const Fingerprint& fingerprint) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_RETURN_IF_ERROR(c_.registry().FindModel(tenant, fingerprint));
  KDN_ASSIGN_OR_RETURN(const std::vector<Row> rows, ReadRows(tenant, fingerprint));
  return InfosOf(rows);
}

absl::StatusOr<ObjectInfo> Objects::InfoOf(const TenantRef& tenant, const Fingerprint& fingerprint,
                                           const Digest& digest) {
  KDN_ASSIGN_OR_RETURN(const std::vector<Row> rows, ReadRows(tenant, fingerprint));
  std::vector<ObjectInfo> infos = InfosOf(rows);
  const auto found =
      std::find_if(infos.begin(), infos.end(), [&](const ObjectInfo& info) { return info.digest == digest; });
  if (found == infos.end()) return NotStored(fingerprint, digest);
  return std::move(*found);
}

absl::StatusOr<std::optional<SharedBytes>> Objects::ReadValue(const ChunkKey& key, const v1::ChunkRecord& row) {
  const ValueLocation location = LocationOf(row.parts(0));
  absl::StatusOr<SharedBytes> bytes = c_.values().Get(location, {0, location.length});
  absl::Status damage;
  if (!bytes.ok()) {
    if (!absl::IsNotFound(bytes.status()) && !absl::IsDataLoss(bytes.status())) return bytes.status();
    damage = bytes.status();
  } else if (Sha256::Of(bytes->span()) != DigestOf(row.chunk_digest())) {
    damage = DataLoss("the value at group ", location.group, " offset ", location.offset,
                      " is another calibration object than its row says");
  } else {
    return std::optional(*std::move(bytes));
  }
  absl::MutexLock lock(&c_.locks().For(key));
  KDN_ASSIGN_OR_RETURN(const auto current, c_.ReadRow(key));
  // One that moved is looked for again by whoever asks.
  if (!current.has_value() || FindPart(*current, location) < 0) return std::nullopt;
  c_.NoteCorruption("values", damage);
  c_.events().OnObjectRead("damaged", 0);
  KDN_RETURN_IF_ERROR(c_.RemoveRow(key, *current));
  return std::nullopt;
}

absl::StatusOr<std::optional<StoredObject>> Objects::Find(const TenantRef& tenant, const Fingerprint& fingerprint,
                                                          const Digest& digest) {
  const ChunkKey key = KeyOf(tenant, fingerprint, digest);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    KDN_ASSIGN_OR_RETURN(const auto row, c_.ReadRow(key));
    if (!row.has_value() || !row->has_object() || row->parts_size() != 1) return std::nullopt;
    KDN_ASSIGN_OR_RETURN(std::optional<SharedBytes> bytes, ReadValue(key, *row));
    if (!bytes.has_value()) continue;
    return StoredObject{InfosOf({{key, *row}})[0], *std::move(bytes)};
  }
  return std::nullopt;
}

absl::StatusOr<Fingerprint> Objects::FindModelOf(const TenantRef& tenant, const Digest& digest) {
  std::optional<Fingerprint> found;
  absl::Status failed;
  KDN_RETURN_IF_ERROR(c_.index().VisitModels(tenant->id, [&](const Digest& fingerprint, const v1::ModelRecord&) {
    const auto row = c_.ReadRow(KeyOf(tenant, fingerprint, digest));
    failed = row.status();
    if (row.ok() && row->has_value()) found = fingerprint;
    return failed.ok() && !found.has_value();
  }));
  KDN_RETURN_IF_ERROR(failed);
  if (!found.has_value()) return NotFound("calibration object ", digest.ToHex(), " is not stored for any model");
  return *found;
}

absl::StatusOr<StoredObject> Objects::Get(const Caller& caller, const std::optional<Fingerprint>& fingerprint,
                                          const Digest& digest) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  const absl::StatusOr<Fingerprint> model = fingerprint.has_value() ? *fingerprint : FindModelOf(tenant, digest);
  if (absl::IsNotFound(model.status())) c_.events().OnObjectRead("absent", 0);
  KDN_RETURN_IF_ERROR(model);
  KDN_RETURN_IF_ERROR(c_.registry().FindModel(tenant, *model));
  KDN_ASSIGN_OR_RETURN(std::optional<StoredObject> found, Find(tenant, *model, digest));
  if (!found.has_value()) {
    c_.events().OnObjectRead("absent", 0);
    return NotStored(*model, digest);
  }
  KDN_ASSIGN_OR_RETURN(found->object, InfoOf(tenant, *model, digest));
  c_.events().OnObjectRead("delivered", found->bytes.size());
  return *std::move(found);
}

absl::StatusOr<Objects::Totals> Objects::Count() {
  KDN_ASSIGN_OR_RETURN(const auto tenants, c_.index().ListTenants());
  Totals totals;
  for (const ChunkIndex::Tenant& tenant : tenants) {
    absl::Status failed;
    const auto add = [&](const ChunkKey&, const v1::ChunkRecord& row) {
      ++totals.objects;
      totals.object_bytes += StoredBytes(row);
      return true;
    };
    KDN_RETURN_IF_ERROR(c_.index().VisitModels(tenant.id, [&](const Digest& fingerprint, const v1::ModelRecord&) {
      failed = c_.index().VisitObjectsOfModel(tenant.id, fingerprint, add);
      return failed.ok();
    }));
    KDN_RETURN_IF_ERROR(failed);
  }
  return totals;
}

absl::Status Objects::CheckRoom(const TenantRef& tenant, const Fingerprint& fingerprint, uint64_t bytes) {
  KDN_ASSIGN_OR_RETURN(const std::vector<Row> rows, ReadRows(tenant, fingerprint));
  if (rows.size() >= kMaxObjectsPerModel) {
    return ResourceExhausted("model ", fingerprint.ToShortHex(), " has ", rows.size(),
                             " calibration objects, the most there may be: delete some");
  }
  uint64_t capacity = c_.options().capacity_bytes;
  if (capacity == 0) {
    KDN_ASSIGN_OR_RETURN(const uint64_t free_bytes, c_.disk_space().FreeBytes());
    const uint64_t whole = c_.evictor().UsedBytes() + free_bytes;
    capacity = whole - std::min(whole, c_.options().reserve_bytes);
  }
  KDN_ASSIGN_OR_RETURN(const Totals totals, Count());
  const uint64_t limit = capacity / kObjectCapacityDivisor;
  if (bytes > limit || totals.object_bytes > limit - bytes) {
    return ResourceExhausted("no room for a calibration object of ", bytes, " bytes: ", totals.object_bytes,
                             " bytes of objects are stored, all of them may take ", limit, ", one part in ",
                             kObjectCapacityDivisor, " of the capacity");
  }
  return absl::OkStatus();
}

absl::Status Objects::Write(const TenantRef& tenant, const ChunkKey& key, v1::ChunkRecord row,
                            const std::optional<v1::ChunkRecord>& previous, const SharedBytes& bytes) {
  KDN_ASSIGN_OR_RETURN(const Admission admission, c_.Admit(bytes.size() + kMaxValueMetadataBytes));
  absl::MutexLock lock(&c_.locks().For(key));
  KDN_ASSIGN_OR_RETURN(const auto current, c_.ReadRow(key));
  if (current.has_value() != previous.has_value()) {
    return Aborted("calibration object ", DigestOf(row.chunk_digest()).ToHex(), " was changed meanwhile: try again");
  }
  KDN_ASSIGN_OR_RETURN(const std::string metadata,
                       SerializeChunkMetadata(tenant->record.name(), key.key, row, row.parts(0)));
  const uint64_t failures_before = c_.values().flush_failures();
  absl::StatusOr<ValueLocation> location = c_.values().Put(AsBytes(metadata), bytes.span());
  if (!location.ok()) return c_.NoteWrite(location.status());
  SetLocation(*location, *row.mutable_parts(0));
  absl::Status written = c_.NoteWrite(c_.values().Sync(failures_before));
  if (written.ok()) {
    IndexBatch batch;
    batch.chunk_puts.push_back({key, row, current});
    written = c_.NoteWrite(c_.index().Commit(batch, Durability::kSynced));
  }
  if (!written.ok()) {
    c_.values().MarkDead(*location);
    return written;
  }
  LiveBytes before;
  if (current.has_value()) {
    before = LiveBytesOf(*current);
    for (const v1::PartRecord& part : current->parts()) c_.values().MarkDead(LocationOf(part));
  }
  c_.live().Change(before, LiveBytesOf(row));
  return absl::OkStatus();
}

uint64_t Objects::HighestActivation(const std::vector<Row>& rows, uint32_t kind) {
  uint64_t highest = 0;
  for (const Row& row : rows) {
    if (row.record.object().kind() == kind) highest = std::max(highest, row.record.object().activation());
  }
  return highest;
}

absl::Status Objects::ActivateRow(const TenantRef& tenant, const Row& row, const std::vector<Row>& rows) {
  const uint64_t highest = HighestActivation(rows, row.record.object().kind());
  if (highest != 0 && row.record.object().activation() == highest) return absl::OkStatus();
  const Fingerprint fingerprint = DigestOf(row.record.fingerprint());
  const Digest digest = DigestOf(row.record.chunk_digest());
  KDN_ASSIGN_OR_RETURN(const std::optional<StoredObject> object, Find(tenant, fingerprint, digest));
  if (!object.has_value()) return NotStored(fingerprint, digest);
  v1::ChunkRecord changed = row.record;
  changed.mutable_object()->set_activation(highest + 1);
  return Write(tenant, row.key, std::move(changed), row.record, object->bytes);
}

absl::StatusOr<PutObjectResult> Objects::Put(const Caller& caller, const PutObjectRequest& request,
                                             const SharedBytes& bytes) {
  if (request.display_name.size() > kMaxDisplayNameBytes) {
    return InvalidArgument("display name of ", request.display_name.size(), " bytes, at most ", kMaxDisplayNameBytes);
  }
  KDN_ASSIGN_OR_RETURN(const CalibrationKind kind, CheckCalibrationHeader(bytes.span(), request.fingerprint));
  if (const Digest digest = Sha256::Of(bytes.span()); digest != request.digest) {
    return InvalidArgument("calibration object has digest ", digest.ToHex(), ", announced was ",
                           request.digest.ToHex());
  }
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(const ModelRef model, c_.registry().FindModel(tenant, request.fingerprint));
  absl::ReaderMutexLock use(&model->use_mutex());
  if (model->deleted()) return NotFound("model ", request.fingerprint.ToShortHex(), " is not registered");
  absl::MutexLock change(&change_mutex_);
  const ChunkKey key = KeyOf(tenant, request.fingerprint, request.digest);
  PutObjectResult result;
  // Read, so that putting it again heals one that is damaged.
  KDN_ASSIGN_OR_RETURN(const std::optional<StoredObject> present, Find(tenant, request.fingerprint, request.digest));
  if (!present.has_value()) {
    KDN_RETURN_IF_ERROR(CheckRoom(tenant, request.fingerprint, bytes.size()));
    v1::ChunkRecord row;
    row.set_fingerprint(std::string(request.fingerprint.view()));
    row.set_chunk_digest(std::string(request.digest.view()));
    row.set_created_ms(c_.NowMs());
    row.set_pinned(true);
    row.mutable_object()->set_kind(static_cast<uint32_t>(kind));
    row.mutable_object()->set_display_name(request.display_name);
    row.add_parts();
    if (request.activation == ObjectActivation::kActivate) {
      KDN_ASSIGN_OR_RETURN(const std::vector<Row> rows, ReadRows(tenant, request.fingerprint));
      row.mutable_object()->set_activation(HighestActivation(rows, static_cast<uint32_t>(kind)) + 1);
    }
    KDN_RETURN_IF_ERROR(Write(tenant, key, std::move(row), std::nullopt, bytes));
    result.created = true;
    c_.events().OnObjectStored(bytes.size());
  } else if (request.activation == ObjectActivation::kActivate) {
    KDN_ASSIGN_OR_RETURN(const std::vector<Row> rows, ReadRows(tenant, request.fingerprint));
    for (const Row& row : rows) {
      if (row.key == key) KDN_RETURN_IF_ERROR(ActivateRow(tenant, row, rows));
    }
  }
  KDN_ASSIGN_OR_RETURN(result.object, InfoOf(tenant, request.fingerprint, request.digest));
  return result;
}

absl::StatusOr<ObjectInfo> Objects::Activate(const Caller& caller, const Fingerprint& fingerprint,
                                             const Digest& digest) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(const ModelRef model, c_.registry().FindModel(tenant, fingerprint));
  absl::ReaderMutexLock use(&model->use_mutex());
  if (model->deleted()) return NotFound("model ", fingerprint.ToShortHex(), " is not registered");
  absl::MutexLock change(&change_mutex_);
  const ChunkKey key = KeyOf(tenant, fingerprint, digest);
  KDN_ASSIGN_OR_RETURN(const std::vector<Row> rows, ReadRows(tenant, fingerprint));
  const auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& candidate) { return candidate.key == key; });
  if (row == rows.end()) return NotStored(fingerprint, digest);
  KDN_RETURN_IF_ERROR(ActivateRow(tenant, *row, rows));
  return InfoOf(tenant, fingerprint, digest);
}

absl::StatusOr<ObjectInfo> Objects::Delete(const Caller& caller, const Fingerprint& fingerprint, const Digest& digest,
                                           ChunkStore::ObjectDeletion deletion) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_RETURN_IF_ERROR(c_.registry().FindModel(tenant, fingerprint));
  absl::MutexLock change(&change_mutex_);
  KDN_ASSIGN_OR_RETURN(const ObjectInfo object, InfoOf(tenant, fingerprint, digest));
  if (object.active && deletion == ChunkStore::ObjectDeletion::kUnlessActive) {
    return FailedPrecondition("calibration object ", digest.ToHex(), " is its model's active one of kind ",
                              CalibrationKindName(object.kind), ": activate another one, or force");
  }
  KDN_RETURN_IF_ERROR(Remove(tenant, KeyOf(tenant, fingerprint, digest)));
  return object;
}

absl::Status Objects::Remove(const TenantRef& tenant, const ChunkKey& key) {
  const uint64_t failures_before = c_.values().flush_failures();
  {
    // A value moved behind its tombstone would come back when the index is rebuilt.
    absl::MutexLock evictor_lock(&c_.evictor().step_mutex());
    KDN_RETURN_IF_ERROR(c_.NoteWrite(PutTombstones(c_.values(), tenant->record.name(), {.chunk_keys = {key.key}})));
    absl::MutexLock lock(&c_.locks().For(key));
    KDN_ASSIGN_OR_RETURN(const auto row, c_.ReadRow(key));
    if (row.has_value()) KDN_RETURN_IF_ERROR(c_.RemoveRow(key, *row));
  }
  KDN_RETURN_IF_ERROR(c_.values().Sync(failures_before));
  return c_.index().Sync();
}

}  // namespace kdn
