#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "config/environment.h"
#include "config/startup.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "server/wiring/build_info.h"
#include "server/wiring/daemon.h"
#include "server/wiring/notify.h"

// Read by jemalloc. Containers come and go by the megabyte, and fresh pages cost as much as everything else a Store
// does with them: none are given back while a lull is short (default 10 s), or just because an allocation is large
// (default from 8 MiB), and never on the thread of a call.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "oversize_threshold:0,dirty_decay_ms:60000,background_thread:true";
}

namespace kdn {
namespace {

constexpr int kExitFailed = 1;
// What the daemon makes (data, sockets, ready file) is its own user's only.
constexpr mode_t kPrivateMask = 077;
constexpr std::string_view kReadyFileFlag = "--ready-file";

// Takes "--ready-file PATH" or "--ready-file=PATH" out of the arguments; false when the path is missing.
bool TakeReadyFile(std::vector<std::string>& arguments, std::string& path) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i].starts_with(StrCat(kReadyFileFlag, "="))) {
      path = arguments[i].substr(kReadyFileFlag.size() + 1);
      arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i));
      return !path.empty();
    }
    if (arguments[i] != kReadyFileFlag) continue;
    if (i + 1 == arguments.size()) return false;
    path = arguments[i + 1];
    arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i),
                    arguments.begin() + static_cast<std::ptrdiff_t>(i + 2));
    return !path.empty();
  }
  return true;
}

std::string EnvironmentValue(const config::Environment& environment, const std::string& name) {
  const auto found = environment.find(name);
  return found == environment.end() ? std::string() : found->second;
}

// Signals that the daemon waits for, blocked in every thread from the start.
sigset_t HandledSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  return set;
}

// What the thread that waits for signals shares with the rest; lives until the process ends.
struct SignalState {
  const sigset_t signals = HandledSignals();
  std::atomic<Daemon*> daemon{nullptr};  // set while it serves
  absl::Notification stop;
};

void Reload(Daemon& daemon) {
  const absl::Status status = daemon.Reload();
  if (status.ok()) {
    Log(LogLevel::kInfo, "reloaded");
  } else {
    Log(LogLevel::kError, "reload failed", {{"error", std::string(FromAbsl(status.message()))}});
  }
}

// Runs until the process ends: the first SIGTERM or SIGINT notifies `stop`, a second one ends the process at once.
void WatchSignals(SignalState& state) {
  while (true) {
    int signal = 0;
    if (sigwait(&state.signals, &signal) != 0) continue;
    Daemon* const daemon = state.daemon;
    if (signal == SIGHUP) {
      if (daemon != nullptr) Reload(*daemon);
      continue;
    }
    if (state.stop.HasBeenNotified()) {
      Log(LogLevel::kWarn, "second signal: exiting at once");
      _exit(kExitFailed);
    }
    Log(LogLevel::kInfo, "stopping", {{"signal", static_cast<int64_t>(signal)}});
    // Nobody is served yet, and opening the store survives being interrupted as it does a crash.
    if (daemon == nullptr) _exit(config::kExitDone);
    state.stop.Notify();
  }
}

int Fail(std::string_view what, const absl::Status& status) {
  Log(LogLevel::kError, what, {{"error", std::string(FromAbsl(status.message()))}});
  return kExitFailed;
}

absl::Status AnnounceReady(const Daemon& daemon, const std::string& ready_file, const std::string& notify_socket) {
  Log(LogLevel::kInfo, "serving",
      {{"listen", daemon.listen_address()},
       {"metrics", daemon.metrics_address()},
       {"pid", static_cast<int64_t>(getpid())}});
  if (!ready_file.empty()) {
    KDN_RETURN_IF_ERROR(WriteFileAtomically(
        ready_file, StrCat("listen=", daemon.listen_address(), "\nmetrics=", daemon.metrics_address(), "\n")));
  }
  return NotifySystemd(notify_socket, "READY=1");
}

int Serve(const config::Config& config, const std::string& ready_file, const std::string& notify_socket) {
  ConfigureLog(config.log.level, config.log.format);
  umask(kPrivateMask);
  auto* const state = new SignalState();  // for the thread that is never joined
  pthread_sigmask(SIG_BLOCK, &state->signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::thread([state] { WatchSignals(*state); }).detach();
  if (!ready_file.empty()) std::remove(ready_file.c_str());  // of a daemon that was killed

  absl::StatusOr<std::unique_ptr<Daemon>> started = Daemon::Start(config);
  if (!started.ok()) return Fail("cannot start", started.status());
  Daemon& daemon = **started;
  state->daemon = &daemon;

  const absl::Status announced = AnnounceReady(daemon, ready_file, notify_socket);
  if (announced.ok()) state->stop.WaitForNotification();
  if (!NotifySystemd(notify_socket, "STOPPING=1").ok()) Log(LogLevel::kWarn, "systemd was not told of the stop");
  const absl::Status stopped = daemon.Stop();
  int code = config::kExitDone;
  if (!announced.ok()) code = Fail("cannot announce readiness", announced);
  if (!stopped.ok()) code = Fail("the store did not close well", stopped);
  if (!ready_file.empty()) std::remove(ready_file.c_str());
  Log(LogLevel::kInfo, "stopped");
  std::fflush(nullptr);
  _exit(code);
}

int Main(std::vector<std::string> arguments) {
  // Debian builds Abseil with its search for lock cycles on; each lock taken under another pays for it.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  std::string ready_file;
  if (!TakeReadyFile(arguments, ready_file)) {
    std::fputs("kdnd: --ready-file needs a path\n", stderr);
    return config::kExitUsage;
  }
  const config::Environment environment = config::ProcessEnvironment();
  const config::Startup startup = config::PrepareStartup(arguments, environment, VersionText());
  if (startup.to_check.has_value()) {
    if (const absl::Status files = CheckFiles(*startup.to_check); !files.ok()) {
      std::fprintf(stderr, "kdnd: %s\n", std::string(FromAbsl(files.message())).c_str());
      return config::kExitUsage;
    }
  }
  std::fputs(startup.standard_output.c_str(), stdout);
  std::fputs(startup.standard_error.c_str(), stderr);
  if (!startup.config.has_value()) return startup.exit_code;
  return Serve(*startup.config, ready_file, EnvironmentValue(environment, "NOTIFY_SOCKET"));
}

}  // namespace
}  // namespace kdn

int main(int argc, char** argv) { return kdn::Main(std::vector<std::string>(argv + 1, argv + argc)); }
