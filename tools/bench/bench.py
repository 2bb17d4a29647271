"""warren beside go-, rust- and js-libp2p, and beside the limit of the machine: tools/bench/run [FLAGS]

A round measures every contender once, in an order that alternates; a yardstick without any protocol runs in each round.
The result of a pair is the median of its per-round ratios with a 95 % bootstrap interval. A goal is met when the bad
end of the interval passes. Processor time is user and kernel of all threads of both processes; wall-clock is shown in
the JSON file only. A contender that cannot run here says so and gets no figure."""

import argparse
import os
import platform
import signal
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests", "interop"), os.path.join(ROOT, "tests", "natlab")]
sys.dont_write_bytecode = True

import cases  # noqa: E402
import figures  # noqa: E402
import overlink  # noqa: E402
import punches  # noqa: E402
import relays  # noqa: E402
from peerproc import FOREIGN, IMPLS, programs  # noqa: E402

ROUNDS = {"quick": 3, "normal": 11, "full": 15}
SLOW = ("js",)        # at size quick these take part in the first round only


class Clock:
    """Deals the minutes out by the weights of the cases: what one leaves is for those after it. The first round of each
    is always made, as long as there are any minutes."""

    def __init__(self, minutes, todo):
        self.end = time.monotonic() + minutes * 60 if minutes else None
        self.weight = sum(case.weight for case in todo)

    def over(self):
        return self.end is not None and time.monotonic() > self.end

    def begin(self, case):
        self.began = self.last = time.monotonic()
        self.share = (self.end - self.began) * case.weight / self.weight if self.end else 0
        self.weight -= case.weight

    def allows_another(self):
        """After a round: whether one more like it fits into the case's share."""
        now = time.monotonic()
        took, self.last = now - self.last, now
        return self.end is None or now - self.began + took <= self.share


class Setup:
    def __init__(self, args):
        build = args.build
        self.size, self.cores, self.versions = args.size, args.cores, {}
        self.cc = [cc for cc in args.cc.split(",") if cc]
        self.naked = os.path.join(build, "tools/bench/naked")
        self.node = os.path.join(build, "tools/warren")
        self.link = os.path.join(build, "tests/natlab/lab_link")


def contenders(case, args):
    """What takes part, and why not for the rest."""
    os.environ["WARREN_PEERS"] = "release"    # peers/build.sh: as their users build them
    paths, reasons = programs()
    names, absent = [], {}
    for impl in args.impl:
        if impl in paths:
            names.append(impl)
        else:
            absent[impl] = reasons.get(impl, "no program")
    if args.cross and case.cross:
        names += [f"{a}>{b}" for f in names if f in FOREIGN for a, b in (("warren", f), (f, "warren"))]
    for other in case.others + ((case.yardstick,) if case.yardstick else ()):
        why = case.lacks(other)
        if why:
            absent[other] = why
        else:
            names.insert(0, other)
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
    case.complete(result)
    return result


def run_case(case, args, clock):
    names, absent = contenders(case, args)
    rounds = []
    try:
        for name in names:
            if name == case.yardstick or name in case.others and case.id != "B14":
                continue
            try:
                case.prepare(name)
            except Exception as e:
                absent[name] = str(e).splitlines()[0] if str(e) else type(e).__name__
                note(f"    {name}: {absent[name]}")
        count = args.rounds or min(ROUNDS[args.size], case.rounds_at_most)
        for i in range(count):
            if i > 0 and not clock.allows_another():
                break
            order = [n for n in names if i == 0 or args.size != "quick" or n not in SLOW]
            rounds.append(one_round(case, order if i % 2 == 0 else order[::-1], absent))
            note(f"    round {i + 1} of {count}: " + ", ".join(
                f"{n} {figures.number(v['main'])}" for n, v in rounds[-1].items()))
    finally:
        case.close()
    kept, dropped = figures.good_rounds(rounds, case.yardstick)
    return {"names": names, "absent": absent, "rounds": rounds, "dropped": dropped,
            "rows": [row(case, m, kept, names) for m in case.metrics], "cells": cells(case.pooled(kept))}


def cells(rounds):
    """{contender: {cell: share}} of a case whose last figure is made of such, or {}."""
    return {name: r["cells"] for name, r in (rounds[-1].items() if rounds else ()) if "cells" in r}


def row(case, metric, rounds, names):
    """One metric of one case: medians, ratios with intervals, goals."""
    key, made = metric.key, rounds
    rounds = case.pooled(made)
    out = {"id": case.label, "metric": metric.unit, "medians": {}, "ratios": {}, "beside": {},
           "others": list(case.others)}
    for name in names:
        seen = [r[name][key] for r in rounds if key in r.get(name, {})]
        if seen:
            out["medians"][name] = statistics.median(seen)
        pair = ("warren", name) if metric.more else (name, "warren")
        if name in FOREIGN and figures.ratios(rounds, key, *pair):
            out["ratios"][name] = figures.interval(figures.ratios(rounds, key, *pair))
        if name in case.others + (case.yardstick,) and figures.ratios(rounds, key, "warren", name):
            out["beside"][name] = figures.interval(figures.ratios(rounds, key, "warren", name))
    out["yardstick"] = case.yardstick
    ours = [r["warren"][key] for r in rounds if key in r.get("warren", {})]
    out["goals"], out["rounds"] = goals(case, metric, out, ours), sum(key in r.get("warren", {}) for r in made)
    out["enough"] = case.rounds_enough
    return out


def goals(case, metric, out, ours):
    """[(text, whether the bad end of the interval passes)]"""
    list_of = []
    if metric.per_peer and out["ratios"]:
        best = min(out["ratios"], key=lambda n: out["ratios"][n][0])
        list_of.append((f"{metric.per_peer:g}x {best}", out["ratios"][best][1] >= metric.per_peer))
    limits = dict(metric.per_other)
    if metric.per_naked:
        limits[case.yardstick] = metric.per_naked
    for name, limit in limits.items():
        if name in out["beside"]:
            _, low, high = out["beside"][name]
            list_of.append((f"{limit:g}x {name}", low >= limit if metric.more else high <= limit))
    if metric.most is not None and ours:
        list_of.append((f"at most {metric.most:g}", figures.interval(ours)[2] <= metric.most))
    if metric.least and ours:
        list_of.append((f"at least {metric.least:g}", figures.interval(ours)[1] >= metric.least))
    return list_of


def text_row(r, absent, names):
    def cell(name):
        if name not in r["medians"]:
            return "not run here" if name in absent or name not in names else "-"
        value = figures.number(r["medians"][name])
        ratio = r["ratios"].get(name) or r["beside"].get(name)
        return value + " (%.2fx; %.2f-%.2f)" % ratio if ratio else value
    beside = [f"{n} {cell(n)}" for n in [r["yardstick"]] * bool(r["yardstick"]) + r["others"] if n in r["medians"]]
    words = verdicts(r)
    return [r["id"], r["metric"], cell("warren"), ", ".join(beside) or "-"] + [cell(f) for f in FOREIGN] + [
        "; ".join(f"{text}: {words[met]}" for text, met in r["goals"]) or "-"]


def verdicts(r):
    few = r["rounds"] < r["enough"]
    return (f"no, {r['rounds']} rounds", f"yes, {r['rounds']} rounds") if few else ("missed", "met")


def goal_lines(results):
    """Which goals hold and which do not, each with the figure behind it."""
    lines = {True: [], False: []}
    for result in results.values():
        for r in result["rows"]:
            for text, met in r["goals"]:
                if text.startswith("at "):
                    seen = figures.number(r["medians"]["warren"])
                else:
                    of = text.split()[-1]
                    seen = "%.2f (%.2f-%.2f)" % (r["ratios"].get(of) or r["beside"][of])
                lines[met].append(f"    {r['id']}, {r['metric']}: {text}: {seen}")
    total = len(lines[True]) + len(lines[False])
    return [f"goals that hold: {len(lines[True])} of {total}", *lines[True],
            f"goals missed: {len(lines[False])} of {total}", *lines[False]]


def cell_rows(results):
    rows = [["id", "cell"] + list(IMPLS)]
    for name, result in results.items():
        for cell in result["cells"].get("warren", ()):
            rows.append([name, cell] + [figures.number(result["cells"].get(i, {}).get(cell)) for i in IMPLS])
    return rows


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
    p.add_argument("--rounds", type=int, default=0,
                   help="of every row; the default is 3, 11 or 15 by size, and fewer of rows that take long")
    p.add_argument("--cross", action="store_true", help="also pairs of warren with each of the others")
    p.add_argument("--cores", type=pair_of_cores, default=[0, 1], help="client's and server's core, or none")
    p.add_argument("--cc", default="", help="cubic, reno, bbr, bbr2: B4 over QUIC also with warren sending by these, and "
                   "over a line with a shallow buffer")
    p.add_argument("--over", default="", help="noise, tls, quic: only the rows over these")
    p.add_argument("--json", default="", help="where all figures go; default benchmarks.json in the build directory")
    p.add_argument("--minutes", type=float, default=None,
                   help="stop making rounds so that all is done by then; the default is 18 for quick, none otherwise")
    args = p.parse_args()
    if args.minutes is None:
        args.minutes = 18 if args.size == "quick" else 0
    args.impl = [i for i in args.impl.split(",") if i]
    return args


def chosen(setup, args):
    """The cases that were asked for, in the order of their numbers."""
    only, over = ([w for w in text.split(",") if w] for text in (args.only, args.over))
    made = [kind(setup) for kind in cases.CASES + overlink.CASES + relays.CASES + punches.CASES]
    return sorted((c for c in made if c.wanted and (not only or c.id in only) and (not over or c.over in over)),
                  key=lambda c: int(c.id[1:]))


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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))    # so that the namespaces go as well
    os.environ.setdefault("WARREN_PEER", os.path.join(args.build, "tests/interop/warren_peer/warren_peer"))
    if (os.cpu_count() or 1) < 2 and args.cores == [0, 1]:
        args.cores = [0, 0]
    setup, results, unable, began = Setup(args), {}, {}, time.time()
    todo = chosen(setup, args)
    clock = Clock(args.minutes, todo)
    for case in todo:
        clock.begin(case)
        note(f"{case.label}: {case.title}")
        why = "the minutes are over" if clock.over() else case.unable()
        if why:
            note(f"    not run here: {why}")
            unable[case.label] = why
            continue
        at = time.monotonic()
        results[case.label] = run_case(case, args, clock)
        results[case.label]["seconds"] = round(time.monotonic() - at)
    head = ["id", "metric", "warren", "beside it (warren/other)"] + [f"{f} (times worse)" for f in FOREIGN] + ["goals"]
    print(figures.table([head] + [text_row(r, res["absent"], res["names"])
                                  for res in results.values() for r in res["rows"]]))
    for more in (cell_rows(results), cross_rows(results)):
        if len(more) > 1:
            print("\n" + figures.table(more))
    for name, result in results.items():
        for who, why in result["absent"].items():
            print(f"{name}: {who} not run here: {why}")
        if result["dropped"]:
            print(f"{name}: {result['dropped']} of {len(result['rounds'])} rounds dropped: yardstick off its median")
    for name, why in unable.items():
        print(f"{name}: not run here: {why}")
    print("\n".join(goal_lines(results)))
    counters = figures.Meter.counters()
    print("metric: " + ("processor time; cycles and instructions in the JSON file" if counters else
                        "processor time; this machine has no hardware counters"))
    figures.save(args.json or os.path.join(args.build, "benchmarks.json"),
                 {"machine": machine(), "versions": setup.versions, "size": args.size, "cores": args.cores,
                  "not run": unable, "seconds": round(time.time() - began), "results": results})
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
