"""A node with limits `small` under attack: attack.py BUILD_DIR [--only NAME,...]

Three hosts in network namespaces without a route out: the node; a good peer 60 ms (round trip) away; and an attacker
on a fast cable with 128 networks of addresses. While each attack runs, the good peer pings over the connection that
it has, and a newcomer connects and asks for the providers of a key. Asked of every attack:

- the pings' p99 stays below twice the quiet one;
- the node's anonymous memory stays under 32 MiB;
- a newcomer gets in, and finds all honest providers;
- afterwards nothing of it is left under the node's limits.

A plain datagram echo beside the pings, over the same link between the same namespaces, tells how much slower the
machine itself was than in the quiet phase: by that the pings may be slower too. Under sanitizers (natlab/sanitized.py)
the pings' times and the memory are told and not judged: both are what the sanitizers take. The closing line counts: N passed,
N failed, N skipped.
"""
import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ("natlab", "interop"):
    sys.path.insert(0, os.path.join(HERE, "..", folder))
import lab as lab_module  # noqa: E402
import peerproc  # noqa: E402
import sanitized  # noqa: E402
import siege  # noqa: E402
from siege import EVIL_NET, GOOD, NODE, NODE_EVIL, PORT, cable, ip  # noqa: E402

PROMISE_KIB = 32 * 1024    # anonymous memory that limits `small` allows
RATIO_MAX = 2.0            # p99 of pings under attack over that of quiet ones
NOISE = 1.2                # the same of the echo: above it the machine had other things to do
QUIET_ROUNDS = 5           # at most, of PINGS
TRIES = 3                  # of an attack that failed for the pings only, on such a machine
PINGS = 100                # per attack: 6 s at 60 ms each
HONEST = ("51.82.0.1", "52.83.0.1", "53.84.0.1")    # source addresses of honest providers
NEWCOMERS = ["61.%d.0.1" % i for i in range(101, 181)]    # each is new: the node limits connections per address
ECHO_PORT = 7
DESCRIPTORS = 100    # of the node that has few
KAD = "/lab/kad/1.0.0"
GOOD_PEERS = {"connections": 8, "connections-half-open": 0, "streams": 8, "relay-reservations": 0,
              "relay-circuits": 0}    # what they use of the node's limits
ATTACK_MAX = 60    # seconds; what an attack that has an end may take

# name, mode, count, networks (/16) that it comes from (0: one /24), whether it ends by itself, what it is
ATTACKS = [
    ("half", "half", 5000, 128, False, "silent connections from many prefixes"),
    ("half-crowd", "half", 2000, 1, False, "silent connections from one /16"),
    ("half-subnet", "half", 2000, 0, False, "silent connections from one /24"),
    ("loris", "loris", 2000, 128, False, "handshakes a byte at a time"),
    ("half-noise", "noise", 2000, 128, False, "connections stopped where Noise begins"),
    ("half-tls", "tls", 2000, 128, False, "connections stopped where TLS begins"),
    ("garbage", "garbage", 0, 128, False, "garbage behind valid beginnings, every layer"),
    ("streams", "streams", 128, 1, False, "connections opening streams without pause"),
    ("dead", "dead", 128, 1, False, "connections opening streams nobody serves"),
    ("unread", "unread", 128, 1, False, "connections that ask for much and read nothing"),
    ("partial", "partial", 192, 1, False, "connections stopped inside the largest frame"),
    ("fill", "fill", 128, 1, False, "32 unfinished DHT messages per connection"),
    ("hoard", "hoard", 100, 1, False, "connections keeping 32 DHT streams each"),
    ("hop", "hop", 128, 128, False, "strangers who want places and circuits of the relay"),
    ("hop-subnet", "hop", 128, 0, False, "the same from one /24"),
    ("nat", "nat", 128, 128, False, "AutoNAT with others' addresses, stray nonces"),
    ("push", "push", 1500, 128, True, "identities pushing the largest identify"),
    ("announce", "announce", 100000, 1, True, "announcements of one key by one identity"),
    ("many", "many", 1000, 0, True, "identities in three /24, 100 announcements each"),
    ("members", "members", 400, 1, False, "identities that stay connected"),
    ("members-wide", "members", 400, 128, False, "the same from many prefixes"),
    ("control", "control", 8, 0, False, "garbage and unread answers on the control socket"),
]


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


# ---- the datagram echo, as programs of their own inside the namespaces -------------------------------


def serve_echo(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((address, ECHO_PORT))
        print("ready", flush=True)
        while True:
            data, sender = s.recvfrom(100)
            s.sendto(data, sender)


def probe_echo(address):
    """Prints one round trip in ms per line, ten a second, until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect((address, ECHO_PORT))
        n = 0
        while True:
            n += 1
            start = time.monotonic()
            try:
                s.send(b"%d" % n)
                while s.recv(100) != b"%d" % n:
                    pass
            except OSError:
                pass
            rtt = time.monotonic() - start
            print("%.3f" % (rtt * 1000), flush=True)
            time.sleep(max(0, 0.1 - rtt))


class Echo:
    def __init__(self, node, good):
        me = [sys.executable, os.path.abspath(__file__)]
        self.server = node.popen(me + ["--serve", NODE], stdout=subprocess.PIPE, text=True)
        self.server.stdout.readline()
        self.rtts = []
        self.prober = good.popen(me + ["--probe", NODE], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.prober.stdout:
            self.rtts.append(float(line))


# ---- the node ---------------------------------------------------------------------------------------------


class Node(siege.Node):
    def __init__(self, host, program, port=PORT, **kw):
        self.port = port
        super().__init__(host, program, "--listen", "/ip4/0.0.0.0/tcp/%d" % port, "--dht", "server", "--limits", "small",
                         "--relay", "on", **kw)

    def addr(self, address=NODE):
        return "/ip4/%s/tcp/%d/p2p/%s" % (address, self.port, self.id)


def limits_of(node):
    """{name: {used, peak, max, refused}} that the node itself counts."""
    rows = map(json.loads, node.ask("limits", "--json").stdout.splitlines())
    return {row["name"]: row for row in rows if "name" in row}


# ---- the scene ---------------------------------------------------------------------------------------------


def good_addresses(node, good):
    for address in (*HONEST, *NEWCOMERS):
        ip(good, "addr", "add", address + "/32", "dev", "lo")
        ip(node, "route", "add", address, "dev", "link0")


# ---- the control socket -----------------------------------------------------------------------------------


class ControlAttack:
    """What a broken client of the owner's might send; `count` connections at once, again and again."""

    BROKEN = [
        b"\xdd\xff\xff\xff\xff",                                  # an array of 2^32 - 1
        b"\x91" * 2000,                                            # nested beyond reason
        b"\x94\x00\x01\xdb\xff\xff\xff\xff" + b"x" * 3000000,      # a name of 4 GiB, begun
        b"\x94\x00\x01\xa4ping\x91\x81\xa5count\xa3abc",            # a wrong type
        b"\x94\x00\x01\xa4none\x91\x80" * 1000,                     # a method that is not there
        b"\x94\x01\x01\xc0\xc0",                                   # an answer to nothing
        b"\x94\x00\x01\xa7metrics\x91\x80" * 200,                   # much to be answered, none of it read
        b"\x94\x00\x01\xa9subscribe\x91\x80" * 1000,
        b"\xc1",
    ]

    def __init__(self, path, count):
        self.path, self.count, self.sent, self.over = path, count, 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over.is_set():
            held = []
            for i in range(self.count):
                s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                held.append(s)
                try:
                    s.connect(self.path)
                    s.setblocking(False)
                    s.send((self.BROKEN + [os.urandom(65536)])[(self.sent + i) % (len(self.BROKEN) + 1)])
                except OSError:
                    pass
            self.sent += self.count
            self.over.wait(0.05)
            for s in held:
                s.close()

    def send_signal(self, _):
        self.over.set()

    def communicate(self, timeout):
        self.thread.join(timeout)
        return json.dumps({"opened": self.sent}), None


class Scene:
    def __init__(self, args, hall):
        self.args = args
        self.node_host, self.good_host, self.evil_host = (hall.host(n) for n in ("node", "good", "evil"))
        hall.link(self.good_host, GOOD + "/24", self.node_host, NODE + "/24", delay_ms=30)
        cable(self.node_host, self.evil_host)
        good_addresses(self.node_host, self.good_host)
        self.peers, self.newcomers, self.passed, self.failed = [], list(NEWCOMERS), 0, 0
        self.node = Node(self.node_host, args.warren)
        self.echo = Echo(self.node_host, self.good_host)

    def peer(self, listen=GOOD, *args):
        command = self.good_host.command([self.args.warren_peer, "--listen", "/ip4/%s/tcp/0" % listen, "--dht-prefix",
                                          "/lab", *args])
        peer = peerproc.Peer("warren", command[1:], path=shutil.which(command[0]))
        self.peers.append(peer)
        return peer

    def result(self, name, wrong, text):
        print("%-6s hostile/%-13s %s" % ("FAILED" if wrong else "ok", name, text), *wrong, sep="\n         ",
              flush=True)
        self.passed += not wrong
        self.failed += bool(wrong)

    def attack(self, mode, count, networks, seconds, *more, port=PORT):
        if mode == "control":
            return ControlAttack(self.node.control, count)
        return self.evil_host.popen([self.args.attacker, mode, NODE_EVIL, str(port), EVIL_NET, str(networks),
                                     str(seconds), str(count), *more], stdout=subprocess.PIPE, text=True,
                                    env=dict(os.environ, KAD=KAD), preexec_fn=lambda: os.nice(5))

    def close(self):
        try:
            for peer in self.peers:
                peer.stop()
            if self.failed:
                print("the node's last words:\n" + self.node.log_tail())
        finally:
            self.node.close()


def pings(peer, node, count=PINGS):
    try:
        return peer.call("ping", peer=node.id, count=count, timeout=60000)["rtts"], None
    except peerproc.PeerError as error:
        return [], str(error)


def newcomer(scene, node, honest, cid, out, seconds=sanitized.patience(15)):
    """Connects and asks for the providers, again until it works, as anybody would. out: "took" (seconds until it was
    in), "tries", and "wrong" if it was all in vain."""
    peer = scene.peer(scene.newcomers.pop(), "--dht", "client")
    start = time.monotonic()
    out.update(wrong="a newcomer could not connect", tries=0)
    while "wrong" in out and time.monotonic() - start < seconds:
        out["tries"] += 1
        try:
            peer.call("connect", addr=node.addr(), timeout=3000)
            out.setdefault("took", time.monotonic() - start)
            out["wrong"] = "a newcomer did not find all honest providers"
            if set(honest) <= found(peer, cid):
                del out["wrong"]
        except peerproc.PeerError:
            time.sleep(0.1)
    peer.stop()


def leftovers(node, seconds=20):
    """What is in use although nobody is there any more but the good peer, or "" once nothing is."""
    end = time.monotonic() + seconds
    while True:
        used = {name: row["used"] for name, row in limits_of(node).items() if "used" in row}
        left = [name for name, most in GOOD_PEERS.items() if used.get(name, most + 1) > most]
        if not left or time.monotonic() > end:
            return ", ".join("%s %s" % (name, used.get(name, "not told")) for name in left)
        time.sleep(0.2)


def one_attack(scene, good, quiet, honest, cid, key, attack):
    """Runs it: what is wrong, the text that tells of it, and whether it is worth another try."""
    name, mode, count, networks, ends, what = attack
    node, wrong, entered, marks = scene.node, [], {}, len(scene.echo.rtts)
    node.peak = node.anonymous()
    good.call("connect", addr=node.addr())    # if an attack before this one took it
    busy, start = node.cpu(), time.monotonic()
    attacker = scene.attack(mode, count, networks, ATTACK_MAX, *([key] if mode in ("announce", "many") else []))
    time.sleep(1)
    thread = threading.Thread(target=newcomer, args=(scene, node, honest, cid, entered))
    thread.start()
    rtts, error = pings(good, node)
    thread.join()
    if not ends:
        attacker.send_signal(signal.SIGTERM)
    report = json.loads(attacker.communicate(timeout=ATTACK_MAX + sanitized.patience(10))[0])
    control = scene.echo.rtts[marks:] or [0]
    if node.proc.poll() is not None:
        return ["the node ended with %d" % node.proc.returncode], what, False
    busy = (node.cpu() - busy) / (time.monotonic() - start)
    p99 = quantile(rtts, 0.99) if rtts else 0
    ratio, machine = p99 / quiet["p99"], max(1, quantile(control, 0.99) / quiet["echo"])
    left = leftovers(node)
    if error:
        wrong.append("the good peer's pings ended: %s" % error)
    if node.peak >= PROMISE_KIB and not sanitized.SANITIZED:
        wrong.append("%.1f MiB of anonymous memory" % (node.peak / 1024))
    if "wrong" in entered:
        wrong.append(entered["wrong"])
    if left:
        wrong.append("still in use after it: " + left)
    if report["opened"] == 0 or (ends and report["done"] < count):
        wrong.append("the attacker did not get to it: %s" % report)
    slow = not error and ratio / machine >= RATIO_MAX and not sanitized.SANITIZED
    again = slow and not wrong and machine > NOISE
    if slow:
        wrong.append("the pings' p99 is %.2f times the quiet one, the echo's %.2f times" % (ratio, machine))
    text = ("%6d %-48s ping p50 %5.1f p99 %5.1f ms, %.2f x quiet (echo %.2f x), newcomer in %.1f s (%d tries), "
            "%.1f MiB, %.0f %% busy; %s" % (count, what, quantile(rtts, 0.5) if rtts else 0, p99, ratio, machine,
                                  entered.get("took", -1), entered["tries"], node.peak / 1024, 100 * busy,
                                  json.dumps(report)))
    return wrong, text, again


def provide(scene, cid):
    """Honest providers in networks of their own; their ids."""
    ids = []
    for address in HONEST:
        peer = scene.peer(address, "--dht", "client")
        peer.call("connect", addr=scene.node.addr())
        peer.call("dht-provide", cid=cid, timeout=20000)
        ids.append(peer.id())
    return ids


def found(peer, cid):
    return {p["id"] for p in peer.call("dht-find-providers", cid=cid, count=100, timeout=3000)["providers"]}


def calm(scene, good):
    """What pings and echoes take without an attack: the quietest of a few rounds, for the machine may be busy."""
    best = None
    for _ in range(QUIET_ROUNDS):
        marks = len(scene.echo.rtts)
        rtts, error = pings(good, scene.node)
        if error:
            raise RuntimeError(error)
        quiet = {"p50": quantile(rtts, 0.5), "p99": quantile(rtts, 0.99),
                 "echo": quantile(scene.echo.rtts[marks:] or [60], 0.99)}
        if not best or quiet["p99"] < best["p99"]:
            best = quiet
        if best["p99"] < NOISE * best["p50"]:
            break
    print("quiet: p50 %.1f ms, p99 %.1f ms, echo p99 %.1f ms, memory %.1f MiB" %
          (best["p50"], best["p99"], best["echo"], scene.node.anonymous() / 1024), flush=True)
    return best


def under_attack(scene, only):
    node = scene.node
    content = b"what honest peers provide"
    cid, key = peerproc.cid_of(content), "1220" + hashlib.sha256(content).hexdigest()
    good = scene.peer()
    good.call("connect", addr=node.addr())
    honest = provide(scene, cid)
    entered = {}
    newcomer(scene, node, honest, cid, entered)
    if "wrong" in entered:
        raise RuntimeError("before any attack " + entered["wrong"])
    quiet = calm(scene, good)
    for attack in ATTACKS:
        if node.proc.poll() is not None or (only and attack[0] not in only):
            continue
        for _ in range(TRIES):
            wrong, text, again = one_attack(scene, good, quiet, honest, cid, key, attack)
            if not again:
                break
        scene.result(attack[0], wrong, text)
    if not only or "descriptors" in only:
        few_descriptors(scene, cid)


def few_descriptors(scene, cid):
    """Silent connections to a node that may open few descriptors: it does not spin, and a newcomer gets in. How busy
    the same keeps the node that has enough tells what is much."""
    few = Node(scene.node_host, scene.args.warren, port=PORT + 1,
               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)))
    busy, entered, wrong = [], {}, []
    for node in (scene.node, few):
        attacker = scene.attack("half", 2000, 8, ATTACK_MAX, port=node.port)
        time.sleep(1)
        start = node.cpu()
        time.sleep(3)
        busy.append(node.cpu() - start)
        if node is few:
            newcomer(scene, few, [], cid, entered)
        attacker.send_signal(signal.SIGTERM)
        report = json.loads(attacker.communicate(timeout=sanitized.patience(10))[0])
    if busy[1] > 2 * busy[0] + 0.5:
        wrong.append("it spins: %.2f s of 3, with enough descriptors %.2f s" % (busy[1], busy[0]))
    if "wrong" in entered:
        wrong.append(entered["wrong"])
    status = few.close()
    if status != 0:
        wrong.append("it ended with %d" % status)
    scene.result("descriptors", wrong, "  2000 silent connections to a node with %d descriptors: %.2f s of 3 busy, "
                 "with enough %.2f s, newcomer in %.1f s; %s" % (DESCRIPTORS, busy[1], busy[0], entered.get("took", -1),
                                                            json.dumps(report)))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--serve")
    p.add_argument("--probe")
    p.add_argument("--only", default="")
    p.add_argument("build", nargs="?")
    args = p.parse_args()
    if args.serve:
        serve_echo(args.serve)
    if args.probe:
        probe_echo(args.probe)
    for name, path in (("warren", "tools/warren"), ("warren_peer", "tests/interop/warren_peer/warren_peer"),
                       ("attacker", "tests/hostile/attacker"), ("link", "tests/natlab/lab_link")):
        setattr(args, name, os.path.join(os.path.abspath(args.build), path))
    reason = lab_module.why_not()
    if not reason and not os.access(args.warren_peer, os.X_OK):
        reason = "warren_peer was not built (it needs jansson)"
    only = set(args.only.split(",")) - {""}
    if reason:
        print("hostile/attack skipped: " + reason)
        print("0 passed, 0 failed, %d skipped" % (len(ATTACKS) + 1))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))    # and clean up
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with lab_module.Lab(args.link) as hall:
        scene = Scene(args, hall)
        try:
            under_attack(scene, only)
        finally:
            scene.close()
    print("%d passed, %d failed, 0 skipped" % (scene.passed, scene.failed))
    return 1 if scene.failed else 0


if __name__ == "__main__":
    sys.exit(main())
