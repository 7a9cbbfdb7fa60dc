#include "kernels/cuda/section_jobs.h"

#include <gtest/gtest.h>

#include <memory>
#include <numeric>

#include "kernels/codec/chunk_codec.h"
#include "kernels/cuda/tile_decode_core.h"
#include "tests/kernels/codec/test_tiles.h"
#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

constexpr uint32_t kTokens = 80;
constexpr uint64_t kPosition = 500;
constexpr uint32_t kBlockTokens = 16;

// A paged bf16 cache of all heads: planes [block][token][head][channel], blocks in an order of their own.
class PagedCache {
 public:
  explicit PagedCache(const ModelSpec& spec) {
    constexpr uint32_t kBlocks = kTokens / kBlockTokens + 1;
    for (uint32_t i = 0; i < kBlocks; ++i) blocks_.push_back(static_cast<int32_t>((i * 5 + 2) % kBlocks));
    view_.num_tokens = kTokens;
    view_.head_count = spec.layers[0].num_kv_heads;
    view_.block_table = {blocks_, kBlockTokens};
    for (uint32_t layer = 0; layer < spec.layers.size(); ++layer) {
      KvLayerView held = {layer, 0, Plane(spec.layers[layer].k_head_dim), {}};
      if (spec.layers[layer].v_head_dim != 0) held.v = Plane(spec.layers[layer].v_head_dim);
      view_.layers.push_back(held);
    }
  }

  void Fill(uint64_t seed) {
    std::mt19937_64 random(seed);
    for (auto& plane : planes_) {
      for (size_t i = 0; i + 1 < plane.size(); i += 2) StoreLe(ToBf16(RoughNormal(random) + 0.5f), plane.data() + i);
    }
  }

  KvView& view() { return view_; }
  const int32_t* blocks() const { return blocks_.data(); }
  const std::vector<std::vector<uint8_t>>& planes() const { return planes_; }

 private:
  KvPlane Plane(uint32_t dim) {
    const int64_t head = int64_t{2} * dim;
    const int64_t token = head * view_.head_count;
    planes_.emplace_back(static_cast<size_t>(token) * kBlockTokens * blocks_.size());
    return {planes_.back().data(), token, head, 2, token * kBlockTokens};
  }

  std::vector<int32_t> blocks_;
  std::vector<std::vector<uint8_t>> planes_;
  KvView view_;
};

class SectionJobsTest : public ::testing::Test {
 protected:
  void Make(const ModelSpec& spec, ProfileId profile) {
    spec_ = spec;
    ASSERT_EQ(ValidateModelSpec(spec_), absl::OkStatus());
    cells_ = std::make_unique<CellMap>(spec_, kTokens);
    PagedCache source(spec_);
    source.Fill(7);
    ContainerHeader header;
    header.fingerprint = FingerprintOf(spec_);
    header.chunk_digest = Sha256::Of(AsBytes("chunk"));
    header.token_begin = kPosition;
    header.num_tokens = kTokens;
    header.tile_tokens = 48;
    header.rope_state = StoredRopeState(profile);
    header.cells = CellSet::All(cells_->num_cells());
    auto container = EncodeChunk(spec_, *cells_, header, {&source.view(), 0}, profile);
    ASSERT_TRUE(container.ok()) << container.status();
    header_ = ParseContainerHeader(*container).value();
    ASSERT_EQ(CheckAgainstModel(header_, spec_, *cells_), absl::OkStatus());
    body_.resize(CeilDiv(header_.body_bytes, sizeof(cuda_internal::StoreBlock)));
    std::memcpy(body_.data(), container->data() + header_.header_bytes, header_.body_bytes);
  }

  ByteSpan Body() const { return {reinterpret_cast<const uint8_t*>(body_.data()), header_.body_bytes}; }

  DeviceSection SectionOf(const SectionEntry& section) const {
    const ByteSpan bytes = Body().subspan(section.offset, section.length);
    return {bytes, bytes.data()};
  }

  // What a launch over all sections writes, with this machine in the device's place.
  void DecodeAll(const DecodeTarget& target, const int32_t* blocks) {
    SectionJobs jobs(spec_);
    for (const SectionEntry& section : header_.sections) {
      ASSERT_EQ(jobs.Add(header_, section, SectionOf(section), target, blocks), absl::OkStatus());
    }
    const std::vector<float> ropes(jobs.rope_values().begin(), jobs.rope_values().end());
    for (const TileJob& job : jobs.Finish(ropes.data(), LosslessTables::BuiltIn().DecodeTable(0))) {
      ASSERT_LE(job.dim, jobs.widest_dim());
      std::vector<uint32_t> stage(MaxStageWords(jobs.widest_dim()));
      ASSERT_EQ(cuda_internal::DecodeTile<HostLanes>(job, stage.data()), TileOutcome::kDecoded);
    }
  }

  ModelSpec spec_;
  std::unique_ptr<CellMap> cells_;
  ContainerHeader header_;
  std::vector<cuda_internal::StoreBlock> body_;
};

TEST_F(SectionJobsTest, OneLaunchWritesWhatTheHostDecodes) {
  for (const ProfileId profile : {ProfileId::kRaw, ProfileId::kLossless, ProfileId::kInt8, ProfileId::kQ4}) {
    for (const ModelSpec& spec :
         {testing::FullAttentionSpec(2, 3, 64), testing::SlidingSpec(6, 32, 64), testing::LatentSpec(2)}) {
      SCOPED_TRACE(ProfileName(profile));
      Make(spec, profile);
      PagedCache host(spec_);
      PagedCache device(spec_);
      DecodeTarget target = {&host.view(), 3, 2, 70};
      if (header_.rope_state == RopeState::kUnrotated) target.position = 9000;
      ASSERT_EQ(DecodeContainer(spec_, header_, Body(), target), absl::OkStatus());
      target.view = &device.view();
      DecodeAll(target, device.blocks());
      EXPECT_EQ(device.planes(), host.planes());
    }
  }
}

TEST_F(SectionJobsTest, LayersAndHeadsThatTheViewLacksAreLeftOut) {
  Make(testing::FullAttentionSpec(3, 4, 32), ProfileId::kQ4);
  PagedCache host(spec_);
  PagedCache device(spec_);
  for (PagedCache* cache : {&host, &device}) {
    cache->view().layers.erase(cache->view().layers.begin() + 1);
    cache->view().layers[0].first_row = 40;
    cache->view().head_begin = 1;
    cache->view().head_count = 2;
  }
  DecodeTarget target = {&host.view(), 0, 0, kTokens};
  ASSERT_EQ(DecodeContainer(spec_, header_, Body(), target), absl::OkStatus());
  target.view = &device.view();
  DecodeAll(target, device.blocks());
  EXPECT_EQ(device.planes(), host.planes());
}

TEST_F(SectionJobsTest, RotationsAreSharedByTheLayersOfAChunk) {
  Make(testing::FullAttentionSpec(4, 2, 64), ProfileId::kQ4);
  PagedCache cache(spec_);
  DecodeTarget target = {&cache.view(), 0, 0, kTokens};
  SectionJobs jobs(spec_);
  for (const uint64_t position : {uint64_t{0}, uint64_t{1000}}) {
    target.position = position;
    for (const SectionEntry& section : header_.sections) {
      ASSERT_EQ(jobs.Add(header_, section, SectionOf(section), target, cache.blocks()), absl::OkStatus());
    }
  }
  EXPECT_EQ(jobs.rope_values().size(), size_t{2} * kTokens * 64);
}

TEST_F(SectionJobsTest, DamageIsToldBeforeTheLaunchAndAddsNothing) {
  Make(testing::FullAttentionSpec(1, 2, 64), ProfileId::kInt8);
  PagedCache cache(spec_);
  const DecodeTarget target = {&cache.view(), 0, 0, kTokens};
  reinterpret_cast<uint8_t*>(body_.data())[5] ^= 1;
  SectionJobs jobs(spec_);
  const SectionEntry& section = header_.sections[0];
  EXPECT_TRUE(absl::IsDataLoss(jobs.Add(header_, section, SectionOf(section), target, cache.blocks())));
  EXPECT_TRUE(jobs.Finish(nullptr, nullptr).empty());
}

TEST_F(SectionJobsTest, WhatTheKernelsCannotTakeIsRefused) {
  Make(testing::FullAttentionSpec(1, 2, 64), ProfileId::kLossless);
  PagedCache cache(spec_);
  DecodeTarget target = {&cache.view(), 0, 0, kTokens};
  SectionJobs jobs(spec_);
  const SectionEntry& section = header_.sections[0];
  DeviceSection bytes = SectionOf(section);
  EXPECT_TRUE(absl::IsInvalidArgument(jobs.Add(header_, section, bytes, target, nullptr)));
  bytes.device += 8;
  EXPECT_TRUE(absl::IsInvalidArgument(jobs.Add(header_, section, bytes, target, cache.blocks())));
  bytes.device -= 8;
  target.position = 3;
  EXPECT_TRUE(absl::IsUnimplemented(jobs.Add(header_, section, bytes, target, cache.blocks())));
  SectionEntry wide = section;
  wide.wide = true;
  EXPECT_TRUE(absl::IsUnimplemented(jobs.Add(header_, wide, bytes, target, cache.blocks())));
}

}  // namespace
}  // namespace kdn
