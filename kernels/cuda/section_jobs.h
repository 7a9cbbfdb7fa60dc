#ifndef KDN_KERNELS_CUDA_SECTION_JOBS_H_
#define KDN_KERNELS_CUDA_SECTION_JOBS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/bytes.h"
#include "kernels/codec/tile_codec.h"
#include "kernels/codec/tile_placement.h"
#include "kernels/cuda/tile_job.h"
#include "kernels/format/container.h"

namespace kdn {

// A section's bytes on both sides.
struct DeviceSection {
  ByteSpan host;                    // as received: what is checked
  const uint8_t* device = nullptr;  // their copy for the kernel, at a multiple of 16; may still be on its way
};

// Gathers the jobs of any number of sections, of one or many containers, for one launch. What SectionDecoder does on
// the host is done here up to the launch: the section's CRC, the tiles' headers, which rows go where. Not thread-safe.
// Usage: Add every section; copy rope_values() and the lossless table to the device; Finish; copy the jobs; launch.
class SectionJobs {
 public:
  // Borrowed; `tables` as LaunchTileDecode's tables on the device.
  explicit SectionJobs(const ModelSpec& spec, CodecTables tables = {}) : spec_(spec), tables_(tables) {}

  // Adds what `target` asks for of `section`. The view's planes are memory of the decoding side; its block table is
  // read here, and `device_blocks` is the same table there (null without one). Requires CheckAgainstModel OK for
  // (header, spec). Errors of SectionDecoder::Decode, but that a profile without a kernel and a wide section are
  // Unimplemented, and misaligned device bytes InvalidArgument; the jobs gathered before then stay as they were.
  absl::Status Add(const ContainerHeader& header, const SectionEntry& section, const DeviceSection& bytes,
                   const DecodeTarget& target, const int32_t* device_blocks = nullptr);

  // Cosines and sines of all rotations: to be copied to the device as they are.
  std::span<const float> rope_values() const { return rope_values_; }
  // The widest tile: TileBatch::widest_dim.
  uint32_t widest_dim() const { return widest_dim_; }

  // The jobs, given where rope_values() and the tables' lossless DecodeTable(0) were copied to. Valid until the next
  // call. Adding may go on afterwards.
  std::span<const TileJob> Finish(const float* device_ropes, const uint32_t* device_lossless_table);

 private:
  static constexpr size_t kNoRope = SIZE_MAX;

  // A rotation that jobs share: K of one rope at one chunk's positions.
  struct Rope {
    uint32_t index = 0;  // into ModelSpec::ropes
    uint64_t position = 0;
    uint32_t rows = 0;
    size_t offset = 0;  // into rope_values_
    TileRope rope;
  };

  absl::Status AddTile(const ContainerHeader& header, const TilePlacement& placed, const DeviceSection& bytes,
                       const DecodeTarget& target, const int32_t* device_blocks);
  const Rope* FindRope(uint32_t layer, uint64_t position, uint32_t rows);

  const ModelSpec& spec_;
  const CodecTables tables_;
  std::vector<TilePlacement> placements_;
  std::vector<Rope> ropes_;
  std::vector<float> rope_values_;
  std::vector<TileJob> jobs_;
  std::vector<size_t> rope_offsets_;  // of each job, kNoRope without one
  uint32_t widest_dim_ = 0;
};

}  // namespace kdn

#endif  // KDN_KERNELS_CUDA_SECTION_JOBS_H_
