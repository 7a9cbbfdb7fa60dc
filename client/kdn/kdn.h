#ifndef KDN_CLIENT_KDN_KDN_H_
#define KDN_CLIENT_KDN_KDN_H_

#include <stddef.h>
#include <stdint.h>

/* KDN's client library for every language: C99, one shared library (libkdn.so), no C++ types and no exceptions across
 * it. client/kdn/client.h documents the semantics in full; this header says what is particular to C.
 *
 * Threads: every function may be called from any thread, with the handles not being freed meanwhile. No call-backs: the
 * library never calls into the caller. Its own threads start with the first call that reaches a server.
 *
 * fork(): in the child, functions on a handle that was opened before return KDN_UNAVAILABLE; kdn_client_close and
 * kdn_model_free there only forget the handle. A child may open a client of its own if its parent had made no call yet
 * (gRPC, which the first call starts, does not survive a fork): else its calls return KDN_UNAVAILABLE, too.
 *
 * Structs that grow carry `struct_size`: set by the kdn_*_init function of each, and not to be changed. Fields not
 * mentioned keep the values init gave them. Strings are UTF-8, zero-terminated; input is copied unless said otherwise.
 */

#if defined(__GNUC__)
#define KDN_API __attribute__((visibility("default")))
#else
#define KDN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a function or struct changes in a way that existing callers would notice. */
#define KDN_ABI_VERSION 1

KDN_API uint32_t kdn_abi_version(void);
/* "0.1.0"; static. */
KDN_API const char* kdn_version(void);

/* The canonical status codes of gRPC and Abseil. */
typedef enum kdn_status {
  KDN_OK = 0,
  KDN_CANCELLED = 1,
  KDN_UNKNOWN = 2,
  KDN_INVALID_ARGUMENT = 3,
  KDN_DEADLINE_EXCEEDED = 4,
  KDN_NOT_FOUND = 5,
  KDN_ALREADY_EXISTS = 6,
  KDN_PERMISSION_DENIED = 7,
  KDN_RESOURCE_EXHAUSTED = 8,
  KDN_FAILED_PRECONDITION = 9,
  KDN_ABORTED = 10,
  KDN_OUT_OF_RANGE = 11,
  KDN_UNIMPLEMENTED = 12,
  KDN_INTERNAL = 13,
  KDN_UNAVAILABLE = 14,
  KDN_DATA_LOSS = 15,
  KDN_UNAUTHENTICATED = 16
} kdn_status;

/* "NOT_FOUND", ...; static. */
KDN_API const char* kdn_status_name(kdn_status status);
/* What the last function that failed on this thread said. Valid until the next call of the library on this thread. */
KDN_API const char* kdn_last_error(void);

/* Memory from the library. Free with kdn_bytes_free, which leaves it empty. Text in it is also zero-terminated (the
 * terminator is not counted). */
typedef struct kdn_bytes {
  uint8_t* data;
  size_t size;
} kdn_bytes;
KDN_API void kdn_bytes_free(kdn_bytes* bytes);

/* ---- Clients ------------------------------------------------------------------------------------------------- */

typedef struct kdn_client kdn_client;

typedef struct kdn_client_options {
  size_t struct_size;
  const char* endpoint;        /* "host:port" or "unix:/path"; default "127.0.0.1:9460" */
  const char* token;           /* NULL = none */
  int32_t tls;                 /* 1 = TLS, with the four below; 0 = plaintext */
  const char* tls_ca_file;     /* NULL = the system's authorities */
  const char* tls_cert_file;   /* NULL = no client certificate */
  const char* tls_key_file;    /* NULL = no client certificate */
  const char* tls_server_name; /* NULL = the host of the endpoint */
  int64_t dead_after_ms;       /* 250 */
  int64_t call_timeout_ms;     /* 5000 */
  int64_t transfer_timeout_ms; /* 30000 */
  uint64_t staging_bytes;      /* 256 MiB */
  uint64_t receive_bytes;      /* 256 MiB */
  uint32_t channels;           /* 1 */
  uint32_t transfer_threads;   /* 4 */
  uint32_t codec_threads;      /* 0 = min(2, cores) */
  const char* profile;         /* "raw", "lossless" (default), "int8", "q4", "transform" */
  uint64_t calibration_bytes;  /* 256 MiB: of calibration objects kept for further calls */
} kdn_client_options;

KDN_API void kdn_client_options_init(kdn_client_options* options);

/* Checks the options; reaches no server. */
KDN_API kdn_status kdn_client_open(const kdn_client_options* options, kdn_client** client);
/* Cancels and waits for every operation under way, then frees the client. NULL is ignored. Models outlive it. */
KDN_API void kdn_client_close(kdn_client* client);
/* Counters since the opening, a JSON object: {"chunks_loaded": n, ..., "misses": {"absent": n, ...},
 * "breaker": "closed" | "open"}. */
KDN_API kdn_status kdn_client_counters(kdn_client* client, kdn_bytes* json);

/* ---- Models -------------------------------------------------------------------------------------------------- */

#define KDN_DTYPE_BF16 1
#define KDN_DTYPE_FP16 2
#define KDN_DTYPE_FP8_E4M3 3
#define KDN_DTYPE_FP8_E5M2 4
#define KDN_DTYPE_FP32 5

#define KDN_ATTENTION_FULL 1
#define KDN_ATTENTION_SLIDING_WINDOW 2
#define KDN_ATTENTION_CHUNKED_WINDOW 3
#define KDN_ATTENTION_LATENT 4

#define KDN_ROPE_NONE 0
#define KDN_ROPE_HALF_SPLIT 1
#define KDN_ROPE_INTERLEAVED 2

typedef struct kdn_rope_spec {
  uint32_t style;         /* KDN_ROPE_* */
  uint32_t rotary_dim;    /* channels */
  uint32_t rotary_offset; /* first channel */
  float amplitude;        /* 1 unless the scaling rule has an attention factor; 1/16 to 16 */
  const float* inv_freq;  /* [rotary_dim / 2] radians per position */
} kdn_rope_spec;

typedef struct kdn_layer_spec {
  uint32_t attention; /* KDN_ATTENTION_* */
  uint32_t window;    /* tokens; 0 unless windowed */
  uint32_t num_kv_heads;
  uint32_t k_head_dim; /* channels */
  uint32_t v_head_dim; /* channels; 0 for latents */
  uint32_t rope_index; /* into ropes */
} kdn_layer_spec;

/* kernels/layout/model_spec.h documents each field. */
typedef struct kdn_model_spec {
  uint8_t weights_digest[32];   /* SHA-256 over the weight files' bytes */
  uint8_t tokenizer_digest[32]; /* SHA-256 over the tokenizer's definition */
  uint8_t adapter_digest[32];   /* zero without an adapter */
  uint32_t dtype;               /* KDN_DTYPE_* */
  const kdn_rope_spec* ropes;
  size_t num_ropes;
  const kdn_layer_spec* layers;
  size_t num_layers;
  const float* k_scales; /* fp8 only */
  size_t num_k_scales;
  const float* v_scales;
  size_t num_v_scales;
  const char* const* extra; /* "key=value", sorted, unique */
  size_t num_extra;
} kdn_model_spec;

/* The canonical encoding of a spec: what a fingerprint is the SHA-256 of. */
KDN_API kdn_status kdn_spec_encode(const kdn_model_spec* spec, kdn_bytes* canonical);
/* Fingerprint of canonical bytes, after checking them. */
KDN_API kdn_status kdn_spec_fingerprint(const uint8_t* canonical, size_t size, uint8_t fingerprint[32]);

typedef struct kdn_model kdn_model;

/* Registers the model of those canonical bytes (blocking). chunk_tokens 0 = what the server has pinned for it, else its
 * default. */
KDN_API kdn_status kdn_model_register(kdn_client* client, const uint8_t* canonical, size_t size, uint32_t chunk_tokens,
                                      const char* display_name, kdn_model** model);
KDN_API void kdn_model_free(kdn_model* model);
KDN_API void kdn_model_fingerprint(const kdn_model* model, uint8_t fingerprint[32]);
KDN_API uint32_t kdn_model_chunk_tokens(const kdn_model* model);
/* 1 when this registration was the first. */
KDN_API int kdn_model_created(const kdn_model* model);
/* Bytes of K and V of one token over all layers and heads. */
KDN_API uint64_t kdn_model_token_bytes(const kdn_model* model);

/* ---- Tokens and views ---------------------------------------------------------------------------------------- */

/* Tokens and what else their identity takes. Borrowed for the duration of the call. */
typedef struct kdn_span {
  size_t struct_size;
  const uint32_t* token_ids;
  size_t num_tokens;
  uint64_t first_token; /* index of the view's token 0: a multiple of the chunk length */
  int32_t segment;      /* 0 = prefix chunks; 1 = segment chunks, with the three below */
  uint64_t source_begin;
  const uint32_t* context_token_ids;
  size_t num_context_tokens;
  const char* const* extra_keys;
  size_t num_extra_keys;
} kdn_span;

KDN_API void kdn_span_init(kdn_span* span);

/* Digests of the span's chunks: 32 bytes each, one behind the other. */
KDN_API kdn_status kdn_chunk_digests(const kdn_model* model, const kdn_span* span, kdn_bytes* digests);

#define KDN_MEMORY_HOST 0
#define KDN_MEMORY_PINNED 1
#define KDN_MEMORY_DEVICE 2

/* Element (token t, head h, channel d) lies at data + t * token_stride + h * head_stride + d * channel_stride; with a
 * block table at data + blocks[t / block_tokens] * block_stride + (t % block_tokens) * token_stride + ...
 *
 * The memory behind a plane must hold every element with first_row <= t < num_tokens, 0 <= h < head_count and 0 <= d <
 * the model's k_head_dim or v_head_dim of that layer, and in a destination no two of them may share bytes. The library
 * gets addresses and strides, not sizes, so that it cannot check this: K and V of every layer have the same heads, rows
 * and blocks, and a plane with fewer than the view says is read, or written, beyond its end. What it does refuse
 * (KDN_INVALID_ARGUMENT): heads, layers or a dtype that the model does not have, missing planes, a first_row beyond
 * num_tokens, a block table that is too short or has negative entries, and a view that does not end at a chunk boundary
 * or with the span's tokens. */
typedef struct kdn_plane {
  void* data; /* element (0, 0, 0); NULL when absent (V of latents) */
  int64_t token_stride_bytes;
  int64_t head_stride_bytes;
  int64_t channel_stride_bytes;
  int64_t block_stride_bytes;
} kdn_plane;

typedef struct kdn_layer_view {
  uint32_t layer;
  uint32_t first_row; /* tokens of the view before it are absent at this layer (sliding windows) */
  kdn_plane k;
  kdn_plane v;
} kdn_layer_view;

/* The struct and its arrays are copied; the KV memory belongs to the operation until it is staged (store) or complete
 * (retrieve). */
typedef struct kdn_view {
  size_t struct_size;
  uint32_t dtype;  /* KDN_DTYPE_* */
  uint32_t memory; /* KDN_MEMORY_*; device memory needs a build with CUDA */
  uint32_t num_tokens;
  uint32_t head_begin;   /* first KV head held */
  uint32_t head_count;   /* at every layer */
  uint32_t block_tokens; /* 0 = no block table */
  const int32_t* blocks;
  size_t num_blocks;
  const kdn_layer_view* layers; /* ascending */
  size_t num_layers;
} kdn_view;

KDN_API void kdn_view_init(kdn_view* view);

/* ---- Blocking calls ------------------------------------------------------------------------------------------- */

typedef struct kdn_lookup_result {
  uint64_t hit_tokens; /* from first_token on */
  uint32_t hit_chunks;
  uint32_t chunks;
} kdn_lookup_result;

/* What a retrieve at the client's profile would load. head_count 0 = every head; timeout_ms 0 = the client's default
 * (everywhere below). */
KDN_API kdn_status kdn_lookup(kdn_client* client, const kdn_model* model, const kdn_span* span, uint32_t head_begin,
                              uint32_t head_count, int64_t timeout_ms, kdn_lookup_result* result);

/* A text stored before. */
typedef struct kdn_text kdn_text;
/* policy NULL = "default". KDN_NOT_FOUND when the text is unknown. */
KDN_API kdn_status kdn_lookup_text(kdn_client* client, const kdn_model* model, const char* utf8, size_t utf8_size,
                                   const char* policy, int64_t timeout_ms, kdn_text** text);
/* Valid until kdn_text_free. */
KDN_API const uint32_t* kdn_text_token_ids(const kdn_text* text, size_t* num_tokens);
KDN_API uint64_t kdn_text_hit_tokens(const kdn_text* text);
KDN_API const char* kdn_text_document(const kdn_text* text);
KDN_API size_t kdn_text_num_extra_keys(const kdn_text* text);
KDN_API const char* kdn_text_extra_key(const kdn_text* text, size_t index); /* NULL beyond the last */
KDN_API void kdn_text_free(kdn_text* text);

/* A call of the Admin service by name ("Status", "ListChunks", ...), JSON in and out; method "Health" answers
 * {"status": "SERVING"}. client/kdn/admin.h says how fields are spelled. request NULL = {}. */
KDN_API kdn_status kdn_admin(kdn_client* client, const char* method, const char* request_json, int64_t timeout_ms,
                             kdn_bytes* response_json);

/* One chunk as a verified container. KDN_NOT_FOUND on a miss. */
KDN_API kdn_status kdn_fetch_container(kdn_client* client, const kdn_model* model, const uint8_t chunk_digest[32],
                                       int64_t timeout_ms, kdn_bytes* container);
/* Stores a container; nothing reads `data` after the return. kind 1 = prefix, 2 = segment. outcome: 1 stored,
 * 2 deduplicated, 3 kept existing. document may be NULL. */
KDN_API kdn_status kdn_put_container(kdn_client* client, const kdn_model* model, const uint8_t* data, size_t size,
                                     uint32_t kind, const char* document, int64_t timeout_ms, uint32_t* outcome);

/* ---- Calibration objects --------------------------------------------------------------------------------------- */

/* What profiles need besides a container; client/kdn/client.h has the semantics. JSON of an object: {"digest": hex,
 * "fingerprint": hex, "kind": "transform" | "lossless", "object_bytes": n, "created_ms": n, "display_name": "...",
 * "active": bool}. All blocking. */

/* Stores an object. model NULL = the one whose fingerprint the object carries (KDN_INVALID_ARGUMENT for one that
 * carries none). activate 1 = make it what clients encode with. json, if not NULL: the object, and "created": bool. */
KDN_API kdn_status kdn_calibration_put(kdn_client* client, const kdn_model* model, const uint8_t* data, size_t size,
                                       const char* display_name, int32_t activate, int64_t timeout_ms, kdn_bytes* json);
/* The bytes of that digest, verified. model NULL = of whichever has it. KDN_NOT_FOUND when the server does not have it.
 */
KDN_API kdn_status kdn_calibration_get(kdn_client* client, const kdn_model* model, const uint8_t digest[32],
                                       int64_t timeout_ms, kdn_bytes* bytes);
/* A JSON array of the model's objects, newest first. */
KDN_API kdn_status kdn_calibration_list(kdn_client* client, const kdn_model* model, int64_t timeout_ms,
                                        kdn_bytes* json);
KDN_API kdn_status kdn_calibration_activate(kdn_client* client, const kdn_model* model, const uint8_t digest[32],
                                            int64_t timeout_ms);
/* KDN_FAILED_PRECONDITION for the active one unless force is 1. */
KDN_API kdn_status kdn_calibration_delete(kdn_client* client, const kdn_model* model, const uint8_t digest[32],
                                          int32_t force, int64_t timeout_ms);

/* ---- Asynchronous bulk operations ------------------------------------------------------------------------------ */

/* Identifies an operation of one client; never 0, never reused. An operation lives from its submission until its
 * completion was handed out by kdn_poll or kdn_wait. At most 1024 live at once (KDN_RESOURCE_EXHAUSTED). */
typedef uint64_t kdn_op;

typedef struct kdn_store_options {
  size_t struct_size;
  int64_t timeout_ms;
  const char* profile;            /* NULL = the client's */
  const char* document;           /* NULL = none */
  uint64_t ttl_ms;                /* 0 = the server's default */
  int32_t fail_when_staging_full; /* 0 = wait up to the deadline */
  /* Not NULL: remember as well that this text stands for the span's tokens. */
  const char* text_utf8;
  size_t text_utf8_size;
  const char* text_policy; /* NULL = "default" */
  double level;            /* profile "transform": the nominal ratio wanted; 0 = 8 */
} kdn_store_options;
KDN_API void kdn_store_options_init(kdn_store_options* options);

typedef struct kdn_retrieve_options {
  size_t struct_size;
  int64_t timeout_ms;
  const char*
      lossiest; /* a chunk stored only at a lossier profile is a miss ("incompatible"); NULL = the client's profile */
} kdn_retrieve_options;
KDN_API void kdn_retrieve_options_init(kdn_retrieve_options* options);

/* options NULL = defaults. A failed submission starts nothing. */
KDN_API kdn_status kdn_submit_store(kdn_client* client, const kdn_model* model, const kdn_span* span,
                                    const kdn_view* source, const kdn_store_options* options, kdn_op* op);
KDN_API kdn_status kdn_submit_retrieve(kdn_client* client, const kdn_model* model, const kdn_span* span,
                                       const kdn_view* destination, const kdn_retrieve_options* options, kdn_op* op);

#define KDN_OP_STORE 1
#define KDN_OP_RETRIEVE 2
#define KDN_NUM_MISS_REASONS 10

typedef struct kdn_completion {
  kdn_op op;
  uint32_t kind;        /* KDN_OP_* */
  kdn_status status;    /* of the whole operation; misses of a retrieve and rejected chunks of a store are no errors */
  uint64_t tokens;      /* retrieve: loaded, from the view's start; store: present on the server afterwards, likewise */
  uint32_t chunks;      /* asked for */
  uint32_t chunks_done; /* retrieve: loaded of the contiguous prefix; store: stored now */
  uint32_t chunks_skipped;               /* store: the server had them already */
  uint32_t chunks_rejected;              /* store */
  uint32_t misses[KDN_NUM_MISS_REASONS]; /* retrieve: by kdn::MissReason: 1 absent, 2 expired, 3 evicted, 4 corrupt,
                                            5 incompatible, 6 timeout, 7 over budget, 8 incomplete, 9 unavailable */
  uint64_t coded_bytes;                  /* sent or received */
  uint64_t raw_bytes;                    /* KV encoded or written */
  /* JSON object: {"message": "...", "chunks": [{"digest": hex, "outcome" or "miss": name, "message": ...}]}, with a row
   * for every chunk of a store and every miss of a retrieve, "profile", "level" (transform), "calibration" (its object)
   * and "fallback" (why it is not the profile asked for) of a store that coded something, and "message" of a status
   * that is not KDN_OK or of a transfer that broke off. Free with kdn_completion_clear. */
  kdn_bytes details;
} kdn_completion;
KDN_API void kdn_completion_clear(kdn_completion* completion);

/* An eventfd, owned by the client, readable while completions wait to be polled: for epoll, select, asyncio. Do not
 * read or close it: kdn_poll does what is needed. -1 in a forked child. */
KDN_API int kdn_completion_fd(kdn_client* client);
/* Hands out at most `max` completions, without blocking; returns how many. */
KDN_API size_t kdn_poll(kdn_client* client, kdn_completion* completions, size_t max);
/* Blocks until `op` is complete and hands out its completion. KDN_DEADLINE_EXCEEDED after timeout_ms (< 0 = for ever;
 * every operation has a deadline), KDN_NOT_FOUND when it was handed out before. */
KDN_API kdn_status kdn_wait(kdn_client* client, kdn_op op, int64_t timeout_ms, kdn_completion* completion);
/* Blocks until the source of a store is no longer read (at once for one handed out before). */
KDN_API kdn_status kdn_wait_staged(kdn_client* client, kdn_op op, int64_t timeout_ms);
/* Ends the operation as early as possible and returns when nothing reads or writes its view any more. Its completion
 * still is to be polled. KDN_OK also when it was complete or handed out already. */
KDN_API kdn_status kdn_cancel(kdn_client* client, kdn_op op);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* KDN_CLIENT_KDN_KDN_H_ */
