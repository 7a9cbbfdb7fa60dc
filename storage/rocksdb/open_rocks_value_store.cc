#include <algorithm>
#include <filesystem>
#include <utility>

#include "kernels/base/status.h"
#include "storage/rocksdb/durable_file.h"
#include "storage/rocksdb/quarantine.h"
#include "storage/rocksdb/rocks_status.h"
#include "storage/rocksdb/rocks_value_store_impl.h"

namespace kdn {
namespace {

// When the file with the next group's number is damaged: further than any group that could have been begun meanwhile.
constexpr uint64_t kNumbersToSkip = 1u << 20;
// Where the highest number of a group cannot be read: as many are asked for one by one.
constexpr uint64_t kUnknownSequences = 1u << 16;
constexpr size_t kMaxQuarantinedStores = 1;

class ValueOpener {
 public:
  explicit ValueOpener(const RocksValueStoreOptions& options) : options_(options) {
    options_.path = FullPath(options.path);
    parts_.env = options.file_system == nullptr
                     ? std::shared_ptr<rocksdb::Env>(rocksdb::Env::Default(), [](rocksdb::Env*) {})
                     : rocksdb::NewCompositeEnv(options.file_system);
  }
  ~ValueOpener() {
    if (parts_.lock != nullptr) parts_.env->UnlockFile(parts_.lock).PermitUncheckedError();
  }

  absl::StatusOr<OpenedValueStore> Open() {
    const std::filesystem::path path(options_.path);
    KDN_RETURN_IF_ERROR(MakeDirectories(*parts_.env, path.parent_path().string()));
    KDN_RETURN_IF_ERROR(Lock());
    OpenedValueStore opened;
    KDN_ASSIGN_OR_RETURN(const FolderContents contents, LookAtFolder(*parts_.env, options_.path));
    if (contents == FolderContents::kSomethingElse) {
      return FailedPrecondition(options_.path, " holds files, but no values: move them away, or choose another path");
    }
    absl::Status status = DataLoss("none");
    if (contents == FolderContents::kDatabase) {
      status = OpenExisting();
      if (absl::IsDataLoss(status)) {
        parts_.db.reset();
        parts_.groups.clear();
        KDN_ASSIGN_OR_RETURN(opened.quarantined_to,
                             Quarantine(*parts_.env, {.parent = path.parent_path().string(),
                                                      .name = path.filename().string(),
                                                      .unix_seconds = options_.clock->WallMillis() / 1000,
                                                      .max_kept = kMaxQuarantinedStores}));
      }
    }
    if (absl::IsDataLoss(status)) {
      KDN_RETURN_IF_ERROR(MakeDirectories(*parts_.env, options_.path));
      KDN_ASSIGN_OR_RETURN(parts_.db, ValueDb::Create({options_.path, parts_.env}));
    } else {
      KDN_RETURN_IF_ERROR(status);
    }
    KDN_RETURN_IF_ERROR(FindNextGroup());
    opened.values = std::make_unique<RocksValueStore>(options_, std::exchange(parts_, Parts{}));
    return opened;
  }

 private:
  using Parts = RocksValueStore::Parts;

  absl::Status Lock() {
    const rocksdb::Status status = parts_.env->LockFile(options_.path + ".lock", &parts_.lock);
    if (status.ok()) return absl::OkStatus();
    parts_.lock = nullptr;
    const absl::Status locked = FromRocks(status, options_.path);
    return absl::IsFailedPrecondition(locked) ? Annotate(locked, "the values are open in another process") : locked;
  }

  absl::Status OpenExisting() {
    KDN_ASSIGN_OR_RETURN(parts_.db, ValueDb::Open({options_.path, parts_.env}));
    rocksdb::ReadOptions read;
    read.fill_cache = false;
    const std::unique_ptr<rocksdb::Iterator> rows(parts_.db->db().NewIterator(read, parts_.db->records()));
    rows->SeekToFirst();
    uint64_t last = 0;
    while (true) {
      for (; rows->Valid(); rows->Next()) {
        Count(ToView(rows->key()), ToView(rows->value()));
        if (const auto key = ParseValueKey(ToView(rows->key()))) last = key->group;
      }
      if (rows->status().ok()) return absl::OkStatus();
      const absl::Status status = FromRocksOpen(rows->status(), options_.path);
      if (!absl::IsDataLoss(status) || !SkipDamage(last, *rows)) return status;
    }
  }

  void Count(std::string_view key, std::string_view row) {
    const auto parsed = ParseValueKey(key);
    if (!parsed) return;
    RocksValueStore::Group& group = parts_.groups[parsed->group];
    group.full = true;
    group.next_sequence = std::max(group.next_sequence, parsed->sequence + 1);
    const auto record = OpenRecord(key, row);
    if (!record.ok()) return;
    group.disk_bytes += RocksValueStore::RecordBytes(record->metadata.size(), record->payload_bytes);
    group.live_bytes += record->payload_bytes;
  }

  // Goes on with the next group after a block of record rows that cannot be read. False when there is nothing more.
  bool SkipDamage(uint64_t group, rocksdb::Iterator& rows) {
    if (const auto damaged = parts_.groups.find(group); damaged != parts_.groups.end()) {
      damaged->second.next_sequence += kUnknownSequences;
    }
    for (uint64_t next = group + 1; next <= group + kNumbersToSkip; ++next) {
      rows.Seek(ValueKey(next, 0));
      if (rows.Valid()) return true;
      if (rows.status().ok()) return true;  // the end: the caller's loop sees it
    }
    return false;
  }

  absl::Status FindNextGroup() {
    if (!parts_.groups.empty()) parts_.next_group = parts_.groups.rbegin()->first + 1;
    const auto number = ReadDurableFile(*parts_.env, RocksValueStore::NextGroupPath(options_.path));
    if (number.ok() && number->size() == 8) {
      parts_.next_group = std::max(parts_.next_group, LoadLe<uint64_t>(AsBytes(*number).data()));
    } else if (number.ok() || absl::IsDataLoss(number.status())) {
      parts_.next_group += kNumbersToSkip;
    } else if (!absl::IsNotFound(number.status())) {
      return number.status();
    }
    return absl::OkStatus();
  }

  RocksValueStoreOptions options_;
  Parts parts_;
};

}  // namespace

absl::StatusOr<OpenedValueStore> OpenRocksValueStore(const RocksValueStoreOptions& options) {
  return ValueOpener(options).Open();
}

}  // namespace kdn
