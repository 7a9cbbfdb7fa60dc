// Loads the input as a configuration file. What loads must print, in both formats, to a file that loads to the same.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "config/load.h"
#include "config/print.h"

namespace {

absl::StatusOr<kdn::config::Config> Load(std::string text) {
  kdn::config::Sources sources;
  sources.file = kdn::config::FileSource{"fuzz.yaml", std::move(text)};
  absl::StatusOr<kdn::config::Config> config = kdn::config::LoadConfig(sources);
  if (config.ok()) config->origins.clear();
  return config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using kdn::config::PrintFormat;
  const absl::StatusOr<kdn::config::Config> config = Load(std::string(reinterpret_cast<const char*>(data), size));
  if (!config.ok()) return 0;
  for (const PrintFormat format : {PrintFormat::kYaml, PrintFormat::kJson}) {
    const absl::StatusOr<kdn::config::Config> again =
        Load(kdn::config::PrintConfig(*config, format, kdn::config::PrintOrigins::kNo));
    if (!again.ok() || *again != *config) std::abort();
  }
  return 0;
}
