#include "storage/rocksdb/index_state.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "storage/rocksdb/durable_file.h"
#include "storage/rocksdb/rocks_index.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {
namespace {

constexpr std::string_view kMagic = "KDNSTATE";
constexpr std::string_view kManifestPrefix = "MANIFEST-";
constexpr uint8_t kClean = 1;
constexpr uint8_t kRebuildPending = 2;
constexpr uint8_t kDamaged = 4;
constexpr uint8_t kAllFlags = kClean | kRebuildPending | kDamaged;
constexpr size_t kMaxManifestNameBytes = 64;
constexpr size_t kMaxStateBytes = 64 + kMaxManifestNameBytes;

std::string StatePath(const std::string& index_dir) { return index_dir + "/KDN_STATE"; }

std::optional<uint64_t> ManifestNumber(std::string_view name) {
  if (name.substr(0, kManifestPrefix.size()) != kManifestPrefix) return std::nullopt;
  const std::string_view digits = name.substr(kManifestPrefix.size());
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

}  // namespace

absl::StatusOr<IndexState> ReadIndexState(rocksdb::Env& env, const std::string& index_dir) {
  KDN_ASSIGN_OR_RETURN(const std::string bytes, ReadDurableFile(env, StatePath(index_dir)));
  ByteReader reader(AsBytes(bytes));
  if (AsStringView(reader.Bytes(kMagic.size())) != kMagic) return DataLoss(StatePath(index_dir), ": not a state file");
  IndexState state;
  state.format = reader.U32();
  if (reader.ok() && state.format > kIndexFormat) {
    return FailedPrecondition(index_dir, ": index of format ", state.format, ", this version reads up to ",
                              kIndexFormat, ": start the version that wrote it, or move the folder away to have it ",
                              "rebuilt from the values");
  }
  const uint8_t flags = reader.U8();
  state.clean = flags & kClean;
  state.rebuild_pending = flags & kRebuildPending;
  state.damaged = flags & kDamaged;
  state.reconcile_from = reader.U64();
  state.counts.chunks = reader.U64();
  state.counts.models = reader.U64();
  state.counts.texts = reader.U64();
  state.manifest_bytes = reader.U64();
  state.manifest_crc = reader.U32();
  const size_t name_bytes = std::min<size_t>(reader.remaining(), kMaxManifestNameBytes);
  state.manifest = std::string(AsStringView(reader.Bytes(name_bytes)));
  if (!reader.ok() || reader.remaining() != 0 || (flags & ~kAllFlags) != 0) {
    return DataLoss(StatePath(index_dir), ": ", bytes.size(), " bytes that do not parse");
  }
  return state;
}

absl::Status WriteIndexState(rocksdb::Env& env, const std::string& index_dir, const IndexState& state) {
  std::vector<uint8_t> bytes;
  bytes.reserve(kMaxStateBytes);
  ByteWriter writer(bytes);
  writer.Bytes(AsBytes(kMagic));
  writer.U32(kIndexFormat);
  writer.U8(static_cast<uint8_t>((state.clean ? kClean : 0) | (state.rebuild_pending ? kRebuildPending : 0) |
                                 (state.damaged ? kDamaged : 0)));
  writer.U64(state.reconcile_from);
  writer.U64(state.counts.chunks);
  writer.U64(state.counts.models);
  writer.U64(state.counts.texts);
  writer.U64(state.manifest_bytes);
  writer.U32(state.manifest_crc);
  writer.Bytes(AsBytes(state.manifest));
  return ReplaceDurableFile(env, StatePath(index_dir), AsStringView(bytes));
}

absl::Status DescribeManifest(rocksdb::Env& env, rocksdb::DB& db, const std::string& index_dir, IndexState& state) {
  std::vector<std::string> files;
  uint64_t manifest_bytes = 0;
  KDN_RETURN_IF_ERROR(FromRocks(db.GetLiveFiles(files, &manifest_bytes, false), index_dir));
  const auto manifest = std::find_if(files.begin(), files.end(), [](const std::string& file) {
    return file.find(kManifestPrefix) != std::string::npos;
  });
  if (manifest == files.end()) return Internal(index_dir, ": RocksDB names no MANIFEST");
  state.manifest = manifest->substr(manifest->find(kManifestPrefix));
  KDN_ASSIGN_OR_RETURN(const std::string bytes, ReadWholeFile(env, index_dir + "/" + state.manifest));
  if (bytes.size() < manifest_bytes) {
    return DataLoss(index_dir, "/", state.manifest, ": ", bytes.size(), " bytes, RocksDB wrote ", manifest_bytes);
  }
  state.manifest_bytes = manifest_bytes;
  state.manifest_crc = Crc32c(AsBytes(bytes).first(manifest_bytes));
  return absl::OkStatus();
}

absl::Status CheckManifest(rocksdb::Env& env, const std::string& index_dir, IndexState& state) {
  KDN_ASSIGN_OR_RETURN(const std::string current, ReadWholeFile(env, index_dir + "/CURRENT"));
  const std::string name = current.substr(0, current.find('\n'));
  const auto number = ManifestNumber(name);
  if (!number || current != name + "\n") return DataLoss(index_dir, "/CURRENT names no MANIFEST");
  const auto expected = ManifestNumber(state.manifest);
  if (!expected) return DataLoss(index_dir, ": the state file names no MANIFEST");
  if (*number > *expected) {
    state.clean = false;
    return absl::OkStatus();
  }
  if (*number < *expected) return DataLoss(index_dir, "/CURRENT names ", name, ", not ", state.manifest);
  KDN_ASSIGN_OR_RETURN(const std::string bytes, ReadWholeFile(env, index_dir + "/" + name));
  if (bytes.size() < state.manifest_bytes || Crc32c(AsBytes(bytes).first(state.manifest_bytes)) != state.manifest_crc) {
    return DataLoss(index_dir, "/", name, ": ", bytes.size(), " bytes are not those written (", state.manifest_bytes,
                    ")");
  }
  return absl::OkStatus();
}

}  // namespace kdn
