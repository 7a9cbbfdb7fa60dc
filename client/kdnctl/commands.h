#ifndef KDN_CLIENT_KDNCTL_COMMANDS_H_
#define KDN_CLIENT_KDNCTL_COMMANDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "client/kdnctl/session.h"

// One function a command. Each prints its report and returns what kdnctl exits with.

namespace kdn::ctl {

// Version of this kdnctl.
std::string ClientVersion();

enum class VersionScope { kClient, kClientAndServer };
ExitCode RunVersion(Session& session, VersionScope scope);
enum class HealthProbe { kLiveness, kReadiness };
ExitCode RunHealth(Session& session, HealthProbe probe);
ExitCode RunStatus(Session& session);
ExitCode RunStats(Session& session);
ExitCode RunConfigGet(Session& session, const std::string& key_prefix);
ExitCode RunModelLs(Session& session);

struct ChunkLsOptions {
  std::string model;
  std::string document;
  uint32_t limit = 100;
  std::string page_token;
};
ExitCode RunChunkLs(Session& session, const ChunkLsOptions& options);
ExitCode RunChunkInspect(Session& session, const std::string& key, VerifyMode verify);
ExitCode RunChunkGet(Session& session, const std::string& key, const std::string& out_path);
struct ChunkPutOptions {
  std::string path;
  std::string document;
  std::string profile;  // empty = as it is
};
ExitCode RunChunkPut(Session& session, const ChunkPutOptions& options);

struct ChunkRmOptions {
  std::string key;
  std::string document;
  std::string model;
  bool dry_run = false;
  bool yes = false;
};
ExitCode RunChunkRm(Session& session, const ChunkRmOptions& options);
ExitCode RunChunkPin(Session& session, const std::string& key, PinChange change, uint64_t ttl_ms);

// What this build codes; with a model, its calibration objects too.
ExitCode RunCodecLs(Session& session, const std::string& model);
struct CodecPutOptions {
  std::string path;
  std::string model;
  std::string name;
  bool activate = false;
};
ExitCode RunCodecPut(Session& session, const CodecPutOptions& options);
ExitCode RunCodecGet(Session& session, const std::string& key, const std::string& out_path);
ExitCode RunCodecActivate(Session& session, const std::string& key);
struct CodecRmOptions {
  std::string key;
  bool force = false;
  bool yes = false;
};
ExitCode RunCodecRm(Session& session, const CodecRmOptions& options);
enum class ProbeMode { kAskServer, kOffline };
ExitCode RunCodecProbe(Session& session, const std::string& path, ProbeMode mode);

struct LookupCommandOptions {
  std::string model;
  std::string tokens_path;
  std::string text_path;
  std::string policy = "default";
};
ExitCode RunLookup(Session& session, const LookupCommandOptions& options);

enum class Maintenance { kFlush, kCompact, kDrain, kUndrain };
ExitCode RunMaintenance(Session& session, Maintenance what);

enum class BenchMode { kStore, kRetrieve, kMixed };
struct BenchOptions {
  BenchMode mode = BenchMode::kRetrieve;
  uint32_t concurrency = 1;
  uint64_t chunk_bytes = uint64_t{2} << 20;
  uint32_t chunks = 32;
  int64_t duration_ms = 3000;
  uint32_t rounds = 5;
};
ExitCode RunBench(Session& session, const BenchOptions& options);

// Shells: "bash", "zsh", "fish". The script completes commands and flags.
ExitCode RunCompletion(const std::string& shell);

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_COMMANDS_H_
