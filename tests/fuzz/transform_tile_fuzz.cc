#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/codec/transform_tile.h"
#include "tests/kernels/codec/golden_files.h"

namespace {

using kdn::Isa;

// The fp32 rows of a tile, or nothing.
bool Decode(const kdn::TransformGroup& group, kdn::DType dtype, uint32_t tokens, kdn::ByteSpan coded, Isa isa,
            std::vector<float>& rows) {
  kdn::TransformTileDecoder decoder(isa);
  if (!decoder.Open(group, dtype, tokens, coded).ok()) return false;
  rows.resize(size_t{tokens} * group.width());
  float* out = rows.data();
  for (uint32_t base = 0; base < group.bases.size(); ++base) {
    const uint32_t width = group.bases[base].width;
    decoder.Rows({base, 0, tokens, 0, width, out, width});
    out += size_t{tokens} * width;
  }
  return true;
}

}  // namespace

// Tiles are hostile: the decoder answers with a status or some rows, the same on every instruction set. Input: dtype,
// tokens, then the tile, in the golden object's group that its header names.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::shared_ptr<const kdn::TransformObject> object = [] {
    const kdn::ModelSpec spec = kdn::GoldenTransformSpec(kdn::DType::kBf16);
    return kdn::TransformObject::Parse(kdn::ObjectBytes(spec, kdn::GoldenTransformPlan(kdn::DType::kBf16)), spec)
        .value();
  }();
  if (size < 2 || !kdn::IsKnownDType(data[0]) || data[1] == 0) return 0;
  const auto dtype = static_cast<kdn::DType>(data[0]);
  const uint32_t tokens = data[1];
  const kdn::ByteSpan coded(data + 2, size - 2);
  const auto header = kdn::ReadTransformTileHeader(coded);
  if (!header.ok() || header->group >= object->groups().size() || !kdn::TransformCodes(dtype)) return 0;
  const kdn::TransformGroup& group = object->groups()[header->group];
  std::vector<float> reference;
  const bool ok = Decode(group, dtype, tokens, coded, Isa::kScalar, reference);
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (!kdn::IsaSupported(isa)) continue;
    std::vector<float> rows;
    if (Decode(group, dtype, tokens, coded, isa, rows) != ok || rows.size() != reference.size()) std::abort();
    if (ok && std::memcmp(rows.data(), reference.data(), rows.size() * sizeof(float)) != 0) std::abort();
  }
  return 0;
}
