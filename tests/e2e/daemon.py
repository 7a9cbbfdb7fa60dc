"""Starts, kills and restarts a real kdnd for tests."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
STOP_TIMEOUT_S = 60


def build_dir() -> pathlib.Path:
    """The build tree under test: $KDN_BUILD_DIR, as tests/run sets it, or the release preset's."""
    return pathlib.Path(os.environ.get("KDN_BUILD_DIR", ROOT / "build" / "release"))


def binary(name: str) -> str:
    places = {"kdnd": "server/kdnd", "kdnctl": "client/kdnctl/kdnctl"}
    path = build_dir() / places[name]
    assert path.is_file(), f"{path} is missing: build it first (tests/run does)"
    return str(path)


class DaemonFailed(RuntimeError):
    """kdnd ended instead of serving."""

    def __init__(self, code: int, log: str):
        super().__init__(f"kdnd exited with {code}:\n{log[-4000:]}")
        self.code = code
        self.log = log


class Daemon:
    """One kdnd on a data directory of its own, on ports the system chooses."""

    def __init__(self, data: pathlib.Path, **settings: str):
        self.data = data
        self.settings = {
            "storage.path": str(data),
            "server.listen": "127.0.0.1:0",
            "metrics.listen": "127.0.0.1:0",
            "storage.reserve": "0",
            **{key.replace("__", "."): value for key, value in settings.items()},
        }
        self.log: list[str] = []
        self.process: subprocess.Popen | None = None
        self.endpoint = ""
        self.metrics = ""
        self._settled = threading.Event()  # it serves, or has ended
        self._logged = threading.Condition()  # notified with each line of the log

    def start(self) -> Daemon:
        """Returns when it serves; raises DaemonFailed when it ends before."""
        command = [binary("kdnd"), *(f"--set={key}={value}" for key, value in self.settings.items())]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self._settled.clear()
        self._reader = threading.Thread(target=self._read_log, args=(self.process,))
        self._reader.start()
        self._settled.wait()
        if self.endpoint:
            return self
        raise DaemonFailed(self.reap(), "".join(self.log))

    def _read_log(self, process: subprocess.Popen) -> None:
        self.endpoint = ""
        for line in process.stderr:
            with self._logged:
                self.log.append(line)
                self._logged.notify_all()
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "serving":
                self.endpoint, self.metrics = event["listen"], event["metrics"]
                self._settled.set()
        self._settled.set()

    @property
    def serving(self) -> bool:
        """It was started and neither killed nor stopped by the test since. A daemon that ended by itself counts."""
        return self.process is not None and self.process.returncode is None

    def kill(self) -> None:
        """SIGKILL: no clean-up of any kind."""
        self.process.kill()
        self.reap()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.reap()

    def signal_and_await(self, number: int, event: str) -> None:
        """Sends a signal and returns when an event of this name was logged after it."""
        already = len(self.log)
        self.process.send_signal(number)
        with self._logged:
            wanted = f'"event":"{event}"'
            logged = self._logged.wait_for(
                lambda: any(wanted in line for line in self.log[already:]), timeout=STOP_TIMEOUT_S
            )
        assert logged, f"no {event} within {STOP_TIMEOUT_S} s:\n{''.join(self.log[already:])}"

    def restart_after_kill(self) -> Daemon:
        self.kill()
        return self.start()

    def reap(self) -> int:
        """Waits until the process has ended; returns its exit code."""
        code = self.process.wait(timeout=STOP_TIMEOUT_S)
        self._reader.join()
        self.process.stderr.close()
        return code

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.serving:
            self.stop()


def kdnctl(endpoint: str, *arguments: str, check: int | None = 0) -> subprocess.CompletedProcess:
    """Runs kdnctl; asserts on its exit code unless check is None."""
    done = subprocess.run(
        [binary("kdnctl"), "--endpoint", endpoint, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert check is None or done.returncode == check, (arguments, done.returncode, done.stdout, done.stderr)
    return done
