#include "client/kdnctl/command_line.h"

#include <CLI/CLI.hpp>
#include <functional>
#include <map>

#include "client/kdnctl/commands.h"

namespace kdn::ctl {
namespace {

using Action = std::function<ExitCode(Session&)>;

// What the arguments said. Commands bind their flags to these fields and set `action`.
struct Invocation {
  GlobalOptions global;
  Action action;
  bool flag = false;
  std::string key;
  std::string path;
  std::string text;
  std::string shell;
  uint64_t ttl_ms = 0;
  ChunkLsOptions chunk_ls;
  ChunkRmOptions chunk_rm;
  LookupCommandOptions lookup;
  BenchOptions bench;
};

void AddGlobals(CLI::App& app, GlobalOptions& options) {
  static const std::map<std::string, OutputFormat> kFormats = {
      {"table", OutputFormat::kTable}, {"json", OutputFormat::kJson}, {"yaml", OutputFormat::kYaml}};
  app.add_option("--endpoint", options.endpoint, "kdnd's address: host:port or unix:/path")
      ->envname("KDNCTL_ENDPOINT")
      ->capture_default_str();
  app.add_flag("--tls", options.tls, "Use TLS with the system's authorities")->envname("KDNCTL_TLS");
  app.add_option("--tls-ca", options.tls_ca, "PEM of the authorities to trust; implies TLS")->envname("KDNCTL_TLS_CA");
  app.add_option("--tls-cert", options.tls_cert, "PEM of this client's certificate (mTLS)")->envname("KDNCTL_TLS_CERT");
  app.add_option("--tls-key", options.tls_key, "PEM of its key")->envname("KDNCTL_TLS_KEY");
  app.add_option("--tls-server-name", options.tls_server_name, "Name to expect in the server's certificate")
      ->envname("KDNCTL_TLS_SERVER_NAME");
  app.add_option("--token-file", options.token_file, "File that holds the bearer token")->envname("KDNCTL_TOKEN_FILE");
  app.add_option("--timeout", options.timeout_ms, "Deadline of one call: 500ms, 5s, 1m")
      ->envname("KDNCTL_TIMEOUT")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, int64_t>{{"ms", 1}, {"s", 1000}, {"m", 60000}},
                                        CLI::AsNumberWithUnit::CASE_INSENSITIVE, "DURATION"))
      ->default_str("5s");
  app.add_option("-o,--output", options.output, "table, json or yaml")
      ->envname("KDNCTL_OUTPUT")
      ->transform(CLI::CheckedTransformer(kFormats, CLI::ignore_case))
      ->default_str("table");
  app.add_flag("-q,--quiet", options.quiet, "No remarks and no progress on stderr");
}

CLI::App* AddCommand(CLI::App& parent, Invocation& invocation, const char* name, const char* help, Action action) {
  CLI::App* command = parent.add_subcommand(name, help);
  command->fallthrough();
  command->callback([&invocation, action = std::move(action)] { invocation.action = action; });
  return command;
}

void AddSeeCommands(CLI::App& app, Invocation& in) {
  AddCommand(app, in, "version", "Versions of kdnctl and of the server", [&in](Session& s) {
    return RunVersion(s, in.flag ? VersionScope::kClient : VersionScope::kClientAndServer);
  })->add_flag("--client", in.flag, "Ask no server");
  CLI::App* health =
      AddCommand(app, in, "health", "Whether the server serves, by a real round trip", [&in](Session& s) {
        return RunHealth(s, in.text == "liveness" ? HealthProbe::kLiveness : HealthProbe::kReadiness);
      });
  health->add_option("--for", in.text, "liveness (answers at all) or readiness")
      ->check(CLI::IsMember({"liveness", "readiness"}))
      ->default_str("readiness");
  AddCommand(app, in, "status", "State, versions, paths", [](Session& s) { return RunStatus(s); });
  AddCommand(app, in, "stats", "Tiers and counters", [](Session& s) { return RunStats(s); });
  CLI::App* config = app.add_subcommand("config", "The server's configuration")->require_subcommand(1)->fallthrough();
  AddCommand(*config, in, "get", "Effective values and where each comes from", [&in](Session& s) {
    return RunConfigGet(s, in.key);
  })->add_option("KEY", in.key, "Only keys that start so");
  CLI::App* model = app.add_subcommand("model", "Registered models")->require_subcommand(1)->fallthrough();
  AddCommand(*model, in, "ls", "List them", [](Session& s) { return RunModelLs(s); });
}

void AddChunkReadCommands(CLI::App& chunk, Invocation& in) {
  CLI::App* ls = AddCommand(chunk, in, "ls", "List chunks", [&in](Session& s) { return RunChunkLs(s, in.chunk_ls); });
  ls->add_option("--model", in.chunk_ls.model, "Of this model: fingerprint, its start, or name");
  ls->add_option("--document", in.chunk_ls.document, "Stored under this document name");
  ls->add_option("--limit", in.chunk_ls.limit, "At most this many")->check(CLI::Range(1, 1000))->capture_default_str();
  ls->add_option("--page-token", in.chunk_ls.page_token, "Where the last page ended");
  CLI::App* inspect = AddCommand(chunk, in, "inspect", "Everything about one chunk", [&in](Session& s) {
    return RunChunkInspect(s, in.key, in.flag ? VerifyMode::kEveryByte : VerifyMode::kNo);
  });
  inspect->add_option("KEY", in.key, "Chunk digest or its start")->required();
  inspect->add_flag("--verify", in.flag, "Read every byte and check every checksum");
  CLI::App* get = AddCommand(chunk, in, "get", "Save a chunk's container",
                             [&in](Session& s) { return RunChunkGet(s, in.key, in.path); });
  get->add_option("KEY", in.key, "Chunk digest or its start")->required();
  get->add_option("--out", in.path, "File to write; - for stdout")->required();
}

void AddChunkWriteCommands(CLI::App& chunk, Invocation& in) {
  CLI::App* put =
      AddCommand(chunk, in, "put", "Store a container", [&in](Session& s) { return RunChunkPut(s, in.path, in.text); });
  put->add_option("FILE", in.path, "A container as saved by get; - for stdin")->required();
  put->add_option("--document", in.text, "Document name to store it under");
  CLI::App* rm = AddCommand(chunk, in, "rm", "Delete chunks", [&in](Session& s) { return RunChunkRm(s, in.chunk_rm); });
  rm->add_option("KEY", in.chunk_rm.key, "Chunk digest or its start");
  rm->add_option("--document", in.chunk_rm.document, "All chunks and texts of this document");
  rm->add_option("--model", in.chunk_rm.model, "This model with all its chunks and texts");
  rm->add_flag("--dry-run", in.chunk_rm.dry_run, "Only say what would go");
  rm->add_flag("-y,--yes", in.chunk_rm.yes, "Do not ask");
  const auto pin = [&](const char* name, const char* help, PinChange change) {
    CLI::App* command = AddCommand(chunk, in, name, help,
                                   [&in, change](Session& s) { return RunChunkPin(s, in.key, change, in.ttl_ms); });
    command->add_option("KEY", in.key, "Chunk digest or its start")->required();
    return command;
  };
  pin("pin", "Keep a chunk from eviction", PinChange::kPin)
      ->add_option("--ttl", in.ttl_ms, "For this long: 10m, 24h (default: until unpinned)")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, uint64_t>{{"s", 1000}, {"m", 60000}, {"h", 3600000}},
                                        CLI::AsNumberWithUnit::UNIT_REQUIRED, "DURATION"));
  pin("unpin", "Let it be evicted again", PinChange::kUnpin);
}

void AddLookup(CLI::App& app, Invocation& in) {
  CLI::App* lookup = AddCommand(app, in, "lookup", "How many tokens of a prompt would hit",
                                [&in](Session& s) { return RunLookup(s, in.lookup); });
  lookup->add_option("--tokens", in.lookup.tokens_path, "File of token ids (JSON array or plain list); - for stdin");
  lookup->add_option("--text", in.lookup.text_path, "File of a text stored before; - for stdin");
  lookup->add_option("--model", in.lookup.model, "Fingerprint, its start, or name; default: the only one");
  lookup->add_option("--policy", in.lookup.policy, "Special-token policy the text was stored with")
      ->capture_default_str();
}

void AddBench(CLI::App& app, Invocation& in) {
  CLI::App* bench = app.add_subcommand("bench", "Throughput against plain TCP in the same run");
  bench->require_subcommand(1)->fallthrough();
  const auto add = [&](const char* name, const char* help, BenchMode mode) {
    CLI::App* command = AddCommand(*bench, in, name, help, [&in, mode](Session& s) {
      in.bench.mode = mode;
      return RunBench(s, in.bench);
    });
    command->add_option("--conc", in.bench.concurrency, "Operations in flight")
        ->check(CLI::Range(1, 64))
        ->capture_default_str();
    command->add_option("--chunk-bytes", in.bench.chunk_bytes, "Size of a chunk: 256KiB to 256MiB")
        ->transform(CLI::AsSizeValue(false))
        ->default_str("2MiB");
    command->add_option("--chunks", in.bench.chunks, "Different chunks")->capture_default_str();
    command->add_option("--rounds", in.bench.rounds, "Interleaved rounds; medians are reported")->capture_default_str();
    command->add_option("--duration", in.bench.duration_ms, "Of one side of a round: 500ms, 3s")
        ->transform(CLI::AsNumberWithUnit(std::map<std::string, int64_t>{{"ms", 1}, {"s", 1000}},
                                          CLI::AsNumberWithUnit::CASE_INSENSITIVE, "DURATION"))
        ->default_str("3s");
  };
  add("store", "Store chunks", BenchMode::kStore);
  add("retrieve", "Retrieve chunks, verified, still coded", BenchMode::kRetrieve);
  add("mixed", "Half of the workers store, half retrieve", BenchMode::kMixed);
}

void AddOperate(CLI::App& app, Invocation& in) {
  AddCommand(app, in, "flush", "Make everything stored durable",
             [](Session& s) { return RunMaintenance(s, Maintenance::kFlush); });
  AddCommand(app, in, "compact", "Give space of deleted chunks back",
             [](Session& s) { return RunMaintenance(s, Maintenance::kCompact); });
  AddCommand(app, in, "drain", "Stop accepting new work",
             [](Session& s) { return RunMaintenance(s, Maintenance::kDrain); });
  AddCommand(app, in, "undrain", "Accept work again",
             [](Session& s) { return RunMaintenance(s, Maintenance::kUndrain); });
  AddCommand(app, in, "completion", "Print a completion script: bash, zsh or fish",
             [&in](Session&) { return RunCompletion(in.shell); })
      ->add_option("SHELL", in.shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

}  // namespace

int Main(int argc, char** argv) {
  Invocation invocation;
  CLI::App app("kdnctl: look at and operate a KDN server", "kdnctl");
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of every command");
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 unreachable or too late, 5 not allowed,\n"
      "6 corruption found, 8 quota or space exhausted.");
  AddGlobals(app, invocation.global);
  AddSeeCommands(app, invocation);
  CLI::App* chunk = app.add_subcommand("chunk", "Stored chunks")->require_subcommand(1)->fallthrough();
  AddChunkReadCommands(*chunk, invocation);
  AddChunkWriteCommands(*chunk, invocation);
  AddLookup(app, invocation);
  AddBench(app, invocation);
  AddOperate(app, invocation);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kUsage;
  }
  Session session(invocation.global);
  return invocation.action(session);
}

}  // namespace kdn::ctl
