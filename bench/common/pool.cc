#include "bench/common/pool.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "bench/common/measure.h"

namespace kdn::bench {

Pool::Pool(uint64_t seed) {
  void* memory = mmap(nullptr, kPoolBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Fail("mapping a pool", errno);
  // Huge pages where the kernel has them: the baselines are to be as fast as a plain program can be.
  madvise(memory, kPoolBytes, MADV_HUGEPAGE);
  data_ = static_cast<uint8_t*>(memory);
  uint64_t state = seed * 2 + 1;
  for (uint64_t offset = 0; offset < kPoolBytes; offset += sizeof(state)) {
    state ^= state << 13;  // xorshift64
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(data_ + offset, &state, sizeof(state));
  }
}

Pool::~Pool() { munmap(data_, kPoolBytes); }

}  // namespace kdn::bench
