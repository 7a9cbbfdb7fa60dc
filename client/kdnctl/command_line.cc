#include "client/kdnctl/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/kdnctl/commands.h"
#include "client/kdnctl/completion.h"
#include "client/kdnctl/flag_values.h"
#include "kernels/base/status.h"

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
  std::string output;
  int64_t ttl_ms = 0;
  bool help_all = false;
  ChunkLsOptions chunk_ls;
  ChunkRmOptions chunk_rm;
  ChunkPutOptions chunk_put;
  CodecPutOptions codec_put;
  CodecRmOptions codec_rm;
  LookupCommandOptions lookup;
  BenchOptions bench;
};

OutputFormat FormatOf(const std::string& word) {
  return word == "json" ? OutputFormat::kJson : word == "yaml" ? OutputFormat::kYaml : OutputFormat::kTable;
}

void AddGlobals(CLI::App& app, Invocation& in) {
  GlobalOptions& options = in.global;
  app.add_option("--endpoint", options.endpoint, "kdnd's address: host:port or unix:/path")
      ->envname("KDNCTL_ENDPOINT")
      ->type_name("ADDRESS")
      ->capture_default_str();
  app.add_flag("--tls", options.tls, "Use TLS with the system's authorities")->envname("KDNCTL_TLS");
  AddFile(app, "--tls-ca", options.tls_ca, "PEM of the authorities to trust; implies TLS")->envname("KDNCTL_TLS_CA");
  AddFile(app, "--tls-cert", options.tls_cert, "PEM of this client's certificate (mTLS)")->envname("KDNCTL_TLS_CERT");
  AddFile(app, "--tls-key", options.tls_key, "PEM of its key")->envname("KDNCTL_TLS_KEY");
  app.add_option("--tls-server-name", options.tls_server_name, "Name to expect in the server's certificate")
      ->envname("KDNCTL_TLS_SERVER_NAME")
      ->type_name("NAME");
  AddFile(app, "--token-file", options.token_file, "File that holds the bearer token")->envname("KDNCTL_TOKEN_FILE");
  AddDuration(app, "--timeout", {options.timeout_ms, 1}, "Deadline of one call: 500ms, 5s, 1m")
      ->envname("KDNCTL_TIMEOUT")
      ->default_str("5s");
  AddChoice(app, "-o,--output", in.output, "table|json|yaml", "Form of what is printed")
      ->envname("KDNCTL_OUTPUT")
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
  AddChoice(*health, "--for", in.text, "liveness|readiness", "Whether it answers at all, or can work")
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
  ls->add_option("--limit", in.chunk_ls.limit, "At most this many")
      ->check(CLI::Range(1, 1000).description(""))
      ->type_name("1..1000")
      ->capture_default_str();
  ls->add_option("--page-token", in.chunk_ls.page_token, "Where the last page ended");
  CLI::App* inspect = AddCommand(chunk, in, "inspect", "Everything about one chunk", [&in](Session& s) {
    return RunChunkInspect(s, in.key, in.flag ? VerifyMode::kEveryByte : VerifyMode::kNo);
  });
  inspect->add_option("KEY", in.key, "Chunk digest or its start")->required();
  inspect->add_flag("--verify", in.flag, "Read every byte and check every checksum");
  CLI::App* get = AddCommand(chunk, in, "get", "Save a chunk's container",
                             [&in](Session& s) { return RunChunkGet(s, in.key, in.path); });
  get->add_option("KEY", in.key, "Chunk digest or its start")->required();
  AddFile(*get, "--out", in.path, "File to write; - for stdout")->required();
}

void AddChunkWriteCommands(CLI::App& chunk, Invocation& in) {
  CLI::App* put =
      AddCommand(chunk, in, "put", "Store a container", [&in](Session& s) { return RunChunkPut(s, in.chunk_put); });
  AddFile(*put, "FILE", in.chunk_put.path, "A container as saved by get; - for stdin")->required();
  put->add_option("--document", in.chunk_put.document, "Document name to store it under");
  AddChoice(*put, "--profile", in.chunk_put.profile, "raw|lossless|int8|q4",
            "Code it anew at this profile (default: as it is)");
  CLI::App* rm = AddCommand(chunk, in, "rm", "Delete chunks", [&in](Session& s) { return RunChunkRm(s, in.chunk_rm); });
  rm->add_option("KEY", in.chunk_rm.key, "Chunk digest or its start");
  rm->add_option("--document", in.chunk_rm.document, "All chunks and texts of this document");
  rm->add_option("--model", in.chunk_rm.model, "This model with all its chunks, texts and calibration objects");
  rm->add_flag("--dry-run", in.chunk_rm.dry_run, "Only say what would go");
  rm->add_flag("-y,--yes", in.chunk_rm.yes, "Do not ask");
  const auto pin = [&](const char* name, const char* help, PinChange change) {
    CLI::App* command = AddCommand(chunk, in, name, help, [&in, change](Session& s) {
      return RunChunkPin(s, in.key, change, static_cast<uint64_t>(in.ttl_ms));
    });
    command->add_option("KEY", in.key, "Chunk digest or its start")->required();
    return command;
  };
  AddDuration(*pin("pin", "Keep a chunk from eviction", PinChange::kPin), "--ttl", {in.ttl_ms, 1},
              "For this long: 10m, 24h (default: until unpinned)");
  pin("unpin", "Let it be evicted again", PinChange::kUnpin);
}

void AddCodec(CLI::App& app, Invocation& in) {
  CLI::App* codec = app.add_subcommand("codec", "Profiles and calibration objects")->require_subcommand(1);
  codec->fallthrough();
  AddCommand(*codec, in, "ls", "List profiles, and a model's objects", [&in](Session& s) {
    return RunCodecLs(s, in.text);
  })->add_option("--model", in.text, "Its objects too: fingerprint, its start, or name");
  CLI::App* put = AddCommand(*codec, in, "put", "Store a calibration object",
                             [&in](Session& s) { return RunCodecPut(s, in.codec_put); });
  AddFile(*put, "FILE", in.codec_put.path, "The object; - for stdin")->required();
  put->add_option("--model", in.codec_put.model, "Whose it is: fingerprint, its start, or name; default: the only one");
  put->add_flag("--activate", in.codec_put.activate, "Make it the one that clients encode with");
  put->add_option("--name", in.codec_put.name, "A name for display");
  CLI::App* get = AddCommand(*codec, in, "get", "Save a calibration object",
                             [&in](Session& s) { return RunCodecGet(s, in.key, in.path); });
  get->add_option("DIGEST", in.key, "Its digest or the start of it")->required();
  AddFile(*get, "-O,--out", in.path, "File to write; - for stdout")->required();
  AddCommand(*codec, in, "activate", "Make an object the one that clients encode with",
             [&in](Session& s) { return RunCodecActivate(s, in.key); })
      ->add_option("DIGEST", in.key, "Its digest or the start of it")
      ->required();
  CLI::App* rm = AddCommand(*codec, in, "rm", "Delete a calibration object",
                            [&in](Session& s) { return RunCodecRm(s, in.codec_rm); });
  rm->add_option("DIGEST", in.codec_rm.key, "Its digest or the start of it")->required();
  rm->add_flag("--force", in.codec_rm.force, "Also the active one");
  rm->add_flag("-y,--yes", in.codec_rm.yes, "Do not ask");
  CLI::App* probe = AddCommand(*codec, in, "probe", "What a container's or an object's file holds", [&in](Session& s) {
    return RunCodecProbe(s, in.path, in.flag ? ProbeMode::kOffline : ProbeMode::kAskServer);
  });
  AddFile(*probe, "FILE", in.path, "A container or a calibration object; - for stdin")->required();
  probe->add_flag("--offline", in.flag, "Do not ask the server for its model");
}

void AddLookup(CLI::App& app, Invocation& in) {
  CLI::App* lookup = AddCommand(app, in, "lookup", "How many tokens of a prompt would hit",
                                [&in](Session& s) { return RunLookup(s, in.lookup); });
  AddFile(*lookup, "--tokens", in.lookup.tokens_path, "File of token ids (JSON array or plain list); - for stdin");
  AddFile(*lookup, "--text", in.lookup.text_path, "File of a text stored before; - for stdin");
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
        ->check(CLI::Range(1, 64).description(""))
        ->type_name("1..64")
        ->capture_default_str();
    AddSize(*command, "--chunk-bytes", in.bench.chunk_bytes, "Size of a chunk: 256KiB to 256MiB")->default_str("2MiB");
    command->add_option("--chunks", in.bench.chunks, "Different chunks; a round ends early when all are stored")
        ->capture_default_str();
    command->add_option("--rounds", in.bench.rounds, "Interleaved rounds; medians are reported")->capture_default_str();
    AddDuration(*command, "--duration", {in.bench.duration_ms, 1}, "Of one side of a round: 500ms, 3s")
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
  CLI::App* completion = AddCommand(app, in, "completion", "Print a completion script",
                                    [&in](Session&) { return RunCompletion(in.shell); });
  AddChoice(*completion, "SHELL", in.shell, "bash|zsh|fish", "Whose script")->required();
}

void AddCommands(CLI::App& app, Invocation& in) {
  app.require_subcommand(1);
  app.set_version_flag("--version", StrCat("kdnctl ", ClientVersion()), "The version of kdnctl");
  app.add_flag("--help-all", in.help_all, "Help of every command");
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 unreachable or too late, 5 not allowed,\n"
      "6 corruption found, 8 quota or space exhausted.");
  AddGlobals(app, in);
  AddSeeCommands(app, in);
  CLI::App* chunk = app.add_subcommand("chunk", "Stored chunks")->require_subcommand(1)->fallthrough();
  AddChunkReadCommands(*chunk, in);
  AddChunkWriteCommands(*chunk, in);
  AddCodec(app, in);
  AddLookup(app, in);
  AddBench(app, in);
  AddOperate(app, in);
}

// The help of `app`, which follows the words `before`, and of everything below it.
std::string HelpOfAll(const CLI::App& app, const std::string& before) {
  std::string text = app.help(before);
  const std::string words = before.empty() ? app.get_name() : StrCat(before, " ", app.get_name());
  for (const CLI::App* command : app.get_subcommands(nullptr)) text += "\n" + HelpOfAll(*command, words);
  return text;
}

// What was typed where a command was wanted.
int RefuseCommand(const CLI::App& app) {
  const CLI::App* at = &app;
  std::string path;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    path += at->get_name() + " ";
  }
  std::string words;
  for (const CLI::App* command : at->get_subcommands(nullptr)) {
    words += (words.empty() ? "" : ", ") + command->get_name();
  }
  std::string unknown;
  for (const std::string& word : app.remaining(/*recurse=*/true)) {
    if (unknown.empty() && !word.empty()) unknown = word;
  }
  const std::string what = unknown.empty()     ? StrCat("kdnctl ", path, "needs a command")
                           : unknown[0] == '-' ? StrCat("unknown option '", unknown, "', and no command")
                                               : StrCat("unknown command '", path, unknown, "'");
  std::fprintf(stderr, "kdnctl: %s; one of: %s\n", what.c_str(), words.c_str());
  return kUsage;
}

// "kdnctl help chunk ls" is "kdnctl chunk ls --help".
std::vector<std::string> Arguments(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && words[0] == "help") {
    words.erase(words.begin());
    words.push_back("--help");
  }
  return words;
}

}  // namespace

int Main(int argc, char** argv) {
  Invocation invocation;
  CLI::App app("kdnctl: look at and operate a KDN server", "kdnctl");
  AddCommands(app, invocation);
  std::vector<std::string> words = Arguments(argc, argv);
  if (!words.empty() && words[0] == kCompleteCommand) {
    return PrintCompletions(app, std::span<const std::string>(words).subspan(1));
  }
  if (words == std::vector<std::string>{"--help-all"}) {
    std::fputs(HelpOfAll(app, "").c_str(), stdout);
    return kDone;
  }
  std::reverse(words.begin(), words.end());  // as CLI11 takes them
  try {
    app.parse(words);
  } catch (const CLI::RequiredError& error) {
    if (invocation.action == nullptr && std::string_view(error.what()).find("ubcommand") != std::string_view::npos) {
      return RefuseCommand(app);
    }
    std::fprintf(stderr, "kdnctl: %s\n", error.what());
    return kUsage;
  } catch (const CLI::Success& asked) {
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "kdnctl: %s\nkdnctl COMMAND --help says more\n", error.what());
    return kUsage;
  }
  invocation.global.output = FormatOf(invocation.output);
  QuietenHandshakes();
  Session session(invocation.global);
  return invocation.action(session);
}

}  // namespace kdn::ctl
