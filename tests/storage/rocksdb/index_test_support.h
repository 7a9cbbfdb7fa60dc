#ifndef KDN_TESTS_STORAGE_ROCKSDB_INDEX_TEST_SUPPORT_H_
#define KDN_TESTS_STORAGE_ROCKSDB_INDEX_TEST_SUPPORT_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/clock.h"
#include "kernels/base/sha256.h"
#include "kernels/base/status.h"
#include "storage/index/chunk_index.h"
#include "storage/rocksdb/rocks_index.h"

namespace kdn::testing {

// A fresh directory, removed at the end.
class TempDir {
 public:
  TempDir() {
    // In memory where there is such a place: these tests flush a lot.
    const std::filesystem::path base =
        std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string pattern = (base / "kdn-index-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

class FakeClock final : public Clock {
 public:
  int64_t WallMillis() const override { return wall_ms.load(); }
  int64_t MonotonicNanos() const override { return nanos.load(); }
  std::atomic<int64_t> wall_ms{1'700'000'000'000};
  std::atomic<int64_t> nanos{1};
};

inline Digest Named(const std::string& name) { return Sha256::Of(AsBytes(name)); }

inline v1::ChunkRecord MakeChunk(const std::string& name, const std::string& model = "model") {
  v1::ChunkRecord record;
  record.set_fingerprint(std::string(Named(model).view()));
  record.set_chunk_digest(std::string(Named("digest of " + name).view()));
  record.set_kind(1);
  record.set_num_tokens(256);
  record.set_created_ms(1'600'000'000'000);
  return record;
}

inline v1::PartRecord MakePart(uint64_t group, uint64_t offset, const std::vector<uint32_t>& cells = {0, 1}) {
  v1::PartRecord part;
  part.set_value_group(group);
  part.set_value_offset(offset);
  part.set_value_length(100);
  part.set_raw_bytes(1000);
  for (const uint32_t cell : cells) part.add_cells()->set_cell(cell);
  return part;
}

inline IndexBatch PutOf(const ChunkKey& key, const v1::ChunkRecord& record,
                        const std::optional<v1::ChunkRecord>& previous = std::nullopt) {
  IndexBatch batch;
  batch.chunk_puts.push_back({key, record, previous});
  return batch;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline void CopyTree(const std::string& from, const std::string& to) {
  std::filesystem::remove_all(to);
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
}

}  // namespace kdn::testing

#endif  // KDN_TESTS_STORAGE_ROCKSDB_INDEX_TEST_SUPPORT_H_
