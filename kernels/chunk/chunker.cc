#include "kernels/chunk/chunker.h"

#include <algorithm>

#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr std::string_view kChunkDomain = "kdn.chunk.v1";
constexpr std::string_view kContextDomain = "kdn.context.v1";
constexpr std::string_view kTextDomain = "kdn.text.v1";

// Tags of the hashed fields. Every field is tag u8, length u64, bytes: no two field lists hash the same bytes.
enum FieldTag : uint8_t {
  kDomain = 0,
  kFingerprint = 1,
  kKind = 2,
  kParent = 3,  // parent chunk or context
  kBegin = 4,
  kTokens = 5,
  kExtraKey = 6,
  kPolicy = 7,
  kText = 8,
};

class FieldHasher {
 public:
  explicit FieldHasher(std::string_view domain) { Add(kDomain, AsBytes(domain)); }

  FieldHasher& Add(FieldTag tag, ByteSpan bytes) {
    AddHeader(tag, bytes.size());
    hash_.Update(bytes);
    return *this;
  }
  FieldHasher& AddTokens(std::span<const uint32_t> token_ids) {
    AddHeader(kTokens, token_ids.size() * sizeof(uint32_t));
    std::vector<uint8_t> bytes;
    bytes.reserve(token_ids.size() * sizeof(uint32_t));
    ByteWriter writer(bytes);
    for (const uint32_t id : token_ids) writer.U32(id);
    hash_.Update(bytes);
    return *this;
  }
  FieldHasher& AddExtraKeys(std::span<const std::string> keys) {
    for (const std::string& key : keys) Add(kExtraKey, AsBytes(key));
    return *this;
  }
  Digest Finish() { return hash_.Finish(); }

 private:
  void AddHeader(FieldTag tag, uint64_t length) {
    uint8_t header[1 + sizeof(uint64_t)];
    header[0] = tag;
    StoreLe<uint64_t>(length, header + 1);
    hash_.Update(header);
  }

  Sha256 hash_;
};

struct ChunkFields {
  ChunkKind kind;
  Digest parent;  // zero for the first prefix chunk
  uint64_t begin;
};

Digest ChunkDigest(const ChunkingContext& context, const ChunkFields& fields, std::span<const uint32_t> token_ids) {
  const uint8_t kind = static_cast<uint8_t>(fields.kind);
  uint8_t begin[sizeof(uint64_t)];
  StoreLe<uint64_t>(fields.begin, begin);
  return FieldHasher(kChunkDomain)
      .Add(kFingerprint, context.fingerprint.span())
      .Add(kKind, ByteSpan(&kind, 1))
      .Add(kParent, fields.parent.span())
      .Add(kBegin, begin)
      .AddTokens(token_ids)
      .AddExtraKeys(context.extra_keys)
      .Finish();
}

// Cuts `token_ids` and calls `make` with (begin within token_ids, tokens) of each chunk.
template <typename Make>
std::vector<ChunkId> Cut(const ChunkingContext& context, std::span<const uint32_t> token_ids, Make make) {
  std::vector<ChunkId> chunks;
  chunks.reserve(CeilDiv(token_ids.size(), context.chunk_tokens));
  for (size_t begin = 0; begin < token_ids.size(); begin += context.chunk_tokens) {
    chunks.push_back(
        make(begin, token_ids.subspan(begin, std::min<size_t>(context.chunk_tokens, token_ids.size() - begin))));
  }
  return chunks;
}

}  // namespace

absl::Status ValidateChunkingContext(const ChunkingContext& context) {
  if (context.chunk_tokens < kChunkTokensMultiple || context.chunk_tokens > kMaxChunkTokens ||
      context.chunk_tokens % kChunkTokensMultiple != 0) {
    return InvalidArgument("chunk_tokens is ", context.chunk_tokens, ": must be a multiple of ", kChunkTokensMultiple,
                           " up to ", kMaxChunkTokens);
  }
  if (context.extra_keys.size() > kMaxExtraEntries) {
    return InvalidArgument("there are ", context.extra_keys.size(), " extra keys, at most ", kMaxExtraEntries);
  }
  for (const std::string& key : context.extra_keys) {
    if (key.size() > kMaxExtraBytes) {
      return InvalidArgument("an extra key has ", key.size(), " bytes, at most ", kMaxExtraBytes);
    }
  }
  return absl::OkStatus();
}

std::vector<ChunkId> PrefixChunks(const ChunkingContext& context, std::span<const uint32_t> token_ids) {
  Digest parent;
  return Cut(context, token_ids, [&](size_t begin, std::span<const uint32_t> tokens) {
    parent = ChunkDigest(context, {ChunkKind::kPrefix, parent, begin}, tokens);
    return ChunkId{parent, ChunkKind::kPrefix, begin, static_cast<uint32_t>(tokens.size())};
  });
}

Digest ContextDigest(const ChunkingContext& context, std::span<const uint32_t> context_token_ids) {
  return FieldHasher(kContextDomain)
      .Add(kFingerprint, context.fingerprint.span())
      .AddTokens(context_token_ids)
      .AddExtraKeys(context.extra_keys)
      .Finish();
}

std::vector<ChunkId> SegmentChunks(const ChunkingContext& context, const Digest& context_digest, uint64_t source_begin,
                                   std::span<const uint32_t> token_ids) {
  return Cut(context, token_ids, [&](size_t begin, std::span<const uint32_t> tokens) {
    const ChunkFields fields{ChunkKind::kSegment, context_digest, source_begin + begin};
    return ChunkId{ChunkDigest(context, fields, tokens), ChunkKind::kSegment, fields.begin,
                   static_cast<uint32_t>(tokens.size())};
  });
}

Digest TextDigest(const Fingerprint& fingerprint, std::string_view special_token_policy, std::string_view utf8_text) {
  return FieldHasher(kTextDomain)
      .Add(kFingerprint, fingerprint.span())
      .Add(kPolicy, AsBytes(special_token_policy))
      .Add(kText, AsBytes(utf8_text))
      .Finish();
}

}  // namespace kdn
