/* Uses the installed C ABI. */
#include <client/kdn/kdn.h>
#include <stdio.h>

int main(void) {
  kdn_client_options options;
  kdn_client* client = NULL;
  kdn_bytes answer = {0};
  kdn_client_options_init(&options);
  options.endpoint = "127.0.0.1:1";
  if (kdn_abi_version() != KDN_ABI_VERSION || kdn_client_open(&options, &client) != KDN_OK) return 1;
  const kdn_status status = kdn_admin(client, "Status", NULL, 0, &answer);
  printf("%s: %s\n", kdn_status_name(status), kdn_last_error());
  kdn_client_close(client);
  return status == KDN_OK ? 1 : 0;
}
