#include "storage/rocksdb/durable_file.h"

#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {
namespace {

constexpr size_t kChecksumBytes = 4;

absl::Status WriteAndSync(rocksdb::Env& env, const std::string& path, std::string_view bytes) {
  std::unique_ptr<rocksdb::WritableFile> file;
  KDN_RETURN_IF_ERROR(FromRocks(env.NewWritableFile(path, &file, rocksdb::EnvOptions()), path));
  std::error_code ignored;  // the folder is private too; a file system without modes is no reason to stop
  std::filesystem::permissions(path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write, ignored);
  rocksdb::Status status = file->Append(ToSlice(bytes));
  if (status.ok()) status = file->Fsync();
  if (status.ok()) status = file->Close();
  return FromRocks(status, path);
}

}  // namespace

absl::Status SyncDirectory(rocksdb::Env& env, const std::string& path) {
  std::unique_ptr<rocksdb::Directory> directory;
  KDN_RETURN_IF_ERROR(FromRocks(env.NewDirectory(path, &directory), path));
  return FromRocks(directory->Fsync(), path);
}

std::string FullPath(const std::string& path) {
  std::string full = std::filesystem::absolute(path).lexically_normal().string();
  while (full.size() > 1 && full.back() == '/') full.pop_back();
  return full;
}

absl::Status MakeDirectories(rocksdb::Env& env, const std::string& path) {
  if (path.empty() || env.FileExists(path).ok()) return absl::OkStatus();
  const std::string parent = std::filesystem::path(path).parent_path().string();
  if (parent != path) KDN_RETURN_IF_ERROR(MakeDirectories(env, parent));
  KDN_RETURN_IF_ERROR(FromRocks(env.CreateDirIfMissing(path), path));
  std::error_code ignored;  // as above
  std::filesystem::permissions(path, std::filesystem::perms::owner_all, ignored);
  return absl::OkStatus();
}

void RemoveTree(rocksdb::Env& env, const std::string& path) {
  std::vector<std::string> names;
  if (!env.GetChildren(path, &names).ok()) return;
  for (const std::string& name : names) {
    if (name == "." || name == "..") continue;
    const std::string child = StrCat(path, "/", name);
    if (!env.DeleteFile(child).ok()) RemoveTree(env, child);
  }
  env.DeleteDir(path).PermitUncheckedError();
}

absl::Status ReplaceDurableFile(rocksdb::Env& env, const std::string& path, std::string_view bytes) {
  std::string sealed(bytes);
  uint8_t checksum[kChecksumBytes];
  StoreLe<uint32_t>(Crc32c(AsBytes(bytes)), checksum);
  sealed.append(reinterpret_cast<const char*>(checksum), kChecksumBytes);
  const std::string temporary = path + ".new";
  if (const absl::Status written = WriteAndSync(env, temporary, sealed); !written.ok()) {
    env.DeleteFile(temporary).PermitUncheckedError();  // it may not exist
    return written;
  }
  KDN_RETURN_IF_ERROR(FromRocks(env.RenameFile(temporary, path), path));
  return SyncDirectory(env, std::filesystem::path(path).parent_path().string());
}

absl::StatusOr<std::string> ReadWholeFile(rocksdb::Env& env, const std::string& path) {
  uint64_t size = 0;
  KDN_RETURN_IF_ERROR(FromRocks(env.GetFileSize(path, &size), path));
  if (size > kMaxDurableFileBytes) return DataLoss(path, ": ", size, " bytes, at most ", kMaxDurableFileBytes);
  std::string bytes;
  KDN_RETURN_IF_ERROR(FromRocks(rocksdb::ReadFileToString(&env, path, &bytes), path));
  return bytes;
}

absl::StatusOr<std::string> ReadDurableFile(rocksdb::Env& env, const std::string& path) {
  KDN_ASSIGN_OR_RETURN(std::string sealed, ReadWholeFile(env, path));
  if (sealed.size() < kChecksumBytes) return DataLoss(path, ": ", sealed.size(), " bytes, no checksum");
  const size_t length = sealed.size() - kChecksumBytes;
  const ByteSpan bytes = AsBytes(sealed).first(length);
  if (LoadLe<uint32_t>(AsBytes(sealed).data() + length) != Crc32c(bytes)) {
    return DataLoss(path, ": ", sealed.size(), " bytes fail their checksum");
  }
  sealed.resize(length);
  return sealed;
}

}  // namespace kdn
