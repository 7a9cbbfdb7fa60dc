"""Report of one benchmark: machine, commit and command on top, then rows of figures beside their baselines."""
import datetime
import json
import os
import platform
import re
import statistics
import subprocess


class Report:
    """Collects rows {case, metric, value, unit, baseline, baseline_value, ratio} and prints or writes them."""

    def __init__(self, name, command, root, quick):
        self.name = name
        self.rows = []
        self.notes = []
        self.samples = {}
        self.head = {
            "benchmark": name,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": commit(root),
            "command": command,
            "quick": quick,
            "machine": machine(),
        }

    def row(self, case, metric, samples, unit, baseline=None, baseline_samples=None):
        """Adds the median of `samples`. With a baseline measured in the same rounds the ratio is the median of the
        rounds' ratios: both sides of each saw the same machine, whatever else ran on it."""
        row = {"case": case, "metric": metric, "value": rounded(statistics.median(samples)), "unit": unit,
               "baseline": baseline, "baseline_value": None, "ratio": None}
        if baseline_samples:
            row["baseline_value"] = rounded(statistics.median(baseline_samples))
            paired = [ours / theirs for ours, theirs in zip(samples, baseline_samples) if theirs]
            row["ratio"] = rounded(statistics.median(paired)) if paired else None
        self.rows.append(row)
        self.samples.setdefault(f"{case} | {metric}", [rounded(sample) for sample in samples])

    def note(self, text):
        self.notes.append(text)

    @classmethod
    def read(cls, path):
        """A report written before, for print()."""
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        report = cls.__new__(cls)
        report.name = document["benchmark"]
        report.rows, report.notes, report.samples = (document.pop(key) for key in ("rows", "notes", "samples"))
        report.head = document
        return report

    def finish(self):
        self.head["machine"]["load_average_after"] = os.getloadavg()

    def print(self):
        info = self.head["machine"]
        print(f"\n{self.name}: {info['cpu']}, {info['cores']} cores, {info['memory_gib']} GiB, {info['system']}, "
              f"kernel {info['kernel']}; load {info['load_average_before'][0]:.1f} before, "
              f"{info['load_average_after'][0]:.1f} after")
        print(f"commit {self.head['commit']}; {self.head['command']}\n")
        for group in grouped_by_metrics(self.rows):
            print_table(group)
        for note in self.notes:
            print(f"note: {note}")

    def write(self, path):
        """One line per row and per list of samples, so that reports can be read and compared line by line."""
        def block(opening, lines, closing):
            return opening + ",".join(f"\n  {line}" for line in lines) + f"\n {closing}"

        fields = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in self.head.items()]
        fields.append('"rows": ' + block("[", map(json.dumps, self.rows), "]"))
        fields.append('"notes": ' + block("[", map(json.dumps, self.notes), "]"))
        fields.append('"samples": ' + block(
            "{", (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in self.samples.items()), "}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{\n " + ",\n ".join(fields) + "\n}\n")


def grouped_by_metrics(rows):
    """Groups the rows of each case, and the cases that have the same metrics: one table each."""
    groups = {}
    for case in dict.fromkeys(row["case"] for row in rows):
        of_case = [row for row in rows if row["case"] == case]
        groups.setdefault(tuple(dict.fromkeys(row["metric"] for row in of_case)), []).append(of_case)
    return list(groups.values())


def print_table(cases):
    """One line per case: each metric's value, with the ratios to the baselines beside the first metric, which is the
    one that matters (the JSON holds all)."""
    lines = []
    for rows in cases:
        line = {"case": rows[0]["case"]}
        for row in rows:
            line[f"{row['metric']} {row['unit']}".strip()] = f"{row['value']:g}"
            if row["ratio"] is not None and row["metric"] == rows[0]["metric"]:
                line[f"/ {row['baseline']}"] = f"{row['ratio']:.2f}"
        lines.append(line)
    columns = list(dict.fromkeys(key for line in lines for key in line))
    widths = {name: max(len(name), *(len(line.get(name, "")) for line in lines)) for name in columns}
    print("  ".join(name.ljust(widths[name]) if name == "case" else name.rjust(widths[name]) for name in columns))
    print("  ".join("-" * widths[name] for name in columns))
    for line in lines:
        print("  ".join(line.get(name, "").ljust(widths[name]) if name == "case"
                        else line.get(name, "").rjust(widths[name]) for name in columns).rstrip())
    print()


def rounded(value):
    return value if isinstance(value, int) else float(f"{value:.4g}")


def commit(root):
    def git(*arguments):
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True).stdout.strip()
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+changes" if git("status", "--porcelain") else "")


def machine():
    cpuinfo = open("/proc/cpuinfo", encoding="utf-8").read()
    model = re.search(r"model name\s*:\s*(.*)", cpuinfo)
    flags = set((re.search(r"flags\s*:\s*(.*)", cpuinfo) or [None, ""])[1].split())
    release = dict(line.split("=", 1) for line in open("/etc/os-release", encoding="utf-8").read().splitlines()
                   if "=" in line)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model[1].strip() if model else platform.machine(),
        "isa": [name for name in ("sse4_2", "avx2", "avx512bw", "avx512_vbmi2") if name in flags],
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "system": release.get("PRETTY_NAME", "").strip('"'),
        "kernel": platform.release(),
        "load_average_before": os.getloadavg(),
    }
