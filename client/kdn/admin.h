#ifndef KDN_CLIENT_KDN_ADMIN_H_
#define KDN_CLIENT_KDN_ADMIN_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/base/sha256.h"
#include "kernels/layout/model_spec.h"

// The operator's calls as plain values: proto/kdn/v1/admin.proto documents the fields. Everything acts inside the
// caller's tenant.

namespace kdn {

class ClientImpl;

struct ServerStatus {
  std::string version;
  std::string commit;
  std::string build;
  int64_t started_ms = 0;
  uint32_t container_major = 0;
  uint32_t container_minor = 0;
  uint32_t store_format = 0;
  std::string state;  // "serving", "draining", "read_only"
  std::string state_reason;
  std::string data_path;
  std::string values;
  std::string sync;
  std::string recovery;
  std::string listen;
  std::string metrics_listen;
};

struct TierStats {
  std::string tier;
  uint64_t chunks = 0;
  uint64_t bytes = 0;           // taken, with what is preallocated, dead and the index
  uint64_t raw_bytes = 0;       // KV before coding of what is stored; 0 = not known
  uint64_t capacity_bytes = 0;  // 0 = no limit
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t stored_bytes = 0;  // of the containers that are there
};

struct ServerStats {
  std::vector<TierStats> tiers;
  std::map<std::string, uint64_t> counters;
  uint64_t models = 0;
  uint64_t texts = 0;
  uint64_t disk_free_bytes = 0;
  uint64_t rss_bytes = 0;
  uint64_t objects = 0;  // calibration objects
  uint64_t object_bytes = 0;
};

struct ChunkSummary {
  Digest chunk_digest;
  Fingerprint fingerprint;
  uint64_t token_begin = 0;
  uint32_t num_tokens = 0;
  uint64_t stored_bytes = 0;
  uint64_t raw_bytes = 0;
  std::string profile;
  uint32_t cells_present = 0;
  uint32_t cells_total = 0;
  int64_t created_ms = 0;
  int64_t expires_ms = 0;  // 0 = never
  bool pinned = false;
  int64_t pinned_until_ms = 0;  // 0 = until unpinned, or not pinned
  bool in_ram = false;
  std::vector<std::string> documents;
  std::string kind;
  std::string k_state;  // "rotated", "unrotated", "mixed"; empty = not known
};

struct ChunkList {
  std::vector<ChunkSummary> chunks;
  std::string next_page_token;  // empty = that was all
};

struct ListChunksOptions {
  std::optional<Fingerprint> fingerprint;
  std::string document;  // empty = every document
  uint32_t limit = 0;    // 0 = 100, at most 1000
  std::string page_token;
};

struct ModelSummary {
  Fingerprint fingerprint;
  std::string display_name;
  uint32_t chunk_tokens = 0;
  std::vector<uint8_t> canonical_spec;
  int64_t created_ms = 0;
};

struct PartSummary {
  uint64_t container_bytes = 0;
  uint32_t header_bytes = 0;
  uint32_t sections = 0;
  uint32_t wide_sections = 0;  // of them
  uint32_t tiles = 0;
  std::map<std::string, uint64_t> tiles_by_profile;
  std::vector<uint32_t> cells;
  uint64_t value_group = 0;
  uint64_t value_offset = 0;
  std::map<std::string, uint64_t> bytes_by_profile;  // coded, of its tiles
  std::string k_state;                               // "rotated" or "unrotated"
  std::vector<Digest> calibration;                   // objects its tiles refer to
};

struct ChunkInspection {
  ChunkSummary summary;
  std::vector<PartSummary> parts;
  std::string verify_result;  // empty when not asked for, "ok", or what is damaged
};

struct DeleteTarget {  // exactly one is set
  std::optional<Digest> chunk_digest;
  std::optional<std::string> document;
  std::optional<Fingerprint> fingerprint;
};

struct DeleteCounts {
  uint64_t chunks = 0;
  uint64_t texts = 0;
  uint64_t bytes = 0;  // of chunks and objects
  uint64_t objects = 0;
};

struct CompactResult {
  uint64_t bytes_before = 0;
  uint64_t bytes_after = 0;
};

struct ProbeResult {
  uint64_t index_micros = 0;
  uint64_t values_micros = 0;
};

struct ConfigEntry {
  std::string key;
  std::string value;
  std::string origin;
};

enum class VerifyMode { kNo, kEveryByte };
enum class DeleteMode { kDelete, kDryRun };
enum class PinChange { kPin, kUnpin };
enum class DrainChange { kDrain, kUndo };

// Obtained from Client::admin(), whose lifetime it shares. Thread-safe; each call blocks for at most `timeout_ms` (0 =
// ClientOptions::call_timeout_ms, which also bounds those without the parameter). Errors are the server's, or
// Unavailable as for every call of Client.
class Admin {
 public:
  explicit Admin(ClientImpl& client) : client_(client) {}
  Admin(const Admin&) = delete;
  Admin& operator=(const Admin&) = delete;

  absl::StatusOr<ServerStatus> Status();
  absl::StatusOr<ServerStats> Stats();
  absl::StatusOr<ChunkList> ListChunks(const ListChunksOptions& options);
  // All of them, page by page.
  absl::StatusOr<std::vector<ModelSummary>> ListModels();
  absl::StatusOr<ChunkInspection> InspectChunk(const Digest& chunk_digest, VerifyMode verify, int64_t timeout_ms = 0);
  absl::StatusOr<DeleteCounts> Delete(const DeleteTarget& target, DeleteMode mode, int64_t timeout_ms = 0);
  // ttl_ms 0 = until unpinned.
  absl::Status Pin(const Digest& chunk_digest, PinChange change, uint64_t ttl_ms = 0);
  absl::Status Flush(int64_t timeout_ms = 0);
  absl::StatusOr<CompactResult> Compact(int64_t timeout_ms = 0);
  // The state afterwards: "draining" or "serving".
  absl::StatusOr<std::string> Drain(DrainChange change);
  absl::StatusOr<ProbeResult> Probe();
  absl::StatusOr<std::vector<ConfigEntry>> GetConfig();

  // The answer of grpc.health.v1.Health/Check for the whole server: "SERVING", "NOT_SERVING", "UNKNOWN" or
  // "SERVICE_UNKNOWN".
  absl::StatusOr<std::string> Health();

  // Any of the calls by its name in admin.proto ("ListChunks"), with request and response as JSON objects of the
  // protobuf fields (snake_case names, digests and other bytes as lower-case hexadecimal, 64-bit integers as numbers,
  // every field present). InvalidArgument on an unknown method, field or wrong type.
  absl::StatusOr<std::string> CallJson(std::string_view method, std::string_view request_json, int64_t timeout_ms = 0);

 private:
  ClientImpl& client_;
};

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_ADMIN_H_
