"""The benchmarks of hole punching: B11 how long it takes, B12 between which NATs it works, in the small internet of
tests/interop/natnet.py. The relay is warren's for all; both homes run the contender."""

import statistics
import sys
import threading
import time

import kinds
import nat
import natnet
from cases import Case, Metric

PATIENCE = 25            # seconds for a direct connection: as long as go goes on trying
NEVER = float("inf")     # the time of a try that did not become direct
B11_DELAY_MS = 15        # one way from a home to the core, and from there to the relay: L is 120 ms, D 60 ms
LOOK = 0.02              # seconds between two looks at the connections; when one opened its end tells
SETTLE = 5               # seconds for what a home finds out about its NAT, the same for all
OBSERVERS = ("11.7.1.1", "11.8.1.1", "11.9.1.1")
TRANSPORTS = {"noise": "tcp", "quic": "quic"}
TRIPS = {"noise": 2, "quic": 1}    # round trips of a direct handshake, in the unit of 1.5 L + n D
NOBODY = {"home-a": "11.10.0.1", "home-b": "11.10.0.2"}    # what is sent there is lost without a word
JS = "js dials from another port than it listens on, so that it punches through no NAT"


class NotDirect(Exception):
    """Nothing came of it."""


def observers(row):
    """Peers in networks of their own, from which a home learns how its NAT counts."""
    started = []
    for addr in OBSERVERS:
        row.net.at("relay", "ip", "addr", "add", addr + "/32", "dev", "lo")
        row.net.at("core", "ip", "route", "add", addr + "/32", "via", natnet.PUBLIC["relay"])
        started.append(row.net.peer("warren", "relay", row.transport, ["--autonat", "v2", "--reach", "public"],
                                    address=addr))
        row.peers.append(started[-1])
    return [peer.wait_ready() for peer in started]


def relayed_pair(row, impl, others=(), announce=None):
    """The homes' peers, who know the others, connected through the relay just now; and the relay. With others warren
    finds out by itself what NAT it is behind, which go and rust have no use for: they are told that there is one.
    announce: {home: an address that it names besides}."""
    args = ["--dcutr"] + (["--autonat", "v2", "--reach", "auto"] if others and impl == "warren" else ["--reach", "private"])
    named = {home: ["--announce", row.net.listen(home, row.transport, ip)[0]] for home, ip in (announce or {}).items()}
    r, b, a = row.start(("warren", "relay", ["--relay"]),
                        *((impl, home, args + named.get(home, [])) for home in ("home-b", "home-a")))
    b.call("reserve", addr=r.addr())
    a.call("connect", addr=r.addr())
    for peer in (a, b):
        for other in others:
            peer.call("connect", addr=other.addr())
        for other in (r, *others):
            peer.call("identify", peer=other.id())
    if others:
        time.sleep(SETTLE)
    else:
        nat.ready_to_punch(r, a, b)
    a.call("connect", addr=nat.circuit_of(r, b))
    return r, b, a


def until_direct(a, b):
    """When each had its first relayed and its first direct connection, {(peer, relayed): seconds} on the machine's
    clock, as soon as both have a direct one; NotDirect after PATIENCE."""
    began, opened = time.monotonic(), {}
    while not {(a, False), (b, False)} <= set(opened):
        if time.monotonic() - began > PATIENCE:
            raise NotDirect(f"no direct connection after {PATIENCE} s")
        time.sleep(LOOK)
        for me, other in ((a, b), (b, a)):
            for c in sorted(nat.connections(me, other), key=lambda c: c["opened"]):
                opened.setdefault((me, c["relayed"]), c["opened"] / 1e3)
    return opened


def upgrade_time(a, b):
    """Seconds from when both have the relayed connection, of which the listener hears last and begins, to when one of
    them can use a direct one: the client of its handshake, who is the dialler, but with rust over QUIC at times."""
    opened = until_direct(a, b)
    if not {(a, True), (b, True)} <= set(opened):
        raise RuntimeError("nobody looked while both had the relayed connection: the machine is too busy")
    return min(opened[a, False], opened[b, False]) - max(opened[a, True], opened[b, True])


def trip(peer, other, count=5):
    """Seconds of a round trip."""
    return min(peer.call("ping", peer=other.id(), count=count)["rtts"]) / 1e3


class InNet(Case):
    cross, weight = False, 1.5

    def unable(self):
        return natnet.why_not()

    def prepare(self, name):
        if name == "js":
            raise RuntimeError(JS)


class Upgrade(InNet):
    """L and D are round trips over the relay (the sum of both ends' to it) and direct, in the same try."""

    id, title = "B11", "from relayed to direct, two homes behind NATs"
    metrics = (Metric("main", "times 1.5 L + 2 D, relayed to direct", per_peer=2, most=1.1),
               Metric("ms", "ms, relayed to direct"))
    announce = None

    def measure(self, name):
        if not hasattr(self, "net"):
            self.net = natnet.Net(self.setup.link, delay_ms=B11_DELAY_MS, relay_ms=B11_DELAY_MS).__enter__()
        tries = [self.one(name) for _ in range(self.size(1, 3, 5))]
        result = {key: statistics.median(t[key] for t in tries) for key in ("main", "ms")}
        if result["main"] == NEVER:
            raise NotDirect(f"no direct connection after {PATIENCE} s")
        return {**result, "tries": [t for t in tries if t["main"] != NEVER]}

    def one(self, name):
        self.net.forget()
        row = nat.Row(self.net, TRANSPORTS[self.over])
        try:
            r, b, a = relayed_pair(row, name, announce=self.announce)
            took = upgrade_time(a, b)
            over_relay, straight = trip(a, r) + trip(b, r), trip(a, b)
        except NotDirect:
            return {"main": NEVER, "ms": NEVER}
        finally:
            row.end()
        return {"main": took / (1.5 * over_relay + TRIPS[self.over] * straight), "ms": took * 1e3,
                "L": over_relay * 1e3, "D": straight * 1e3}

    def close(self):
        if hasattr(self, "net"):
            self.net.__exit__()


class UpgradeQuic(Upgrade):
    over = "quic"
    metrics = (Metric("main", "times 1.5 L + 1 D, relayed to direct", per_peer=2, most=1.1),) + Upgrade.metrics[1:]


class Misled(Upgrade):
    """Both announce an address besides at which nobody is."""

    title = Upgrade.title + ", each announces an unreachable address"
    metrics = (Metric("main", "times 1.5 L + 2 D, an unreachable address announced", per_peer=20),) + Upgrade.metrics[1:]
    announce = NOBODY

    @property
    def label(self):
        return super().label + " misled"


class MisledQuic(Misled):
    over = "quic"
    metrics = (Metric("main", "times 1.5 L + 1 D, an unreachable address announced", per_peer=20),) + Upgrade.metrics[1:]


class Matrix(InNet):
    """A round is one try of every cell. The contenders' tries run side by side, a cell at a time, each in a net of its
    own; what counts is a cell's share of direct tries over all rounds."""

    id, title, over = "B12", "pairs of NATs with a direct connection in the end", "quic"
    weight, rounds_enough = 7, 5
    metrics = (Metric("main", "share of the tries", more=True),
               Metric("behind", "cells in which a peer does better", most=0),
               Metric("ahead", "cells in which no peer is as good", least=3))
    CELLS = (("port-restricted", "port-restricted"), ("port-restricted-random", "port-restricted-random"),
             ("restricted", "symmetric-random"), ("port-restricted", "symmetric-preserving"),
             ("port-restricted", "symmetric-sequential"), ("symmetric-preserving", "symmetric-preserving"),
             ("symmetric-preserving", "symmetric-sequential"), ("symmetric-sequential", "symmetric-sequential"))

    def __init__(self, setup):
        super().__init__(setup)
        self.rounds_at_most = self.size(1, 5, 10)
        self.there, self.found = [], {}

    def prepare(self, name):
        super().prepare(name)
        self.there.append(name)

    def measure(self, name):
        if name not in self.found:
            self.found = {n: {} for n in self.there}
            for cell in self.CELLS:
                self.cell(cell)
        found = self.found.pop(name)
        cells = {cell: good for cell, good in found.items() if not isinstance(good, Exception)}
        for cell in set(found) - set(cells):    # says nothing about the NATs
            print(f"    {name}, {cell}: {found[cell]}", file=sys.stderr, flush=True)
        if not cells:
            self.there.remove(name)    # its later rounds are not asked for
            raise next(iter(found.values()))
        return {"main": sum(cells.values()) / len(cells), "cells": cells}

    def pooled(self, rounds):
        found = {}
        for result in rounds:
            for name, r in result.items():
                for cell, good in r["cells"].items():
                    found.setdefault(name, {}).setdefault(cell, []).append(good)
        out = {}
        for name, tries in found.items():
            cells = {cell: sum(good) / len(good) for cell, good in tries.items()}
            out[name] = {"main": sum(cells.values()) / len(cells), "cells": cells}
        self.complete(out)
        return [out] if out else []

    def complete(self, result):
        """Who is ahead can be said when warren and some peer have a figure for each cell."""
        ours, best = result.get("warren", {}).get("cells", {}), {}
        for name, r in result.items():
            for cell, share in r["cells"].items():
                if name != "warren":
                    best[cell] = max(best.get(cell, 0), share)
        if len(ours) == len(best) == len(self.CELLS):
            result["warren"]["behind"] = sum(best[c] > ours[c] for c in ours)
            result["warren"]["ahead"] = sum(best[c] < ours[c] for c in ours)

    def cell(self, cell):
        threads = [threading.Thread(target=self.one, args=(name, cell)) for name in self.there]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    def one(self, name, cell):
        """Notes 1 for a try that became direct, 0 for one that did not."""
        words = [" ".join("%s=%s" % w for w in kinds.words_of(kind, {}).items()) for kind in cell]
        try:
            with natnet.Net(self.setup.link, tag="-" + name, nats=dict(zip("ab", words))) as net:
                row = nat.Row(net, TRANSPORTS[self.over])
                try:
                    _, b, a = relayed_pair(row, name, observers(row))
                    until_direct(a, b)
                    good = 1
                finally:
                    row.end()
        except NotDirect:
            good = 0
        except Exception as e:
            good = e
        self.found[name][" x ".join(cell)] = good


class MatrixTcp(Matrix):
    over = "noise"

    def __init__(self, setup):
        super().__init__(setup)
        self.wanted = setup.size != "quick"


CASES = (Upgrade, UpgradeQuic, Misled, MisledQuic, Matrix, MatrixTcp)
