// Decoding on a CUDA device, one profile and size per call, as a line of JSON.
//
//   bench_device_decode FILE DIM PROFILE OUTPUT_BYTES ROUNDS
//
// FILE holds bf16 elements in rows of DIM channels; "synthetic" stands for made-up ones. Tiles of 256 rows are coded on
// the host and repeated, each with bytes of its own, until they decode to OUTPUT_BYTES. All of them are decoded by one
// launch into a cache of their own and compared with the host's rows before anything is timed; then launches alternate
// with copies of the decoded bytes from device memory to device memory, what a decoder that does nothing would cost.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "bench/common/measure.h"
#include "bench/foundation/synthetic_kv.h"
#include "kernels/codec/tile_codec.h"
#include "kernels/cuda/tile_check.h"
#include "kernels/cuda/tile_decode.h"

namespace kdn::bench {
namespace {

constexpr uint32_t kTileTokens = 256;
constexpr uint64_t kMaxDistinctBytes = uint64_t{64} << 20;  // of rows that are coded; more are repetitions
constexpr uint64_t kSyntheticSeed = 11;

void Check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) Fail(std::string(what) + ": " + cudaGetErrorString(error));
}

void Check(const absl::Status& status) {
  if (!status.ok()) Fail(status.ToString());
}

template <typename T>
T* DeviceArray(size_t count) {
  void* data = nullptr;
  Check(cudaMalloc(&data, count * sizeof(T)), "cudaMalloc");
  return static_cast<T*>(data);
}

template <typename T>
void ToDevice(T* to, const T* from, size_t count) {
  Check(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyHostToDevice), "copy to the device");
}

struct Options {
  std::string file;
  uint32_t dim = 0;
  ProfileId profile = ProfileId::kRaw;
  uint64_t output_bytes = 0;
  uint32_t rounds = 0;

  uint64_t TileBytes() const { return uint64_t{kTileTokens} * dim * DTypeBytes(DType::kBf16); }
};

struct CodedTile {
  ProfileId profile = ProfileId::kRaw;
  std::vector<uint8_t> coded;
  std::vector<uint8_t> rows;  // what the host decodes
};

std::vector<uint8_t> LoadRows(const Options& options) {
  std::vector<uint8_t> rows(std::min(options.output_bytes, kMaxDistinctBytes));
  if (options.file == "synthetic") {
    FillWithSyntheticKv(kSyntheticSeed, rows.data(), rows.size());
    return rows;
  }
  std::ifstream file(options.file, std::ios::binary);
  file.read(reinterpret_cast<char*>(rows.data()), static_cast<std::streamsize>(rows.size()));
  rows.resize(static_cast<size_t>(file.gcount()));
  return rows;
}

TileGeometry GeometryOf(const Options& options) { return {DType::kBf16, kTileTokens, options.dim, 0, 0, KvKind::kK}; }

std::vector<CodedTile> CodeTiles(const Options& options) {
  const std::vector<uint8_t> rows = LoadRows(options);
  const TileGeometry geometry = GeometryOf(options);
  TileEncoder encoder;
  TileDecoder decoder;
  std::vector<CodedTile> tiles;
  for (size_t at = 0; at + options.TileBytes() <= rows.size(); at += options.TileBytes()) {
    CodedTile tile;
    const absl::StatusOr<ProfileId> used =
        encoder.Encode(geometry, ByteSpan(rows).subspan(at, options.TileBytes()), options.profile, tile.coded);
    Check(used.status());
    tile.profile = *used;
    tile.rows.resize(options.TileBytes());
    Check(decoder.Decode(geometry, tile.profile, tile.coded, tile.rows));
    tiles.push_back(std::move(tile));
  }
  if (tiles.empty()) Fail(options.file + " holds no tile of " + std::to_string(options.TileBytes()) + " bytes");
  return tiles;
}

// Everything on the device: coded bytes, tables, jobs and the cache that they decode into.
class DeviceTiles {
 public:
  DeviceTiles(const Options& options, const std::vector<CodedTile>& tiles) : options_(options), tiles_(tiles) {
    const LosslessTables& tables = LosslessTables::BuiltIn();
    const size_t table_words = size_t{tables.shapes_per_set()} << tables.prob_bits();
    uint32_t* const table = DeviceArray<uint32_t>(table_words);
    ToDevice(table, tables.DecodeTable(0), table_words);
    const size_t count = std::max<size_t>(1, options.output_bytes / options.TileBytes());
    for (size_t i = 0; i < count; ++i) coded_bytes_ += AlignUp(TileOf(i).coded.size(), 16);
    cache_ = DeviceArray<uint8_t>(count * options.TileBytes());
    uint8_t* coded = DeviceArray<uint8_t>(coded_bytes_);
    std::vector<TileJob> jobs(count);
    for (size_t i = 0; i < count; ++i) {
      jobs[i] = JobOf(TileOf(i), table, coded, cache_ + i * options.TileBytes());
      ToDevice(coded, TileOf(i).coded.data(), TileOf(i).coded.size());
      coded += AlignUp(TileOf(i).coded.size(), 16);
    }
    TileJob* const device_jobs = DeviceArray<TileJob>(count);
    ToDevice(device_jobs, jobs.data(), count);
    batch_ = {device_jobs, DeviceArray<TileOutcome>(count), static_cast<uint32_t>(count), options.dim};
  }

  uint64_t coded_bytes() const { return coded_bytes_; }
  uint64_t output_bytes() const { return uint64_t{batch_.count} * options_.TileBytes(); }
  uint8_t* cache() const { return cache_; }
  void Launch() const { Check(LaunchTileDecode(batch_, nullptr)); }

  void Verify() const {
    Launch();
    Check(cudaDeviceSynchronize(), "decoding");
    std::vector<TileOutcome> outcomes(batch_.count);
    Check(cudaMemcpy(outcomes.data(), batch_.outcomes, outcomes.size() * sizeof(TileOutcome), cudaMemcpyDeviceToHost),
          "copy of the outcomes");
    std::vector<uint8_t> rows(options_.TileBytes());
    for (size_t i = 0; i < outcomes.size(); ++i) {
      Check(cudaMemcpy(rows.data(), cache_ + i * rows.size(), rows.size(), cudaMemcpyDeviceToHost), "copy of rows");
      if (outcomes[i] != TileOutcome::kDecoded || rows != TileOf(i).rows) {
        Fail("tile " + std::to_string(i) + " is not what the host decodes");
      }
    }
  }

 private:
  const CodedTile& TileOf(size_t i) const { return tiles_[i % tiles_.size()]; }

  TileJob JobOf(const CodedTile& tile, const uint32_t* table, const uint8_t* coded, uint8_t* rows) const {
    TileJob job;
    job.coded = coded;
    job.coded_bytes = static_cast<uint32_t>(tile.coded.size());
    job.tokens = kTileTokens;
    job.dim = options_.dim;
    job.profile = tile.profile;
    job.row_count = kTileTokens;
    job.destination.data = rows;
    job.destination.channel_stride_bytes = DTypeBytes(job.dtype);
    job.destination.token_stride_bytes = int64_t{job.dim} * DTypeBytes(job.dtype);
    job.lossless_table = table;
    job.lossless_prob_bits = LosslessTables::BuiltIn().prob_bits();
    Check(CheckTileJob(GeometryOf(options_), job, tile.coded, LosslessTables::BuiltIn()));
    return job;
  }

  const Options& options_;
  const std::vector<CodedTile>& tiles_;
  uint64_t coded_bytes_ = 0;
  uint8_t* cache_ = nullptr;
  TileBatch batch_;
};

// Seconds of device time that `work` takes on the default stream.
template <typename Work>
double DeviceSeconds(cudaEvent_t begin, cudaEvent_t end, Work work) {
  Check(cudaEventRecord(begin), "event");
  work();
  Check(cudaEventRecord(end), "event");
  Check(cudaEventSynchronize(end), "waiting");
  float milliseconds = 0.0f;
  Check(cudaEventElapsedTime(&milliseconds, begin, end), "elapsed time");
  return milliseconds / 1e3;
}

void PrintSeconds(const char* name, const std::vector<double>& seconds) {
  std::printf(", \"%s\": [", name);
  for (size_t i = 0; i < seconds.size(); ++i) std::printf("%s%.9f", i == 0 ? "" : ", ", seconds[i]);
  std::printf("]");
}

void Run(const Options& options) {
  Check(DeviceDecodeAvailable());
  cudaDeviceProp device;
  Check(cudaGetDeviceProperties(&device, 0), "properties of the device");
  const std::vector<CodedTile> tiles = CodeTiles(options);
  const DeviceTiles decoding(options, tiles);
  decoding.Verify();
  uint8_t* const copy = DeviceArray<uint8_t>(decoding.output_bytes());
  cudaEvent_t begin;
  cudaEvent_t end;
  Check(cudaEventCreate(&begin), "event");
  Check(cudaEventCreate(&end), "event");
  std::vector<double> decode_seconds;
  std::vector<double> copy_seconds;
  for (uint32_t round = 0; round < options.rounds; ++round) {
    decode_seconds.push_back(DeviceSeconds(begin, end, [&] { decoding.Launch(); }));
    copy_seconds.push_back(DeviceSeconds(begin, end, [&] {
      Check(cudaMemcpyAsync(copy, decoding.cache(), decoding.output_bytes(), cudaMemcpyDeviceToDevice), "copy");
    }));
  }
  std::printf("{\"device\": \"%s\", \"sms\": %d, \"profile\": \"%s\", \"output_bytes\": %llu, \"coded_bytes\": %llu",
              device.name, device.multiProcessorCount, std::string(ProfileName(options.profile)).c_str(),
              static_cast<unsigned long long>(decoding.output_bytes()),
              static_cast<unsigned long long>(decoding.coded_bytes()));
  PrintSeconds("decode_s", decode_seconds);
  PrintSeconds("copy_s", copy_seconds);
  std::printf("}\n");
}

Options ParseOptions(const std::vector<std::string>& arguments) {
  if (arguments.size() != 5) Fail("usage: bench_device_decode FILE DIM PROFILE OUTPUT_BYTES ROUNDS");
  Options options;
  options.file = arguments[0];
  options.dim = static_cast<uint32_t>(std::stoul(arguments[1]));
  const std::optional<ProfileId> profile = ParseProfile(arguments[2]);
  if (!profile.has_value()) Fail("no profile is called " + arguments[2]);
  options.profile = *profile;
  options.output_bytes = std::stoull(arguments[3]);
  options.rounds = static_cast<uint32_t>(std::stoul(arguments[4]));
  return options;
}

}  // namespace
}  // namespace kdn::bench

int main(int argc, char** argv) { kdn::bench::Run(kdn::bench::ParseOptions({argv + 1, argv + argc})); }
