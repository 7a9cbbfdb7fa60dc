#ifndef KDN_TESTS_STORAGE_ROCKSDB_FAULT_ROCKS_FILE_SYSTEM_H_
#define KDN_TESTS_STORAGE_ROCKSDB_FAULT_ROCKS_FILE_SYSTEM_H_

#include <memory>

#include "rocksdb/file_system.h"
#include "tests/storage/torture/fault_file_system.h"

namespace kdn::testing {

// RocksDB on a FaultFileSystem: one forgetful disk under RocksDB and whatever else a test puts on it. Renaming a folder
// renames its files one by one. `disk` is borrowed and outlives every database on it.
std::shared_ptr<rocksdb::FileSystem> MakeFaultRocksFileSystem(FaultFileSystem& disk);

}  // namespace kdn::testing

#endif  // KDN_TESTS_STORAGE_ROCKSDB_FAULT_ROCKS_FILE_SYSTEM_H_
