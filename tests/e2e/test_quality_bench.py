"""bench/run quality end to end, as small as it gets: one context, three profiles, four planted facts."""

import json
import pathlib
import subprocess
import sys

import pytest
from daemon import ROOT


@pytest.mark.model
def test_quick_run_orders_profiles_by_size_and_damage_and_goes_on_from_what_it_finished(tmp_path):
    first = quick_run(tmp_path)
    assert first["lossless", "KL"] == 0 and first["lossless", "top-1"] == 1
    assert 0 < first["int8", "KL"] < first["q4", "KL"] < 0.1
    assert 1.3 < first["lossless", "ratio"] < first["int8", "ratio"] < first["q4", "ratio"] < 4
    assert first["lossless", "mean change"] == 0 and first["q4", "mean change"] != 0
    results = (tmp_path / "cache" / "results.jsonl").read_text()
    assert quick_run(tmp_path) == first
    assert (tmp_path / "cache" / "results.jsonl").read_text() == results


def quick_run(folder: pathlib.Path) -> dict[tuple[str, str], float]:
    """Figures by profile and metric."""
    out = folder / "report.json"
    options = ("--quick", "--no-build", "--threads=1", f"--cache={folder / 'cache'}", f"--out={out}")
    subprocess.run([sys.executable, str(ROOT / "bench" / "run"), "quality", *options], check=True)
    rows = json.loads(out.read_text())["rows"]
    return {(row["case"].split(", ")[-1], row["metric"]): row["value"] for row in rows}
