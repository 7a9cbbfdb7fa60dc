#ifndef KDN_CLIENT_DEVICE_CHUNK_CODER_H_
#define KDN_CLIENT_DEVICE_CHUNK_CODER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "client/transport/miss_reason.h"
#include "kernels/base/bytes.h"
#include "kernels/chunk/chunker.h"
#include "kernels/format/container.h"
#include "kernels/layout/cell_map.h"
#include "kernels/layout/kv_view.h"
#include "kernels/layout/model_spec.h"

// Between containers and an engine's memory. Host memory only. Thread-safe: each call works on what it is given.

namespace kdn {

struct TransformChoice;  // kernels/codec/chunk_codec.h
class TransformObjects;  // kernels/codec/transform_object.h

// One chunk in a view. Borrowed for the duration of a call.
struct ChunkPlace {
  const ModelSpec& spec;
  const CellMap& cells;
  const Fingerprint& fingerprint;
  const KvView& view;
  ChunkId chunk;
  uint32_t view_offset = 0;  // token of the view at which the chunk begins
};

// The container of `wanted` cells of the chunk, of which the view holds every layer. Rows before FirstHeldRow of a cell
// are left out. `transform` is what profile transform codes with, and may be null for others. Unimplemented for a
// profile this build cannot encode.
absl::StatusOr<std::vector<uint8_t>> EncodeCells(const ChunkPlace& place, const CellSet& wanted, ProfileId profile,
                                                 const TransformChoice* transform = nullptr);

// KV bytes of those cells that the view holds.
uint64_t RawBytes(const ChunkPlace& place, const CellSet& cells);

// At least the size of the container that EncodeCells makes of them.
uint64_t EncodedBytesEstimate(const ChunkPlace& place, const CellSet& wanted);

// Why a container's bytes are not what was asked for.
struct ContainerFault {
  MissReason reason = MissReason::kCorrupt;
  std::string message;
};

// A container that is received piece by piece, of which some cells are taken.
class IncomingContainer {
 public:
  // What the sender announced.
  struct Announced {
    uint64_t container_bytes = 0;
    uint32_t header_bytes = 0;
    CellSet take;        // cells that the receiver takes
    bool whole = false;  // sections of other cells are sent as well
  };
  // `memory` has announced.container_bytes and outlives this.
  IncomingContainer(const ModelSpec& spec, const CellMap& cells, ByteSpan memory, Announced announced)
      : spec_(spec), cells_(cells), memory_(memory), announced_(std::move(announced)) {}

  // Of what is sent, everything before `end` is in memory. As soon as that is the header, checks it: that it is sound,
  // fits the model, is of this chunk (chunk.num_tokens 0: known by its digest alone) and holds the cells to take.
  // Returns the sections that are complete now and were not before: indexes [first, last) into header().sections, of
  // which those that IsSent are there. Not thread-safe.
  struct Ready {
    size_t first = 0;
    size_t last = 0;
    std::optional<ContainerFault> fault;
  };
  Ready Advance(const Fingerprint& fingerprint, const ChunkId& chunk, uint64_t end);

  // Valid once Advance returned a section, const from then on.
  const ContainerHeader& header() const { return header_; }
  const CellSet& take() const { return announced_.take; }
  bool Complete() const { return parsed_ && next_section_ == header_.sections.size(); }
  // Whether some cell of the section is taken.
  bool IsTaken(const SectionEntry& section) const;
  bool IsSent(const SectionEntry& section) const { return announced_.whole || IsTaken(section); }
  // The bytes of a section that Advance returned and IsSent.
  ByteSpan SectionBytes(const SectionEntry& section) const {
    return memory_.subspan(header_.header_bytes + section.offset, section.length);
  }

 private:
  std::optional<ContainerFault> ParseHeader(const Fingerprint& fingerprint, const ChunkId& chunk);

  const ModelSpec& spec_;
  const CellMap& cells_;
  const ByteSpan memory_;
  const Announced announced_;
  bool parsed_ = false;
  ContainerHeader header_;
  size_t next_section_ = 0;
};

// Decodes sections [first, last) of `container`, as far as the view holds them, into the view: the rows of cells that
// are taken, and of no others. Every byte written was checked against its section's checksum before. A tile that loses
// more than `accept.lossiest` is the fault kIncompatible, and so is one whose calibration object is not among
// `accept.transforms`. After a fault the chunk's rows are unspecified.
struct DecodeAccept {
  ProfileId lossiest = ProfileId::kLossless;
  const TransformObjects* transforms = nullptr;
};
std::optional<ContainerFault> DecodeSections(const ChunkPlace& place, const IncomingContainer& container, size_t first,
                                             size_t last, const DecodeAccept& accept);

}  // namespace kdn

#endif  // KDN_CLIENT_DEVICE_CHUNK_CODER_H_
