#!/usr/bin/env python3
"""Who reaches whom: every kind of NAT against every other, over QUIC and over TCP.

usage: matrix.py BUILD_DIR [--with control,warren] [--full | --tries N] [--rounds 0,2] [--only DIALLER:LISTENER]
                           [--transport quic,tcp] [--logs DIR]

The outcome of every cell is held against expected.txt. A round pairs each kind as dialler with one kind as listener,
side by side; all rounds are all pairs. `control` is the small puncher of punch.py, over UDP and TCP: what it manages can
be done. `warren` are real nodes. The default is a subset of the rounds that has every kind in both roles; --full is
all of them, 10 tries a cell.
"""
import argparse
import collections
import os
import statistics
import sys
import threading
import time
import traceback

import box
import describe
import probe
import sanitized
from control import Control
from net import Net
from nodes import PUBLIC_NODES, STRANGERS, Warren

HERE = os.path.dirname(os.path.abspath(__file__))
KINDS = ("public", "firewall", "full-cone", "restricted", "port-restricted", "port-restricted-random", "refusing",
         "answering", "symmetric-sequential", "symmetric-preserving", "symmetric-random", "carried")
SHORT = ("public", "firew", "cone", "restr", "port-r", "port-rnd", "refuse", "answer", "sym-seq", "sym-pre", "sym-rnd",
         "carried")
# Two homes behind one carrier, each only with its like.
TWINS = ("twins-hairpin", "twins")
OUTCOMES = ("dial", "reverse", "punch", "predict", "relay")
TRANSPORTS = ("quic", "tcp")
# Dialler's and listener's homes. Each transport has its own: a NAT that counts is to be idle but for the pair.
SIDES = {"quic": "ab", "tcp": "cd"}
DELAY_MS = 20
FEW_ROUNDS = (0, 1, 3)        # of the default run
FULL_TRIES = 10
CELL_SHARE = 0.8              # of a cell's tries have to come out as expected
POOLED = {"no prediction": 0.99, "prediction": 0.95}
DRIVERS = {"control": Control, "warren": Warren}

# ratio: the time from relayed to direct in terms of the least that the round trips allow; 0 where that is not known.
Try = collections.namedtuple("Try", "path seconds first text ratio", defaults=[0])


def description():
    lines = ["site %s delay=%d" % (name, DELAY_MS) for name in PUBLIC_NODES + STRANGERS]
    for side in "abcd":
        lines.append("carrier isp-%s delay=%d" % (side, DELAY_MS))
        for kind in KINDS:
            if kind == "carried":
                lines.append("site %s-carried nat=port-restricted behind=isp-%s" % (side, side))
            else:
                busy = " busy=relay" if kind == "symmetric-preserving" else ""
                lines.append("site %s-%s nat=%s delay=%d%s" % (side, kind, kind, DELAY_MS, busy))
    for kind in TWINS:
        for pair in SIDES.values():
            isp = "isp-%s-%s" % (kind, pair)
            lines.append("carrier %s hairpin=%s delay=%d" % (isp, "yes" if "hairpin" in kind else "no", DELAY_MS))
            lines += ["site %s-%s nat=port-restricted behind=%s" % (side, kind, isp) for side in pair]
    return describe.parse("\n".join(lines), "matrix")


def expectations():
    """{(dialler, listener, transport): outcome}; every cell has to be there, once, with a reason."""
    table = {}
    with open(os.path.join(HERE, "expected.txt"), encoding="utf-8") as file:
        for line in file:
            if line.startswith("#") or not line.strip():
                continue
            dialler, listener, quic, tcp, why = line.split(None, 4)
            for transport, outcome in zip(TRANSPORTS, (quic, tcp)):
                assert outcome in OUTCOMES and why.strip(), line
                assert (dialler, listener, transport) not in table, line
                table[dialler, listener, transport] = outcome
    pairs = [(d, l) for d in KINDS for l in KINDS] + [(kind, kind) for kind in TWINS]
    assert set(table) == {(*pair, t) for pair in pairs for t in TRANSPORTS}, "expected.txt has other cells"
    return table


# What counts as the outcome that the table names. A guess that hits is a punch to whoever sees only the packets; a node
# names guesses wherever its NAT counts; and a punch begun while the listener dials back may win.
ALSO = {"predict": ("punch",), "punch": ("predict",), "reverse": ("punch", "predict")}


def as_expected(got, wanted):
    return got == wanted or got in ALSO.get(wanted, ())


class Matrix:
    def __init__(self, name, driver, table, args):
        self.name, self.driver, self.table, self.args = name, driver, table, args
        self.tries, self.broken = collections.defaultdict(list), False
        self.lock = threading.Lock()

    def run(self):
        if not self.driver.together:
            for transport in self.args.transport:
                self.run_transport(transport)
            return
        threads = [threading.Thread(target=self.run_transport, args=(transport,)) for transport in self.args.transport]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def run_transport(self, transport):
        try:
            self.driver.begin(transport)
        except Exception as error:    # no cell of this transport can come out right
            print("  %s over %s did not begin: %s" % (self.name, transport, error), flush=True)
            self.broken = True
            return
        # The tries of a pair lie apart: a node does not punch towards one peer over and over.
        for _ in range(self.driver.tries or self.args.tries):
            for number in self.args.rounds:
                self.run_round(transport, number)

    def run_round(self, transport, number):
        pairs = [(d, KINDS[(i + number) % len(KINDS)]) for i, d in enumerate(KINDS)]
        if number == 0:
            pairs += [(kind, kind) for kind in TWINS]
        if self.args.only:
            pairs = [pair for pair in pairs if ":".join(pair) == self.args.only]
        threads = [threading.Thread(target=self.run_try, args=(*pair, transport)) for pair in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def run_try(self, dialler, listener, transport):
        wanted = self.table[dialler, listener, transport]
        try:
            homes = ["%s-%s" % home for home in zip(SIDES[transport], (dialler, listener))]
            result = Try(*self.driver.attempt(*homes, transport, wanted))
        except Exception:    # the try's failure, whatever it is
            result = Try("failed", 0, False, traceback.format_exc())
        with self.lock:
            self.tries[dialler, listener, transport].append(result)
            if not as_expected(result.path, wanted):
                print("  %s %s from %s to %s: %s, should be %s: %s" %
                      (self.name, transport, dialler, listener, result.path, wanted, result.text), flush=True)

    # ---- what came out

    def cell(self, key):
        tries = self.tries[key]
        good = [t for t in tries if as_expected(t.path, self.table[key])]
        return tries, good

    def print_table(self, transport):
        print("\n%s over %s: rows dial columns; D dialled, R reversed, P punched, G guessed, - relayed; tries as "
              "expected, median ms; ! not as expected" % (self.name, transport))
        print("%-9s" % "" + "".join("%9s" % name for name in SHORT))
        for dialler, short in zip(KINDS, SHORT):
            print("%-9s" % short + "".join("%9s" % self.summary((dialler, listener, transport)) for listener in KINDS))
        for kind in TWINS:
            print("%s: %s" % (kind, self.summary((kind, kind, transport))))

    def summary(self, key):
        if not self.tries.get(key):
            return "."
        tries, good = self.cell(key)
        sign = dict(zip(OUTCOMES, "DRPG-"))[self.table[key]]
        times = [t.seconds for t in good if t.seconds]
        median = " %d" % (1000 * statistics.median(times)) if times else ""
        return "%s%d%s%s" % (sign, len(good), "" if len(good) == len(tries) else "!", median)

    def pooled(self, transport):
        """Of the cells that are direct: those that need no guess, at the first attempt; those that need one."""
        shares = {}
        for name, outcomes in (("no prediction", ("dial", "reverse", "punch")), ("prediction", ("predict",))):
            tries = [(t, self.table[key]) for key, ts in self.tries.items() for t in ts
                     if key[2] == transport and self.table[key] in outcomes]
            good = sum(1 for t, wanted in tries if as_expected(t.path, wanted) and (t.first or name == "prediction"))
            shares[name] = (good, len(tries))
        return shares

    def judged(self, outcome):
        """Two nodes agree on a moment and each on the other's next port, which another flow of the same home takes in
        between if all homes together are short of processor time: under sanitizers they always are."""
        return outcome != "predict" or self.name != "warren" or not sanitized.SANITIZED

    def report(self):
        """(passed, failed, skipped)"""
        passed, failed, skipped = 0, int(self.broken), 0
        for transport in self.args.transport:
            self.print_table(transport)
            for name, (good, count) in self.pooled(transport).items():
                if count:
                    print("direct, %s: %d of %d (%.1f %%), at least %.0f %% wanted" %
                          (name, good, count, 100 * good / count, 100 * POOLED[name]))
                    if self.judged("predict" if name == "prediction" else name):
                        passed, failed = tally(passed, failed, good >= POOLED[name] * count)
                    else:
                        skipped += 1
            ratios = [t.ratio for key, tries in self.tries.items() for t in tries
                      if key[2] == transport and t.ratio and t.first and self.table[key] == "punch"]
            if ratios:
                print("from relayed to direct: %.2f times what the round trips allow (median of %d)" %
                      (statistics.median(ratios), len(ratios)))
        for key in self.tries:
            tries, good = self.cell(key)
            if self.judged(self.table[key]):
                passed, failed = tally(passed, failed, len(good) >= CELL_SHARE * len(tries))
            else:
                skipped += 1
        if skipped:
            print("skipped: %d rows about guessed ports are not judged under sanitizers" % skipped)
        return passed, failed, skipped


def tally(passed, failed, good):
    return (passed + 1, failed) if good else (passed, failed + 1)


def inside(args):
    table = expectations()
    total = [0, 0, 0]
    with Net(description(), args.link) as net:
        for name in args.drivers:
            started = time.monotonic()
            with DRIVERS[name](net, args) as driver:
                matrix = Matrix(name, driver, table, args)
                matrix.run()
                for i, count in enumerate(matrix.report()):
                    total[i] += count
            print("%s took %.0f s" % (name, time.monotonic() - started), flush=True)
    print("%d passed, %d failed, %d skipped" % tuple(total))
    return 1 if total[1] else 0


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("--with", dest="drivers", default="control")
    p.add_argument("--full", action="store_true")
    p.add_argument("--tries", type=int, default=0)
    p.add_argument("--rounds", default="")
    p.add_argument("--only", default="", help="DIALLER:LISTENER")
    p.add_argument("--transport", default="quic,tcp")
    p.add_argument("--logs", default="", help="keep the nodes' logs here")
    args = p.parse_args()
    args.drivers, args.transport = args.drivers.split(","), args.transport.split(",")
    args.tries = args.tries or (FULL_TRIES if args.full else 1)
    everything = args.full or args.only
    args.rounds = [int(r) for r in args.rounds.split(",") if r] or (
        list(range(len(KINDS))) if everything else list(FEW_ROUNDS))
    args.link = os.path.join(os.path.abspath(args.build), "tests/natlab/lab_link")
    args.warren = os.path.join(os.path.abspath(args.build), "tools/warren")
    return box.test("natlab/matrix", len(args.drivers) * len(args.rounds) * len(KINDS), lambda: inside(args))


if __name__ == "__main__":
    sys.exit(main())
