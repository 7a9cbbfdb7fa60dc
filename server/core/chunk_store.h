#ifndef KDN_SERVER_CORE_CHUNK_STORE_H_
#define KDN_SERVER_CORE_CHUNK_STORE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/base/sha256.h"
#include "kernels/chunk/chunker.h"
#include "kernels/format/calibration_object.h"
#include "kernels/format/container.h"
#include "kernels/layout/cell_map.h"
#include "kernels/layout/model_spec.h"
#include "storage/blob/block_checksums.h"
#include "storage/blob/shared_bytes.h"

// The use cases of the server, free of gRPC: what to verify, in which order to write, what counts as a hit. Thin
// adapters (server/rpc) put a wire around it. Thread-safe; every call blocks its thread for as long as its I/O takes.

namespace kdn {

// Who calls: from the authenticated identity, never from a request's fields.
struct Caller {
  std::string tenant = "default";
};

struct RegisteredModel {
  Fingerprint fingerprint;
  uint32_t chunk_tokens = 0;
  bool created = false;
};

enum class LookupMode { kPrefix, kSegments };

struct LookupQuery {
  Fingerprint fingerprint;
  std::span<const Digest> chunk_digests;
  uint32_t last_chunk_tokens = 0;  // 0 = full
  std::optional<CellSet> cells;    // nullopt = all; num_cells() may be rounded up to a multiple of 8 here and below
  LookupMode mode = LookupMode::kPrefix;
  std::optional<ProfileId> lossiest;  // what is stored only with more loss does not count; nullopt = everything counts
};

struct LookupResult {
  uint32_t hit_chunks = 0;
  uint64_t hit_tokens = 0;
  std::vector<bool> present;  // kSegments only
};

// What a writer holds of one chunk: rows from first_rows[i].first_row on for the cells listed, whole for other cells.
struct ChunkOffer {
  Digest chunk_digest;
  std::optional<CellSet> cells;  // nullopt = all
  struct CellRows {
    uint32_t cell = 0;
    uint32_t first_row = 0;
  };
  std::vector<CellRows> partial;
};

// How a writer would store what it offers.
struct OfferedCoding {
  ProfileId profile = ProfileId::kRaw;
  RopeState rope_state = RopeState::kRotated;
};

struct StoreRequest {
  Fingerprint fingerprint;
  Digest chunk_digest;
  ChunkKind kind = ChunkKind::kPrefix;
  std::optional<Digest> parent_digest;
  uint64_t ttl_ms = 0;   // 0 = the configured default
  std::string document;  // at most kMaxDocumentNameBytes; may be empty
  // CRC-32C of the container, where it is known from when its bytes were received.
  std::optional<uint32_t> container_crc32c;
};

inline constexpr size_t kMaxDocumentNameBytes = 512;
inline constexpr size_t kMaxDocumentsPerChunk = 64;

enum class StoreOutcome { kStored, kDeduplicated, kKeptExisting };

enum class MissReason {
  kAbsent = 1,
  kExpired = 2,
  kEvicted = 3,
  kCorrupt = 4,
  kIncompatible = 5,
  kTimeout = 6,
  kOverBudget = 7,
  kIncomplete = 8,
};

// "absent", "expired", ...: the label of metrics.
std::string_view MissReasonName(MissReason reason);

struct RetrieveQuery {
  Fingerprint fingerprint;
  Digest chunk_digest;
  std::optional<CellSet> cells;  // nullopt = all
  uint64_t prefix_end = 0;       // 0 = every row there is; else rows a reader of that prefix length needs suffice
  // The smallest variant that loses no more is taken, and kIncompatible the answer where there is none; nullopt = the
  // variant that loses least, whatever it is.
  std::optional<ProfileId> lossiest;
};

// One container of a chunk, ready to be sent: slices of it in ascending offset, the header first. The bytes stay valid
// for as long as the slices are held, whatever is evicted meanwhile.
struct RetrievedPart {
  uint64_t container_bytes = 0;
  uint32_t header_bytes = 0;
  CellSet cells;  // the cells the reader takes from this part
  bool from_ram = false;
  struct Slice {
    uint64_t offset = 0;  // in the container
    SharedBytes bytes;
  };
  std::vector<Slice> slices;
  std::shared_ptr<BlockChecksums> checksums;  // of the whole container, where the RAM tier keeps them; else null
};

struct RetrievedChunk {
  std::vector<RetrievedPart> parts;  // empty on a miss
  std::optional<MissReason> miss;
  std::string miss_message;
  uint32_t num_tokens = 0;
};

struct StoredText {
  std::vector<uint32_t> token_ids;
  std::vector<Digest> chunk_digests;
  std::string document;
  std::vector<std::string> extra_keys;
};

struct StoreTextRequest {
  Fingerprint fingerprint;
  Digest text_digest;
  std::vector<uint32_t> token_ids;
  std::string document;
  uint64_t ttl_ms = 0;
  std::vector<std::string> extra_keys;
};

// Of the K of a chunk's parts: unknown where one was stored before this was noted.
enum class KState { kUnknown, kRotated, kUnrotated, kMixed };

struct ChunkInfo {
  Digest chunk_digest;
  Fingerprint fingerprint;
  ChunkKind kind = ChunkKind::kPrefix;
  uint64_t token_begin = 0;
  uint32_t num_tokens = 0;
  uint64_t stored_bytes = 0;
  uint64_t raw_bytes = 0;
  ProfileId profile = ProfileId::kRaw;
  KState k_state = KState::kUnknown;
  uint32_t cells_present = 0;
  uint32_t cells_total = 0;
  int64_t created_ms = 0;
  int64_t expires_ms = 0;
  bool pinned = false;
  int64_t pinned_until_ms = 0;  // 0 = until unpinned, or not pinned
  bool in_ram = false;
  std::vector<std::string> documents;
};

struct ChunkFilter {
  std::optional<Fingerprint> fingerprint;
  std::string document;  // empty = any
  uint32_t limit = 100;
  std::string page_token;  // from ChunkPage, or empty
};

struct ChunkPage {
  std::vector<ChunkInfo> chunks;
  std::string next_page_token;  // empty = that was all
};

struct ModelFilter {
  uint32_t limit = 100;
  std::string page_token;  // from ModelPage, or empty
};

struct PartInfo {
  ContainerHeader header;
  uint64_t container_bytes = 0;
  std::vector<uint32_t> cells;
  uint64_t value_group = 0;
  uint64_t value_offset = 0;
};

struct ChunkDetails {
  ChunkInfo info;
  std::vector<PartInfo> parts;
  absl::Status verified;  // of every byte, when asked for
};

struct DeleteTarget {
  std::optional<Digest> chunk_digest;  // exactly one of the three
  std::optional<std::string> document;
  std::optional<Fingerprint> fingerprint;
};

enum class DeleteMode { kDelete, kDryRun };

struct DeleteCounts {
  uint64_t chunks = 0;
  uint64_t texts = 0;
  uint64_t bytes = 0;  // of chunks and objects
  uint64_t objects = 0;
};

// A calibration object, of the model it is stored for.
struct ObjectInfo {
  Digest digest;  // SHA-256 of its bytes
  Fingerprint fingerprint;
  CalibrationKind kind = CalibrationKind::kTransform;
  uint64_t object_bytes = 0;
  int64_t created_ms = 0;
  std::string display_name;
  bool active = false;  // of its model's objects of its kind
};

enum class ObjectActivation { kLeave, kActivate };

struct PutObjectRequest {
  Fingerprint fingerprint;
  Digest digest;
  std::string display_name;  // at most kMaxDisplayNameBytes
  ObjectActivation activation = ObjectActivation::kLeave;
};

struct PutObjectResult {
  ObjectInfo object;
  bool created = false;  // false: it was there
};

struct StoredObject {
  ObjectInfo object;
  SharedBytes bytes;
};

struct ModelInfo {
  Fingerprint fingerprint;
  std::string display_name;
  uint32_t chunk_tokens = 0;
  std::vector<uint8_t> canonical_spec;
  int64_t created_ms = 0;
};

struct ModelPage {
  std::vector<ModelInfo> models;
  std::string next_page_token;  // empty = that was all
};

struct TierInfo {
  std::string_view tier;  // "ram" or "disk"
  uint64_t chunks = 0;
  uint64_t bytes = 0;         // taken, with what is preallocated, dead and the index
  uint64_t stored_bytes = 0;  // of the containers that are there
  uint64_t raw_bytes = 0;     // of their KV before coding; 0 = not known
  uint64_t capacity_bytes = 0;
  uint64_t hits = 0;
  uint64_t misses = 0;
};

class ChunkStore {
 public:
  virtual ~ChunkStore() = default;

  // InvalidArgument on a spec or chunk length that is not valid; FailedPrecondition when another chunk length is
  // pinned.
  virtual absl::StatusOr<RegisteredModel> RegisterModel(const Caller& caller, ByteSpan canonical_spec,
                                                        uint32_t chunk_tokens, std::string_view display_name) = 0;
  // NotFound for a fingerprint that was not registered (as all calls below that name one).
  virtual absl::StatusOr<LookupResult> Lookup(const Caller& caller, const LookupQuery& query) = 0;
  // With a coding, what is stored only with more loss is missing; else whatever is stored counts.
  virtual absl::StatusOr<std::vector<CellSet>> FindMissing(const Caller& caller, const Fingerprint& fingerprint,
                                                           std::span<const ChunkOffer> offers,
                                                           std::optional<OfferedCoding> coding) = 0;
  // Verifies `container` completely (header, identity against `request`, every section's CRC, fit to the model), writes
  // the value, then commits the index. InvalidArgument or DataLoss name what is wrong; ResourceExhausted when the
  // disk or a capacity limit is full. Nothing is visible unless the result is OK.
  virtual absl::StatusOr<StoreOutcome> Store(const Caller& caller, const StoreRequest& request,
                                             SharedBytes container) = 0;
  // Never wrong data: a miss instead. Errors only for calls that make no sense (unknown model).
  virtual absl::StatusOr<RetrievedChunk> Retrieve(const Caller& caller, const RetrieveQuery& query) = 0;

  // Number of chunks of the text. InvalidArgument on no or too many tokens.
  virtual absl::StatusOr<uint64_t> StoreText(const Caller& caller, const StoreTextRequest& request) = 0;
  virtual absl::StatusOr<StoredText> LookupText(const Caller& caller, const Fingerprint& fingerprint,
                                                const Digest& text_digest) = 0;

  // Calibration objects, pinned and durable when acknowledged whatever the sync mode. `bytes` is checked: digest,
  // header, fingerprint. InvalidArgument names what is wrong; ResourceExhausted beyond kMaxObjectsPerModel or the
  // objects' share of the capacity (kObjectCapacityDivisor), or when disk or capacity are full.
  virtual absl::StatusOr<PutObjectResult> PutObject(const Caller& caller, const PutObjectRequest& request,
                                                    SharedBytes bytes) = 0;
  // The bytes agree with the digest. Without a fingerprint, of whichever model has it. NotFound when it is not stored
  // for the model or was found damaged.
  virtual absl::StatusOr<StoredObject> GetObject(const Caller& caller, const std::optional<Fingerprint>& fingerprint,
                                                 const Digest& digest) = 0;
  // Newest first.
  virtual absl::StatusOr<std::vector<ObjectInfo>> ListObjects(const Caller& caller, const Fingerprint& fingerprint) = 0;
  virtual absl::StatusOr<ObjectInfo> ActivateObject(const Caller& caller, const Fingerprint& fingerprint,
                                                    const Digest& digest) = 0;
  // FailedPrecondition for the active object unless forced. What it was.
  enum class ObjectDeletion { kUnlessActive, kForced };
  virtual absl::StatusOr<ObjectInfo> DeleteObject(const Caller& caller, const Fingerprint& fingerprint,
                                                  const Digest& digest, ObjectDeletion deletion) = 0;

  // Pages end at the limit (at most kMaxListLimit), or earlier for their bytes (kMaxPageBytes).
  virtual absl::StatusOr<ChunkPage> ListChunks(const Caller& caller, const ChunkFilter& filter) = 0;
  enum class Verify { kNo, kEveryByte };
  virtual absl::StatusOr<ChunkDetails> InspectChunk(const Caller& caller, const Digest& chunk_digest,
                                                    Verify verify) = 0;
  virtual absl::StatusOr<DeleteCounts> Delete(const Caller& caller, const DeleteTarget& target, DeleteMode mode) = 0;
  // ttl_ms 0 = until unpinned. Pinned chunks are not evicted; deleting them by name still works.
  enum class PinChange { kPin, kUnpin };
  virtual absl::Status Pin(const Caller& caller, const Digest& chunk_digest, PinChange change, uint64_t ttl_ms) = 0;
  virtual absl::StatusOr<ModelPage> ListModels(const Caller& caller, const ModelFilter& filter) = 0;

  virtual absl::Status Flush() = 0;
  struct CompactResult {
    uint64_t bytes_before = 0;
    uint64_t bytes_after = 0;
  };
  virtual absl::StatusOr<CompactResult> Compact() = 0;
  // A real round trip through value store and index; microseconds of each.
  struct ProbeResult {
    uint64_t index_micros = 0;
    uint64_t values_micros = 0;
  };
  virtual absl::StatusOr<ProbeResult> Probe() = 0;

  virtual std::vector<TierInfo> Tiers() = 0;
  struct Totals {
    uint64_t chunks = 0;
    uint64_t models = 0;
    uint64_t texts = 0;
    uint64_t objects = 0;
    uint64_t object_bytes = 0;
    uint64_t disk_free_bytes = 0;
    bool read_only = false;  // disk full: stores are refused until there is space
    std::string refusal;     // why, when read_only
  };
  virtual absl::StatusOr<Totals> GetTotals() = 0;

  // Flushes and closes everything below. Idempotent.
  virtual absl::Status Close() = 0;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_CHUNK_STORE_H_
