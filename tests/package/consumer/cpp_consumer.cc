// Uses the installed C++ API: identity without a server, and the error of a server that is not there.
#include <cstdio>
#include <vector>

#include "client/kdn/client.h"

int main() {
  kdn::ModelSpec spec;
  spec.weights_digest = kdn::Sha256::Of(kdn::AsBytes("weights"));
  spec.tokenizer_digest = kdn::Sha256::Of(kdn::AsBytes("tokenizer"));
  spec.ropes.resize(1);
  spec.layers.assign(2, {kdn::AttentionKind::kFull, 0, 2, 64, 64, 0});
  const std::vector<uint32_t> tokens(300, 7);
  const auto chunks = kdn::PrefixChunks({kdn::FingerprintOf(spec), 256, {}}, tokens);
  kdn::ClientOptions options;
  options.endpoint = "127.0.0.1:1";
  auto client = kdn::Client::Connect(options);
  if (!client.ok()) return 1;
  const auto model = (*client)->RegisterModel(spec, 0, "consumer");
  std::printf("%zu chunks; %s\n", chunks.size(), model.status().ToString().c_str());
  return chunks.size() == 2 && !model.ok() ? 0 : 1;
}
