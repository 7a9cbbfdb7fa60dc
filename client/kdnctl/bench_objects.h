#ifndef KDN_CLIENT_KDNCTL_BENCH_OBJECTS_H_
#define KDN_CLIENT_KDNCTL_BENCH_OBJECTS_H_

#include <cstdint>
#include <vector>

#include "client/kdn/client.h"

namespace kdn::ctl {

// What a bench stores: containers of incompressible KV in the raw profile, of a model made up for the run.
class BenchObjects {
 public:
  // `chunks` containers of about `chunk_bytes` each (a multiple of kBenchPlaneBytes); `seed` makes the model's identity
  // and the content.
  BenchObjects(uint64_t chunk_bytes, uint32_t chunks, uint64_t seed);

  const ModelSpec& spec() const { return spec_; }
  const std::vector<std::vector<uint8_t>>& containers() const { return containers_; }
  const std::vector<Digest>& digests() const { return digests_; }

 private:
  std::vector<uint8_t> MakeContainer(const Digest& digest, uint64_t token_begin, uint64_t seed) const;

  ModelSpec spec_;
  std::vector<Digest> digests_;
  std::vector<std::vector<uint8_t>> containers_;
};

// K and V of one layer of the made-up model over a chunk.
inline constexpr uint64_t kBenchPlaneBytes = uint64_t{256} << 10;

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_BENCH_OBJECTS_H_
