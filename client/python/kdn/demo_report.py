"""The table that closes the quickstart: python -m kdn.demo_report PREFILL.json LOAD.json COLD.json

Exit code 1 when the answer behind loaded KV differs from the answer of the process that computed it.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


def _compared(load: dict[str, Any], cold: dict[str, Any]) -> str:
    with_kdn, without = load["ttft_seconds"], cold["ttft_seconds"]
    if with_kdn <= without:
        return f"{without / with_kdn:.1f}x sooner"
    return f"{with_kdn / without:.1f}x later: a text this short is computed faster than it is loaded"


def render(prefill: dict[str, Any], load: dict[str, Any], cold: dict[str, Any]) -> str:
    """The table as text."""
    ratio = prefill["raw_bytes"] / prefill["sent_bytes"] if prefill["sent_bytes"] else 0.0
    rows = [
        ("time to first token, without KDN", f"{cold['ttft_seconds']:.2f} s"),
        ("time to first token, with KDN", f"{load['ttft_seconds']:.2f} s ({_compared(load, cold)})"),
        ("tokens hit", f"{load['tokens_hit']:,} of {load['tokens']:,}"),
        ("raw KV", _mib(prefill["raw_bytes"])),
        ("stored", f"{_mib(prefill['sent_bytes'])} (ratio {ratio:.2f}, lossless)"),
        ("answer of process A (computed)", prefill["answer"]),
        ("answer of process B (loaded)", load["answer"]),
        ("same greedy tokens", "yes" if same_tokens(prefill, load) else "NO"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {' '.join(value.split())}" for name, value in rows)


def same_tokens(prefill: dict[str, Any], load: dict[str, Any]) -> bool:
    """Whether both processes generated the same tokens, the second one from KDN's KV alone."""
    return prefill["answer_token_ids"] == load["answer_token_ids"] and load["tokens_hit"] == load["tokens"]


def main(paths: list[str]) -> int:
    """Prints the table; returns the exit code."""
    if len(paths) != 3:
        print("usage: python -m kdn.demo_report PREFILL.json LOAD.json COLD.json", file=sys.stderr)
        return 2
    steps = [json.loads(pathlib.Path(path).read_text(encoding="utf-8")) for path in paths]
    print(render(*steps))
    return 0 if same_tokens(steps[0], steps[1]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
