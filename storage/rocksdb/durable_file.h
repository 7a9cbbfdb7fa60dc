#ifndef KDN_STORAGE_ROCKSDB_DURABLE_FILE_H_
#define KDN_STORAGE_ROCKSDB_DURABLE_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rocksdb/env.h"

// Small control files beside RocksDB, through the same file system: replaced atomically, closed by a checksum.

namespace kdn {

inline constexpr size_t kMaxDurableFileBytes = 64u << 20;

// Writes `bytes` and their CRC-32C to `path` so that after a crash the file is the old one or the new one: temporary
// file (mode 0600), fsync, rename, fsync of the folder.
absl::Status ReplaceDurableFile(rocksdb::Env& env, const std::string& path, std::string_view bytes);

// What ReplaceDurableFile wrote. NotFound when there is no such file, DataLoss when it fails its checksum.
absl::StatusOr<std::string> ReadDurableFile(rocksdb::Env& env, const std::string& path);

// The bytes of `path`, at most kMaxDurableFileBytes (else DataLoss). NotFound when there is no such file.
absl::StatusOr<std::string> ReadWholeFile(rocksdb::Env& env, const std::string& path);

absl::Status SyncDirectory(rocksdb::Env& env, const std::string& path);

// Absolute, without "." and "..", without a slash at the end.
std::string FullPath(const std::string& path);

// Makes `path` and the folders above it where they are missing; what it makes only the owner may enter.
absl::Status MakeDirectories(rocksdb::Env& env, const std::string& path);

// Removes a folder of files and folders, as far as it can.
void RemoveTree(rocksdb::Env& env, const std::string& path);

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_DURABLE_FILE_H_
