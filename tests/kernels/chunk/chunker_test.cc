#include "kernels/chunk/chunker.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <numeric>
#include <sstream>

#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

ChunkingContext Context(uint32_t chunk_tokens = 16) {
  return {FingerprintOf(testing::SmolLm2Spec()), chunk_tokens, {}};
}

std::vector<uint32_t> Tokens(uint32_t count, uint32_t first = 0) {
  std::vector<uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

TEST(ChunkerTest, CutsWholeChunksAndAShortLastOne) {
  const auto chunks = PrefixChunks(Context(), Tokens(40));
  ASSERT_EQ(chunks.size(), 3u);
  EXPECT_EQ(chunks[1].begin, 16u);
  EXPECT_EQ(chunks[2].num_tokens, 8u);
  EXPECT_TRUE(PrefixChunks(Context(), {}).empty());
}

TEST(ChunkerTest, SharedPrefixSharesDigestsAndNothingElse) {
  std::vector<uint32_t> other = Tokens(48);
  other[20] = 999;
  const auto a = PrefixChunks(Context(), Tokens(48));
  const auto b = PrefixChunks(Context(), other);
  EXPECT_EQ(a[0], b[0]);
  EXPECT_NE(a[1].digest, b[1].digest);
  EXPECT_NE(a[2].digest, b[2].digest) << "a later chunk must depend on every token before it";
}

TEST(ChunkerTest, SegmentsDependOnTheirOwnTokensAndContextOnly) {
  const ChunkingContext context = Context();
  const Digest empty = ContextDigest(context, {});
  const auto alone = SegmentChunks(context, empty, 0, Tokens(32));
  const auto second_alone = SegmentChunks(context, empty, 16, Tokens(16, 16));
  EXPECT_EQ(alone[1], second_alone[0]);
  const Digest system_prompt = ContextDigest(context, Tokens(5));
  EXPECT_NE(SegmentChunks(context, system_prompt, 0, Tokens(32))[0].digest, alone[0].digest);
  EXPECT_NE(SegmentChunks(context, empty, 7, Tokens(32))[0].digest, alone[0].digest);
}

TEST(ChunkerTest, EveryInputChangesIdentity) {
  const ChunkingContext base = Context();
  const Digest digest = PrefixChunks(base, Tokens(16))[0].digest;
  ChunkingContext other_model = base;
  other_model.fingerprint.bytes[3] ^= 1;
  EXPECT_NE(PrefixChunks(other_model, Tokens(16))[0].digest, digest);
  ChunkingContext salted = base;
  salted.extra_keys = {"salt"};
  EXPECT_NE(PrefixChunks(salted, Tokens(16))[0].digest, digest);
  ChunkingContext split = base;
  split.extra_keys = {"sa", "lt"};
  EXPECT_NE(PrefixChunks(split, Tokens(16))[0].digest, PrefixChunks(salted, Tokens(16))[0].digest);
  EXPECT_NE(SegmentChunks(base, Digest{}, 0, Tokens(16))[0].digest, digest) << "kinds must not collide";
}

TEST(ChunkerTest, TextIdentityIsTheExactBytesAndThePolicy) {
  const Fingerprint fingerprint = Context().fingerprint;
  const Digest digest = TextDigest(fingerprint, "default", "caf\u00e9");
  EXPECT_NE(TextDigest(fingerprint, "default", "cafe\u0301"), digest) << "no normalisation";
  EXPECT_NE(TextDigest(fingerprint, "none", "caf\u00e9"), digest);
  EXPECT_EQ(TextDigest(fingerprint, "default", "caf\u00e9"), digest);
}

TEST(ChunkerTest, RefusesChunkLengthsAndKeysOutOfBounds) {
  EXPECT_TRUE(ValidateChunkingContext(Context(256)).ok());
  for (const uint32_t bad : {0u, 8u, 100u, kMaxChunkTokens + 16}) {
    EXPECT_FALSE(ValidateChunkingContext(Context(bad)).ok()) << bad;
  }
  ChunkingContext context = Context(256);
  context.extra_keys.assign(kMaxExtraEntries + 1, "k");
  EXPECT_FALSE(ValidateChunkingContext(context).ok());
}

// known_answers.txt: lines "name = hex"; the same file is reproduced by an independent Python implementation.
std::map<std::string, std::string> KnownAnswers() {
  std::map<std::string, std::string> answers;
  std::ifstream in(KDN_SOURCE_DIR "/tests/kernels/chunk/known_answers.txt");
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string name, equals, value;
    if (fields >> name >> equals >> value && name[0] != '#') answers[name] = value;
  }
  return answers;
}

TEST(ChunkerTest, ReproducesTheKnownAnswers) {
  const auto answers = KnownAnswers();
  const ModelSpec spec = testing::SlidingSpec(2, 32, 64);
  ChunkingContext context{FingerprintOf(spec), 16, {}};
  std::map<std::string, std::string> got;
  got["spec"] = Hex(EncodeModelSpec(spec));
  got["fingerprint"] = context.fingerprint.ToHex();
  const auto chunks = PrefixChunks(context, Tokens(40, 1000));
  for (size_t i = 0; i < chunks.size(); ++i) got["prefix" + std::to_string(i)] = chunks[i].digest.ToHex();
  context.extra_keys = {"image:abc", "salt"};
  got["prefix0_extra"] = PrefixChunks(context, Tokens(16, 1000))[0].digest.ToHex();
  context.extra_keys.clear();
  got["context"] = ContextDigest(context, Tokens(3, 7)).ToHex();
  got["segment0"] = SegmentChunks(context, ContextDigest(context, Tokens(3, 7)), 3, Tokens(16, 1000))[0].digest.ToHex();
  got["text"] = TextDigest(context.fingerprint, "default", "Na\u00efve caf\u00e9\n").ToHex();
  EXPECT_EQ(answers, got);
}

}  // namespace
}  // namespace kdn
