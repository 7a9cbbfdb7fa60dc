#ifndef KDN_CLIENT_KDN_CLIENT_H_
#define KDN_CLIENT_KDN_CLIENT_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/kdn/admin.h"
#include "client/kdn/calibration.h"
#include "client/kdn/future.h"
#include "client/transport/grpc_log.h"
#include "client/transport/grpc_options.h"
#include "client/transport/miss_reason.h"
#include "client/transport/transport_stats.h"
#include "kernels/base/bytes.h"
#include "kernels/base/sha256.h"
#include "kernels/chunk/chunker.h"
#include "kernels/format/profile.h"
#include "kernels/layout/cell_map.h"
#include "kernels/layout/kv_view.h"
#include "kernels/layout/model_spec.h"

// KDN's client library: stores an engine's KV on a kdnd under the identity of its tokens, and loads it back.
//
//   kdn::ClientOptions options;
//   options.endpoint = "127.0.0.1:9460";
//   auto client = kdn::Client::Connect(options);
//   auto model = (*client)->RegisterModel(spec, /*chunk_tokens=*/0, "SmolLM2-135M");
//   (*client)->Store(*model, token_ids, view, {}).Wait();
//   auto loaded = (*client)->Retrieve(*model, token_ids, destination, {});
//   if (loaded.Wait().ok()) ... loaded.Wait()->tokens_loaded ...

namespace kdn {

inline constexpr std::string_view kDefaultEndpoint = "127.0.0.1:9460";
inline constexpr double kDefaultTransformLevel = 8.0;
inline constexpr uint32_t kMaxTransferThreads = 64;
inline constexpr uint32_t kMaxCodecThreads = 64;
inline constexpr uint32_t kMaxQueuedOperations = 1024;
inline constexpr int64_t kMaxTimeoutMs = int64_t{24} * 3600 * 1000;

struct ClientOptions {
  // "host:port" or "unix:/path".
  std::string endpoint = std::string(kDefaultEndpoint);
  // What a server that does not answer may cost, once; afterwards calls fail at once until it answers again. Refused or
  // timed-out connections count, and calls of which nothing came back while a health check went unanswered too.
  int64_t dead_after_ms = 250;
  OnRefusal on_refusal = OnRefusal::kTryAgain;
  // Deadlines where a call's options say 0.
  int64_t call_timeout_ms = 5'000;       // unary calls
  int64_t transfer_timeout_ms = 30'000;  // Store, Retrieve, containers
  std::optional<TlsOptions> tls;
  // Sent as "authorization: Bearer ..." with every call. Needs TLS unless the endpoint is loopback or unix:.
  std::string token;
  // Bounds of what the client holds: coded bytes on their way to the server, and on their way from it to the decoder.
  uint64_t staging_bytes = uint64_t{256} << 20;
  uint64_t receive_bytes = uint64_t{256} << 20;
  uint64_t calibration_bytes = uint64_t{256} << 20;  // of calibration objects that are kept for further calls
  uint32_t channels = 1;                             // TCP connections, 1 to kMaxChannels; bulk calls take turns
  uint32_t transfer_threads = 4;                     // Store and Retrieve that make progress at once; more are queued
  uint32_t codec_threads = 0;                        // 0 = min(2, cores)
  // How Store codes tiles where StoreOptions does not say: kRaw, kLossless, kInt8, kQ4 or kTransform
  // (kernels/codec/README.md). int8, q4 and transform change values; they are not for fp32 KV (Store: InvalidArgument),
  // and tiles they cannot hold are stored at exact profiles (of q4: K without its rotary embedding, so that only V is
  // exact). kTransform codes with the model's active calibration object; without one, Store uses kQ4 and says so
  // (StoreResult::fallback). Also what Retrieve accepts where RetrieveOptions does not say.
  ProfileId profile = ProfileId::kLossless;
};

// A registered model: what calls about its KV need. Immutable; cheap to copy; independent of the Client it came from,
// and valid for every Client of the same server and tenant.
class ModelHandle {
 public:
  ModelHandle() = default;  // valid() false: calls with it return InvalidArgument

  bool valid() const { return data_ != nullptr; }
  // The rest requires valid().
  const ModelSpec& spec() const { return data_->spec; }
  const Fingerprint& fingerprint() const { return data_->fingerprint; }
  uint32_t chunk_tokens() const { return data_->chunk_tokens; }
  const CellMap& cells() const { return data_->cells; }
  // False when the server had the model already.
  bool created() const { return data_->created; }

 private:
  friend class ClientImpl;
  struct Data {
    ModelSpec spec;
    Fingerprint fingerprint;
    uint32_t chunk_tokens = 0;
    CellMap cells;
    bool created = false;
  };
  // Shared by the copies of the handle.
  std::shared_ptr<const Data> data_;
};

// Segment identity: the tokens stand for themselves, behind a (possibly empty) shared context.
struct SegmentContext {
  std::vector<uint32_t> context_token_ids;
  // Position at which the first token was computed.
  uint64_t source_begin = 0;
};

// Identity of the tokens of a call beyond the tokens themselves.
struct SpanOptions {
  // Set: segment chunks. Not set: prefix chunks, the first token at position 0.
  std::optional<SegmentContext> segment;
  // The engine's further keys (image hashes, cache salt), part of every digest.
  std::vector<std::string> extra_keys;
  // Index into token_ids of the view's token 0: a multiple of the chunk length. The chunks before it are part of the
  // identity but neither stored nor loaded.
  uint64_t first_token = 0;
};

struct LookupOptions {
  SpanOptions span;
  // Heads the reader holds (a tensor-parallel rank's); head_count 0 = all.
  uint32_t head_begin = 0;
  uint32_t head_count = 0;
  int64_t timeout_ms = 0;  // 0 = ClientOptions::call_timeout_ms
  // Chunks that are stored only at a lossier profile do not count. nullopt = ClientOptions::profile.
  std::optional<ProfileId> lossiest;
};

struct LookupResult {
  // Of the tokens from first_token on: those a Retrieve would load now, windows of sliding layers included.
  uint64_t hit_tokens = 0;
  uint32_t hit_chunks = 0;
  uint32_t chunks = 0;        // asked about
  std::vector<bool> present;  // segments only: per chunk
};

enum class WhenStagingFull {
  kWait,  // for room, up to the deadline
  kFail,  // ResourceExhausted as soon as a chunk finds none; nothing of the call is stored then
};

struct StoreOptions {
  SpanOptions span;
  int64_t timeout_ms = 0;            // 0 = ClientOptions::transfer_timeout_ms
  std::optional<ProfileId> profile;  // nullopt = ClientOptions::profile
  // Profile transform: how many times smaller the KV is to become, nominally. Of the levels of the model's active
  // calibration object the nearest that is at least that is taken; InvalidArgument, naming them, when there is none.
  double level = kDefaultTransformLevel;
  std::string document;  // optional name, for deletion by document; at most 512 bytes
  uint64_t ttl_ms = 0;   // 0 = the server's default
  WhenStagingFull when_staging_full = WhenStagingFull::kWait;
};

enum class ChunkStoreOutcome {
  kStored = 1,
  kDeduplicated = 2,  // every cell was there with the same bytes
  kKeptExisting = 3,  // every cell was there with no more loss, with other bytes: the first stay
  kRejected = 4,      // `status` says why
  kSkipped = 5,       // the server had every cell offered: nothing was encoded or sent
};

// "stored", "deduplicated", "kept_existing", "rejected", "skipped"; "unknown" for other values.
std::string_view ChunkStoreOutcomeName(ChunkStoreOutcome outcome);

struct ChunkStoreResult {
  Digest chunk_digest;
  ChunkStoreOutcome outcome = ChunkStoreOutcome::kSkipped;
  absl::Status status;        // of kRejected
  uint64_t stored_bytes = 0;  // coded, as sent
};

struct StoreResult {
  static constexpr bool kContinuesUnobserved = true;
  uint64_t tokens_present = 0;  // of the view, in chunks that the server now has (contiguous from the view's start)
  uint64_t raw_bytes = 0;       // KV encoded
  uint64_t sent_bytes = 0;      // containers
  ProfileId profile = ProfileId::kLossless;  // that chunks were coded at, where any were
  double level = 0;                          // of profile transform: the nominal ratio taken
  Digest calibration;                        // of profile transform: the object
  std::string fallback;                      // why another profile than the one asked for was used; else empty
  std::vector<ChunkStoreResult> chunks;
};

struct ChunkMiss {
  uint32_t chunk_index = 0;  // of those asked for: the chunk of the view's token 0 is 0
  Digest chunk_digest;
  MissReason reason = MissReason::kAbsent;
  std::string message;
};

struct RetrieveOptions {
  SpanOptions span;
  int64_t timeout_ms = 0;  // 0 = ClientOptions::transfer_timeout_ms
  // Chunks stored only at a lossier profile are a miss (MissReason::kIncompatible), never loaded unasked; of the
  // variants that lose no more the smallest is loaded. nullopt = ClientOptions::profile: who stores exact KV gets exact
  // KV. Store skips what the server has with no more loss, and puts a variant beside what loses more. What was computed
  // on top of rounded KV should be stored at the profile it was loaded with.
  std::optional<ProfileId> lossiest;
};

struct RetrieveResult {
  static constexpr bool kContinuesUnobserved = false;
  // Tokens of the view, from its start, whose KV is loaded: every byte of every chunk up to here was received, verified
  // (identity, checksums) and written. What the destination holds beyond is unspecified: it may have been written in
  // part. 0 to the number of tokens asked for, at a chunk boundary unless it is all of them.
  uint64_t tokens_loaded = 0;
  uint32_t chunks_loaded = 0;       // of that prefix
  std::vector<bool> chunk_loaded;   // every chunk asked for, whether or not it extends the prefix (for segments)
  std::vector<ChunkMiss> misses;    // ascending chunk index
  uint64_t received_bytes = 0;      // coded
  uint64_t written_bytes = 0;       // KV, decoded
  uint32_t chunks_from_ram = 0;     // of the server
  absl::Status transfer_status;     // not OK: the transfer broke off (deadline, server gone); `misses` has the rest
  std::vector<uint32_t> token_ids;  // RetrieveText: the text's tokens
};

// A text as stores and look-ups name it. Borrowed for the duration of the call.
struct TextRef {
  // The exact bytes: nothing is normalised.
  std::string_view utf8;
  // The tokenizer's handling of special tokens, part of a text's identity.
  std::string_view special_token_policy = "default";
};

struct TextLookup {
  std::vector<uint32_t> token_ids;
  std::vector<ChunkId> chunks;  // recomputed here from the tokens, equal to what the server says
  std::vector<std::string> extra_keys;
  std::string document;
  uint64_t hit_tokens = 0;  // as Lookup's
};

// Containers as they are: for tools and benchmarks.
struct ContainerFetch {
  Digest chunk_digest;
  // Receives the chunk's parts (containers of different writers), one behind the other. Too small: the chunk is a miss
  // kOverBudget, and FetchedContainer::bytes says how much it takes at least.
  MutableByteSpan destination;
};

struct FetchedPart {
  uint64_t offset = 0;  // in the destination
  uint64_t bytes = 0;   // of the container
  // The cells to take from this part. Sections of other cells are not sent: their bytes are unspecified.
  CellSet cells;
  bool whole = true;  // every byte of the container was sent
};

struct FetchedContainer {
  std::optional<MissReason> miss;
  std::string miss_message;
  uint64_t bytes = 0;
  std::vector<FetchedPart> parts;
};

enum class ContainerVerify {
  kFramesAndHeader,  // checksums of the transfer, header and identity
  kEveryByte,        // and every section's own checksum
};

struct FetchOptions {
  int64_t timeout_ms = 0;
  ContainerVerify verify = ContainerVerify::kEveryByte;
};

struct PutOptions {
  int64_t timeout_ms = 0;
  ChunkKind kind = ChunkKind::kPrefix;
  std::string document;
  uint64_t ttl_ms = 0;
  // Set: the containers are decoded and coded anew at this profile first. What an earlier profile lost stays lost.
  std::optional<ProfileId> profile = std::nullopt;
};

// Since Connect. `misses` is indexed by MissReason.
struct ClientCounters {
  uint64_t chunks_loaded = 0;
  uint64_t tokens_loaded = 0;
  std::array<uint64_t, kNumMissReasons> misses{};
  uint64_t received_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t chunks_stored = 0;
  uint64_t chunks_skipped = 0;
  uint64_t chunks_deduplicated = 0;
  uint64_t chunks_kept_existing = 0;
  uint64_t chunks_rejected = 0;
  uint64_t sent_bytes = 0;
  uint64_t profile_fallbacks = 0;  // stores that used another profile than the one asked for
  uint64_t calls_refused_by_breaker = 0;
  uint64_t breaker_opened = 0;
  BreakerState breaker = BreakerState::kClosed;
};

// Thread-safe. Blocking functions say so; the others return at once and do their work on the client's threads, which
// start with the first use, as gRPC does. Every call has a deadline.
//
// fork(): a child may open clients of its own if its parent had made no call yet; a client opened before is refused
// there.
//
// Errors of every call: Unavailable when the server cannot be reached (at once while the breaker is open) or in a
// forked child that may not call; DeadlineExceeded; Unauthenticated or PermissionDenied; InvalidArgument for arguments
// that contradict the contract.
class Client {
 public:
  // Checks the options; reaches no server. InvalidArgument names the option that is wrong: also for a token that would
  // travel in plaintext to another host.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const ClientOptions& options);
  // Cancels and waits for every operation under way.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Registers `spec` (blocking), idempotently. chunk_tokens 0 = what the server has pinned for it, else its default.
  // InvalidArgument on a spec that is not valid; FailedPrecondition when another chunk length is pinned.
  absl::StatusOr<ModelHandle> RegisterModel(const ModelSpec& spec, uint32_t chunk_tokens,
                                            std::string_view display_name);

  // How much of `token_ids` could be loaded now (blocking).
  absl::StatusOr<LookupResult> Lookup(const ModelHandle& model, std::span<const uint32_t> token_ids,
                                      const LookupOptions& options);

  // Stores the KV of token_ids[first_token, first_token + view.num_tokens) (the last chunk may be short: exactly when
  // that reaches the end of token_ids; else the range must end at a chunk boundary). Only cells that the server lacks
  // are encoded and sent. token_ids, options and the view's layer list and block table are copied; the KV memory is
  // read until the staged point (Future::WaitStaged). The future's error is that of the whole call; of single chunks,
  // ChunkStoreResult tells.
  Future<StoreResult> Store(const ModelHandle& model, std::span<const uint32_t> token_ids, const KvView& view,
                            const StoreOptions& options);

  // Loads KV of token_ids[first_token, first_token + destination.num_tokens), a range as for Store, into `destination`;
  // arguments are copied as by Store. Misses are a result, not an error: also when the server goes away or the deadline
  // passes in the middle (transfer_status). An error means that nothing was loaded.
  Future<RetrieveResult> Retrieve(const ModelHandle& model, std::span<const uint32_t> token_ids,
                                  const KvView& destination, const RetrieveOptions& options);

  // Store, then remembers that `text` stands for `token_ids`.
  Future<StoreResult> StoreText(const ModelHandle& model, const TextRef& text, std::span<const uint32_t> token_ids,
                                const KvView& view, const StoreOptions& options);

  // The tokens of a text stored before (blocking). The chunk digests the server remembers are compared with those that
  // the tokens give here: DataLoss when they differ. NotFound when the text is unknown.
  absl::StatusOr<TextLookup> LookupText(const ModelHandle& model, const TextRef& text, const LookupOptions& options);

  // LookupText, then Retrieve of the first min(destination.num_tokens, tokens of the text) tokens, as far as these are
  // whole chunks.
  Future<RetrieveResult> RetrieveText(const ModelHandle& model, const TextRef& text, const KvView& destination,
                                      const RetrieveOptions& options);

  // Fetches chunks still coded into the caller's memory, with one copy (blocking). One result per fetch, in order.
  // Misses as for Retrieve; when the transfer breaks off, chunks that were not complete are misses kUnavailable or
  // kTimeout.
  absl::StatusOr<std::vector<FetchedContainer>> FetchContainers(const ModelHandle& model,
                                                                std::span<const ContainerFetch> fetches,
                                                                const FetchOptions& options);

  // One chunk as one verified container (blocking); parts of several writers are merged. NotFound on a miss, with its
  // reason in the message.
  absl::StatusOr<std::vector<uint8_t>> FetchContainer(const ModelHandle& model, const Digest& chunk_digest,
                                                      const FetchOptions& options);

  // Stores containers as they are, after checking their headers against `model` (blocking). The memory is not copied;
  // nothing reads it after the return. One result per container, in order.
  absl::StatusOr<std::vector<ChunkStoreResult>> PutContainers(const ModelHandle& model,
                                                              std::span<const ByteSpan> containers,
                                                              const PutOptions& options);

  // Calibration objects, of a registered model (all blocking; timeout_ms 0 = the client's default).
  //
  // Stores one; InvalidArgument for bytes that are no object or of another model, ResourceExhausted beyond the server's
  // limits on objects.
  absl::StatusOr<PutCalibrationResult> PutCalibration(const Fingerprint& fingerprint, ByteSpan bytes,
                                                      const PutCalibrationOptions& options);
  // The bytes of that digest, from this client's cache or the server, verified. Without a fingerprint, of whichever
  // model has it. NotFound when the server does not have it.
  absl::StatusOr<CalibrationBytes> GetCalibration(const std::optional<Fingerprint>& fingerprint, const Digest& digest,
                                                  int64_t timeout_ms = 0);
  // Newest first.
  absl::StatusOr<std::vector<CalibrationInfo>> ListCalibrations(const Fingerprint& fingerprint, int64_t timeout_ms = 0);
  // Makes it the one that clients encode with; noticed by others within seconds. NotFound as above.
  absl::StatusOr<CalibrationInfo> ActivateCalibration(const Fingerprint& fingerprint, const Digest& digest,
                                                      int64_t timeout_ms = 0);
  // Chunks that refer to it are misses (kIncompatible) for whoever does not have it cached. FailedPrecondition for the
  // active one unless forced; then the one that was active before is again. NotFound as above.
  absl::Status DeleteCalibration(const Fingerprint& fingerprint, const Digest& digest, CalibrationDeletion deletion,
                                 int64_t timeout_ms = 0);

  // The chunks that Store and Retrieve would use for these tokens (no call).
  static absl::StatusOr<std::vector<ChunkId>> Chunks(const ModelHandle& model, std::span<const uint32_t> token_ids,
                                                     const SpanOptions& options);

  Admin& admin();
  ClientCounters counters() const;
  const ClientOptions& options() const;

 private:
  explicit Client(std::unique_ptr<ClientImpl> impl);
  friend class ClientImpl;
  std::unique_ptr<ClientImpl> impl_;
};

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_CLIENT_H_
