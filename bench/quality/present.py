"""Draws size against quality from reports of `bench/run quality`, and prints their tables as Markdown.

    /usr/bin/python3 bench/quality/present.py bench/results/quality-DATE.json --plot bench/results/quality-DATE.svg

Wants Debian's python3-matplotlib (deploy/install-deps bench).
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import pathlib
import re
from typing import Any, Optional

COLOURS = {
    "raw": "#888888", "lossless": "#1b9e77", "int8": "#377eb8", "q4": "#984ea3", "transform": "#d62728",
    "sim-fp8": "#a6761d", "sim-cachegen": "#e6a000",
}  # fmt: skip
SET_STYLES = {"main": {"linestyle": "-"}, "unseen": {"linestyle": "--", "markerfacecolor": "white"}}
DATED = re.compile(r"^quality-[0-9-]*")  # what the names of reports begin with
FLOOR = 2e-5  # nat: where a KL of 0 is drawn

Table = dict[str, dict[str, dict[str, float]]]  # model (or report), then set and profile, then metric


def read(paths: list[pathlib.Path]) -> Table:
    table: Table = collections.defaultdict(lambda: collections.defaultdict(dict))
    for path in paths:
        before = set(table)
        for row in json.loads(path.read_text())["rows"]:
            model, rest = row["case"].split(", ", 1)
            if model in before:  # other contexts, perhaps: not to be compared with those
                model = DATED.sub("", path.stem)
            table[model][rest.replace(" (simulation)", "")][row["metric"]] = row["value"]
    return table


def size_at_equal_kl(cases: dict[str, dict[str, float]], texts: str, case: str) -> Optional[float]:
    """How many times larger CacheGen (simulated) is at the same KL, its curve being interpolated (logarithms of both);
    None outside the curve."""
    curve = sorted(
        (math.log(values["KL"]), math.log(values["ratio"]))
        for name, values in cases.items()
        if name.startswith(f"{texts}, sim-cachegen") and values["KL"] > 0
    )
    kl = math.log(cases[case]["KL"]) if cases[case]["KL"] > 0 else -math.inf
    for (kl_before, before), (kl_behind, behind) in zip(curve, curve[1:]):
        if kl_before <= kl <= kl_behind:
            theirs = before + (behind - before) * (kl - kl_before) / (kl_behind - kl_before)
            return cases[case]["ratio"] / math.exp(theirs)
    return None


def markdown(table: Table) -> str:
    names = ("model", "profile", "ratio", "KL, main", "KL, unseen", "top-1", "perplexity", "recall, mean / worst",
             "CacheGen / this")  # fmt: skip
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for model, cases in table.items():
        for profile in dict.fromkeys(case.split(", ")[1] for case, values in cases.items() if "KL" in values):
            lines.append(f"| {model} | {profile} | {' | '.join(_cells(cases, profile))} |")
    return "\n".join(lines)


def _cells(cases: dict[str, dict[str, float]], profile: str) -> list[str]:
    """Ratio, top-1 and perplexity are those of `main`, where it was measured."""
    scores = {texts: cases.get(f"{texts}, {profile}") for texts in ("main", "unseen")}
    first = scores["main"] or scores["unseen"]
    recall = cases.get(f"recall, {profile}")
    times = None
    if scores["main"] and not profile.startswith("sim-cachegen"):
        times = size_at_equal_kl(cases, "main", f"main, {profile}")
    return [
        f"{first['ratio']:.2f}",
        *(f"{one['KL']:.2g} +- {one['+-']:.1g}" if one else "" for one in scores.values()),
        f"{first['top-1']:.3f}",
        f"{first['perplexity']:+.2f} %",
        f"{recall['mean change']:+.2f} / {recall['worst position']:+.2f}" if recall else "",
        "" if times is None else f"{times:.2f}",
    ]


def plot(table: Table, out: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "kdn", "svg.fonttype": "none", "font.size": 10})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(table), figsize=(5.6 * len(table), 4.8), sharey=True, squeeze=False)
    for axis, (model, cases) in zip(axes[0], table.items()):
        _draw_model(axis, model, cases)
    axes[0][0].set_ylabel("KL to the uncompressed run, nat a token")
    entries = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(
        entries.values(), entries.keys(), loc="lower center", ncol=3 * len(table), frameon=False, fontsize=9,
        title="filled, solid: texts 'main'; hollow, dashed: texts 'unseen'", title_fontsize=9,
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=110)


def _draw_model(axis: Any, model: str, cases: dict[str, dict[str, float]]) -> None:
    curves: dict[tuple[str, str], list[tuple[float, float, float]]] = collections.defaultdict(list)
    for case, values in cases.items():
        if "KL" in values:
            texts, profile = case.split(", ")
            curves[texts, profile.split(":")[0]].append((values["ratio"], values["KL"], values["+-"]))
    for (texts, family), points in curves.items():
        ratios, kls, errors = zip(*sorted(points))
        name = f"{family.replace('sim-', '')} (simulated)" if family.startswith("sim-") else family
        axis.errorbar(
            ratios, [max(kl, FLOOR) for kl in kls], yerr=[min(e, k * 0.9) for e, k in zip(errors, kls)], marker="o",
            markersize=6, capsize=2, color=COLOURS.get(family, "black"), label=name if texts == "main" else None,
            **SET_STYLES[texts],
        )  # fmt: skip
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ticks = [1, 1.5, 2, 3, 4, 6, 8, 11, 16, 24, 32]
    top = max(values["ratio"] for values in cases.values() if "ratio" in values)
    axis.set_xticks([tick for tick in ticks if tick <= 1.5 * top], minor=False)
    axis.set_xticklabels([f"{tick:g}" for tick in ticks if tick <= 1.5 * top])
    axis.axhline(FLOOR, color="#cccccc", linewidth=0.8, zorder=0)
    axis.annotate("0 (exact)", (1, FLOOR), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="#888888")
    axis.grid(True, which="major", color="#eeeeee")
    axis.set_title(model)
    axis.set_xlabel("bytes of bf16 KV over all bytes of its containers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=pathlib.Path, help="a model that an earlier one has too is shown apart")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE.svg", help="or .png")
    args = parser.parse_args()
    table = read(args.reports)
    print(markdown(table))
    if args.plot:
        plot(table, args.plot)


if __name__ == "__main__":
    main()
