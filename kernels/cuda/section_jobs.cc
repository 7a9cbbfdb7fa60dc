#include "kernels/cuda/section_jobs.h"

#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/rope.h"
#include "kernels/cuda/tile_check.h"

namespace kdn {
namespace {

constexpr uintptr_t kCodedAlignment = 16;

TileDestination DestinationOf(const TilePlacement& placed, const int32_t* device_blocks) {
  const KvPlane& plane = placed.out.plane;
  TileDestination to;
  to.data = plane.data + static_cast<int64_t>(placed.out.local_head) * plane.head_stride_bytes;
  to.token_stride_bytes = plane.token_stride_bytes;
  to.channel_stride_bytes = plane.channel_stride_bytes;
  to.block_stride_bytes = plane.block_stride_bytes;
  to.blocks = device_blocks;
  to.block_tokens = placed.out.table.block_tokens;
  to.token = placed.token;
  return to;
}

}  // namespace

absl::Status SectionJobs::Add(const ContainerHeader& header, const SectionEntry& section, const DeviceSection& bytes,
                              const DecodeTarget& target, const int32_t* device_blocks) {
  if (section.wide) return Unimplemented("the kernels do not decode wide sections (profile transform)");
  if (reinterpret_cast<uintptr_t>(bytes.device) % kCodedAlignment != 0) {
    return InvalidArgument("a section's bytes lie on the device at no multiple of ", kCodedAlignment);
  }
  if (target.view->block_table.block_tokens != 0 && device_blocks == nullptr) {
    return InvalidArgument("the view has a block table, the device none");
  }
  KDN_RETURN_IF_ERROR(CheckDecodeTarget(header, section, target));
  KDN_RETURN_IF_ERROR(VerifySection(section, bytes.host));
  PlaceTiles(spec_, header, section, target, placements_);
  const size_t before = jobs_.size();
  for (const TilePlacement& placed : placements_) {
    const absl::Status added = AddTile(header, placed, bytes, target, device_blocks);
    if (added.ok()) continue;
    jobs_.resize(before);
    rope_offsets_.resize(before);
    return added;
  }
  return absl::OkStatus();
}

absl::Status SectionJobs::AddTile(const ContainerHeader& header, const TilePlacement& placed,
                                  const DeviceSection& bytes, const DecodeTarget& target,
                                  const int32_t* device_blocks) {
  const TileGeometry& geometry = placed.geometry;
  const ByteSpan coded = bytes.host.subspan(placed.tile->offset, placed.tile->length);
  TileJob job;
  job.coded = bytes.device + placed.tile->offset;
  job.coded_bytes = placed.tile->length;
  job.tokens = geometry.tokens;
  job.dim = geometry.dim;
  job.dtype = geometry.dtype;
  job.profile = placed.tile->profile;
  job.kind = geometry.kind;
  job.row_begin = placed.row_begin;
  job.row_count = placed.row_count;
  job.destination = DestinationOf(placed, device_blocks);
  size_t rope_offset = kNoRope;
  if (geometry.kind == KvKind::kK && header.rope_state == RopeState::kUnrotated) {
    const Rope* rope = FindRope(geometry.layer, target.position.value_or(header.token_begin), header.num_tokens);
    if (rope != nullptr) {
      job.rope = rope->rope;
      rope_offset = rope->offset + size_t{placed.tile_row} * 2 * rope->rope.pairs;
    }
  }
  if (job.profile == ProfileId::kLossless) {
    KDN_RETURN_IF_ERROR(CheckLosslessObject(header, *tables_.lossless));
    KDN_ASSIGN_OR_RETURN(const uint32_t set, tables_.lossless->SetOf(geometry.layer, geometry.kind));
    if (set != 0) return Unimplemented("the kernels take the lossless object's first table set, not set ", set);
    job.lossless_table = tables_.lossless->DecodeTable(set);  // on the host, until Finish
    job.lossless_prob_bits = tables_.lossless->prob_bits();
  }
  KDN_RETURN_IF_ERROR(CheckTileJob(geometry, job, coded, *tables_.lossless));
  widest_dim_ = std::max(widest_dim_, job.dim);
  jobs_.push_back(job);
  rope_offsets_.push_back(rope_offset);
  return absl::OkStatus();
}

const SectionJobs::Rope* SectionJobs::FindRope(uint32_t layer, uint64_t position, uint32_t rows) {
  const uint32_t index = spec_.layers[layer].rope_index;
  if (spec_.ropes[index].style == RopeStyle::kNone) return nullptr;
  const auto found = std::find_if(ropes_.rbegin(), ropes_.rend(), [&](const Rope& rope) {
    return rope.index == index && rope.position == position && rope.rows == rows;
  });
  if (found != ropes_.rend()) return &*found;
  const RopeTable table(spec_.ropes[index], RopeDirection::kRotate, position, rows);
  Rope rope = {index, position, rows, rope_values_.size(), {}};
  rope.rope.offset = table.offset();
  rope.rope.pairs = table.pairs();
  rope.rope.interleaved = table.style() == RopeStyle::kInterleaved;
  rope_values_.insert(rope_values_.end(), table.cos_sin(), table.cos_sin() + size_t{rows} * 2 * table.pairs());
  ropes_.push_back(rope);
  return &ropes_.back();
}

std::span<const TileJob> SectionJobs::Finish(const float* device_ropes, const uint32_t* device_lossless_table) {
  for (size_t i = 0; i < jobs_.size(); ++i) {
    if (rope_offsets_[i] != kNoRope) jobs_[i].rope.cos_sin = device_ropes + rope_offsets_[i];
    if (jobs_[i].profile == ProfileId::kLossless) jobs_[i].lossless_table = device_lossless_table;
  }
  return jobs_;
}

}  // namespace kdn
