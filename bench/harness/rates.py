"""Rate selection, simulated: SLO attainment and loss of each policy over links whose bandwidth changes."""
import json
import random
import subprocess

SUMMARY = "simulated rate selection: TTFT-SLO attainment and mean KL against fixed levels and CacheGen's adaptation"
TARGETS = ("bench_rates",)

# An 8B model with 8 KV heads x 128 in 32 layers, bf16, on one GPU behind 10 Gb/s.
RAW_BYTES_PER_TOKEN = 2 * 2 * 32 * 8 * 128
LINK_BYTES_PER_SECOND = 1.25e9
PREFILL_TOKENS_PER_SECOND = 8000
TRACES = ("constant", "step", "bursty")
SLO_SECONDS = (0.5, 1.0, 2.0)
QUICK_SLO_SECONDS = (1.0,)
REQUESTS, QUICK_REQUESTS = 600, 100
MAX_TOKENS = 32768
# Ratio and mean KL of each level on SmolLM2, in real containers (bench/results/quality-2026-11-22-smollm2*.json), and
# of CacheGen's codec as simulated there. q4 is left out: it is larger than transform at 8x and loses more, which the
# planner would see and CacheGen's adaptation would not.
LEVELS = {"lossless": (1.515, 0.0), "int8": (1.96, 0.00027), "transform 8x": (7.93, 0.0011),
          "transform 11x": (10.52, 0.0027), "transform 16x": (15.13, 0.0079), "transform 24x": (22.48, 0.020)}
CACHEGEN_LEVELS = {"lossless": (1.515, 0.0), "cachegen 0.25": (3.48, 0.036), "cachegen 0.5": (4.30, 0.15),
                   "cachegen 1": (5.58, 0.75)}


def run(options, report):
    lengths = request_lengths(options, report)
    slos = QUICK_SLO_SECONDS if options.quick else SLO_SECONDS
    for trace in TRACES:
        for slo in slos:
            baseline = simulate(options, "cachegen", trace, slo, LEVELS, lengths)
            contenders = {"KDN: planned": simulate(options, "planned", trace, slo, LEVELS, lengths),
                          "CacheGen's adaptation, KDN's levels": baseline,
                          "CacheGen's adaptation, CacheGen's levels":
                              simulate(options, "cachegen", trace, slo, CACHEGEN_LEVELS, lengths)}
            for level in LEVELS:
                contenders[f"always {level}"] = simulate(options, level, trace, slo, LEVELS, lengths)
            for name, outcome in contenders.items():
                add_rows(report, f"{trace}, SLO {slo} s, {name}", outcome)
    report.note("SIMULATED link and engine; the planner is the server's code. Loss is the levels' mean KL weighted by "
                "tokens, recomputed ones counting 0. Levels: " + json.dumps(LEVELS))


def add_rows(report, case, outcome):
    report.row(case, "requests within the SLO", [outcome["attainment"]], "of 1")
    report.row(case, "mean KL", [outcome["mean_kl"]], "nat")
    report.row(case, "TTFT p99", [outcome["ttft_p99_s"]], "s")


def request_lengths(options, report):
    """Prefix lengths in tokens: of the production trace in $KDN_DATA, else made up."""
    count = QUICK_REQUESTS if options.quick else REQUESTS
    trace = options.data / "traces" / "mooncake_conversation.jsonl" if options.data else None
    if trace and trace.exists():
        with open(trace, encoding="utf-8") as file:
            lengths = [json.loads(line)["input_length"] for _, line in zip(range(count), file)]
        report.note(f"prefix lengths: the first {count} requests of {trace.name}, at most {MAX_TOKENS} tokens")
    else:
        generator = random.Random(count)
        lengths = [int(generator.lognormvariate(9, 1)) + 1 for _ in range(count)]
        report.note("KDN_DATA is unset: prefix lengths are MADE UP (log-normal, median 8,100 tokens)")
    return [min(length, MAX_TOKENS) for length in lengths]


def simulate(options, policy, trace, slo, levels, lengths):
    command = [options.program("bench", "bench_rates"), policy, trace, str(slo), str(LINK_BYTES_PER_SECOND),
               str(PREFILL_TOKENS_PER_SECOND), str(RAW_BYTES_PER_TOKEN),
               *(f"{name}:{ratio}:{loss}" for name, (ratio, loss) in levels.items())]
    return json.loads(subprocess.run(command, check=True, input="\n".join(map(str, lengths)), stdout=subprocess.PIPE,
                                     text=True).stdout)
