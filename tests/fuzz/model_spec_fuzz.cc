#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "kernels/layout/model_spec.h"

// A spec that decodes must encode to the bytes it came from: one spec, one encoding.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const kdn::ByteSpan input(data, size);
  const auto spec = kdn::DecodeModelSpec(input);
  if (!spec.ok()) return 0;
  const std::vector<uint8_t> again = kdn::EncodeModelSpec(*spec);
  if (again.size() != size || !std::equal(again.begin(), again.end(), data)) std::abort();
  return 0;
}
