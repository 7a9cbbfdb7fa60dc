#include "storage/evict/evictor.h"

#include <algorithm>
#include <vector>

#include "kernels/base/status.h"

namespace kdn {
namespace {

// What a record takes beside payload and metadata: its header and alignment on disk.
constexpr uint64_t kRecordOverheadBytes = 8192;
// Groups that one admission may evict before it gives up.
constexpr int kMaxEvictionsPerAdmission = 64;
// Admissions between two looks at the size of the index, which grows by a row each.
constexpr uint32_t kAdmissionsPerIndexCheck = 64;
// The background keeps free space this far above the reserve, so that admissions rarely wait.
constexpr double kFreeHigh = 1.25;
constexpr double kFreeLow = 1.5;
// Compaction rewrites a group of which at most this share is live.
constexpr double kCompactLiveShare = 0.5;

uint64_t ShareOf(double share, uint64_t bytes) { return static_cast<uint64_t>(share * static_cast<double>(bytes)); }

}  // namespace

Admission& Admission::operator=(Admission&& other) noexcept {
  if (this != &other) {
    Release();
    evictor_ = std::exchange(other.evictor_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void Admission::Release() {
  if (evictor_ == nullptr) return;
  absl::MutexLock lock(&evictor_->account_mutex_);
  evictor_->admitted_bytes_ -= bytes_;
  evictor_ = nullptr;
}

Evictor::Evictor(const EvictorOptions& options, const GroupRewriter::Dependencies& dependencies, DiskSpace& disk_space)
    : options_(options), d_(dependencies), disk_space_(disk_space), rewriter_(dependencies) {
  RefreshIndexBytes();
}

uint64_t Evictor::UsedBytes() const { return d_.values.DiskBytes() + index_bytes_.load(std::memory_order_relaxed); }

bool Evictor::Reserve(uint64_t needed, uint64_t free_bytes) {
  if (admissions_.fetch_add(1, std::memory_order_relaxed) % kAdmissionsPerIndexCheck == 0) RefreshIndexBytes();
  absl::MutexLock lock(&account_mutex_);
  const uint64_t total = admitted_bytes_ + needed;
  if (options_.capacity_bytes != 0 && UsedBytes() + total + options_.growth_step_bytes > options_.capacity_bytes) {
    return false;
  }
  if (options_.reserve_bytes != 0 && free_bytes < options_.reserve_bytes + total) return false;
  admitted_bytes_ = total;
  return true;
}

std::optional<Admission> Evictor::TryAdmit(uint64_t bytes) {
  const uint64_t needed = bytes + kRecordOverheadBytes;
  const absl::StatusOr<uint64_t> free_bytes = disk_space_.FreeBytes();
  if (!free_bytes.ok() || !Reserve(needed, *free_bytes)) return std::nullopt;
  return Admission(this, needed);
}

bool Evictor::CouldFree(uint64_t needed, uint64_t free_bytes) const {
  return options_.reserve_bytes == 0 || free_bytes + UsedBytes() >= options_.reserve_bytes + needed;
}

bool Evictor::HasRoom(uint64_t bytes) {
  if (options_.capacity_bytes == 0) return true;
  absl::MutexLock lock(&account_mutex_);
  return UsedBytes() + admitted_bytes_ + bytes + kRecordOverheadBytes + options_.growth_step_bytes <=
         options_.capacity_bytes;
}

absl::StatusOr<Admission> Evictor::Admit(uint64_t bytes) {
  const uint64_t needed = bytes + kRecordOverheadBytes;
  if (options_.capacity_bytes != 0 && needed > options_.capacity_bytes) {
    return ResourceExhausted("a value of ", bytes, " bytes exceeds the store's capacity of ", options_.capacity_bytes);
  }
  for (int evictions = 0;; ++evictions) {
    KDN_ASSIGN_OR_RETURN(uint64_t free_bytes, disk_space_.FreeBytes());
    if (Reserve(needed, free_bytes)) return Admission(this, needed);
    absl::MutexLock lock(&step_mutex_);
    // Another thread may have made room while this one waited for its turn.
    KDN_ASSIGN_OR_RETURN(free_bytes, disk_space_.FreeBytes());
    if (Reserve(needed, free_bytes)) return Admission(this, needed);
    bool evicted = false;
    if (evictions < kMaxEvictionsPerAdmission && CouldFree(needed, free_bytes)) {
      KDN_ASSIGN_OR_RETURN(evicted, EvictOldest());
    }
    if (!evicted) {
      const std::string limit =
          options_.capacity_bytes == 0 ? "no storage.capacity" : StrCat("storage.capacity ", options_.capacity_bytes);
      return ResourceExhausted("no room for ", bytes, " bytes: ", UsedBytes(), " bytes used (", limit, "), ",
                               free_bytes, " bytes free on disk, of which storage.reserve keeps ",
                               options_.reserve_bytes);
    }
  }
}

absl::StatusOr<uint64_t> Evictor::ExcessBytes(double share, double free_factor) {
  uint64_t excess = 0;
  if (options_.capacity_bytes != 0) {
    const uint64_t used = UsedBytes();
    const uint64_t limit = ShareOf(share, options_.capacity_bytes);
    if (used > limit) excess = used - limit;
  }
  if (options_.reserve_bytes != 0) {
    KDN_ASSIGN_OR_RETURN(const uint64_t free_bytes, disk_space_.FreeBytes());
    const uint64_t wanted = ShareOf(free_factor, options_.reserve_bytes);
    if (free_bytes < wanted && CouldFree(0, free_bytes)) excess = std::max(excess, wanted - free_bytes);
  }
  return excess;
}

absl::StatusOr<uint32_t> Evictor::Run() {
  RefreshIndexBytes();
  KDN_ASSIGN_OR_RETURN(uint64_t excess, ExcessBytes(options_.high_watermark, kFreeHigh));
  if (excess == 0) return 0;
  uint32_t dropped = 0;
  // Each step drops a group or ends the loop; groups made meanwhile are another round's matter.
  for (size_t left = d_.values.Groups().size(); left > 0; --left) {
    KDN_ASSIGN_OR_RETURN(excess, ExcessBytes(options_.low_watermark, kFreeLow));
    if (excess == 0) break;
    absl::MutexLock lock(&step_mutex_);
    KDN_ASSIGN_OR_RETURN(const bool evicted, EvictOldest());
    if (!evicted) break;
    ++dropped;
  }
  return dropped;
}

absl::StatusOr<bool> Evictor::EvictOldest() {
  KDN_ASSIGN_OR_RETURN(const bool evicted, EvictOldestSealed());
  if (evicted) return true;
  // What is being appended to may be all there is. What a rewrite keeps goes to a new group.
  const std::vector<ValueGroup> groups = d_.values.Groups();
  if (std::none_of(groups.begin(), groups.end(), [](const ValueGroup& g) { return !g.sealed && g.disk_bytes > 0; })) {
    return false;
  }
  KDN_RETURN_IF_ERROR(d_.values.SealActive());
  return EvictOldestSealed();
}

absl::StatusOr<bool> Evictor::EvictOldestSealed() {
  for (const ValueGroup& group : d_.values.Groups()) {
    if (!group.sealed) continue;
    RewritePolicy policy;
    policy.max_accessed_bytes = ShareOf(options_.max_reinsert_share, group.disk_bytes);
    policy.max_pinned_bytes = ShareOf(options_.max_pinned_share, group.disk_bytes);
    policy.has_room = [this](uint64_t bytes) { return HasRoom(bytes); };
    absl::StatusOr<RewriteResult> result = rewriter_.Rewrite(group, policy);
    if (!result.ok()) {
      // Its pinned values found no room: a younger group may have less of them.
      if (absl::IsResourceExhausted(result.status())) continue;
      return Annotate(result.status(), StrCat("evicting group ", group.id));
    }
    if (result->dropped) return true;
  }
  return false;
}

absl::StatusOr<uint32_t> Evictor::Compact() {
  absl::MutexLock lock(&step_mutex_);
  KDN_RETURN_IF_ERROR(d_.values.SealActive());
  uint32_t dropped = 0;
  for (const ValueGroup& group : d_.values.Groups()) {
    if (!group.sealed || group.live_bytes > ShareOf(kCompactLiveShare, group.disk_bytes)) continue;
    RewritePolicy policy;
    policy.max_accessed_bytes = group.disk_bytes;
    policy.max_pinned_bytes = group.disk_bytes;
    policy.keep_unread = true;
    policy.has_room = [this](uint64_t bytes) { return HasRoom(bytes); };
    KDN_ASSIGN_OR_RETURN(const RewriteResult result, rewriter_.Rewrite(group, policy));
    dropped += result.dropped ? 1 : 0;
  }
  return dropped;
}

}  // namespace kdn
