"""warren beside go-, rust- and js-libp2p, and beside the limit of the machine: tools/bench/run [FLAGS]

A round measures every contender once, in an order that alternates; a yardstick without any protocol runs in each round.
The result of a pair is the median of its per-round ratios with a 95 % bootstrap interval. A goal is met when the bad
end of the interval passes. Processor time is user and kernel of all threads of both processes; wall-clock is shown in
the JSON file only. A contender that cannot run here says so and gets no figure."""

import argparse
import os
import platform
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests", "interop"), os.path.join(ROOT, "tests", "natlab")]
sys.dont_write_bytecode = True

import cases  # noqa: E402
import figures  # noqa: E402
from peerproc import FOREIGN, IMPLS, programs  # noqa: E402

ROUNDS_ENOUGH = 11    # fewer show a figure, they do not settle a goal
ROUNDS = {"quick": 3, "normal": 11, "full": 15}


class Setup:
    def __init__(self, args):
        build = args.build
        self.size, self.cores, self.versions = args.size, args.cores, {}
        self.security = args.security
        self.naked = os.path.join(build, "tools/bench/naked")
        self.node = os.path.join(build, "tools/warren")
        self.link = os.path.join(build, "tests/natlab/lab_link")


def contenders(case, args):
    """What takes part, and why not for the rest."""
    paths, reasons = programs()
    names, absent = [], {}
    for impl in args.impl:
        if impl in paths:
            names.append(impl)
        else:
            absent[impl] = reasons.get(impl, "no program")
    if args.cross and case.cross:
        names += [f"{a}>{b}" for f in names if f in FOREIGN for a, b in (("warren", f), (f, "warren"))]
    if case.yardstick:
        names.insert(0, case.yardstick)
    if case.id == "B14":
        names.insert(0, "libraries")
    return names, absent


def one_round(case, order, absent):
    result = {}
    for name in order:
        if name in absent:
            continue
        try:
            result[name] = case.measure(name)
        except Exception as e:  # a contender that fails once is out, with its reason
            absent[name] = str(e).splitlines()[0] if str(e) else type(e).__name__
            note(f"    {name}: {absent[name]}")
    return result


def run_case(case, args):
    names, absent = contenders(case, args)
    rounds = []
    try:
        for name in names:
            if name == case.yardstick:
                continue
            try:
                case.prepare(name)
            except Exception as e:
                absent[name] = str(e).splitlines()[0] if str(e) else type(e).__name__
                note(f"    {name}: {absent[name]}")
        count = min(args.rounds or ROUNDS[args.size], case.rounds_at_most)
        for i in range(count):
            rounds.append(one_round(case, names if i % 2 == 0 else names[::-1], absent))
            note(f"    round {i + 1} of {count}: " + ", ".join(
                f"{n} {figures.number(v['main'])}" for n, v in rounds[-1].items()))
    finally:
        case.close()
    kept, dropped = figures.good_rounds(rounds, case.yardstick)
    return {"names": names, "absent": absent, "rounds": rounds, "dropped": dropped,
            "rows": [row(case, m, kept, names) for m in case.metrics]}


def row(case, metric, rounds, names):
    """One metric of one case: medians, ratios with intervals, goals."""
    key, out = metric.key, {"id": case.id, "metric": metric.unit, "medians": {}, "ratios": {}}
    for name in names:
        seen = [r[name][key] for r in rounds if key in r.get(name, {})]
        if seen:
            out["medians"][name] = statistics.median(seen)
        if name in FOREIGN and figures.ratios(rounds, key, name, "warren"):
            out["ratios"][name] = figures.interval(figures.ratios(rounds, key, name, "warren"))
    if case.yardstick and figures.ratios(rounds, key, "warren", case.yardstick):
        out["naked"] = figures.interval(figures.ratios(rounds, key, "warren", case.yardstick))
    ours = [r["warren"][key] for r in rounds if key in r.get("warren", {})]
    goals = []
    if metric.per_peer and out["ratios"]:
        best = min(out["ratios"], key=lambda n: out["ratios"][n][0])
        goals.append((f"{metric.per_peer:g}x {best}", out["ratios"][best][1] >= metric.per_peer))
    if metric.per_naked and "naked" in out:
        goals.append((f"{metric.per_naked:g}x naked", out["naked"][2] <= metric.per_naked))
    if metric.most and ours:
        goals.append((f"at most {metric.most:g}", figures.interval(ours)[2] <= metric.most))
    out["goals"], out["rounds"] = goals, len(ours)
    return out


def text_row(r, absent, names):
    def cell(name):
        if name not in r["medians"]:
            return "not run here" if name in absent or name not in names else "-"
        value = figures.number(r["medians"][name])
        if name in r["ratios"]:
            value += " (%.2fx; %.2f-%.2f)" % r["ratios"][name]
        return value
    limit = figures.number(r["medians"].get("naked", r["medians"].get("libraries")))
    if "naked" in r:
        limit += " (%.2fx; %.2f-%.2f)" % r["naked"]
    few = r["rounds"] < ROUNDS_ENOUGH
    words = (f"no, {r['rounds']} rounds", f"yes, {r['rounds']} rounds") if few else ("missed", "met")
    goals = "; ".join(f"{text}: {words[met]}" for text, met in r["goals"]) or "-"
    return [r["id"], r["metric"], cell("warren"), limit] + [cell(f) for f in FOREIGN] + [goals]


def cross_rows(results):
    rows = [["id", "metric", "dialler > listener", "median"]]
    for result in results.values():
        for r in result["rows"]:
            rows += [[r["id"], r["metric"], name, figures.number(value)]
                     for name, value in r["medians"].items() if ">" in name]
    return rows


def note(text):
    print(text, file=sys.stderr, flush=True)


def pair_of_cores(text):
    if text == "none":
        return [None, None]
    cores = [int(c) for c in text.split(",")]
    if len(cores) != 2:
        raise argparse.ArgumentTypeError("two numbers, client's and server's, or none")
    return cores


def arguments():
    p = argparse.ArgumentParser(prog="tools/bench/run", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"), help="build directory")
    p.add_argument("--only", default="", help="comma-separated, such as B1,B6; the default is all")
    p.add_argument("--impl", default=",".join(IMPLS), help="who takes part")
    p.add_argument("--size", choices=list(ROUNDS), default="normal")
    p.add_argument("--rounds", type=int, default=0, help="the default is 3, 11 or 15 by size")
    p.add_argument("--cross", action="store_true", help="also pairs of warren with each of the others")
    p.add_argument("--cores", type=pair_of_cores, default=[0, 1], help="client's and server's core, or none")
    p.add_argument("--security", choices=("noise", "tls"), default="noise",
                   help="of the connections; the yardsticks always encrypt as Noise does")
    p.add_argument("--json", default="", help="where all figures go; default benchmarks.json in the build directory")
    args = p.parse_args()
    args.impl = [i for i in args.impl.split(",") if i]
    return args


def machine():
    model = ""
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg(),
            "counters": list(figures.Meter.EVENTS) if figures.Meter.counters() else []}


def main():
    args = arguments()
    os.environ.setdefault("WARREN_PEER", os.path.join(args.build, "tests/interop/warren_peer/warren_peer"))
    if (os.cpu_count() or 1) < 2 and args.cores == [0, 1]:
        args.cores = [0, 0]
    only = [i for i in args.only.split(",") if i]
    setup, results, began = Setup(args), {}, time.time()
    for kind in cases.CASES:
        if only and kind.id not in only:
            continue
        case = kind(setup)
        note(f"{case.id}: {case.title}")
        why = case.unable()
        if why:
            note(f"    not run here: {why}")
            continue
        results[case.id] = run_case(case, args)
    head = ["id", "metric", "warren", "naked (warren/naked)"] + [f"{f} ({f}/warren)" for f in FOREIGN] + ["goals"]
    print(figures.table([head] + [text_row(r, res["absent"], res["names"])
                                  for res in results.values() for r in res["rows"]]))
    cross = cross_rows(results)
    if len(cross) > 1:
        print("\n" + figures.table(cross))
    for name, result in results.items():
        for who, why in result["absent"].items():
            print(f"{name}: {who} not run here: {why}")
        if result["dropped"]:
            print(f"{name}: {result['dropped']} of {len(result['rounds'])} rounds dropped: yardstick off its median")
    counters = figures.Meter.counters()
    print("metric: " + ("processor time; cycles and instructions in the JSON file" if counters else
                        "processor time; this machine has no hardware counters"))
    figures.save(args.json or os.path.join(args.build, "benchmarks.json"),
                 {"machine": machine(), "versions": setup.versions, "size": args.size, "cores": args.cores,
                  "security": args.security,
                  "seconds": round(time.time() - began), "results": results})
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
