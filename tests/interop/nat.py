#!/usr/bin/env python3
"""Relays, reachability and hole punching between test peers, in a small internet of network namespaces (natnet.py).

    nat.py                      every row that has warren in it
    nat.py --control            the rows of foreign peers alone: what they can do with nobody else involved
    nat.py --only punch,limits  only rows whose name begins so
    nat.py --impl go,warren     only rows among these
    nat.py --transport tcp      only that transport (tcp, quic; both without it)
    nat.py --tries 5            each punch so often
    nat.py --require go         an implementation of these that cannot be built is a failure, not a skip
    nat.py --list               the rows

A row names its roles: relay R, listener B (reserves at R), dialler A (dials B through R). Exit code 77 when the machine
cannot make such namespaces. After the rows comes the table of punches, those to guessed ports among them, and the line
'N passed, N failed, N skipped'.
"""

import argparse
import contextlib
import os
import queue
import signal
import statistics
import sys
import threading
import time
import traceback

import natnet
import kinds  # of tests/natlab, where natnet looks
import peerproc
from natnet import HOME, PUBLIC
from peerproc import PeerError, PeerGone, Unsupported, eventually

KIB = 1 << 10
FOREIGN = peerproc.FOREIGN
TRANSPORTS = ("tcp", "quic")
DATA_LIMIT, TIME_LIMIT = 128 * KIB, 120  # of a circuit: what every implementation has by default
SHORT = 4  # seconds: a circuit's time limit in the rows about it
PUNCH_PATIENCE = 25  # seconds from the relayed connection to the direct one: go tries for 10 s, up to three times
LANES = 3  # rows side by side, each lane in an internet of its own: a row waits most of its time
OBSERVERS = ("11.7.1.1", "11.8.1.1", "11.9.1.1")
COUNTING = " ".join("%s=%s" % word for word in kinds.words_of("symmetric-sequential", {}).items())
V1_PATIENCE, V2_PATIENCE = 60, 60  # seconds: go begins with v1 after 15 s, rust with v2 after 5

# (row, transport, roles) that fails for a reason of the foreign peer alone; "*" is any. Such a row still runs: if it
# fails it counts as skipped with the reason, if it passes it is time to remove the line.
JS_PORT = "js dials from another port than it listens on, so that nobody learns one that can be punched"
LIMITATIONS = {
    ("punch", "tcp", "*", "js", "*"): JS_PORT,
    ("punch", "tcp", "*", "*", "js"): JS_PORT,
    ("punch", "quic", "*", "js", "*"): JS_PORT,
    ("punch", "quic", "*", "*", "js"): JS_PORT,
    ("circuit", "*", "*", "rust", "js"): "rust's observed address on a circuit is none, and js fails over it",
    ("autonat_v1", "*", "js", "*"): "js takes the connection that carries the question for its dial, and closes it",
    ("autonat_v2", "tcp", "rust", "*"): "rust does not answer when its TCP dial runs into nothing: 10 s are over first",
}


LOCK = threading.Lock()  # of what the lanes share: the output, the counts, the table


def check(condition, text):
    if not condition:
        raise AssertionError(text)


class Row:
    """One row: its peers, by role."""

    def __init__(self, net, transport):
        self.net, self.transport = net, transport
        self.peers = []
        self.took = None  # seconds, of a punch

    def start(self, *wanted):
        """(implementation, host, arguments) of each; they start side by side."""
        started = []
        for impl, where, args in wanted:
            peer = self.net.peer(impl, where, self.transport, args)
            self.peers.append(peer)
            started.append(peer)
        for peer in started:
            peer.wait_ready()
        return started

    def logs(self):
        return "".join(f"--- {p.name}\n{p.tail(12)}\n" for p in self.peers)

    def end(self):
        for peer in self.peers:
            peer.stop()
        self.peers = []


def circuit_of(relay, listener):
    return relay.addr() + "/p2p-circuit/p2p/" + listener.id()


def connections(me, other):
    return [p for p in me.call("peers")["peers"] if p["id"] == other.id()]


def direct(me, other):
    return [c for c in connections(me, other) if not c["relayed"]]


def relayed(me, other):
    return [c for c in connections(me, other) if c["relayed"]]


def reserve(b, r, **more):
    try:
        got = b.call("reserve", addr=r.addr(), **more)
    except PeerError as e:
        if "UnsupportedListenAddressesError" not in str(e):
            raise
        got = b.call("reserve", addr=r.addr(), **more)  # js gives a relay some seconds, too few on a busy machine
    check(got["relay"] == r.id(), f"reserved at {got['relay']}")
    return got


def ready_to_punch(relay, *peers):
    """go begins with DCUtR once it believes in a public address of its own, and leaves out connections from before."""
    for peer in peers:
        if peer.impl == "go":
            eventually(lambda: any("dcutr" in p for p in relay.call("known", peer=peer.id())["protocols"]))


# ---------------------------------------------------------------------------------------------- rows

def circuit(row, r_impl, b_impl, a_impl):
    """Reservation, voucher, announced limits, whether warren as the guest sees that it is reached, a circuit and streams on
    it; the data limit ends what is too long."""
    r, b, a = row.start((r_impl, "relay", ["--relay"]), (b_impl, "home-b", ["--circuit", "--reach", "private"]),
                        (a_impl, "home-a", ["--circuit", "--reach", "private"]))
    got = reserve(b, r)
    now = time.time()
    ttl = got["expire"] - now
    check(1800 <= ttl <= 7300, f"the reservation lasts {ttl:.0f} s")
    check(got["voucher"] == VOUCHER[r_impl], f"voucher {got['voucher']}")
    if "voucherExpire" in got:
        check(abs(got["voucherExpire"] - got["expire"]) <= 5, f"voucher until {got['voucherExpire']}, not {got['expire']}")
    check(got["limitBytes"] == DATA_LIMIT, f"data limit {got['limitBytes']}")
    check(got["limitSeconds"] == ANNOUNCED_SECONDS.get(r_impl, TIME_LIMIT), f"time limit {got['limitSeconds']}")
    check(any(PUBLIC["relay"] in addr for addr in got["addrs"]), f"the relay's addresses are {got['addrs']}")

    if b_impl == "warren":    # it asks the relay for a circuit to itself
        eventually(lambda: b.call("check", peer=r.id())["proven"] is not None)

    a.call("connect", addr=circuit_of(r, b))
    for me, other in ((a, b), (b, a)):
        eventually(lambda: relayed(me, other))
        check(not direct(me, other), f"{me.name} has a direct connection")
        check(all(c["limited"] is not False for c in relayed(me, other)), f"{me.name} does not know that it is limited")
    for me, other in ((a, b), (b, a)):
        check(me.call("identify", peer=other.id())["agent"], "no identify over the circuit")
        me.call("ping", peer=other.id(), count=3)
        me.call("echo", peer=other.id(), bytes=9 * KIB)
    try:
        a.call("sink", peer=b.id(), bytes=3 * DATA_LIMIT, timeout=20000)
    except PeerError as e:
        end = str(e)
    else:
        raise AssertionError("three times the data limit went through")
    check(b.counters()["bytesIn"] <= 2 * DATA_LIMIT, f"{b.counters()['bytesIn']} bytes came through")
    # the circuit is used up; another one is as good as the first
    for me, other in ((a, b), (b, a)):
        me.call("disconnect", peer=other.id())
    a.call("connect", addr=circuit_of(r, b))
    a.call("echo", peer=b.id(), bytes=9 * KIB)
    return f"at the limit: {end.split(': ', 2)[-1][:70]}"


def program(row, _, b_impl, a_impl):
    """`warren run` as users have it is the relay, and says whom it serves."""
    r = row.net.program("relay", row.transport, ["--relay", "on", "--dht", "off"])
    row.peers.append(r)
    b, a = row.start((b_impl, "home-b", ["--circuit", "--reach", "private"]),
                     (a_impl, "home-a", ["--circuit", "--reach", "private"]))
    r.wait_ready()
    got = reserve(b, r)
    check(got["voucher"] == "verified", f"voucher {got['voucher']}")
    check((got["limitSeconds"], got["limitBytes"]) == (TIME_LIMIT, DATA_LIMIT), f"limits {got}")
    a.call("connect", addr=circuit_of(r, b))
    a.call("echo", peer=b.id(), bytes=9 * KIB)
    lent = r.run("relay", "status")[-1]["lent"]
    check([g["peer"] for g in lent["guests"]] == [b.id()], f"guests are {lent['guests']}")
    check([(c["from"], c["to"]) for c in lent["circuits"]] == [(a.id(), b.id())], f"circuits are {lent['circuits']}")


def duration(row, r_impl, b_impl, a_impl):
    """The time limit ends a circuit on both sides, not before."""
    r, b, a = row.start((r_impl, "relay", ["--relay", "--relay-limits", f"duration={SHORT}"]),
                        (b_impl, "home-b", ["--circuit", "--reach", "private"]),
                        (a_impl, "home-a", ["--circuit", "--reach", "private"]))
    got = reserve(b, r)
    check(got["limitSeconds"] == SHORT * (1000 if r_impl == "js" else 1), f"time limit {got['limitSeconds']}")
    began = time.monotonic()
    a.call("connect", addr=circuit_of(r, b))
    a.call("echo", peer=b.id(), bytes=KIB)
    times = []
    for me, other in ((a, b), (b, a)):
        eventually(lambda: not relayed(me, other))
        times.append(time.monotonic() - began)
    check(min(times) >= SHORT - 0.5, f"cut after {min(times):.1f} s")
    check(direct(b, r), "the listener lost its relay as well")
    return f"cut after {times[0]:.1f} and {times[1]:.1f} s"


def refusals(row, r_impl, b_impl, a_impl):
    """No circuit without a reservation, no second reservation at a relay that has one to give."""
    own = ["--limits", "default"] if r_impl == "warren" else []    # lifted, it allows everybody: then no limit holds
    r, b, a = row.start((r_impl, "relay", ["--relay", "--relay-limits", "reservations=1"] + own),
                        (b_impl, "home-b", ["--circuit", "--reach", "private"]),
                        (a_impl, "home-a", ["--circuit", "--reach", "private"]))
    b.call("connect", addr=r.addr())
    try:
        a.call("connect", addr=circuit_of(r, b), timeout=20000)
    except PeerError as e:
        unreserved = str(e)
    else:
        raise AssertionError("a circuit to somebody who has no reservation")
    reserve(b, r, look=False)  # a second look would count as a second reservation at rust's relay
    try:
        a.call("reserve", addr=r.addr(), timeout=20000)
    except PeerError as e:
        full = e
    else:
        raise AssertionError("two reservations at a relay for one")
    status = full.reply.get("status")
    check(status in (None, 200, 201), f"refused with {status}")
    a.call("connect", addr=circuit_of(r, b))
    a.call("echo", peer=b.id(), bytes=KIB)
    return f"without: {unreserved.split(': ', 2)[-1][:50]}; full: {status or full}"


def punch(row, r_impl, b_impl, a_impl):
    """Both behind NATs: relayed at first, then direct, and the direct one carries what the circuit would not."""
    nat_args = ["--dcutr", "--reach", "private"]
    r, b, a = row.start((r_impl, "relay", ["--relay"]),
                        (b_impl, "home-b", nat_args + announce_args(row, b_impl, "home-b")),
                        (a_impl, "home-a", nat_args + announce_args(row, a_impl, "home-a")))
    # both know the relay, so both have a mapping and have seen their address; it alone opens nothing
    reserve(b, r)
    a.call("connect", addr=r.addr())
    for peer in (a, b):
        peer.call("identify", peer=r.id())
    ready_to_punch(r, a, b)
    plain_dial_fails(a, b, row.net.listen("home-b", row.transport, HOME["home-b"])[0])
    began = time.monotonic()
    a.call("connect", addr=circuit_of(r, b))
    relayed_at = time.monotonic()
    wait_direct(a, b)
    took = time.monotonic() - relayed_at
    for me, other in ((a, b), (b, a)):
        me.call("sink", peer=other.id(), bytes=3 * DATA_LIMIT)
    row.took = took
    return f"direct after {took * 1000:.0f} ms (relayed after {(relayed_at - began) * 1000:.0f})"


def plain_dial_fails(a, b, outside):
    try:
        a.call("connect", addr=f"{outside}/p2p/{b.id()}", timeout=1500)
    except PeerError:
        return
    raise AssertionError("the plain dial succeeded: nothing to punch")


def observers(row):
    """Peers in networks of their own, from which a home learns how its NAT counts."""
    started = []
    for addr in OBSERVERS:
        row.net.at("relay", "ip", "addr", "add", addr + "/32", "dev", "lo")
        row.net.at("core", "ip", "route", "add", addr + "/32", "via", PUBLIC["relay"])
        started.append(row.net.peer("warren", "relay", row.transport, ["--autonat", "v2", "--reach", "public"],
                                    address=addr))
        row.peers.append(started[-1])
    return [peer.wait_ready() for peer in started]


def predict(row, r_impl, b_impl, a_impl):
    """warren is behind a NAT with another port for each remote, one after the other; the other home's lets in only the
    port that it sent to. What warren names are ports to come, and the other one knows nothing of that."""
    args = {impl: ["--dcutr", "--reach", "private"] for impl in (b_impl, a_impl)}
    args["warren"] = ["--dcutr", "--autonat", "v2", "--reach", "auto"]
    r, b, a = row.start((r_impl, "relay", ["--relay"]), (b_impl, "home-b", args[b_impl]), (a_impl, "home-a", args[a_impl]))
    ours, theirs = (b, a) if b_impl == "warren" else (a, b)
    others = observers(row)
    reserve(b, r)
    a.call("connect", addr=r.addr())
    for peer in (a, b):
        for other in others:
            peer.call("connect", addr=other.addr())
        for other in (r, *others):
            peer.call("identify", peer=other.id())
    ready_to_punch(r, a, b)
    eventually(lambda: ours.call("nat")["counts"][row.transport], timeout=V2_PATIENCE, step=0.2)
    # The other way round it would leave a mapping behind, which the punch then had to use.
    plain_dial_fails(theirs, ours, connections(r, ours)[0]["addr"])
    began = time.monotonic()
    a.call("connect", addr=circuit_of(r, b))
    wait_direct(a, b)
    row.took = time.monotonic() - began
    tries = [t for t in ours.call("punches")["punches"] if t["peer"] == theirs.id()]
    check(any(t["trick"] == "predict" and t["ok"] for t in tries), tell(ours))
    for me, other in ((a, b), (b, a)):
        me.call("sink", peer=other.id(), bytes=3 * DATA_LIMIT)
    return f"direct after {row.took * 1000:.0f} ms, attempt {max(t['attempt'] for t in tries)}"


def wait_direct(a, b):
    for me, other in ((a, b), (b, a)):
        try:
            eventually(lambda: direct(me, other), timeout=PUNCH_PATIENCE, step=0.02)
        except AssertionError:
            raise AssertionError(f"no direct connection after {PUNCH_PATIENCE} s; {tell(a)}; {tell(b)}") from None


def tell(peer):
    try:
        tries = peer.call("punches")["punches"]
    except PeerError:
        return f"{peer.name} does not say"
    return f"{peer.name}: " + "; ".join(
        f"{t['what']} {t.get('ok', '')} {t.get('error') or ''} {','.join(t.get('addrs') or [])}" for t in tries)[:400]


def announce_args(row, impl, where):
    """js has to be told its address: it learns none from what others see of it."""
    if impl != "js":
        return []
    return ["--announce", row.net.listen(where, row.transport, HOME[where])[0]]


def reversal(row, r_impl, b_impl, a_impl):
    """The dialler is public, the listener behind a NAT: a direct connection comes about without punching."""
    r, b, a = row.start((r_impl, "relay", ["--relay"]), (b_impl, "home-b", ["--dcutr", "--reach", "private"]),
                        (a_impl, "open", ["--dcutr", "--reach", "public"]))
    reserve(b, r)
    a.call("connect", addr=r.addr())
    for peer in (a, b):
        peer.call("identify", peer=r.id())
    ready_to_punch(r, a, b)
    a.call("connect", addr=circuit_of(r, b))
    began = time.monotonic()
    wait_direct(a, b)
    took = time.monotonic() - began
    if "js" not in (a_impl, b_impl):
        check(took < 4, f"direct after {took:.1f} s only; {tell(a)}; {tell(b)}")
    # js takes seconds on a busy machine; that no attempt of warren's hung, which takes it 5 s, warren itself can tell
    for me, impl in ((a, a_impl), (b, b_impl)):
        if impl == "warren":
            check(not any("timed out" in (t.get("error") or "") for t in me.call("punches")["punches"]), tell(me))
    a.call("sink", peer=b.id(), bytes=3 * DATA_LIMIT)
    return f"direct after {took * 1000:.0f} ms, {'in' if direct(a, b)[0]['dir'] == 'in' else 'out'}bound at the dialler"


def servers(row, impl, version):
    """Hosts that serve AutoNAT, each at an address of its own: go believes in its own address once four saw it."""
    args = ["--autonat", version, "--reach", "public", "--hosts", natnet.MANY_COUNT]
    if impl == "js":  # with lifted limits it dials for 30 s, longer than anybody waits for its answer
        args += ["--limits", "default"]
    s = row.net.peer(impl, "relay", row.transport, args, address=natnet.MANY)
    row.peers.append(s)
    return s.wait_ready()


def autonat(row, version, server, client, verdict, patience):
    """What a public client learns, and one behind a NAT; verdict(peer, ip) is what a peer has found out."""
    s = servers(row, server, version)
    sites = ("open", PUBLIC["open"]), ("home-a", HOME["home-a"])
    clients = row.start(*((client, where, ["--autonat", version, "--reach", "auto"]) for where, _ in sites))
    for c in clients:
        for host in range(natnet.MANY_COUNT):
            c.call("connect", addr=s.addr(host))
    answers = lambda: [verdict(c, ip) for c, (_, ip) in zip(clients, sites)]
    try:
        eventually(lambda: all(answers()), timeout=patience, step=0.2)
    except AssertionError:
        pass  # for the caller to judge
    return [answer or "no verdict" for answer in answers()]


def autonat_v2(row, server, client):
    """Four servers; a public client learns that it is reachable, one behind a NAT that it is not."""
    def verdict(peer, ip):
        return {x["verdict"] for x in peer.call("nat")["addrs"] if f"/{ip}/" in x["addr"]} - {"unknown"}
    told = autonat(row, "v2", server, client, lambda peer, ip: " ".join(verdict(peer, ip)), V2_PATIENCE)
    # js never says no: an address that nobody confirmed is not announced, and that is all
    check(told == ["reachable", "no verdict" if client == "js" else "unreachable"], f"open and behind a NAT: {told}")
    return ", ".join(told)


def autonat_v1(row, server, client):
    """The same with v1, which knows of one verdict for all addresses."""
    def verdict(peer, _):
        return (peer.call("nat")["reachability"] or "").replace("unknown", "")
    if client == "js":
        raise Unsupported("js does not tell what it makes of AutoNAT v1")
    told = autonat(row, "v1", server, client, verdict, V1_PATIENCE)
    check(told == ["public", "private"], f"open and behind a NAT: {told}")
    return ", ".join(told)


def push(row, x_impl, y_impl):
    """An address that comes while the connection is open reaches the other side by identify push."""
    x, y = row.start((x_impl, "relay", ["--reach", "public"]), (y_impl, "open", ["--reach", "public"]))
    y.call("connect", addr=x.addr())
    for me, other in ((x, y), (y, x)):
        eventually(lambda: connections(me, other))
        me.call("identify", peer=other.id())
    news = {"tcp": "/ip4/11.9.9.9/tcp/4009", "quic": "/ip4/11.9.9.9/udp/4009/quic-v1"}[row.transport]
    x.call("announce", addr=news)
    eventually(lambda: any(news in a for a in y.call("known", peer=x.id())["addrs"]), timeout=15)


# What the voucher of each implementation's relay comes out as, and what its relay announces as time limit.
VOUCHER = {"warren": "verified", "go": "verified", "rust": "absent", "js": "verified"}
ANNOUNCED_SECONDS = {"js": TIME_LIMIT * 1000}  # it announces milliseconds


# ---------------------------------------------------------------------------------------------- running

def with_warren():
    """(name, function, roles) of the rows that have warren in them."""
    for x in FOREIGN:
        for trio in ((x, "warren", "warren"), ("warren", x, "warren"), ("warren", "warren", x)):
            for function in (circuit, duration, refusals):
                yield function, trio
    for function in (circuit, duration, refusals):
        yield function, ("warren", "warren", "warren")
    for x in FOREIGN:
        yield program, ("program", x, x)
        for b, a in ((x, "warren"), ("warren", x)):
            yield punch, ("warren", b, a)
            yield reversal, ("warren", b, a)
    for r in ("go", "rust", "js", "warren"):
        yield punch, (r, "warren", "warren")
    for x in ("go", "rust"):  # js punches through no NAT
        for b, a in ((x, "warren"), ("warren", x)):
            yield predict, ("warren", b, a)
    yield reversal, ("warren", "warren", "warren")
    for x in FOREIGN:
        for function in (autonat_v2, autonat_v1, push):
            yield function, (x, "warren")
            yield function, ("warren", x)


def foreign_only():
    for trio in (("go", "go", "go"), ("go", "rust", "js"), ("go", "js", "rust"), ("rust", "rust", "rust"),
                 ("rust", "go", "js"), ("rust", "js", "go"), ("js", "js", "js"), ("js", "go", "rust"), ("js", "rust", "go")):
        for function in (circuit, duration, refusals):
            yield function, trio
    for b in FOREIGN:
        for a in FOREIGN:
            yield punch, ("go", b, a)
            yield reversal, ("go", b, a)
    for x in FOREIGN:
        for y in FOREIGN:
            for function in (autonat_v2, autonat_v1, push):
                yield function, (x, y)


def limitation(name, roles, transport):
    row = (name, transport, *roles)
    for known, why in LIMITATIONS.items():
        if len(known) == len(row) and all(k in ("*", r) for k, r in zip(known, row)):
            return why
    return None


def label(function, roles, transport):
    return f"{function.__name__} {transport} " + " ".join(
        f"{role}={impl}" for role, impl in zip("RBA" if len(roles) == 3 else "SC", roles))


def run_row(net, function, roles, transport, punched):
    if function is predict:
        nats = {"b" if roles[1] == "warren" else "a": COUNTING}
        with natnet.Net(net.lab.link_program, net.tag + "n", nats) as own:
            return run_in(own, function, roles, transport, punched)
    net.forget()
    return run_in(net, function, roles, transport, punched)


def run_in(net, function, roles, transport, punched):
    row = Row(net, transport)
    began = time.monotonic()
    outcome, note = "passed", ""
    try:
        note = function(row, *roles) or ""
    except Unsupported as e:
        outcome, note = "skipped", str(e)
    except Exception as e:  # a failed row must not end the run
        outcome, note = "failed", str(e)
        known = limitation(function.__name__, roles, transport)
        if known:
            outcome, note = "skipped", f"known: {known} ({note.splitlines()[0][:200]})"
        elif not isinstance(e, (PeerError, AssertionError)):
            note += "\n" + traceback.format_exc()
    with LOCK:
        print(f"{outcome:8}{label(function, roles, transport):46}{time.monotonic() - began:6.1f} s" +
              (f"  {note}" if note else ""), flush=True)
        if outcome == "failed":
            print(row.logs(), end="", flush=True)
        if function in (punch, predict):
            punched.setdefault((function.__name__, roles, transport), []).append(row.took if outcome == "passed" else None)
    row.end()
    return outcome


def run_rows(net, todo, count, punched):
    """One lane: takes rows until none is left."""
    while True:
        try:
            row = todo.get_nowait()
        except queue.Empty:
            return
        outcome = run_row(net, *row, punched)
        with LOCK:
            count[outcome] += 1


def print_table(punched):
    """Who was punched, by whom: the listener B opens the DCUtR stream, so it is the initiator."""
    if not punched:
        return
    print(f"\n{'row':9}{'relay':8}{'initiator B':13}{'receiver A':12}{'over':6}{'direct':>8}{'median ms':>11}")
    for (name, (r, b, a), transport), times in sorted(punched.items()):
        good = [t for t in times if t is not None]
        median = f"{statistics.median(good) * 1000:.0f}" if good else "-"
        print(f"{name:9}{r:8}{b:13}{a:12}{transport:6}{f'{len(good)}/{len(times)}':>8}{median:>11}")


def main():
    names = lambda text: [t for t in text.split(",") if t]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--only", type=names, default=[])
    parser.add_argument("--impl", type=names, default=[])
    parser.add_argument("--transport", choices=TRANSPORTS)
    parser.add_argument("--tries", type=int, default=1)
    parser.add_argument("--require", type=names, default=[])
    parser.add_argument("--link", help="the program lab_link", default=os.environ.get("WARREN_LAB_LINK"))
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    rows = [(f, roles, t) for f, roles in (foreign_only() if options.control else with_warren())
            for t in ([options.transport] if options.transport else TRANSPORTS)]
    rows = [row for row in rows if not options.only or any(label(*row).startswith(o) for o in options.only)]
    if options.list:
        print("\n".join(label(*row) for row in rows))
        return 0
    reason = natnet.why_not()
    if reason:
        print(f"skipped nat.py: {reason}\n0 passed, 0 failed, 1 skipped")
        return 77
    if not options.link:
        parser.error("neither --link nor WARREN_LAB_LINK names the program lab_link")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the namespaces go as well
    count = {"passed": 0, "failed": 0, "skipped": 0}
    available, reasons = peerproc.programs()
    for impl, why in reasons.items():
        if impl in peerproc.IMPLS + ("program",) and not (options.control and impl in ("warren", "program")):
            outcome = "failed" if impl in options.require or impl in peerproc.broken else "skipped"
            count[outcome] += 1
            print(f"{outcome:8}{impl}: {why}")
    punched = {}
    todo = queue.SimpleQueue()
    for function, roles, transport in sorted(rows, key=lambda row: not row[0].__name__.startswith("autonat")):
        if set(roles) <= set(available) and (not options.impl or set(roles) - {"program"} <= set(options.impl)):
            for _ in range(options.tries if function is punch else 1):
                todo.put((function, roles, transport))
    with contextlib.ExitStack() as nets:
        lanes = [threading.Thread(target=run_rows, args=(net, todo, count, punched), daemon=True) for net in
                 [nets.enter_context(natnet.Net(options.link, f"-{i}")) for i in range(min(LANES, todo.qsize()))]]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    print_table(punched)
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
