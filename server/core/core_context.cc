#include "server/core/core_context.h"

#include <utility>

#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "storage/evict/chunk_rows.h"

namespace kdn {
namespace {

EvictorOptions EvictorOptionsOf(const ChunkStoreOptions& options, const CoreParts& parts) {
  EvictorOptions evictor;
  evictor.capacity_bytes = options.capacity_bytes;
  evictor.reserve_bytes = options.reserve_bytes;
  evictor.high_watermark = options.high_watermark;
  evictor.low_watermark = options.low_watermark;
  evictor.growth_step_bytes = parts.growth_step_bytes;
  return evictor;
}

CoreParts WithEvents(CoreParts parts, StoreEvents& no_events) {
  if (parts.events == nullptr) parts.events = &no_events;
  return parts;
}

}  // namespace

CoreContext::CoreContext(const ChunkStoreOptions& options, CoreParts parts)
    : options_(options),
      parts_(WithEvents(std::move(parts), no_events_)),
      ram_(options.ram_tier_bytes),
      registry_(*parts_.index),
      evictor_(EvictorOptionsOf(options, parts_), EvictionDependencies(), *parts_.disk_space) {}

GroupRewriter::Dependencies CoreContext::EvictionDependencies() {
  return {.values = *parts_.values,
          .index = *parts_.index,
          .tracker = tracker_,
          .locks = locks_,
          .clock = *parts_.clock,
          .listener = *this};
}

absl::StatusOr<int64_t> CoreContext::ExpiryOf(uint64_t ttl_ms) const {
  if (ttl_ms > kMaxTtlMs) return InvalidArgument("time to live of ", ttl_ms, " ms, at most ", kMaxTtlMs);
  if (ttl_ms == 0) ttl_ms = options_.ttl_ms;
  return ttl_ms == 0 ? 0 : NowMs() + static_cast<int64_t>(ttl_ms);
}

ChunkKey CoreContext::KeyOf(const TenantRef& tenant, const Digest& chunk_digest) {
  return {tenant->id, StorageKey(tenant->record, chunk_digest)};
}

absl::StatusOr<std::optional<v1::ChunkRecord>> CoreContext::ReadRow(const ChunkKey& key) {
  absl::StatusOr<std::optional<v1::ChunkRecord>> row = index().GetChunk(key);
  if (absl::IsDataLoss(row.status())) {
    NoteCorruption("index", row.status());
    return std::optional<v1::ChunkRecord>();
  }
  return row;
}

absl::Status CoreContext::RemoveRow(const ChunkKey& key, const v1::ChunkRecord& row) {
  IndexBatch batch;
  batch.chunk_deletes.push_back({key, row});
  KDN_RETURN_IF_ERROR(index().Commit(batch, Durability::kUnsynced));
  NoteUnsynced();
  for (const v1::PartRecord& part : row.parts()) {
    values().MarkDead(LocationOf(part));
    OnValueRemoved(LocationOf(part), part.raw_bytes());
  }
  tracker_.Forget(key);
  return absl::OkStatus();
}

absl::Status CoreContext::RemovePart(const ChunkKey& key, const v1::ChunkRecord& row, int part) {
  if (row.parts_size() == 1) return RemoveRow(key, row);
  v1::ChunkRecord changed = row;
  changed.mutable_parts()->DeleteSubrange(part, 1);
  IndexBatch batch;
  batch.chunk_puts.push_back({key, std::move(changed), row});
  KDN_RETURN_IF_ERROR(index().Commit(batch, Durability::kUnsynced));
  NoteUnsynced();
  values().MarkDead(LocationOf(row.parts(part)));
  OnValueRemoved(LocationOf(row.parts(part)), row.parts(part).raw_bytes());
  return absl::OkStatus();
}

void CoreContext::Touch(const ChunkKey& key, const v1::ChunkRecord& row) {
  tracker_.TouchWithAncestors(key, [&](const ChunkKey& at) -> std::optional<ChunkKey> {
    if (at == key) return ParentKey(key.tenant, row);
    const auto ancestor = index().GetChunk(at);
    // An ancestor that cannot be read ends the walk: there is nothing above it that a reader could use.
    if (!ancestor.ok() || !ancestor->has_value()) return std::nullopt;
    return ParentKey(at.tenant, **ancestor);
  });
}

absl::StatusOr<Admission> CoreContext::Admit(uint64_t bytes) {
  absl::StatusOr<Admission> admission = evictor_.Admit(bytes);
  // What exceeds the whole capacity says nothing about the room for others.
  const bool fits = options_.capacity_bytes == 0 || bytes < options_.capacity_bytes;
  if (!admission.ok() && fits) NoteWrite(admission.status()).IgnoreError();
  return admission;
}

absl::Status CoreContext::NoteWrite(absl::Status status) {
  if (status.ok()) {
    ClearReadOnly();
    NoteUnsynced();
  } else if (absl::IsResourceExhausted(status)) {
    absl::MutexLock lock(&refusal_mutex_);
    const std::string reason(FromAbsl(status.message()));
    if (!read_only_.exchange(true)) Log(LogLevel::kWarn, "stores are refused", {{"reason", reason}});
    refusal_ = reason;
  }
  return status;
}

void CoreContext::NoteFreeSpace() {
  const absl::StatusOr<uint64_t> free_bytes = disk_space().FreeBytes();
  if (!free_bytes.ok() || *free_bytes + evictor_.UsedBytes() >= options_.reserve_bytes) return;
  NoteWrite(ResourceExhausted(*free_bytes, " bytes are free on the disk of ", options_.path,
                              ", less than storage.reserve ", options_.reserve_bytes,
                              ": free some, or lower storage.reserve"))
      .IgnoreError();
}

std::string CoreContext::refusal() const {
  absl::MutexLock lock(&refusal_mutex_);
  return refusal_;
}

void CoreContext::ClearReadOnly() {
  if (!read_only()) return;
  absl::MutexLock lock(&refusal_mutex_);
  if (read_only_.exchange(false)) Log(LogLevel::kInfo, "stores are accepted again");
  refusal_.clear();
}

void CoreContext::NoteCorruption(std::string_view where, const absl::Status& damage) {
  events().OnCorruption(where);
  Log(LogLevel::kError, "damage found", {{"where", where}, {"what", std::string(FromAbsl(damage.message()))}});
}

void CoreContext::OnValueRemoved(const ValueLocation& location, uint64_t raw_bytes) {
  ram_.Remove(location);
  live_.Change({.stored_bytes = location.length, .raw_bytes = raw_bytes}, {});
}

void CoreContext::OnGroupDropped(uint64_t group) {
  ram_.RemoveGroup(group);
  Log(LogLevel::kInfo, "space of a group of values given back",
      {{"group", group}, {"used_bytes", evictor_.UsedBytes()}});
}

void CoreContext::OnEvicted(std::string_view reason, uint64_t chunks, uint64_t bytes) {
  NoteUnsynced();
  events().OnEvicted(reason, chunks, bytes);
}

void CoreContext::OnReinserted(uint64_t chunks, uint64_t bytes) {
  NoteUnsynced();
  events().OnReinserted(chunks, bytes);
}

}  // namespace kdn
