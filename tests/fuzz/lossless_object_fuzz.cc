#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "kernels/codec/lossless_tables.h"

// Calibration objects are hostile: what parses has exactly one encoding, its own.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tables = kdn::LosslessTables::Parse(kdn::ByteSpan(data, size));
  if (!tables.ok()) return 0;
  const kdn::ByteSpan canonical = tables->canonical_bytes();
  if (!std::equal(canonical.begin(), canonical.end(), data, data + size)) std::abort();
  return 0;
}
