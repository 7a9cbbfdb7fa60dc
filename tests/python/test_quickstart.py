"""The quickstart's arguments and its closing table; `tests/e2e` and `test_transformers_daemon` test what it shows."""

import subprocess
from pathlib import Path

import pytest
from kdn import demo_report

ROOT = Path(__file__).resolve().parents[2]


def report(cold_seconds, load_seconds):
    prefill = {"raw_bytes": 3 << 20, "sent_bytes": 2 << 20, "answer": "a", "answer_token_ids": [1]}
    load = {"ttft_seconds": load_seconds, "tokens_hit": 7, "tokens": 7, "answer": "a", "answer_token_ids": [1]}
    return demo_report.render(prefill, load, {"ttft_seconds": cold_seconds})


def test_speedup_and_ratio_are_said():
    table = report(4.0, 0.5)
    assert "0.50 s (8.0x sooner)" in table and "2.0 MiB (ratio 1.50, lossless)" in table


def test_loading_that_was_slower_is_called_later():
    table = report(0.4, 0.5)
    assert "(1.2x later" in table and "sooner" not in table


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--text", "empty.txt"], "is empty"),
        (["--text", "."], "cannot read"),
        (["--text", "absent.txt"], "cannot read"),
        (["--tokens", "0"], "at least 1"),
        (["--tokens", "many"], "not a number"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_installed(tmp_path, arguments, words):
    (tmp_path / "empty.txt").touch()
    command = [str(ROOT / "deploy" / "quickstart"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2 and words in done.stderr and "==" not in done.stdout
