#ifndef KDN_KERNELS_CHUNK_CHUNKER_H_
#define KDN_KERNELS_CHUNK_CHUNKER_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/sha256.h"
#include "kernels/layout/model_spec.h"

// Cutting token ids into chunks and naming them. Pure functions, thread-safe. The digests are specified byte by byte in
// kernels/chunk/README.md, with known answers in tests/kernels/chunk/known_answers.txt.

namespace kdn {

inline constexpr uint32_t kDefaultChunkTokens = 256;
inline constexpr uint32_t kChunkTokensMultiple = 16;
inline constexpr uint32_t kMaxChunkTokens = 4096;
inline constexpr uint64_t kMaxTokensPerCall = uint64_t{1} << 22;

// Persisted values.
enum class ChunkKind : uint8_t {
  kPrefix = 1,   // identity includes every token before the chunk
  kSegment = 2,  // identity includes the chunk's own tokens and the shared context it was computed behind
};

struct ChunkId {
  Digest digest;
  ChunkKind kind = ChunkKind::kPrefix;
  uint64_t begin = 0;       // position of its first token (source position for segments)
  uint32_t num_tokens = 0;  // chunk_tokens, or less for the last chunk of a text

  friend bool operator==(const ChunkId&, const ChunkId&) = default;
};

// What identity needs besides tokens. `extra_keys` are the engine's (image hashes, cache salt), in the engine's order;
// each at most kMaxExtraBytes long, at most kMaxExtraEntries of them.
struct ChunkingContext {
  Fingerprint fingerprint;
  uint32_t chunk_tokens = kDefaultChunkTokens;
  std::vector<std::string> extra_keys;
};

// InvalidArgument unless chunk_tokens is a multiple of kChunkTokensMultiple in [16, kMaxChunkTokens] and the extra keys
// keep their bounds.
absl::Status ValidateChunkingContext(const ChunkingContext& context);

// Prefix chunks of tokens [0, n): chunk i covers [i * chunk_tokens, ...), each digest chained to the one before, the
// last one possibly short. `context` must be valid.
std::vector<ChunkId> PrefixChunks(const ChunkingContext& context, std::span<const uint32_t> token_ids);

// Digest of the shared context (possibly empty) that segments are computed behind.
Digest ContextDigest(const ChunkingContext& context, std::span<const uint32_t> context_token_ids);

// Segment chunks of `token_ids`, whose KV was computed with its first token at position `source_begin` behind the
// context of that digest.
std::vector<ChunkId> SegmentChunks(const ChunkingContext& context, const Digest& context_digest, uint64_t source_begin,
                                   std::span<const uint32_t> token_ids);

// Identity of a text: its exact UTF-8 bytes (no normalisation), the fingerprint, and the tokenizer's special-token
// policy as a short name ("default", "none", "chat:..."). Used by StoreText and LookupText.
Digest TextDigest(const Fingerprint& fingerprint, std::string_view special_token_policy, std::string_view utf8_text);

}  // namespace kdn

#endif  // KDN_KERNELS_CHUNK_CHUNKER_H_
