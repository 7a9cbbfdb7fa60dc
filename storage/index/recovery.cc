#include "storage/index/recovery.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "kernels/base/status.h"
#include "storage/index/part_merge.h"
#include "storage/index/value_metadata.h"

namespace kdn {
namespace {

constexpr int kMaxDocumentsPerRow = 64;
// Of one commit that drops rows: an index takes no more than so much at once, whatever a deletion names.
constexpr size_t kMaxRowsPerBatch = 256;
constexpr size_t kMaxBytesPerBatch = size_t{8} << 20;

using LocationKey = std::pair<uint64_t, uint64_t>;  // group, offset

struct FoundValue {
  ValueLocation location;
  std::string metadata;
};

// Of texts and models, whose rows do not say where their value lies, the last one met in the scan; of what tombstones
// name, the last place that one was first written at.
using Places = absl::flat_hash_map<ChunkKey, LocationKey>;

struct TombstonePlace {
  LocationKey first;  // what lies before it, it deletes
  LocationKey last;   // where it lies now, perhaps as a copy
};

// Collects rows that are reduced or dropped and commits them in bounded pieces. Each stands for itself, so that running
// recovery again finishes what ended between two pieces.
class RowDrops {
 public:
  explicit RowDrops(ChunkIndex& index) : index_(index) {}

  // Puts what is left of a row, or deletes it when nothing is.
  absl::Status Reduce(const ChunkKey& key, const v1::ChunkRecord& row, v1::ChunkRecord kept) {
    const size_t bytes = row.ByteSizeLong() + kept.ByteSizeLong();
    if (kept.parts().empty()) {
      batch_.chunk_deletes.push_back({key, row});
    } else {
      batch_.chunk_puts.push_back({key, std::move(kept), row});
    }
    return Added(bytes);
  }
  absl::Status DropText(const ChunkKey& key, const v1::TextRecord& text) {
    batch_.text_deletes.push_back({key.tenant, key.key, text});
    return Added(text.ByteSizeLong());
  }
  absl::Status DropModel(const ChunkKey& key) {
    batch_.model_deletes.push_back({key.tenant, key.key});
    return Added(0);
  }
  // Call at the end.
  absl::Status Flush() {
    if (rows_ == 0) return absl::OkStatus();
    rows_ = bytes_ = 0;
    return index_.Commit(std::exchange(batch_, {}), Durability::kUnsynced);
  }

 private:
  absl::Status Added(size_t bytes) {
    bytes_ += bytes;
    return ++rows_ == kMaxRowsPerBatch || bytes_ >= kMaxBytesPerBatch ? Flush() : absl::OkStatus();
  }

  ChunkIndex& index_;
  IndexBatch batch_;
  size_t rows_ = 0;
  size_t bytes_ = 0;
};

class Recovery {
 public:
  Recovery(ValueStore& values, ChunkIndex& index, const RecoveryOptions& options)
      : values_(values), index_(index), options_(options) {}

  absl::Status ScanGroups() {
    KDN_ASSIGN_OR_RETURN(const auto tenants, index_.ListTenants());
    for (const auto& tenant : tenants) tenants_[tenant.record.name()] = tenant.id;
    std::vector<ValueGroup> groups = values_.Groups();
    std::erase_if(groups, [&](const ValueGroup& group) { return group.id < options_.from_group; });
    for (size_t i = 0; i < groups.size(); ++i) {
      KDN_RETURN_IF_ERROR(ScanGroup(groups[i].id));
      ++stats_.groups;
      if (options_.progress) options_.progress(i + 1, groups.size());
    }
    return PutBackReduced(groups);
  }

  // Call after ScanGroups.
  absl::Status DropDangling() {
    for (const auto& [name, tenant] : tenants_) {
      RowDrops drops(index_);
      absl::Status failed;
      const auto visit = [&](const ChunkKey& key, const v1::ChunkRecord& row) {
        v1::ChunkRecord kept = row;
        const int before = kept.parts_size();
        if (!RemoveParts([&](const v1::PartRecord& part) { return IsDangling(part); }, kept)) return true;
        stats_.dangling += static_cast<uint64_t>(before - kept.parts_size());
        failed = drops.Reduce(key, row, std::move(kept));
        return failed.ok();
      };
      KDN_RETURN_IF_ERROR(index_.VisitChunks(tenant, std::nullopt, visit));
      KDN_RETURN_IF_ERROR(failed);
      KDN_RETURN_IF_ERROR(drops.Flush());
    }
    return absl::OkStatus();
  }

  absl::StatusOr<RecoveryStats> Finish() {
    KDN_RETURN_IF_ERROR(index_.Sync());
    return stats_;
  }

 private:
  bool IsDangling(const v1::PartRecord& part) const {
    return part.value_group() >= options_.from_group && !seen_.contains({part.value_group(), part.value_offset()});
  }

  // What is collected is part of one group, hence bounded by its size.
  absl::StatusOr<std::vector<FoundValue>> CollectGroup(uint64_t group, uint64_t& damaged) {
    std::vector<FoundValue> found;
    const absl::Status scanned = values_.Scan(group, {}, [&](const ScannedValue& value) {
      if (value.status.ok()) {
        found.push_back({value.location, std::string(AsStringView(value.metadata))});
      } else {
        ++damaged;
      }
    });
    if (absl::IsNotFound(scanned)) return std::vector<FoundValue>();  // dropped meanwhile
    KDN_RETURN_IF_ERROR(Annotate(scanned, StrCat("scanning value group ", group)));
    return found;
  }

  absl::Status ScanGroup(uint64_t group) {
    uint64_t damaged = 0;
    KDN_ASSIGN_OR_RETURN(const std::vector<FoundValue> found, CollectGroup(group, damaged));
    stats_.values += found.size() + damaged;
    stats_.damaged += damaged;
    for (const FoundValue& value : found) {
      seen_.try_emplace({value.location.group, value.location.offset}, seen_.size());
    }
    for (const FoundValue& value : found) {
      const absl::Status applied = Apply(value);
      if (absl::IsDataLoss(applied)) {
        ++stats_.damaged;
      } else {
        KDN_RETURN_IF_ERROR(applied);
      }
    }
    return absl::OkStatus();
  }

  // A tombstone's copy is met after what was stored since the deletion, and that was passed over where the row had its
  // cells from a part that the copy then took.
  absl::Status PutBackReduced(const std::vector<ValueGroup>& groups) {
    if (reduced_.empty()) return absl::OkStatus();
    uint64_t damaged_before = 0;
    for (const ValueGroup& group : groups) {
      if (group.id < reduced_from_) continue;
      KDN_ASSIGN_OR_RETURN(const std::vector<FoundValue> found, CollectGroup(group.id, damaged_before));
      for (const FoundValue& value : found) {
        const absl::Status applied = ApplyReduced(value);
        if (!absl::IsDataLoss(applied)) KDN_RETURN_IF_ERROR(applied);
      }
    }
    return absl::OkStatus();
  }

  // DataLoss: this value cannot be used.
  absl::Status ApplyReduced(const FoundValue& value) {
    auto parsed = ParseValueMetadata(AsBytes(value.metadata));
    if (!parsed.ok() || !parsed->has_chunk()) return absl::OkStatus();
    const auto tenant = tenants_.find(parsed->tenant());
    if (tenant == tenants_.end()) return absl::OkStatus();
    const ChunkKey key{tenant->second, *Digest::FromBytes(AsBytes(parsed->storage_key()))};
    const ChunkKey model{tenant->second, *Digest::FromBytes(AsBytes(parsed->chunk().fingerprint()))};
    const LocationKey place{value.location.group, value.location.offset};
    const auto reaches = [&](const Places& tombstones, const ChunkKey& named) {
      const auto tombstone = tombstones.find(named);
      return tombstone != tombstones.end() && IsBefore(place, tombstone->second);
    };
    if (!reduced_.contains(key) || reaches(dead_chunks_, key) || reaches(dead_models_, model)) return absl::OkStatus();
    return ApplyChunk(key, *parsed->mutable_chunk(), value.location);
  }

  // DataLoss: this value cannot be used.
  absl::Status Apply(const FoundValue& value) {
    auto parsed = ParseValueMetadata(AsBytes(value.metadata));
    if (!parsed.ok()) return DataLoss(FromAbsl(parsed.status().message()));
    const auto tenant = tenants_.find(parsed->tenant());
    if (tenant == tenants_.end()) {
      ++stats_.unknown_tenant;
      return absl::OkStatus();
    }
    if (parsed->has_tombstone()) return ApplyTombstone(tenant->second, parsed->tombstone(), value.location);
    const Digest key = *Digest::FromBytes(AsBytes(parsed->storage_key()));
    if (parsed->has_chunk()) return ApplyChunk({tenant->second, key}, *parsed->mutable_chunk(), value.location);
    if (parsed->has_model()) return ApplyModel({tenant->second, key}, parsed->model(), value.location);
    return ApplyText({tenant->second, key}, value.location);
  }

  bool IsExpired(int64_t expires_ms) const { return expires_ms != 0 && expires_ms <= options_.clock->WallMillis(); }

  // A damaged row counts as absent: it is put anew.
  absl::StatusOr<std::optional<v1::ChunkRecord>> ReadChunk(const ChunkKey& key) {
    auto row = index_.GetChunk(key);
    if (absl::IsDataLoss(row.status())) return std::nullopt;
    return row;
  }

  absl::Status ApplyChunk(const ChunkKey& key, v1::ChunkRecord& chunk, const ValueLocation& location) {
    if (IsExpired(chunk.expires_ms())) {
      ++stats_.expired;
      return absl::OkStatus();
    }
    v1::PartRecord& part = *chunk.mutable_parts(0);
    part.set_value_group(location.group);
    part.set_value_offset(location.offset);
    part.set_value_length(location.length);
    KDN_ASSIGN_OR_RETURN(const std::optional<v1::ChunkRecord> previous, ReadChunk(key));
    std::optional<v1::ChunkRecord> row = previous;
    KDN_ASSIGN_OR_RETURN(const MergeOutcome outcome,
                         chunk.has_object() ? ReplaceObject(chunk, row) : MergePart(chunk, kMaxDocumentsPerRow, row));
    if (outcome == MergeOutcome::kUnchanged) return absl::OkStatus();
    ++stats_.chunks_put;
    IndexBatch batch;
    batch.chunk_puts.push_back({key, std::move(*row), previous});
    return index_.Commit(batch, Durability::kUnsynced);
  }

  // Of an object's values the last one written holds.
  absl::StatusOr<MergeOutcome> ReplaceObject(const v1::ChunkRecord& found, std::optional<v1::ChunkRecord>& row) const {
    if (row && (!row->has_object() || row->chunk_digest() != found.chunk_digest())) {
      return DataLoss("an object's value under the key of something else");
    }
    const auto place = [](const v1::PartRecord& part) { return LocationKey{part.value_group(), part.value_offset()}; };
    if (row && row->parts_size() == 1) {
      const LocationKey held = place(row->parts(0));
      const LocationKey mine = place(found.parts(0));
      if (held == mine || !IsBefore(held, mine)) return MergeOutcome::kUnchanged;
    }
    row = found;
    return MergeOutcome::kChanged;
  }

  absl::Status ApplyModel(const ChunkKey& key, const v1::ModelRecord& model, const ValueLocation& location) {
    newest_models_[key] = {location.group, location.offset};
    const auto present = index_.GetModel(key.tenant, key.key);
    if (!absl::IsDataLoss(present.status())) {
      KDN_RETURN_IF_ERROR(present.status());
      if (present->has_value()) return absl::OkStatus();
    }
    ++stats_.models_put;
    IndexBatch batch;
    batch.model_puts.push_back({key.tenant, key.key, model});
    return index_.Commit(batch, Durability::kUnsynced);
  }

  absl::Status ApplyText(const ChunkKey& key, const ValueLocation& location) {
    const auto payload = values_.Get(location, {0, location.length});
    if (absl::IsNotFound(payload.status())) return absl::OkStatus();  // dropped meanwhile
    KDN_RETURN_IF_ERROR(payload.status());
    v1::TextRecord text;
    if (payload->size() > INT32_MAX || !text.ParseFromArray(payload->data(), static_cast<int>(payload->size()))) {
      return DataLoss("a text of ", payload->size(), " bytes does not parse");
    }
    if (IsExpired(text.expires_ms())) {
      ++stats_.expired;
      return absl::OkStatus();
    }
    newest_texts_[key] = {location.group, location.offset};
    const auto present = index_.GetText(key.tenant, key.key);
    if (!absl::IsDataLoss(present.status())) {
      KDN_RETURN_IF_ERROR(present.status());
      if (present->has_value() && (*present)->created_ms() >= text.created_ms()) return absl::OkStatus();
    }
    ++stats_.texts_put;
    IndexBatch batch;
    batch.text_puts.push_back({key.tenant, key.key, std::move(text)});
    return index_.Commit(batch, Durability::kUnsynced);
  }

  // A claim to a place that is not before its own does not count.
  static TombstonePlace PlaceOf(const v1::Tombstone& tombstone, const ValueLocation& location) {
    const LocationKey last{location.group, location.offset};
    const v1::ValuePosition& first = tombstone.first_written();
    if (!tombstone.has_first_written() || first.group() >= location.group) return {last, last};
    return {{first.group(), first.offset()}, last};
  }

  void NoteLatest(const ChunkKey& named, const LocationKey& place, Places& tombstones) const {
    const auto [known, is_new] = tombstones.try_emplace(named, place);
    if (!is_new && IsBefore(known->second, place)) known->second = place;
  }

  bool IsBefore(const LocationKey& value, const LocationKey& tombstone) const {
    if (value.first != tombstone.first) return value.first < tombstone.first;
    const auto position = seen_.find(tombstone);
    // A copy's first place in a group that was not scanned, or was damaged: the rows of that group are kept.
    if (position == seen_.end()) return false;
    const auto at = seen_.find(value);
    return at == seen_.end() || at->second < position->second;
  }

  // For rows that do not say where their value lies. One that was not met lies in a group that is not scanned.
  bool Dies(const Places& newest, const ChunkKey& key, const LocationKey& tombstone) const {
    const auto value = newest.find(key);
    return value == newest.end() ? tombstone.first >= options_.from_group : IsBefore(value->second, tombstone);
  }

  // Parts put after the tombstone stay: they were stored anew.
  absl::Status Kill(const ChunkKey& key, const v1::ChunkRecord& row, const TombstonePlace& tombstone, RowDrops& drops) {
    const auto died = [&](const v1::PartRecord& part) {
      return IsBefore({part.value_group(), part.value_offset()}, tombstone.first);
    };
    v1::ChunkRecord kept = row;
    if (!RemoveParts(died, kept)) return absl::OkStatus();
    if (tombstone.first != tombstone.last) {
      reduced_.insert(key);
      reduced_from_ = std::min(reduced_from_, tombstone.first.first);
    }
    if (kept.parts().empty()) ++stats_.deleted;
    return drops.Reduce(key, row, std::move(kept));
  }

  absl::Status ApplyTombstone(TenantId tenant, const v1::Tombstone& tombstone, const ValueLocation& location) {
    const TombstonePlace place = PlaceOf(tombstone, location);
    RowDrops drops(index_);
    for (const std::string& raw : tombstone.chunk_keys()) {
      const ChunkKey key{tenant, *Digest::FromBytes(AsBytes(raw))};
      NoteLatest(key, place.first, dead_chunks_);
      KDN_ASSIGN_OR_RETURN(const std::optional<v1::ChunkRecord> row, ReadChunk(key));
      if (row) KDN_RETURN_IF_ERROR(Kill(key, *row, place, drops));
    }
    // One that was stored anew, and is not met yet, is put back when it is.
    for (const std::string& raw : tombstone.text_keys()) {
      const Digest key = *Digest::FromBytes(AsBytes(raw));
      if (!Dies(newest_texts_, {tenant, key}, place.first)) continue;
      const auto text = index_.GetText(tenant, key);
      if (!text.ok() && !absl::IsDataLoss(text.status())) return text.status();
      if (text.ok() && text->has_value()) {
        KDN_RETURN_IF_ERROR(drops.DropText({tenant, key}, **text));
        ++stats_.deleted;
      }
    }
    KDN_RETURN_IF_ERROR(drops.Flush());
    for (const std::string& raw : tombstone.fingerprints()) {
      const Digest fingerprint = *Digest::FromBytes(AsBytes(raw));
      NoteLatest({tenant, fingerprint}, place.first, dead_models_);
      KDN_RETURN_IF_ERROR(KillModel(tenant, fingerprint, place));
    }
    return absl::OkStatus();
  }

  absl::Status KillModel(TenantId tenant, const Digest& fingerprint, const TombstonePlace& tombstone) {
    RowDrops drops(index_);
    absl::Status failed;
    const auto kill_chunk = [&](const ChunkKey& key, const v1::ChunkRecord& row) {
      failed = Kill(key, row, tombstone, drops);
      return failed.ok();
    };
    KDN_RETURN_IF_ERROR(index_.VisitChunksOfModel(tenant, fingerprint, std::nullopt, kill_chunk));
    KDN_RETURN_IF_ERROR(failed);
    const auto kill_text = [&](const Digest& key, const v1::TextRecord& text) {
      if (text.fingerprint() != fingerprint.view()) return true;
      if (!Dies(newest_texts_, {tenant, key}, tombstone.first)) return true;
      ++stats_.deleted;
      failed = drops.DropText({tenant, key}, text);
      return failed.ok();
    };
    KDN_RETURN_IF_ERROR(index_.VisitTexts(tenant, kill_text));
    KDN_RETURN_IF_ERROR(failed);
    const ChunkKey model{tenant, fingerprint};
    if (Dies(newest_models_, model, tombstone.first)) KDN_RETURN_IF_ERROR(drops.DropModel(model));
    return drops.Flush();
  }

  ValueStore& values_;
  ChunkIndex& index_;
  const RecoveryOptions& options_;
  RecoveryStats stats_;
  std::map<std::string, TenantId, std::less<>> tenants_;
  absl::flat_hash_map<LocationKey, size_t> seen_;  // intact values of the scanned groups, by order
  Places newest_texts_;
  Places newest_models_;
  Places dead_chunks_;
  Places dead_models_;
  absl::flat_hash_set<ChunkKey> reduced_;  // chunks that lost parts to a tombstone's copy
  uint64_t reduced_from_ = UINT64_MAX;     // what was stored since their deletion lies in no older group
};

}  // namespace

absl::StatusOr<RecoveryStats> RebuildIndex(ValueStore& values, ChunkIndex& index, const RecoveryOptions& options) {
  Recovery recovery(values, index, options);
  KDN_RETURN_IF_ERROR(recovery.ScanGroups());
  return recovery.Finish();
}

absl::StatusOr<RecoveryStats> ReconcileIndex(ValueStore& values, ChunkIndex& index, const RecoveryOptions& options) {
  Recovery recovery(values, index, options);
  KDN_RETURN_IF_ERROR(recovery.ScanGroups());
  KDN_RETURN_IF_ERROR(recovery.DropDangling());
  return recovery.Finish();
}

absl::StatusOr<RecoveryStats> RecoverIndex(ValueStore& values, ChunkIndex& index, const RecoveryReport& report,
                                           RecoveryOptions options) {
  RecoveryStats stats;
  if (!report.needs_rebuild && !report.needs_reconcile) return stats;
  options.from_group = report.needs_rebuild ? 0 : report.reconcile_from;
  KDN_ASSIGN_OR_RETURN(stats, ReconcileIndex(values, index, options));
  KDN_RETURN_IF_ERROR(index.MarkRecovered());
  return stats;
}

}  // namespace kdn
