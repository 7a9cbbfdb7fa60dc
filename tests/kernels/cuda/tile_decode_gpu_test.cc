#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "kernels/cuda/tile_check.h"
#include "kernels/cuda/tile_decode.h"
#include "tests/kernels/cuda/coded_tile.h"

namespace kdn {
namespace {

// Device memory that a test fills from the host and reads back.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) : bytes_(bytes) { EXPECT_EQ(cudaMalloc(&data_, bytes), cudaSuccess); }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  static std::unique_ptr<DeviceMemory> Of(const void* from, size_t bytes) {
    auto memory = std::make_unique<DeviceMemory>(bytes);
    EXPECT_EQ(cudaMemcpy(memory->data_, from, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    return memory;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

  template <typename T>
  std::vector<T> Read() const {
    std::vector<T> values(bytes_ / sizeof(T));
    EXPECT_EQ(cudaMemcpy(values.data(), data_, values.size() * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

// Tiles on the device, to be decoded in one launch.
class DeviceTiles {
 public:
  DeviceTiles() {
    const LosslessTables& tables = LosslessTables::BuiltIn();
    table_ = DeviceMemory::Of(tables.DecodeTable(0),
                              (size_t{tables.shapes_per_set()} << tables.prob_bits()) * sizeof(uint32_t));
  }

  void Add(const CodedTile& tile) {
    TileJob job = JobOf(tile);
    job.coded = Keep(DeviceMemory::Of(tile.coded.data(), tile.coded.size()))->as<uint8_t>();
    job.lossless_table = table_->as<uint32_t>();
    if (tile.rope.has_value()) {
      const size_t floats = size_t{tile.rope->rows()} * 2 * tile.rope->pairs();
      job.rope.cos_sin = Keep(DeviceMemory::Of(tile.rope->cos_sin(), floats * sizeof(float)))->as<float>();
    }
    outputs_.push_back(Keep(std::make_unique<DeviceMemory>(tile.rows.size())));
    job.destination.data = outputs_.back()->as<uint8_t>();
    EXPECT_EQ(CheckTileJob(tile.geometry, job, tile.coded, LosslessTables::BuiltIn()), absl::OkStatus());
    jobs_.push_back(job);
  }

  std::vector<TileOutcome> Decode() {
    const auto jobs = DeviceMemory::Of(jobs_.data(), jobs_.size() * sizeof(TileJob));
    const DeviceMemory outcomes(jobs_.size() * sizeof(TileOutcome));
    TileBatch batch;
    batch.jobs = jobs->as<TileJob>();
    batch.outcomes = outcomes.as<TileOutcome>();
    batch.count = static_cast<uint32_t>(jobs_.size());
    for (const TileJob& job : jobs_) batch.widest_dim = std::max(batch.widest_dim, job.dim);
    EXPECT_EQ(LaunchTileDecode(batch, nullptr), absl::OkStatus());
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return outcomes.Read<TileOutcome>();
  }

  std::vector<uint8_t> Rows(size_t tile) const { return outputs_[tile]->Read<uint8_t>(); }

 private:
  DeviceMemory* Keep(std::unique_ptr<DeviceMemory> memory) {
    kept_.push_back(std::move(memory));
    return kept_.back().get();
  }

  std::unique_ptr<DeviceMemory> table_;
  std::vector<std::unique_ptr<DeviceMemory>> kept_;
  std::vector<DeviceMemory*> outputs_;
  std::vector<TileJob> jobs_;
};

TEST(TileDecodeGpuTest, OneLaunchDecodesEveryProfileAsTheHostDoes) {
  ASSERT_EQ(DeviceDecodeAvailable(), absl::OkStatus());
  std::vector<CodedTile> tiles;
  uint64_t seed = 0;
  for (const TileCase& from : AllTileCases()) tiles.push_back(MakeCodedTile(from, ++seed));
  DeviceTiles device;
  for (const CodedTile& tile : tiles) device.Add(tile);
  const std::vector<TileOutcome> outcomes = device.Decode();
  for (size_t i = 0; i < tiles.size(); ++i) {
    EXPECT_EQ(outcomes[i], TileOutcome::kDecoded) << DescribeTile(tiles[i]);
    EXPECT_EQ(device.Rows(i), tiles[i].rows) << DescribeTile(tiles[i]);
  }
}

TEST(TileDecodeGpuTest, DamagedTilesAreToldAndLeaveTheOthersAlone) {
  ASSERT_EQ(DeviceDecodeAvailable(), absl::OkStatus());
  const CodedTile good = MakeCodedTile({{DType::kBf16, 256, 64, 1, 0, KvKind::kV}, ProfileId::kLossless}, 3);
  DeviceTiles device;
  for (uint32_t i = 0; i < 64; ++i) {
    CodedTile tile = good;
    if (i % 2 == 1) tile.coded[4 + 128 + 64 + 256 * 64 + i] ^= 0x55;  // a word
    device.Add(tile);
  }
  const std::vector<TileOutcome> outcomes = device.Decode();
  for (uint32_t i = 0; i < 64; ++i) {
    EXPECT_EQ(outcomes[i] == TileOutcome::kDecoded, i % 2 == 0) << i;
    if (i % 2 == 0) {
      EXPECT_EQ(device.Rows(i), good.rows) << i;
    }
  }
}

}  // namespace
}  // namespace kdn
