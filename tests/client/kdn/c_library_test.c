/* libkdn.so from C99: its header compiles, its symbols are there, errors come back as codes with messages. */

#include <stdio.h>
#include <string.h>

#include "client/kdn/kdn.h"

#define CHECK(condition)                                                                        \
  do {                                                                                          \
    if (!(condition)) {                                                                         \
      fprintf(stderr, "line %d: %s; last error: %s\n", __LINE__, #condition, kdn_last_error()); \
      return 1;                                                                                 \
    }                                                                                           \
  } while (0)

int main(void) {
  CHECK(kdn_abi_version() == KDN_ABI_VERSION);
  CHECK(strlen(kdn_version()) > 0);

  kdn_client_options options;
  kdn_client_options_init(&options);
  options.endpoint = "127.0.0.1:1"; /* nobody listens on tcpmux */
  kdn_client* client = NULL;
  CHECK(kdn_client_open(&options, &client) == KDN_OK);
  CHECK(kdn_completion_fd(client) >= 0);

  float inv_freq[4] = {1.0f, 0.5f, 0.25f, 0.125f};
  kdn_rope_spec rope = {KDN_ROPE_HALF_SPLIT, 8, 0, 1.0f, inv_freq};
  kdn_layer_spec layer = {KDN_ATTENTION_FULL, 0, 1, 16, 16, 0};
  kdn_model_spec spec;
  memset(&spec, 0, sizeof(spec));
  memset(spec.weights_digest, 1, sizeof(spec.weights_digest));
  memset(spec.tokenizer_digest, 2, sizeof(spec.tokenizer_digest));
  spec.dtype = KDN_DTYPE_BF16;
  spec.ropes = &rope;
  spec.num_ropes = 1;
  spec.layers = &layer;
  spec.num_layers = 1;
  kdn_bytes canonical = {NULL, 0};
  CHECK(kdn_spec_encode(&spec, &canonical) == KDN_OK);

  kdn_model* model = NULL;
  CHECK(kdn_model_register(client, canonical.data, canonical.size, 0, "m", &model) == KDN_UNAVAILABLE);
  CHECK(model == NULL && strlen(kdn_last_error()) > 0);
  CHECK(kdn_model_register(client, canonical.data, canonical.size - 1, 0, "m", &model) == KDN_INVALID_ARGUMENT);
  kdn_bytes_free(&canonical);
  CHECK(canonical.data == NULL);

  kdn_bytes json = {NULL, 0};
  CHECK(kdn_client_counters(client, &json) == KDN_OK);
  CHECK(strstr((const char*)json.data, "\"breaker\"") != NULL);
  kdn_bytes_free(&json);
  kdn_client_close(client);
  return 0;
}
