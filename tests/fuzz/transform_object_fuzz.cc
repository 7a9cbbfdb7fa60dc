#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "kernels/codec/transform_object.h"

// Objects are hostile. The fingerprint of a small model is put into the input, so that the rest is looked at; what
// parses is kept byte by byte.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kFingerprintOffset = 8;
  constexpr size_t kMaxInput = size_t{1} << 16;
  static const kdn::ModelSpec* const spec = [] {
    auto* model = new kdn::ModelSpec;
    model->weights_digest = kdn::Sha256::Of(kdn::AsBytes("weights"));
    model->tokenizer_digest = kdn::Sha256::Of(kdn::AsBytes("tokenizer"));
    model->ropes.resize(1);
    model->layers.assign(3, {kdn::AttentionKind::kFull, 0, 2, 32, 16, 0});
    model->layers.push_back({kdn::AttentionKind::kLatent, 0, 1, 64, 0, 0});
    return model;
  }();
  static const kdn::Fingerprint fingerprint = FingerprintOf(*spec);
  std::vector<uint8_t> bytes(data, data + std::min(size, kMaxInput));
  if (bytes.size() >= kFingerprintOffset + kdn::Digest::kBytes) {
    std::copy(fingerprint.bytes.begin(), fingerprint.bytes.end(), bytes.begin() + kFingerprintOffset);
  }
  const auto object = kdn::TransformObject::Parse(bytes, *spec);
  if (!object.ok()) return 0;
  const kdn::ByteSpan canonical = (*object)->canonical_bytes();
  if (!std::equal(canonical.begin(), canonical.end(), bytes.begin(), bytes.end())) std::abort();
  for (const kdn::TransformGroup& group : (*object)->groups()) {
    for (const kdn::TransformBase& base : group.bases) {
      if (base.CodedCoefficients(0) > base.rank) std::abort();
    }
  }
  return 0;
}
