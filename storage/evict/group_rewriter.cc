#include "storage/evict/group_rewriter.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "storage/evict/chunk_rows.h"
#include "storage/index/value_metadata.h"

namespace kdn {
namespace {

// Rows read from the index in one call.
constexpr size_t kRowsPerRead = 1024;

bool IsOutOfSpace(const absl::Status& status) { return status.code() == absl::StatusCode::kResourceExhausted; }

}  // namespace

struct GroupRewriter::Candidate {
  enum class Keep { kNo, kAccessed, kPinned };

  ValueLocation location;
  std::shared_ptr<const ChunkIndex::Tenant> tenant;  // owned by the plan, shared by its candidates
  ChunkKey key;                                      // of the chunk, the text or (as a number to lock) the model
  int64_t created_ms = 0;                            // texts: which version of the row this value is
  v1::Tombstone tombstone;
  Keep keep = Keep::kNo;
  uint32_t recency = 0;
  uint64_t token_begin = 0;
};

struct GroupRewriter::Plan {
  std::vector<Candidate> chunks;  // in the order written
  std::vector<Candidate> texts;
  std::vector<Candidate> models;
  std::vector<Candidate> tombstones;
  uint64_t pinned_bytes = 0;
};

absl::StatusOr<GroupRewriter::Plan> GroupRewriter::Survey(uint64_t group) {
  KDN_ASSIGN_OR_RETURN(std::vector<ChunkIndex::Tenant> tenants, d_.index.ListTenants());
  absl::flat_hash_map<std::string, std::shared_ptr<const ChunkIndex::Tenant>> by_name;
  for (ChunkIndex::Tenant& tenant : tenants) {
    const std::string name = tenant.record.name();
    by_name.emplace(name, std::make_shared<const ChunkIndex::Tenant>(std::move(tenant)));
  }
  Plan plan;
  const auto visit = [&](const ScannedValue& value) {
    if (!value.status.ok()) return;  // what points to it is met as a miss and removed then
    absl::StatusOr<v1::ValueMetadata> metadata = ParseValueMetadata(value.metadata);
    if (!metadata.ok()) return;
    const auto tenant = by_name.find(metadata->tenant());
    if (tenant == by_name.end()) return;
    Candidate candidate;
    candidate.location = value.location;
    candidate.tenant = tenant->second;
    candidate.key = {tenant->second->id, Digest::FromBytes(AsBytes(metadata->storage_key())).value_or(Digest{})};
    if (metadata->has_chunk()) {
      plan.chunks.push_back(std::move(candidate));
    } else if (metadata->has_text()) {
      candidate.created_ms = metadata->text().created_ms();
      plan.texts.push_back(std::move(candidate));
    } else if (metadata->has_model()) {
      plan.models.push_back(std::move(candidate));
    } else if (metadata->has_tombstone()) {
      candidate.tombstone = std::move(*metadata->mutable_tombstone());
      plan.tombstones.push_back(std::move(candidate));
    }
  };
  KDN_RETURN_IF_ERROR(d_.values.Scan(group, {}, visit));
  return plan;
}

absl::Status GroupRewriter::JudgeChunks(Plan& plan) {
  const int64_t now_ms = d_.clock.WallMillis();
  for (size_t begin = 0; begin < plan.chunks.size(); begin += kRowsPerRead) {
    const size_t end = std::min(plan.chunks.size(), begin + kRowsPerRead);
    std::vector<ChunkKey> keys;
    for (size_t i = begin; i < end; ++i) keys.push_back(plan.chunks[i].key);
    KDN_ASSIGN_OR_RETURN(const auto rows, d_.index.GetChunks(keys));
    for (size_t i = begin; i < end; ++i) {
      Candidate& candidate = plan.chunks[i];
      const auto& row = rows[i - begin];
      if (!row.has_value() || FindPart(*row, candidate.location) < 0 || IsExpired(*row, now_ms)) continue;
      candidate.token_begin = row->token_begin();
      candidate.recency = d_.tracker.Recency(candidate.key);
      candidate.keep = Candidate::Keep::kAccessed;
      if (IsPinned(*row, now_ms)) {
        candidate.keep = Candidate::Keep::kPinned;
        plan.pinned_bytes += candidate.location.length;
      }
    }
  }
  return absl::OkStatus();
}

void GroupRewriter::ChooseKept(const RewritePolicy& policy, Plan& plan) {
  // The most lately read first; among equals the shallowest, so that children do not outlive their parents; then the
  // smallest, so that where not all variants of a chunk find room the lossy ones stay.
  std::vector<Candidate*> wanted;
  for (Candidate& candidate : plan.chunks) {
    if (candidate.keep != Candidate::Keep::kAccessed) continue;
    candidate.keep = Candidate::Keep::kNo;
    if (candidate.recency > 0 || policy.keep_unread) wanted.push_back(&candidate);
  }
  std::stable_sort(wanted.begin(), wanted.end(), [](const Candidate* a, const Candidate* b) {
    return std::tuple(b->recency, a->token_begin, a->location.length) <
           std::tuple(a->recency, b->token_begin, b->location.length);
  });
  uint64_t bytes = 0;
  for (Candidate* candidate : wanted) {
    if (candidate->location.length > policy.max_accessed_bytes - bytes) continue;
    bytes += candidate->location.length;
    candidate->keep = Candidate::Keep::kAccessed;
  }
}

absl::StatusOr<RewriteResult> GroupRewriter::Rewrite(const ValueGroup& group, const RewritePolicy& policy) {
  const uint64_t failures_before = d_.values.flush_failures();
  KDN_ASSIGN_OR_RETURN(Plan plan, Survey(group.id));
  KDN_RETURN_IF_ERROR(JudgeChunks(plan));
  RewriteResult result;
  if (plan.pinned_bytes > policy.max_pinned_bytes) return result;
  ChooseKept(policy, plan);
  for (const Candidate& candidate : plan.models) KDN_RETURN_IF_ERROR(MoveModel(candidate));
  for (const Candidate& candidate : plan.chunks) {
    KDN_RETURN_IF_ERROR(MoveOrRemoveChunk(candidate, policy, result));
  }
  for (const Candidate& candidate : plan.texts) KDN_RETURN_IF_ERROR(MoveOrRemoveText(candidate, policy));
  for (const Candidate& candidate : plan.tombstones) KDN_RETURN_IF_ERROR(MoveTombstoneIfNeeded(candidate));
  KDN_RETURN_IF_ERROR(d_.values.Sync(failures_before));
  KDN_RETURN_IF_ERROR(d_.index.Sync());
  KDN_RETURN_IF_ERROR(d_.values.DropGroup(group.id));
  d_.listener.OnGroupDropped(group.id);
  result.dropped = true;
  return result;
}

absl::Status GroupRewriter::MoveOrRemoveChunk(const Candidate& candidate, const RewritePolicy& policy,
                                              RewriteResult& result) {
  absl::MutexLock lock(&d_.locks.For(candidate.key));
  absl::StatusOr<std::optional<v1::ChunkRecord>> row = d_.index.GetChunk(candidate.key);
  if (absl::IsDataLoss(row.status())) return absl::OkStatus();  // a damaged row is a miss already
  KDN_RETURN_IF_ERROR(row);
  if (!row->has_value()) return absl::OkStatus();
  const int part = FindPart(**row, candidate.location);
  if (part < 0) return absl::OkStatus();
  // Judged again: it may have been pinned since.
  const bool pinned = IsPinned(**row, d_.clock.WallMillis());
  if (!pinned && candidate.keep == Candidate::Keep::kNo) return RemovePart(candidate, **row, part, result);
  absl::Status moved = MovePart(candidate, **row, part, policy);
  if (moved.ok()) {
    ++result.kept_chunks;
    return moved;
  }
  // What was only read may go when there is no room for it; what is pinned keeps its group from going, unless there is
  // nothing left to keep.
  const bool lost = absl::IsDataLoss(moved) || absl::IsNotFound(moved);
  const bool optional = !pinned && !policy.keep_unread;
  if (lost || (optional && IsOutOfSpace(moved))) return RemovePart(candidate, **row, part, result);
  return moved;
}

absl::Status GroupRewriter::MovePart(const Candidate& candidate, const v1::ChunkRecord& row, int part,
                                     const RewritePolicy& policy) {
  const ValueLocation& from = candidate.location;
  if (!policy.has_room(from.length)) return ResourceExhausted("no room to move a value of ", from.length, " bytes");
  KDN_ASSIGN_OR_RETURN(const SharedBytes payload, d_.values.Get(from, {0, from.length}));
  KDN_ASSIGN_OR_RETURN(const std::string metadata, SerializeChunkMetadata(candidate.tenant->record.name(),
                                                                          candidate.key.key, row, row.parts(part)));
  KDN_ASSIGN_OR_RETURN(const ValueLocation to, d_.values.Put(AsBytes(metadata), payload.span()));
  v1::ChunkRecord changed = row;
  v1::PartRecord& moved = *changed.mutable_parts(part);
  moved.set_value_group(to.group);
  moved.set_value_offset(to.offset);
  moved.set_value_length(to.length);
  IndexBatch batch;
  batch.chunk_puts.push_back({candidate.key, std::move(changed), row});
  const absl::Status committed = d_.index.Commit(batch, Durability::kUnsynced);
  if (!committed.ok()) {
    d_.values.MarkDead(to);
    return committed;
  }
  d_.values.MarkDead(from);
  d_.tracker.Forget(candidate.key);
  d_.listener.OnValueMoved(from, to);
  d_.listener.OnReinserted(1, from.length);
  return absl::OkStatus();
}

absl::Status GroupRewriter::RemovePart(const Candidate& candidate, const v1::ChunkRecord& row, int part,
                                       RewriteResult& result) {
  IndexBatch batch;
  const bool whole = row.parts_size() == 1;
  if (whole) {
    batch.chunk_deletes.push_back({candidate.key, row});
  } else {
    v1::ChunkRecord changed = row;
    changed.mutable_parts()->DeleteSubrange(part, 1);
    batch.chunk_puts.push_back({candidate.key, std::move(changed), row});
  }
  KDN_RETURN_IF_ERROR(d_.index.Commit(batch, Durability::kUnsynced));
  d_.values.MarkDead(candidate.location);
  d_.listener.OnValueRemoved(candidate.location, row.parts(part).raw_bytes());
  if (whole) {
    d_.tracker.Forget(candidate.key);
    ++result.evicted_chunks;
  }
  const bool expired = IsExpired(row, d_.clock.WallMillis());
  d_.listener.OnEvicted(expired ? "expired" : "capacity", whole ? 1 : 0, candidate.location.length);
  return absl::OkStatus();
}

absl::Status GroupRewriter::MoveOrRemoveText(const Candidate& candidate, const RewritePolicy& policy) {
  absl::MutexLock lock(&d_.locks.For(candidate.key));
  KDN_ASSIGN_OR_RETURN(const auto row, d_.index.GetText(candidate.key.tenant, candidate.key.key));
  if (!row.has_value() || row->created_ms() != candidate.created_ms) return absl::OkStatus();
  // A text is of use while its first chunk is there.
  bool wanted = !IsExpired(*row, d_.clock.WallMillis()) && row->chunk_digests_size() > 0;
  if (wanted) {
    const std::optional<Digest> first = Digest::FromBytes(AsBytes(row->chunk_digests(0)));
    if (!first.has_value()) return DataLoss("text row with a chunk digest of another size than 32 bytes");
    const ChunkKey first_key{candidate.key.tenant, StorageKey(candidate.tenant->record, *first)};
    KDN_ASSIGN_OR_RETURN(const auto first_row, d_.index.GetChunks(std::span(&first_key, 1)));
    wanted = first_row[0].has_value();
  }
  if (wanted && policy.has_room(row->ByteSizeLong())) {
    const absl::Status put = PutTextValue(d_.values, candidate.tenant->record.name(), candidate.key.key, *row).status();
    if (put.ok() || !IsOutOfSpace(put)) return put;
  }
  if (wanted && policy.keep_unread) return ResourceExhausted("no room to move a text's row");
  IndexBatch batch;
  batch.text_deletes.push_back({candidate.key.tenant, candidate.key.key, *row});
  return d_.index.Commit(batch, Durability::kUnsynced);
}

absl::Status GroupRewriter::MoveModel(const Candidate& candidate) {
  absl::MutexLock lock(&d_.locks.For(candidate.key));
  KDN_ASSIGN_OR_RETURN(const auto row, d_.index.GetModel(candidate.key.tenant, candidate.key.key));
  if (!row.has_value()) return absl::OkStatus();
  return PutModelValue(d_.values, candidate.tenant->record.name(), *row, candidate.key.key).status();
}

absl::Status GroupRewriter::MoveTombstoneIfNeeded(const Candidate& candidate) {
  // Of use only while values remain that were written before it at first. What was stored since needs no telling apart:
  // the copy does not reach it.
  const v1::Tombstone& tombstone = candidate.tombstone;
  const uint64_t group = candidate.location.group;
  const uint64_t first_group = tombstone.has_first_written() ? tombstone.first_written().group() : group;
  const std::vector<ValueGroup> groups = d_.values.Groups();
  if (std::none_of(groups.begin(), groups.end(),
                   [&](const ValueGroup& g) { return g.id <= first_group && g.id != group; })) {
    return absl::OkStatus();
  }
  return MoveTombstone(d_.values, candidate.tenant->record.name(), tombstone, candidate.location).status();
}

}  // namespace kdn
