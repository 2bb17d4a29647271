#!/usr/bin/env python3
"""Interop cases between test peers: every case for every ordered pair (dialer, listener) of implementations.

    run.py                        all that is available here: warren (WARREN_PEER), go, rust, js
    run.py --with warren          only pairs that have warren in them
    run.py --impl go,rust         only pairs among these
    run.py --only slow,dht        only cases whose name begins so
    run.py --require go,rust,js   an implementation of these that cannot be built is a failure, not a skip
    run.py --transport quic       over QUIC instead of TCP
    run.py --security tls         over TLS instead of Noise
    run.py --self                 also each implementation with itself (warren always is)
    run.py --list                 names of the cases

Pairs of two foreign implementations are the control: they show that the harness works and what a foreign peer's own
limitation is (LIMITATIONS). The last line is 'N passed, N failed, N skipped'.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
import traceback

import peerproc
from forwarder import Forwarder
from peerproc import Peer, PeerError, PeerGone, Unsupported, eventually

MIB = 1 << 20
ECHO = "/warren-test/echo/1.0.0"
PREFIX = "/wtest"  # of private DHTs
EXIT_UNSUPPORTED = 3

CASES = []
EVERY_PEER = []  # arguments that all peers of a run get

# Who sends the code of a reset, and shows the one that came. js and rust do neither.
CODED = ("warren", "go")
RESET_CODE = 0x77

# What identify carries as signed record by default, per implementation.
SIGNS_RECORD = {"warren": True, "go": True, "js": True, "rust": False}

# Of 200 streams opened at once with default limits, at least so many work: what the limit allows or a little less.
# Keys are (side, implementation); the smaller of the two sides counts, and of what other streams there are.
DEFAULT_STREAMS = {
    ("dialer", "go"): 128, ("listener", "go"): 64,     # 128 out, 64 in per protocol and peer, grow with memory
    ("dialer", "rust"): 200, ("listener", "rust"): 100,  # 128 inbound under negotiation
    ("dialer", "js"): 60, ("listener", "js"): 30,      # 64 out, 32 in per protocol and connection
    ("dialer", "warren"): 128, ("listener", "warren"): 200,  # 128 out per connection; the others wait, then fail
}

# (case, dialer, listener) that fails for a reason of the foreign peer alone; "*" is any. Such a case still runs: if it
# fails it counts as skipped with the reason, if it passes it is time to remove the line.
LIMITATIONS = {
    ("legacy-record", "js", "rust"): "js refuses the whole identify over a signed record that it cannot verify",
    ("dht-client-not-in-tables", "*", "js"): "js takes whoever it hears of and can ping into its routing table",
    ("key-ecdsa-listener", "js", "*"): "js has no peer ids of ECDSA keys",
    ("key-ecdsa-dialer", "*", "js"): "js has no peer ids of ECDSA keys",
}


# The same over QUIC.
QUIC_LIMITATIONS = {
    ("ping", "go", "rust"): "rust echoes only the first ping of a stream over QUIC",
    ("ping", "rust", "go"): "rust echoes only the first ping of a stream over QUIC",
    ("dns4", "js", "*"): "js dials names over TCP only",
    ("slow-reader", "*", "js"): "js resets a paused stream of QUIC once 4 MiB wait; it has no setting for more",
    ("slow-reader", "js", "*"): "js resets a paused stream of QUIC once 4 MiB wait; it has no setting for more",
}

# Keys that an implementation cannot make. warren's own are Ed25519 alone; it has to know the others from outside.
CANNOT_MAKE = {"warren": ("rsa", "ecdsa", "secp256k1"), "go": (), "rust": ("rsa",), "js": ("ecdsa",)}


def case(name, applies=lambda pair: True):
    """applies: whether there is such a case for a pair."""
    def add(function):
        CASES.append((name, function, applies))
        return function
    return add


class Skip(Exception):
    pass


class Pair:
    """A dialer and a listener, connected or not; cases that need flags of their own start fresh ones."""

    def __init__(self, dialer, listener, transport="tcp"):
        self.dialer, self.listener, self.transport = dialer, listener, transport
        self.started = []
        self.shared = None

    def launch(self, *wanted):
        """Starts peers, given as (implementation, arguments, name), side by side."""
        peers = [Peer(impl, [*EVERY_PEER, *args, "--transport", self.transport], name=name, wait=False)
                 for impl, args, name in wanted]
        self.started += peers
        try:
            return [p.wait_ready() for p in peers]
        except PeerGone as gone:
            if gone.reply.get("exit") == EXIT_UNSUPPORTED:
                raise Skip(str(gone).split(": ", 2)[-1]) from None
            raise

    def fresh(self, dialer_args=(), listener_args=(), connect=True):
        a, b = self.launch((self.dialer, dialer_args, f"{self.dialer} (dialer)"),
                           (self.listener, listener_args, f"{self.listener} (listener)"))
        if connect:
            self.join(a, b)
        return a, b

    def join(self, a, b):
        """On a busy machine js may take longer for a handshake than the other side waits: that is tried once more."""
        try:
            a.call("connect", addr=b.addr())
        except PeerError as e:
            if "js" not in (a.impl, b.impl) or "timed out" not in str(e):
                raise
            a.call("connect", addr=b.addr())

    def connected(self):
        """The pair that ordinary cases share."""
        if self.shared is None:
            self.shared = self.fresh()
            self.started = []
        a, b = self.shared
        self.join(a, b)
        return a, b

    def logs(self):
        peers = self.started + list(self.shared or ())
        return "".join(f"    --- {p.name}\n" + "".join(f"    {line}\n" for line in list(p.log)[-15:])
                       for p in peers if p.log)

    def end_case(self, failed):
        for p in self.started:
            p.stop()
        self.started = []
        if failed and self.shared:
            for p in self.shared:
                p.stop()
            self.shared = None


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def without_id(addr):
    return addr.split("/p2p/")[0]


def psk_file(directory, name, byte):
    path = os.path.join(directory, name)
    with open(path, "w") as f:
        f.write("/key/swarm/psk/1.0.0/\n/base16/\n" + f"{byte:02x}" * 32 + "\n")
    return path


# ---------------------------------------------------------------------------------------------- connections

@case("connect")
def connect(pair):
    a, b = pair.connected()
    mine = [p for p in a.call("peers")["peers"] if p["id"] == b.id()]
    check(len(mine) == 1 and mine[0]["dir"] == "out", f"the dialer's connections are {mine}")
    check(mine[0]["addr"] == b.addr().split("/p2p/")[0], f"the dialer says it dialled {mine[0]['addr']}")
    theirs = eventually(lambda: [p for p in b.call("peers")["peers"] if p["id"] == a.id()])
    check(len(theirs) == 1 and theirs[0]["dir"] == "in", f"the listener's connections are {theirs}")


@case("ipv6")
def ipv6(pair):
    listen = ["--listen", "/ip6/::1/udp/0/quic-v1" if pair.transport == "quic" else "/ip6/::1/tcp/0"]
    a, b = pair.fresh(listen, listen)
    identify_and_talk(a, b)


@case("dns4", lambda pair: pair.dialer != "rust")  # its peer is built without names
def dns4(pair):
    a, b = pair.fresh(connect=False)
    a.call("connect", addr=b.addr().replace("/ip4/127.0.0.1/", "/dns4/localhost/"))
    identify_and_talk(a, b)


@case("dial-each-other")
def dial_each_other(pair):
    """Both sides dial at the same time, and some dial from the port that they listen on: the kernel may make one
    connection of the two dials, of which both sides take themselves for the dialler."""
    hosts = 12
    a, b = pair.fresh(["--hosts", hosts], ["--hosts", hosts], connect=False)
    calls = [me.start("connect", host=h, addr=other.addr(h)) for h in range(hosts) for me, other in ((a, b), (b, a))]
    failed = []
    for call in calls:
        try:
            call.wait()
        except PeerError as e:
            failed.append(str(e))
    for h in range(hosts):
        for me, other in ((a, b), (b, a)):
            # whichever dial lost, there is a connection, or it can be had; one too many may just be being closed
            # Twelve js hosts at once took over two minutes on a machine where 30 others waited for two processors.
            eventually(lambda: attempt(me, "connect", host=h, addr=other.addr(h)) and
                       attempt(me, "echo", host=h, peer=other.id(h), bytes=10000), 3 * peerproc.PATIENCE)
    return f"{len(failed)} of {len(calls)} dials failed at first: {failed[0]}" if failed else ""


def read_line(sock):
    """One line of multistream-select, without its newline."""
    length = sock.recv(1)[0]
    line = b""
    while len(line) < length:
        more = sock.recv(length - len(line))
        check(more, "the connection ended in the middle of a line")
        line += more
    return line[:-1]


@case("old-forms", lambda pair: pair.dialer == "warren" and pair.transport == "tcp")  # of the listener alone
def old_forms(pair):
    """multistream-select as nobody speaks it today: one line at a time, with things that are unknown before the right one."""
    _, b = pair.fresh(connect=False)
    port = int(b.addr().split("/")[4])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        send = lambda text: s.sendall(bytes([len(text) + 1]) + text + b"\n")
        send(b"/multistream/1.0.0")
        check(read_line(s) == b"/multistream/1.0.0", "another greeting")
        for unknown in (b"/secio/1.0.0", b"/plaintext/2.0.0", b"/libp2p/simultaneous-connect"):
            send(unknown)
            check(read_line(s) == b"na", f"{unknown} is not refused with na")
        send(b"/noise")
        check(read_line(s) == b"/noise", "/noise is refused after others")


@case("wrong-id")
def wrong_id(pair):
    a, b = pair.fresh(connect=False)
    stranger = "12D3KooWBPCrmsYzhEALNAUVcxV4PAW6KRH2bmNqiJKLqk8PGyhE"
    reply = a.call("wrongid", addr=without_id(b.addr()) + "/p2p/" + stranger)
    check(reply["mismatch"], f"refused, but not for the peer id: {reply['error']}")
    eventually(lambda: not b.call("peers")["peers"])
    a.call("connect", addr=b.addr())  # and the right id still works
    a.call("echo", peer=b.id())


@case("tls-only")
def tls_only(pair):
    """warren speaks Noise and TLS; the other one TLS alone, so that warren's first proposal may be refused."""
    if "warren" not in (pair.dialer, pair.listener):
        raise Skip("foreign peers speak one security protocol at a time")
    if pair.transport == "quic":
        raise Skip("QUIC has TLS inside")
    tls = lambda impl: [] if impl == "warren" else ["--security", "tls"]
    a, b = pair.fresh(tls(pair.dialer), tls(pair.listener))
    identify_and_talk(a, b)


@case("disconnect-by-dialer")
def disconnect_by_dialer(pair):
    a, b = pair.fresh()
    eventually(lambda: b.call("peers")["peers"])
    a.call("disconnect", peer=b.id())
    eventually(lambda: not b.call("peers")["peers"])
    a.call("connect", addr=b.addr())
    a.call("echo", peer=b.id())


@case("disconnect-by-listener")
def disconnect_by_listener(pair):
    a, b = pair.fresh()
    eventually(lambda: b.call("peers")["peers"])
    b.call("disconnect", peer=a.id())
    eventually(lambda: not a.call("peers")["peers"])
    a.call("connect", addr=b.addr())
    a.call("echo", peer=b.id())


@case("reconnect")
def reconnect(pair):
    a, b = pair.fresh(connect=False)
    a.call("bench-conns", addr=b.addr(), count=30, timeout=240000)


@case("many-dialers")
def many_dialers(pair):
    a, b = pair.fresh(["--hosts", 12, "--listen", "none"], connect=False)
    a.call("hold", addr=b.addr(), count=12, timeout=240000)
    # The dialler knows first that a connection stands: its last message is still under way.
    check(eventually(lambda: len(b.call("peers")["peers"]) == 12), "the listener does not hold 12 connections")
    for host in range(12):
        a.call("echo", host=host, peer=b.id(), bytes=10000)


def check_record(me, other, seen):
    expected = "verified" if SIGNS_RECORD[other.impl] else "absent"
    check(seen["signedRecord"] == expected, f"{me.name} says that the signed record of {other.name} is {seen['signedRecord']}")


def identify_and_talk(a, b):
    for me, other in ((a, b), (b, a)):
        seen = me.call("identify", peer=other.id())
        check(seen["publicKey"] == other.call("key")["publicKey"], f"{me.name} took another public key")
        check_record(me, other, seen)
        me.call("echo", peer=other.id(), bytes=100000)


for kind in ("rsa", "ecdsa", "secp256k1"):
    @case(f"key-{kind}-listener", lambda pair, kind=kind: kind not in CANNOT_MAKE[pair.listener])
    def key_listener(pair, kind=kind):
        identify_and_talk(*pair.fresh(listener_args=["--key", kind]))

    @case(f"key-{kind}-dialer", lambda pair, kind=kind: kind not in CANNOT_MAKE[pair.dialer])
    def key_dialer(pair, kind=kind):
        identify_and_talk(*pair.fresh(dialer_args=["--key", kind]))


def no_private_networks_on_quic(pair):
    if pair.transport == "quic":
        raise Skip("QUIC has no private networks")


@case("psk")
def psk(pair):
    no_private_networks_on_quic(pair)
    with tempfile.TemporaryDirectory() as d:
        key = ["--psk", psk_file(d, "one", 0x5a)]
        a, b = pair.fresh(key, key)
        identify_and_talk(a, b)
        a.call("sink", peer=b.id(), bytes=3 * MIB)
        b.call("sink", peer=a.id(), bytes=3 * MIB)


@case("psk-differs")
def psk_differs(pair):
    no_private_networks_on_quic(pair)
    with tempfile.TemporaryDirectory() as d:
        one, two = (["--psk", psk_file(d, name, byte)] for name, byte in (("one", 0x5a), ("two", 0xa5)))
        keyed, other, plain, open_listener = pair.launch(
            (pair.dialer, one, "keyed dialer"), (pair.listener, two, "keyed listener"),
            (pair.dialer, [], "plain dialer"), (pair.listener, [], "plain listener"))
        dials = [(keyed, other), (keyed, open_listener), (plain, other)]
        # a dialer may well wait for the other side to make sense, so not being through after 4 s counts as refused
        calls = [me.start("connect", addr=them.addr(), timeout=4000) for me, them in dials]
        for call, (me, them) in zip(calls, dials):
            try:
                call.wait()
            except PeerError:
                continue
            raise AssertionError(f"{me.name} {me.args} connected to {them.name} {them.args}")
        check(not other.call("peers")["peers"] and not open_listener.call("peers")["peers"], "a listener has a connection")


# ---------------------------------------------------------------------------------------------- identify, ping

@case("identify")
def identify(pair):
    a, b = pair.connected()
    for me, other in ((a, b), (b, a)):
        seen = me.call("identify", peer=other.id())
        check(seen["agent"], "no agent version")
        check(seen["publicKey"] == other.call("key")["publicKey"], "another public key")
        check(ECHO in seen["protocols"], f"protocols are {seen['protocols']}")
        listens = other.ready["hosts"][0]["addrs"]
        check(set(map(without_id, seen["listenAddrs"])) == set(listens),
              f"{me.name} learnt {seen['listenAddrs']}, {other.name} listens on {listens}")
        entry = next(p for p in other.call("peers")["peers"] if p["id"] == me.id())
        if seen["observedAddr"] is not None:
            check(without_id(seen["observedAddr"]) == entry["addr"],
                  f"{other.name} says it sees us at {seen['observedAddr']}, and that the connection is {entry['addr']}")
        check_record(me, other, seen)
        if SIGNS_RECORD[other.impl]:
            check(set(map(without_id, seen["recordAddrs"])) == set(listens),
                  f"the record of {other.name} has {seen['recordAddrs']}, it listens on {listens}")


@case("legacy-record", lambda pair: pair.listener == "rust")  # nobody else makes such records
def legacy_record(pair):
    a, b = pair.fresh(listener_args=["--signed-record", "legacy"])
    seen = a.call("identify", peer=b.id())
    check(set(map(without_id, seen["listenAddrs"])) == set(b.ready["hosts"][0]["addrs"]),
          f"learnt {seen['listenAddrs']}")
    if a.impl == "warren":  # reads both forms
        check(seen["signedRecord"] == "verified", f"the record is {seen['signedRecord']}")
        check(set(map(without_id, seen["recordAddrs"])) == set(b.ready["hosts"][0]["addrs"]),
              f"the record has {seen['recordAddrs']}")
    a.call("echo", peer=b.id())


@case("ping")
def ping(pair):
    a, b = pair.connected()
    for me, other in ((a, b), (b, a)):
        check(len(me.call("ping", peer=other.id(), count=10)["rtts"]) == 10, "not 10 answers")


# ---------------------------------------------------------------------------------------------- streams

@case("streams-200")
def streams_200(pair):
    a, b = pair.connected()
    for me, other in ((a, b), (b, a)):
        me.call("echo", peer=other.id(), streams=200, bytes=3000, hold=True, timeout=120000)
        me.call("echo", peer=other.id(), streams=200, bytes=50000, timeout=120000)


@case("streams-200-default-limits")
def streams_200_default_limits(pair):
    a, b = pair.fresh(["--limits", "default"], ["--limits", "default"])
    a.call("identify", peer=b.id())
    try:
        reply = a.call("echo", peer=b.id(), streams=200, bytes=3000, hold=True, timeout=120000)
    except PeerError as e:
        reply = e.reply
        check("good" in reply, str(e))
    least = min(DEFAULT_STREAMS["dialer", a.impl], DEFAULT_STREAMS["listener", b.impl])
    check(reply["good"] >= least, f"{reply['good']} of 200 streams worked, not {least}: {reply['errors']}")
    # whatever was refused, the connection is as good as before
    for me, other in ((a, b), (b, a)):
        eventually(lambda: attempt(me, "echo", peer=other.id(), streams=10, bytes=20000))
    return f"{reply['good']} of 200 worked"


def attempt(me, cmd, **args):
    try:
        return me.call(cmd, **args)
    except PeerError:
        return None


@case("half-close")
def half_close(pair):
    a, b = pair.connected()
    for me, other in ((a, b), (b, a)):
        for size in (0, 1, 2, 65535, 65536, 262143, 262144, 262145, MIB):
            me.call("echo", peer=other.id(), bytes=size)
            me.call("sink", peer=other.id(), bytes=size)
            me.call("source", peer=other.id(), bytes=size)


@case("reset")
def reset(pair):
    a, b = pair.connected()
    shown = []
    for me, other in ((a, b), (b, a)):
        shown.append(me.call("reset", peer=other.id()))
        if me.impl in CODED and other.impl in CODED:
            check(shown[-1]["code"] == RESET_CODE, f"{other.name} resets with {RESET_CODE:#x}, {me.name} sees {shown[-1]}")
    return ", ".join(f"{r['outcome']}" + (f" {r['code']:#x}" if r["code"] is not None else "") for r in shown)


@case("reset-out")
def reset_out(pair):
    a, b = pair.connected()
    for me, other in ((a, b), (b, a)):
        seen = lambda: sum(other.counters()[c] for c in ("resetsSeen", "resetEofs"))
        before = seen()
        me.call("reset-out", peer=other.id())
        eventually(lambda: seen() == before + 1)


@case("upload-64M")
def upload(pair):
    a, b = pair.connected()
    a.call("sink", peer=b.id(), bytes=64 * MIB, timeout=120000)


@case("download-64M")
def download(pair):
    a, b = pair.connected()
    a.call("source", peer=b.id(), bytes=64 * MIB, timeout=120000)


@case("both-ways-64M")
def both_ways(pair):
    a, b = pair.connected()
    calls = [me.start(cmd, peer=other.id(), bytes=16 * MIB, timeout=120000)
             for me, other in ((a, b), (b, a)) for cmd in ("sink", "source")]
    for call in calls:
        call.wait()


@case("odd-chunks")
def odd_chunks(pair):
    a, b = pair.connected()
    for chunk in (1, 1000, 65519, 65520, 300001):
        a.call("sink", peer=b.id(), bytes=2000 if chunk == 1 else 3 * MIB + 7, chunk=chunk)


@case("slow-reader")
def slow_reader(pair):
    a, b = pair.connected()
    for me, other in ((a, b), (b, a)):
        reply = me.call("slow", peer=other.id(), bytes=24 * MIB, chunk=MIB // 8, pause=10, pings=8, timeout=120000)
        check(max(reply["rtts"]) < 1000, f"pings took {reply['rtts']} ms beside a stream that is not read")
        check(reply["ms"] > 1500, f"24 MiB were read in {reply['ms']} ms: that was not slow")


@case("perf")
def perf(pair):
    a, b = pair.connected()
    for me, other in ((a, b), (b, a)):
        me.call("perf", peer=other.id(), up=8 * MIB, down=8 * MIB, timeout=120000)
    me.call("perf", peer=other.id(), up=0, down=1000)
    me.call("perf", peer=other.id(), up=1000, down=0)


@case("idle-60s")
def idle(pair):
    if pair.transport != "quic":
        raise Skip("only QUIC has idle time-outs")
    a, b = pair.fresh()
    a.call("echo", peer=b.id())
    time.sleep(60)  # twice the longest idle time-out, six times the shortest
    for me, other in ((a, b), (b, a)):
        check(len(me.call("peers")["peers"]) == 1, f"{me.name} has lost the connection")
        me.call("echo", peer=other.id())


@case("stream-churn")
def stream_churn(pair):
    a, b = pair.connected()
    a.call("bench-streams", peer=b.id(), count=1000, parallel=8, timeout=120000)


# ---------------------------------------------------------------------------------------------- QUIC alone

def over_quic_with_warren(pair):
    return pair.transport == "quic" and "warren" in (pair.dialer, pair.listener)


def through(forwarder, peer):
    """The address of a peer, by way of a forwarder."""
    parts = peer.addr().split("/")
    parts[4] = str(forwarder.port)
    return "/".join(parts)


def forward_to(peer):
    return Forwarder(int(peer.addr().split("/")[4]))


# Whose listeners can be told to ask everybody for a proof of the address.
FORCES_RETRY = ("warren", "go")


@case("retry", lambda pair: over_quic_with_warren(pair) and pair.listener in FORCES_RETRY)
def retry(pair):
    a, b = pair.fresh(listener_args=["--retry"], connect=False)
    with forward_to(b) as f:
        a.call("connect", addr=through(f, b))
        check(f.retries > 0, "no Retry packet came")
        for me, other in ((a, b), (b, a)):
            me.call("echo", peer=other.id(), bytes=100000)


LOST_FIRST = 8  # seconds; two or three of a dialer's first time-outs


@case("hello-half-lost", lambda pair: over_quic_with_warren(pair) and pair.listener == "warren")
def hello_half_lost(pair):
    """A ClientHello with a post-quantum key share fills two packets; of these the second is lost at first. Of a shorter
    hello it is what answers the listener's first flight."""
    a, b = pair.fresh(connect=False)
    with forward_to(b) as f:
        f.lose = {2}
        began = time.monotonic()
        a.call("connect", addr=through(f, b))
        a.call("echo", peer=b.id(), bytes=100000)
        took = time.monotonic() - began
        check(len(f.told) > 2, "nothing was lost")
        check(took < LOST_FIRST, f"took {took:.1f} s")
        halves = f.told[1] == f.told[0]  # an id that the dialer made up: it had heard of no other
        return f"{'half of its hello' if halves else 'its second packet'} was lost: {took:.1f} s"


# Whose listeners go on when a dialer's port changes: go three times in a connection's life, for each takes one of the
# ids that it had from the dialer, and gives none back. quinn, under rust and js, is told by its users not to.
FOLLOWS = {"warren": 100, "go": 3}
NOTICED = 5  # seconds; ten are quinn's idle time-out, thirty go's


def rebound_transfer(f, me, cmd, other):
    """A transfer in whose middle the port changes."""
    start = f.forwarded
    call = me.start(cmd, peer=other.id(), bytes=24 * MIB, timeout=120000)
    eventually(lambda: f.forwarded - start > 12 * MIB, timeout=60, step=0.002)
    check(not call.done.is_set(), "over too soon")
    f.rebind()
    return call


@case("rebinding", over_quic_with_warren)
def rebinding(pair):
    a, b = pair.fresh(connect=False)
    with forward_to(b) as f:
        a.call("connect", addr=through(f, b))
        a.call("identify", peer=b.id())
        opened = a.counters()["connsOpened"], b.counters()["connsOpened"]
        for me, cmd, other in ((a, "sink", b), (a, "source", b), (b, "sink", a))[:FOLLOWS.get(pair.listener, 0)]:
            rebound_transfer(f, me, cmd, other).wait()
        check((a.counters()["connsOpened"], b.counters()["connsOpened"]) == opened, "a connection was lost")
        call = rebound_transfer(f, a, "sink", b)
        began = time.monotonic()
        try:
            call.wait()
        except PeerError:
            check(f.rebinds > FOLLOWS.get(pair.listener, 0), "the connection was lost")
        took = time.monotonic() - began
        if a.counters()["connsOpened"] == opened[0]:
            return f"{f.rebinds} changes of port survived"
        check(took < NOTICED, f"the loss was noticed after {took:.1f} s")
        a.call("connect", addr=through(f, b))
        a.call("sink", peer=b.id(), bytes=MIB)
        return f"{f.rebinds - 1} changes of port survived; then noticed after {took:.1f} s, and dialled again"


# ---------------------------------------------------------------------------------------------- DHT

def dht_net(pair, dialer_mode="server"):
    """The dialer and three hosts of the listener in one private DHT, all reached through the listener's host 0."""
    dht = ["--dht-prefix", PREFIX, "--dht"]
    a, b = pair.fresh(dht + [dialer_mode], dht + ["server", "--hosts", 3], connect=False)
    for host in (1, 2):
        b.call("connect", host=host, addr=b.addr(0))
    a.call("connect", addr=b.addr(0))
    eventually(lambda: b.id(0) in a.call("dht-table")["peers"])
    nodes = [(a, 0)] + [(b, h) for h in range(3)]
    # A peer enters a table once it is identified and has answered a question; go refuses to search with an empty one.
    for p, h in nodes:
        eventually(lambda: p.call("dht-table", host=h)["peers"])
    for p, h in nodes:
        eventually(lambda: refreshed(p, h))
    return a, b


def refreshed(peer, host):
    """False: nobody answered in time, which js does not on a busy machine."""
    try:
        peer.call("dht-refresh", host=host, timeout=120000)
    except (PeerGone, Unsupported):
        raise
    except PeerError:
        return False
    return True


def raw_cid(text):
    return peerproc.cid_of(text.encode())


def finds_provider(seeker, host, provider, cmd, **args):
    """ADD_PROVIDER has no answer, so that it was sent does not mean that it has arrived: ask for up to 5 s."""
    def ask():
        found = seeker.call(cmd, host=host, count=1, timeout=120000, **args)["providers"]
        return provider in [p["id"] for p in found]
    eventually(ask)


@case("dht")
def dht(pair):
    a, b = dht_net(pair)
    eventually(lambda: a.id() in b.call("dht-table")["peers"], timeout=20)
    # peers by id, both ways
    found = a.call("dht-find-peer", peer=b.id(2), timeout=120000)
    check(without_id(b.addr(2)) in map(without_id, found["addrs"]), f"found {found['addrs']}")
    found = b.call("dht-find-peer", host=2, peer=a.id(), timeout=120000)
    check(without_id(a.addr()) in map(without_id, found["addrs"]), f"found {found['addrs']}")
    # providers
    for (giver, gh), (seeker, sh) in (((a, 0), (b, 2)), ((b, 1), (a, 0))):
        cid = raw_cid(f"from {giver.impl} {gh}")
        giver.call("dht-provide", host=gh, cid=cid, timeout=120000)
        finds_provider(seeker, sh, giver.id(gh), "dht-find-providers", cid=cid)
        giver.call("advertise", host=gh, ns=f"names of {giver.impl}", timeout=120000)
        finds_provider(seeker, sh, giver.id(gh), "find-ns", ns=f"names of {giver.impl}")
    # public keys as values
    for (giver, gh), (seeker, sh) in (((a, 0), (b, 2)), ((b, 1), (a, 0))):
        value = giver.call("key", host=gh)["publicKey"]
        key = (b"/pk/" + peerproc.id_bytes(giver.id(gh))).hex()
        giver.call("dht-put", host=gh, key=key, value=value, timeout=120000)
        got = seeker.call("dht-get", host=sh, key=key, timeout=120000)
        check(got["value"] == value, "another value came back")
    # one request, in both directions: of the servers that are known all but the asker
    everybody = {a.id(), b.id(0), b.id(1), b.id(2)}
    for (me, mh), (other, oh) in (((a, 0), (b, 0)), ((b, 0), (a, 0))):
        ids = me.call("dht-query", host=mh, peer=other.id(oh), key="00" * 32)["peers"]
        check(set(ids) <= everybody, f"strangers in {ids}")
        check(other.id(oh) not in ids, "the answerer names itself")
        check(len(ids) >= 1, "no closer peers at all")


@case("dht-client")
def dht_client(pair):
    a, b = dht_net(pair, "client")
    cid = raw_cid("from a client")
    a.call("dht-provide", cid=cid, timeout=120000)
    finds_provider(b, 2, a.id(), "dht-find-providers", cid=cid)
    a.call("dht-find-peer", peer=b.id(1), timeout=120000)


@case("dht-client-not-in-tables")
def dht_client_not_in_tables(pair):
    a, b = dht_net(pair, "client")
    a.call("dht-provide", cid=raw_cid("from a client"), timeout=120000)
    time.sleep(0.5)
    for h in range(3):
        check(a.id() not in b.call("dht-table", host=h)["peers"], "a client is in a routing table")


# ---------------------------------------------------------------------------------------------- running

def limitation(name, pair):
    for key in ((name, pair.dialer, pair.listener), (name, pair.dialer, "*"), (name, "*", pair.listener)):
        for table in (LIMITATIONS, QUIC_LIMITATIONS if pair.transport == "quic" else {}):
            if key in table:
                return table[key]
    return None


def run_case(name, function, pair, verbose):
    began = time.monotonic()
    outcome, note = "passed", ""
    try:
        note = function(pair) or ""
    except (Skip, Unsupported) as skip:
        outcome, note = "skipped", str(skip)
    except Exception as e:  # a failed case must not end the run
        outcome = "failed"
        note = f"{type(e).__name__}: {e}" if verbose or not isinstance(e, (PeerError, AssertionError)) else str(e)
        known = limitation(name, pair)
        if known:
            outcome, note = "skipped", f"known: {known} ({note.splitlines()[0]})"
        elif not isinstance(e, (PeerError, AssertionError)):
            note += "\n" + traceback.format_exc()
    seconds = time.monotonic() - began
    label = " ".join([f"{pair.dialer} -> {pair.listener} ", name, *EVERY_PEER[1::2]])
    print(f"{outcome:8}{label:46}{seconds:6.1f} s" + (f"  {note}" if note else ""), flush=True)
    if outcome == "failed":
        print(pair.logs(), end="", flush=True)
    pair.end_case(outcome == "failed")
    return outcome


def wanted_pairs(options, available):
    impls = [i for i in peerproc.IMPLS if i in available and (not options.impl or i in options.impl)]
    for dialer in impls:
        for listener in impls:
            if dialer == listener and not (options.self or dialer == "warren"):
                continue
            if options.with_impl and options.with_impl not in (dialer, listener):
                continue
            yield Pair(dialer, listener, options.transport)


def main():
    names = lambda text: [t for t in text.split(",") if t]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impl", type=names, default=[])
    parser.add_argument("--with", dest="with_impl", choices=peerproc.IMPLS)
    parser.add_argument("--transport", choices=("tcp", "quic"), default="tcp")
    parser.add_argument("--only", type=names, default=[])
    parser.add_argument("--require", type=names, default=[])
    parser.add_argument("--security", choices=("noise", "tls"))
    parser.add_argument("--self", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if options.security:
        EVERY_PEER.extend(["--security", options.security])
    cases = [c for c in CASES if not options.only or any(c[0].startswith(o) for o in options.only)]
    if options.list:
        print("\n".join(c[0] for c in cases))
        return 0

    count = {"passed": 0, "failed": 0, "skipped": 0}
    available, reasons = peerproc.programs()
    for impl, reason in reasons.items():
        if impl not in peerproc.IMPLS:
            continue
        if not options.impl or impl in options.impl:
            outcome = "failed" if impl in options.require or impl in peerproc.broken else "skipped"
            count[outcome] += 1
            print(f"{outcome:8}{impl}: {reason}")
    for pair in wanted_pairs(options, available):
        for name, function, applies in cases:
            if applies(pair):
                count[run_case(name, function, pair, options.verbose)] += 1
        pair.end_case(True)
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
