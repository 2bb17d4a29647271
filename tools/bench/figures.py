"""Figures of a noisy machine: processor time of processes, medians of per-round ratios, tables."""

import json
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time

BOOTSTRAP_DRAWS = 2000
YARDSTICK_OFF = 0.25  # a round whose yardstick is further than this from its median is dropped


def process_clock(pid):
    """Nanoseconds of processor time that all threads of pid have used, ended ones included."""
    return round(time.clock_gettime((~pid << 3) | 2) * 1e9)  # CPUCLOCK_SCHED of another process


class Meter:
    """Processor time of some processes while something runs; with hardware counters their cycles and instructions
    too, all threads, user and kernel.

        with Meter({"client": pid, "server": pid}) as m: ...
        m.cpu["client"], m.count["cycles"]
    """

    EVENTS = ("cycles", "instructions")
    _counters = None

    @classmethod
    def counters(cls):
        """True where perf can count cycles here."""
        if cls._counters is None:
            out = ""
            if shutil.which("perf"):
                run = subprocess.run(["perf", "stat", "-x,", "-e", ",".join(cls.EVENTS), "true"],
                                     capture_output=True, text=True)
                out = run.stderr if run.returncode == 0 else ""
            cls._counters = bool(out) and "<not" not in out
        return cls._counters

    def __init__(self, pids):
        self.pids, self.cpu, self.count, self.ms = pids, {}, {}, 0.0
        self._perf = self._dir = None

    def _attach(self):
        self._dir = tempfile.mkdtemp()
        control, ack = (os.path.join(self._dir, n) for n in ("control", "ack"))
        os.mkfifo(control)
        os.mkfifo(ack)
        self._perf = subprocess.Popen(
            ["perf", "stat", "-x,", "-D", "-1", "-e", ",".join(self.EVENTS), "--control", f"fifo:{control},{ack}",
             "-p", ",".join(map(str, self.pids.values()))], stderr=subprocess.PIPE, text=True)
        self._control, self._ack = open(control, "w"), open(ack)
        self._tell("enable")

    def _tell(self, word):
        self._control.write(word + "\n")
        self._control.flush()
        self._ack.readline()

    def __enter__(self):
        if self.counters():
            self._attach()
        self._begun = {k: process_clock(p) for k, p in self.pids.items()}
        self._at = time.monotonic()
        return self

    def __exit__(self, *exc):
        self.ms = (time.monotonic() - self._at) * 1e3
        time.sleep(0.02)  # what the other end still has to do
        try:
            self.cpu = {k: process_clock(p) - self._begun[k] for k, p in self.pids.items()}
        finally:
            if self._perf:
                self._detach()

    def _detach(self):
        self._tell("disable")
        self._perf.send_signal(2)
        for line in self._perf.communicate()[1].splitlines():
            fields = line.split(",")
            if len(fields) > 2 and fields[0].isdigit():
                self.count[fields[2]] = int(fields[0])
        self._control.close()
        self._ack.close()
        shutil.rmtree(self._dir)

    def total(self):
        return sum(self.cpu.values())


def interval(values, seed=1):
    """Median and the 95 % bootstrap interval of it."""
    if len(values) < 3:
        return statistics.median(values), min(values), max(values)
    chance = random.Random(seed)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(BOOTSTRAP_DRAWS))
    return (statistics.median(values), medians[int(BOOTSTRAP_DRAWS * 0.025)],
            medians[int(BOOTSTRAP_DRAWS * 0.975) - 1])


def good_rounds(rounds, yardstick):
    """The rounds whose yardstick was near its median, and how many were not. rounds: [{contender: {metric: x}}]"""
    seen = [r[yardstick]["main"] for r in rounds if yardstick in r]
    if not seen:
        return rounds, 0
    middle = statistics.median(seen)
    kept = [r for r in rounds if yardstick in r and abs(r[yardstick]["main"] / middle - 1) <= YARDSTICK_OFF]
    return kept, len(rounds) - len(kept)


def ratios(rounds, metric, above, below):
    """Per-round above/below."""
    return [r[above][metric] / r[below][metric] for r in rounds
            if metric in r.get(above, {}) and r.get(below, {}).get(metric)]


def number(x):
    if x is None:
        return "-"
    for size, form in ((1000, "{:,.0f}"), (100, "{:.0f}"), (10, "{:.1f}"), (1, "{:.2f}")):
        if abs(x) >= size:
            return form.format(x)
    return "{:.3f}".format(x)


def table(rows):
    """Rows of texts as a Markdown table; the first is the head."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths)) + " |" for r in rows]
    lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
    return "\n".join(lines)


def save(path, data):
    with open(path, "w") as f:
        json.dump(data, f, indent=1)
        f.write("\n")
