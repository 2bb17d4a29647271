#!/usr/bin/env python3
"""A DHT of mixed implementations, all bootstrapped through one node, asked from everywhere.

    swarm.py                                   60 warren processes, 84 go, 62 rust and 4 js hosts; half of the warren
                                               processes are `warren run` (WARREN_PROGRAM), the others test peers
    swarm.py --foreign-only                    the control: the same without warren, bootstrapped through go
    swarm.py --warren 3 --program 3 --go 5 --rust 5 --js 5 --pairs 20

The node that all others bootstrap from is the first of --through. When the tables have settled, --pairs random pairs of
nodes and keys are drawn, and for each of them
    find-peer   the one finds the other by its id, at an address that it listens on
    providers   the one provides a key, the other finds it among the providers
    value       the one puts its public key under /pk/, the other gets it
    closest     the one looks up the 20 nearest nodes to a random key, compared with the truth
    answer      the one asks the other FIND_NODE for a key in the other's neighbourhood, compared with the truth
The last line is 'N passed, N failed, N skipped'; the lines before it say how each implementation did as asker and asked.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import random
import signal
import statistics
import sys
import time

import peerproc
import sanitized
from peerproc import IMPLS, Peer, PeerError, Program

K = 20
PREFIX = "/wtest"
TIMEOUT = sanitized.patience(60000)  # ms, of one DHT operation
ALL = ("program",) + IMPLS
# Hosts per process: warren always one; js has one thread for all of them.
PER_PROCESS = {"program": 1, "warren": 1, "go": 42, "rust": 62, "js": 4}
COUNTS = {"program": 30, "warren": 30, "go": 84, "rust": 62, "js": 4}
# Share of the true 20 nearest that has to be found: in the mean over all pairs, and in each single one.
CLOSEST_MEAN, CLOSEST_LEAST = 0.95, 0.5
ANSWER_MEAN, ANSWER_LEAST = 0.95, 0.5
# Tables are taken as settled when they hold so much of the true neighbours: in the mean, and each but a few. A full
# bucket keeps whom it has, so a few tables, first that of the node which met all others, never hold them all.
SETTLED_MEAN, SETTLED_LEAST, SETTLED_FEW = 0.99, 0.85, 0.02
AGAIN = (0, 0.5, 2, 8)  # s, before each try: a machine that is busy with other things drops questions
if sanitized.SANITIZED:
    AGAIN += (30, 60)  # and is busier; rust gives a lookup up after a minute, whatever one asks for


class Node:
    def __init__(self, peer, host):
        self.peer, self.host, self.impl = peer, host, peer.impl
        self.id = peer.id(host)
        self.id_bytes = peerproc.id_bytes(self.id)
        self.addrs = peer.ready["hosts"][host]["addrs"]
        self.point = point(self.id_bytes)

    def call(self, cmd, **args):
        return self.peer.call(cmd, host=self.host, **dict({"timeout": TIMEOUT}, **args))

    def __str__(self):
        return f"{self.peer.name}/{self.host} {self.id[-6:]}"


def point(key):
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


class Swarm:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.peers, self.nodes = [], []
        self.refreshing = {}  # node: call under way
        self.again = 0  # tries after the first, of the check under way

    def start_process(self, impl, hosts, bootstrap=None):
        number = sum(p.impl == impl for p in self.peers)
        if impl == "program":
            args = ["--network", PREFIX.lstrip("/"), "--listen", "/ip4/127.0.0.1/tcp/0", "--public", "127.0.0.0/8",
                    "--bootstrap", bootstrap or "none"]
            peer = Program(peerproc.programs()[0][impl], args, name=f"{impl}{number}", ready_timeout=120, wait=False)
        else:
            args = ["--dht", "server", "--dht-prefix", PREFIX, "--hosts", hosts]
            if bootstrap:
                args += ["--bootstrap", bootstrap]
            peer = Peer(impl, args, name=f"{impl}{number}", ready_timeout=120, wait=False)
        self.peers.append(peer)
        return peer

    def start(self, counts):
        through = self.options.through
        gate = self.start_process(through, 1).wait_ready().addr()
        counts = dict(counts)
        counts[through] -= 1
        plan = []
        for impl, count in counts.items():
            while count > 0:
                plan.append((impl, min(count, PER_PROCESS[impl])))
                count -= plan[-1][1]
        self.random.shuffle(plan)
        for impl, hosts in plan:
            self.start_process(impl, hosts, gate)
        for peer in self.peers:
            self.nodes += [Node(peer, h) for h in range(len(peer.wait_ready().ready["hosts"]))]

    def stop(self):
        for p in self.peers:
            p.stop()

    def each(self, items, function, parallel):
        """[(item, result or exception)] of function over items."""
        with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
            futures = [(item, pool.submit(function, item)) for item in items]
            out = []
            for item, future in futures:
                try:
                    out.append((item, future.result()))
                except Exception as e:  # reported by the caller
                    out.append((item, e))
            return out

    def settle(self):
        """Waits until the tables hold the nodes' true neighbours; who lacks some gets a refresh now and then. Gives up
        when for --settle seconds no table has become better."""
        began = progress_at = time.monotonic()
        best, told_at = 0, began
        while True:
            tables = self.each(self.nodes, lambda n: n.call("dht-table")["peers"], 16)
            shares, by_impl = [], collections.defaultdict(list)
            for node, table in tables:
                truth = self.nearest(node.id_bytes, {node.id})
                known = set() if isinstance(table, Exception) else set(table)
                shares.append((len(known & set(truth)) / len(truth), node))
                by_impl[node.impl].append(shares[-1][0])
            mean, poor = statistics.mean(s for s, _ in shares), sum(s < SETTLED_LEAST for s, _ in shares)
            now = time.monotonic()
            if mean > best:
                best, progress_at = mean, now
            over = mean >= SETTLED_MEAN and poor <= SETTLED_FEW * len(shares) or now - progress_at > self.options.settle
            if over or now - told_at > 30:
                text = ", ".join(f"{i} {min(v):.0%}/{statistics.mean(v):.0%}" for i, v in sorted(by_impl.items()))
                print(f"  after {now - began:.0f} s tables have of their neighbours (least/mean): {text}", flush=True)
                told_at = now
            if over:
                break
            self.wake([n for share, n in sorted(shares, key=lambda s: s[0]) if share < SETTLED_MEAN])
        for share, node in shares:
            if share < SETTLED_LEAST:
                print(f"  {node} knows only {share:.0%}")

    def wake(self, nodes):
        """Has some nodes refresh their tables, without waiting for it: a busy js may take half a minute to answer."""
        for node in [n for n, call in self.refreshing.items() if call.done.is_set()]:
            del self.refreshing[node]
        for node in nodes:
            if node not in self.refreshing and len(self.refreshing) < 8:
                self.refreshing[node] = node.peer.start("dht-refresh", host=node.host, timeout=20000)
        time.sleep(3)

    def nearest(self, key, without):
        """The true K nearest nodes to key, as ids."""
        target = point(key)
        return [n.id for n in sorted(self.nodes, key=lambda n: n.point ^ target) if n.id not in without][:K]

    # Each check takes (asker, other, key) and returns a share of 1.0 or raises.

    def find_peer(self, asker, other, _):
        try:
            asker.call("disconnect", peer=other.id)  # who is connected need not look
        except PeerError:
            pass  # it was not connected
        found = None
        for wait in AGAIN:  # they may connect again meanwhile, and go then answers without addresses
            time.sleep(wait)
            self.again += wait > 0
            try:
                found = asker.call("dht-find-peer", peer=other.id)["addrs"]
            except PeerError as e:
                found = e
                continue
            if {a.split("/p2p/")[0] for a in found} & set(other.addrs):
                return 1.0
        raise AssertionError(f"found it at {found}, it listens on {other.addrs}")

    def providers(self, asker, other, key):
        cid = peerproc.cid_of(key)
        other.call("dht-provide", cid=cid)
        for wait in AGAIN:  # there is no answer to ADD_PROVIDER, so it may still be under way
            time.sleep(wait)
            self.again += wait > 0
            found = asker.call("dht-find-providers", cid=cid, count=1)["providers"]
            if other.id in [p["id"] for p in found]:
                return 1.0
        raise AssertionError(f"providers are {found}")

    def value(self, asker, other, _):
        key = (b"/pk/" + other.id_bytes).hex()
        value = other.call("key")["publicKey"]
        other.call("dht-put", key=key, value=value)
        got = asker.call("dht-get", key=key)["value"]
        if got != value:
            raise AssertionError(f"got {got}")
        return 1.0

    def closest(self, asker, _, key):
        found = asker.call("dht-closest", key=key.hex())["peers"]
        truth = self.nearest(key, {asker.id})
        return len(set(found) & set(truth)) / len(truth)

    def answer(self, asker, other, _):
        """A node is asked for its own neighbourhood: it has to know nearly all of it."""
        asker.call("connect", addr=f"{other.addrs[0]}/p2p/{other.id}")
        key = other.id_bytes
        found = asker.call("dht-query", peer=other.id, key=key.hex())["peers"]
        truth = self.nearest(key, {asker.id, other.id})
        return len(set(found) & set(truth)) / len(truth)

    def run_check(self, name, function, asked, least=1.0, mean=1.0):
        """asked: whether failures speak of the other node too. Returns (passed, failed)."""
        began, self.again = time.monotonic(), 0
        triples = []
        for _ in range(self.options.pairs):
            asker, other = self.random.sample(self.nodes, 2)
            while asker.impl == "program" and name in ("closest", "answer"):  # it has no command for that
                asker, other = self.random.sample(self.nodes, 2)
            triples.append((asker, other, self.random.randbytes(32)))
        results = self.each(triples, lambda t: function(*t), self.options.parallel)
        passed, shares = 0, []
        by_asker, by_asked = collections.defaultdict(list), collections.defaultdict(list)
        for (asker, other, _), share in results:
            problem = None
            if isinstance(share, Exception):
                problem, share = f"{type(share).__name__}: {share}", 0.0
            elif share < least:
                problem = f"only {share:.0%}"
            shares.append(share)
            by_asker[asker.impl].append(share)
            by_asked[other.impl].append(share)
            if problem is None:
                passed += 1
            else:
                print(f"failed  {name}: {asker} asks {'' if not asked else f'for or at {other} '}: {problem}")
        failed = len(results) - passed
        average = statistics.mean(shares)
        if average < mean:
            failed += 1
            print(f"failed  {name}: {average:.1%} on average, {mean:.0%} wanted")
        table = lambda d: ", ".join(f"{i} {statistics.mean(v):.1%} of {len(v)}" for i, v in sorted(d.items()))
        print(f"{name:10} {passed}/{len(results)}, mean {average:.1%}, {time.monotonic() - began:.1f} s"
              + (f", {self.again} further tries" if self.again else ""))
        print(f"    by asker: {table(by_asker)}" + (f"; by the other: {table(by_asked)}" if asked else ""), flush=True)
        return passed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for impl, count in COUNTS.items():
        parser.add_argument(f"--{impl}", type=int, default=count, metavar="N")
    parser.add_argument("--foreign-only", action="store_true")
    parser.add_argument("--through", choices=ALL, help="implementation of the node that all bootstrap from")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--parallel", type=int, default=6, help="operations under way at once")
    parser.add_argument("--settle", type=float, default=60, help="seconds without progress after which tables are taken as they are")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    counts = {impl: getattr(options, impl) for impl in ALL}
    if options.foreign_only:
        counts["go"] += counts["warren"] + counts["program"]
        counts["warren"] = counts["program"] = 0
    options.through = options.through or ("go" if options.foreign_only else "program")
    passed = failed = skipped = 0
    available, reasons = peerproc.programs()
    for impl in [i for i in ALL if counts[i] > 0 and i not in available]:
        missing = impl not in peerproc.FOREIGN or impl in peerproc.broken
        failed, skipped = failed + missing, skipped + (not missing)
        print(f"{'failed' if missing else 'skipped':8}{impl}: {reasons[impl]}")
        counts["warren"] += counts.pop(impl)  # the swarm stays as large
        counts[impl] = 0
    if failed:
        print(f"0 passed, {failed} failed, {skipped} skipped")
        return 1

    swarm = Swarm(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and end what was started
    try:
        began = time.monotonic()
        swarm.start(counts)
        print(f"{len(swarm.nodes)} nodes in {len(swarm.peers)} processes, all through one {options.through} node, "
              f"seed {options.seed}, {time.monotonic() - began:.0f} s", flush=True)
        swarm.settle()
        for name, function, asked, least, mean in (
                ("find-peer", swarm.find_peer, True, 1.0, 1.0),
                ("providers", swarm.providers, True, 1.0, 1.0),
                ("value", swarm.value, True, 1.0, 1.0),
                ("closest", swarm.closest, False, CLOSEST_LEAST, CLOSEST_MEAN),
                ("answer", swarm.answer, True, ANSWER_LEAST, ANSWER_MEAN)):
            p, f = swarm.run_check(name, function, asked, least, mean)
            passed, failed = passed + p, failed + f
    except PeerError as e:
        failed += 1
        print(f"failed  {e}")
    finally:
        swarm.stop()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
