#ifndef KDN_KERNELS_CODEC_TRANSFORM_TILE_H_
#define KDN_KERNELS_CODEC_TRANSFORM_TILE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/codec/isa.h"
#include "kernels/codec/transform_kernels.h"
#include "kernels/codec/transform_object.h"
#include "kernels/layout/dtype.h"

// Profile transform: the rows of a whole group of layers and heads as coefficients of its bases; TILE_FORMATS.md has
// the bytes. Works on fp32 rows of a base's channels, K before its rotary embedding: chunk_codec.h converts and
// rotates.

namespace kdn {

// Whether tiles of this dtype can be coded: all but fp32.
bool TransformCodes(DType dtype);

// The dtype of a tile's raw rows: fp16 for fp16, bf16 for every other dtype.
inline DType TransformRawRowDType(DType dtype) { return dtype == DType::kFp16 ? DType::kFp16 : DType::kBf16; }

// The first bytes of a tile.
struct TransformTileHeader {
  int32_t step = 0;          // D, sixteenths of an octave
  uint32_t group = 0;        // index in the object
  uint32_t calibration = 0;  // which of the container's calibration digests names the object
  uint32_t raw_rows = 0;
  uint32_t word_count = 0;
  uint32_t escape_count = 0;
};

// The header of a hostile tile. DataLoss when it is cut short or a field that stands for itself is out of range.
absl::StatusOr<TransformTileHeader> ReadTransformTileHeader(ByteSpan coded);

// What an encoder puts into a tile.
struct TransformTileInput {
  DType dtype = DType::kBf16;
  uint32_t tokens = 0;       // 1..kMaxTileTokens
  uint32_t group = 0;        // index in the object
  uint32_t calibration = 0;  // stored for the reader, at most 255
  int32_t step = 0;
  uint32_t sink_rows = 0;                // first rows that stay raw
  std::span<const uint8_t> row_classes;  // [token], below kTransformClasses; empty: all 0
  std::span<const float> rows[2];        // of each base of the group: [token][channel]
};

// Keeps its scratch. One per thread.
class TransformTileEncoder {
 public:
  explicit TransformTileEncoder(Isa isa) : isa_(isa) {}

  // Appends the tile to `out`. Rows too far out for the step of their class get the next coarser class they fit; those
  // that fit none, and those with what is not finite, become raw rows.
  // InvalidArgument, with `out` unchanged, when a field of `input` is out of range or does not fit the object.
  absl::Status Encode(const TransformObject& object, const TransformTileInput& input, std::vector<uint8_t>& out);

 private:
  // What a class of rows means for a base; made when a row has it.
  struct ClassPlan {
    bool made = false;
    uint32_t coefficients = 0;
    float inverse_step = 0;
    std::vector<uint8_t> contexts;  // [coefficient]
    std::vector<uint8_t> bypass_bits;
    std::vector<uint8_t> max_magnitudes;
  };
  struct BaseWork {
    ClassPlan plans[kTransformClasses];
    std::vector<int16_t> levels;  // [token][rank]
  };

  void ChooseClasses(const TransformTileInput& input);
  void Quantise(const TransformObject& object, const TransformTileInput& input);
  void PlanBase(const TransformBase& base, int32_t step, BaseWork& work);
  void QuantiseBase(const TransformBase& base, std::span<const float> analysis, std::span<const float> rows,
                    BaseWork& work);
  void QuantiseBlock(const TransformBase& base, std::span<const float> analysis, std::span<const uint32_t> tokens,
                     BaseWork& work);
  void Symbolise(const TransformGroup& group);
  void EncodeSymbols(codec_internal::TransformEncodeJob& job);
  void WriteTile(const TransformGroup& group, const TransformTileInput& input,
                 const codec_internal::TransformEncodeJob& job, std::vector<uint8_t>& out) const;

  const Isa isa_;
  BaseWork work_[2];
  std::vector<uint8_t> classes_;     // [token]: class symbols
  std::vector<uint32_t> pending_;    // tokens to quantise at their class
  std::vector<uint8_t> beyond_;      // [token]: does not fit its class
  std::vector<float> centred_;       // [block row][channel]
  std::vector<float> coefficients_;  // [block row][analysis stride]
  std::vector<uint8_t> contexts_;    // [symbol]
  std::vector<uint8_t> codes_;
  std::vector<uint8_t> lows_;
  std::vector<int16_t> escapes_;
  uint32_t symbols_ = 0;
  std::vector<uint16_t> words_;
};

// Which rows and channels of a base to write where.
struct TransformRows {
  uint32_t base = 0;
  uint32_t first_row = 0;
  uint32_t rows = 0;
  uint32_t first_channel = 0;  // multiples of 16
  uint32_t channels = 0;
  float* out = nullptr;   // [row][out_stride]
  size_t out_stride = 0;  // at least `channels`
};

// One tile at a time: Open, then Rows as often as wanted. One per thread.
class TransformTileDecoder {
 public:
  explicit TransformTileDecoder(Isa isa) : isa_(isa) {}

  // Checks and decodes the hostile bytes of a tile of `tokens` rows (1..kMaxTileTokens) in `group`, which like the
  // bytes is borrowed until the next Open. DataLoss, saying what is wrong, when they are no such tile. Memory in
  // proportion to the bytes.
  absl::Status Open(const TransformGroup& group, DType dtype, uint32_t tokens, ByteSpan coded);

  // Writes fp32 values, K before its rotary embedding. Requires an OK Open that covers them.
  void Rows(const TransformRows& wanted);

 private:
  absl::Status CheckSizes(ByteSpan coded) const;
  absl::Status DecodeClasses(codec_internal::TransformDecodeJob& job);
  absl::Status LayOutSymbols();
  absl::Status DecodeCoefficients(codec_internal::TransformDecodeJob& job);
  void SynthesiseBlock(const TransformRows& wanted, std::span<const uint32_t> rows);

  const Isa isa_;
  const TransformGroup* group_ = nullptr;
  TransformTileHeader header_;
  DType raw_dtype_ = DType::kBf16;
  const uint8_t* raw_rows_ = nullptr;
  std::vector<uint8_t> classes_;          // [token]: class symbols
  std::vector<uint32_t> raw_index_;       // [token]: of a raw row
  std::vector<uint32_t> value_begin_[2];  // [base][token]: a coded row's first value
  uint32_t coefficients_[2][kTransformClasses] = {};
  uint32_t symbols_ = 0;
  std::vector<uint8_t> contexts_;  // [symbol], with room for a whole step
  std::vector<int16_t> values_;    // [symbol], with room for a whole step
  std::vector<int16_t> block_;     // [block row][coefficient], zero-padded
};

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_TRANSFORM_TILE_H_
