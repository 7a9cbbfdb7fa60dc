"""What each profile costs in bytes and in a model's predictions, through a real client and a real kdnd."""
import contextlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import contender as contenders
from baselines import free_port

SUMMARY = "size against quality on real models: KL, top-1, perplexity and recall of each profile in real containers"
TARGETS = ("kdnd", "kdn_c")

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_DATA = ROOT.parent / "shared" / "data"
MODELS = "smollm2,gemma3-270m"
PROFILES = ("raw,lossless,int8,q4,transform:8,transform:11,transform:16,transform:24,transform:32,"
            "sim-fp8,sim-cachegen:0.125,sim-cachegen:0.25,sim-cachegen:0.5,sim-cachegen:1,sim-cachegen:1.6")
QUICK_PROFILES = "lossless,int8,q4"
SIMULATED = " (simulation)"
SERVER_FLAGS = ("--storage.capacity=4GiB", "--storage.reserve=0", "--storage.sync=none", "--metrics.listen=",
                "--log.level=warn")


def add_options(parser):
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "kdn" / "quality"
    group = parser.add_argument_group("quality")
    group.add_argument("--models", help=f"names of kdn.models (default: {MODELS})")
    group.add_argument("--profiles", metavar="NAME[:LEVEL],...",
                       help="what to compare; sim-fp8 and sim-cachegen:LEVEL are computed here and stored nowhere; "
                            "what the client does not know is reported as not in this build "
                            f"(default: {PROFILES})")
    group.add_argument("--sets", help="main (from --data) and unseen (licences, Python's documentation); default: both")
    group.add_argument("--data", type=pathlib.Path, metavar="DIR",
                       help="folder with longctx/longchat.jsonl and qa/musique_100.json (default: $KDN_DATA, else "
                            "../shared/data beside the clone, where they exist)")
    group.add_argument("--objects", type=pathlib.Path, nargs="+", default=[], metavar="FILE",
                       help="calibration objects to store and activate, one a model, before its contexts")
    group.add_argument("--calibration-texts", type=pathlib.Path, nargs="+", default=[], metavar="PATH",
                       help="files and folders that profiles were calibrated on; contexts that share a 13-gram with "
                            "them are refused and the next of their kind taken")
    group.add_argument("--contexts", type=int, help="at most so many of each set (default: 8 of main, 4 of unseen)")
    group.add_argument("--context-tokens", type=int, help="tokens stored of each (default: 2048)")
    group.add_argument("--continuation", type=int, help="tokens scored behind each (default: 256)")
    group.add_argument("--recall-contexts", type=int, help="contexts with planted facts (default: 3; 0 = none)")
    group.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    group.add_argument("--cache", type=pathlib.Path, default=cache, metavar="DIR",
                       help="where prefills (some 50 MB a context) and finished results are kept, so that a run that "
                            "was stopped goes on; may be deleted (default: %(default)s)")


def run(options, report):
    args = options.arguments
    with tempfile.TemporaryDirectory(prefix="bench-quality-") as folder, kdnd(options, folder) as endpoint:
        out = pathlib.Path(folder, "document.json")
        status = subprocess.run(command(options, args, endpoint, out)).returncode
        if status:
            sys.exit(status)
        document = json.loads(out.read_text())
    report.head["models"] = document["models"]
    report.head["contexts"] = document["contexts"]
    report.head["refused"] = document["refused"]
    report.head["wall_s"] = document["wall_s"]
    report_scores(report, document["results"])
    report_recall(report, document["recall"])
    for absent in document["absent"]:
        report.note(f"not in this build: {absent['profile']} of {absent['model']} ({absent['why']})")
    for refused in document["refused"]:
        report.note(f"refused for {refused['model']}: {refused['context']} shares {refused['count']} 13-grams with "
                    f"{refused['shares_13_grams_with']}")
    report.note("ratio is KV of the model's dtype over all bytes of all containers as the server counts them; KL in "
                "nats a token, teacher forced, against the same KV uncompressed, both in fp32 arithmetic; +- is the "
                "standard error over contexts. recall: log-probability of planted facts against uncompressed.")


@contextlib.contextmanager
def kdnd(options, folder):
    port = free_port()
    started = [options.program("server", "kdnd"), f"--server.listen=127.0.0.1:{port}",
               f"--storage.path={folder}/kdnd", *SERVER_FLAGS]
    with contenders.notifying_server(started, stdout=subprocess.DEVNULL):
        yield f"127.0.0.1:{port}"


def command(options, args, endpoint, out):
    python = subprocess.run([str(ROOT / "deploy" / "python-env")], check=True, stdout=subprocess.PIPE, text=True)
    interpreter = pathlib.Path(python.stdout.splitlines()[-1], "bin", "python")
    flags = {
        "--endpoint": endpoint, "--out": out, "--cache": args.cache.resolve(), "--threads": args.threads,
        "--data": args.data or options.data or (DEFAULT_DATA if DEFAULT_DATA.is_dir() else None),
        **{name: given if given is not None else (quick if options.quick else usual)
           for name, given, usual, quick in (
               ("--models", args.models, MODELS, MODELS.split(",")[0]),
               ("--profiles", args.profiles, PROFILES, QUICK_PROFILES),
               ("--sets", args.sets, "main,unseen", "unseen"),
               ("--contexts", args.contexts, None, 1),
               ("--context-tokens", args.context_tokens, 2048, 512),
               ("--continuation", args.continuation, 256, 32),
               ("--recall-contexts", args.recall_contexts, 3, 1),
               ("--recall-facts", None, 32, 4))}}
    result = [str(interpreter), str(ROOT / "bench" / "quality" / "measure.py")]
    result += [str(part) for flag, value in flags.items() if value is not None for part in (flag, value)]
    result += ["--build", options.program("server", "kdnd"), options.program("client", "kdn", "libkdn.so")]
    result += ["--objects", *map(str, args.objects)]
    return result + ["--calibration-texts", *map(str, args.calibration_texts)]


def report_scores(report, results):
    for (model, texts, profile), found in grouped(results, "model", "set", "profile").items():
        case = f"{model}, {texts}, {profile}" + (SIMULATED if found[0]["simulated"] else "")
        total = {name: sum(one[name] for one in found) for name in
                 ("raw_bytes", "stored_bytes", "reachable_raw_bytes", "received_bytes", "tokens")}
        kl = [one["kl"] for one in found]
        report.row(case, "ratio", [total["raw_bytes"] / total["stored_bytes"]], "")
        report.row(case, "ratio sent", [total["reachable_raw_bytes"] / total["received_bytes"]], "")
        report.row(case, "KL", [statistics.fmean(kl)], "nat")
        report.row(case, "+-", [standard_error(kl)], "nat")
        report.row(case, "worst context", [max(kl)], "nat")
        report.row(case, "top-1", [weighted(found, "top1")], "")
        change = weighted(found, "nll") - weighted(found, "nll_reference")
        report.row(case, "perplexity", [100 * math.expm1(change)], "%")
        report.row(case, "tokens", [total["tokens"]], "")
        report.samples[f"{case} | KL by context"] = {one["context"]: one["kl"] for one in found}
        report.samples[f"{case} | ratio by context"] = {
            one["context"]: round(one["raw_bytes"] / one["stored_bytes"], 4) for one in found}
        tiles = {name: sum(one["tiles"].get(name, 0) for one in found) for one in found for name in one["tiles"]}
        asked = profile.split(":")[0]
        if tiles and set(tiles) != {asked}:
            report.note(f"{case}: tiles by the profile they are coded at: {tiles}")


def report_recall(report, results):
    reference = {(one["model"], one["context"]): one["log_probability"] for one in results
                 if one["profile"] == "uncompressed"}
    for (model, profile), found in grouped(results, "model", "profile").items():
        changes = [[ours - theirs for ours, theirs in zip(one["log_probability"], reference[model, one["context"]])]
                   for one in found]
        by_position = [statistics.fmean(at) for at in zip(*changes)]
        every = [value for one in changes for value in one]
        case = f"{model}, recall, {profile}" + (SIMULATED if profile.startswith("sim-") else "")
        report.row(case, "mean change", [statistics.fmean(every)], "nat")
        report.row(case, "worst position", [min(by_position)], "nat")
        report.row(case, "worst fact", [min(every)], "nat")
        answered = [value for one in found for value in one["log_probability"]]
        report.row(case, "log-probability", [statistics.fmean(answered)], "nat")
        report.row(case, "facts", [len(every)], "")
        report.samples[f"{case} | mean change by position"] = [round(value, 4) for value in by_position]


def grouped(results, *names):
    groups = {}
    for one in results:
        groups.setdefault(tuple(one[name] for name in names), []).append(one)
    return groups


def weighted(found, name):
    return sum(one[name] * one["tokens"] for one in found) / sum(one["tokens"] for one in found)


def standard_error(values):
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
