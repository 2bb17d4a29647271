"""The benchmarks of loopback, by the numbers of the plan: B1 perf (B2 over TLS, B3 over QUIC), B6 fresh connections, B7
streams, B13 idle connections, B14 a node at rest, B17 DHT requests.

A case prepares contenders (pairs of test peers that stay for all rounds) and measures one of them once."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

from figures import Meter, process_clock
from peerproc import Peer, programs

MIB = 1 << 20
DHT = "/wbench"
WARM_CONNECTIONS = 30
NODES_AROUND = 40    # DHT servers that the asked one knows
FIND_REQUEST, FIND_REPLY = 56, 1500  # bytes on the wire, near enough for the yardstick


# The flags of a test peer for the ways in which two of them may talk.
OVER = {"noise": ["--security", "noise"], "tls": ["--security", "tls"], "quic": ["--transport", "quic"]}


class Metric:
    """Less is better, or with `more` more. per_peer: we have to be so many times better than the best peer; per_naked:
    ours divided by the yardstick's may not pass it (with `more`: has to reach it); per_other: the same for others
    beside it; most: ours may not pass it; least: ours has to reach it."""

    def __init__(self, key, unit, per_peer=None, per_naked=None, most=None, least=None, per_other=None, more=False):
        self.key, self.unit, self.more, self.least = key, unit, more, least
        self.per_peer, self.per_naked, self.most, self.per_other = per_peer, per_naked, most, per_other or {}


class Case:
    id = title = ""
    metrics = ()
    yardstick = None       # name of a contender, or None
    others = ()            # more of them that are no libp2p
    over = "noise"
    weight = 1             # how long it takes beside the others
    rounds_at_most = 1000  # unless more were asked for
    rounds_enough = 11     # fewer show a figure, they do not settle a goal
    cross = True           # pairs of two implementations make sense
    wanted = True          # False: only with flags that are not given

    def __init__(self, setup):
        self.setup = setup
        self.started = {}

    @property
    def label(self):
        return self.id if self.over == "noise" or self.id in ("B2", "B3") else f"{self.id} {self.over.upper()}"

    def unable(self):
        """A sentence when the machine cannot do it."""
        return None

    def lacks(self, name):
        """A sentence when one of the others is not there."""
        return None

    def complete(self, result):
        """What can be said when all contenders of a round have their figures."""

    def pooled(self, rounds):
        """The rounds that figures and goals are made of, where a single one says too little."""
        return rounds

    @property
    def patience(self):
        """Milliseconds that a command may take: a contender that hangs must not take the others' time."""
        return self.size(90000, 600000, 600000)

    def size(self, quick, normal, full):
        return {"quick": quick, "normal": normal, "full": full}[self.setup.size]

    def peer(self, impl, side, args=(), prefix=()):
        core = self.setup.cores[0 if side == "client" else 1]
        command = list(prefix) + (["taskset", "-c", str(core)] if core is not None else [])
        command += [programs()[0][impl], *OVER[self.over], *args]
        p = Peer(impl, command[1:], path=command[0], name=f"{impl} ({side})")
        self.setup.versions[impl] = p.ready.get("version", "")
        return p

    def prepare(self, name):
        client, _, server = name.partition(">")
        s = self.peer(server or client, "server")
        c = self.peer(client, "client", ["--listen", "none"])
        self.started[name] = (c, s)
        self.warm(c, s)

    def warm(self, client, server):
        client.call("connect", addr=server.addr())

    def meter(self, name):
        c, s = self.started[name]
        return Meter({"client": c.proc.pid, "server": s.proc.pid})

    def measure(self, name):
        raise NotImplementedError

    def naked(self, *args, together=False):
        """together: both ends on the client's core."""
        cores = self.setup.cores[:1] * 2 if together else self.setup.cores
        place = ["-c", "%d,%d" % tuple(cores)] if cores[0] is not None else []
        with Counted() as counted:
            run = subprocess.run(counted.prefix + [self.setup.naked] + place + [str(a) for a in args], check=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        figures = json.loads(run.stdout)
        figures["cpu"] = figures["client_ns"] + figures["server_ns"]
        figures.update(counted.read(run.stderr))
        return figures

    def finish(self, name):
        for p in self.started.pop(name, ()):
            if isinstance(p, Peer):
                p.stop()

    def close(self):
        for name in list(self.started):
            self.finish(name)


class Counted:
    """The command before a yardstick that counts its cycles, where that is possible."""

    def __init__(self):
        self.prefix = ["perf", "stat", "-x,", "-e", ",".join(Meter.EVENTS)] if Meter.counters() else []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    @staticmethod
    def read(text):
        fields = [line.split(",") for line in text.splitlines()]
        return {f[2]: int(f[0]) for f in fields if len(f) > 2 and f[0].isdigit()}


def per(meter, amount, scale=1.0, both="main"):
    """CPU of both ends, and of each, for one of amount; counters beside where there are any."""
    out = {both: meter.total() / amount * scale, "wall": meter.ms * 1e6 / amount * scale}
    out.update({k: v / amount * scale for k, v in meter.cpu.items()})
    out.update({k: v / amount for k, v in meter.count.items()})
    return out


def per_naked(figures, amount, scale=1.0):
    out = {"main": figures["cpu"] / amount * scale, "client": figures["client_ns"] / amount * scale,
           "server": figures["server_ns"] / amount * scale, "wall": figures["wall_ns"] / amount * scale}
    out.update({k: figures[k] / amount for k in Meter.EVENTS if k in figures})
    return out


class Perf(Case):
    id, title = "B1", "/perf, one stream, TCP+Noise+yamux"
    metrics = (Metric("main", "CPU ns/byte, both ends, up and down", per_peer=2.5, per_naked=1.15),
               Metric("up", "CPU ns/byte up"), Metric("down", "CPU ns/byte down"))
    yardstick = "naked"
    pipe = "pipe"

    def warm(self, client, server):
        super().warm(client, server)
        client.call("perf", peer=server.id(), up=32 * MIB, down=32 * MIB, timeout=120000)

    def measure(self, name):
        amount = self.size(64, 256, 1024) * MIB
        if name not in self.started:
            out = self.beside(name, amount)
            return dict(out, up=out["main"], down=out["main"])
        c, s = self.started[name]
        out = {}
        for way, args in (("up", {"up": amount, "down": 0}), ("down", {"up": 0, "down": amount})):
            with self.meter(name) as m:
                c.call("perf", peer=s.id(), timeout=self.patience, **args)
            for key, value in per(m, amount, both=way).items():
                out[key] = value if key == way else out.get(key, 0) + value / 2
        out["main"] = (out["up"] + out["down"]) / 2
        return out

    def beside(self, name, amount):
        return per_naked(self.naked(self.pipe, amount), amount)


class PerfTls(Perf):
    id, title, over, pipe = "B2", "/perf, one stream, TCP+TLS+yamux", "tls", "aespipe"
    metrics = (Metric("main", "CPU ns/byte, both ends, up and down", per_peer=2.5, per_naked=1.25,
                      per_other={"gnutls": 1.0}),) + Perf.metrics[1:]
    others = ("gnutls",)

    def beside(self, name, amount):
        return per_naked(self.naked("tlspipe" if name == "gnutls" else self.pipe, amount), amount)


class PerfQuic(Perf):
    """ngtcp2's example programs, as Debian packages them, move a file by HTTP/3 in one direction. The naked pipe has
    GnuTLS's cipher, as they do; `fast` is the same pipe with warren's own, where that works."""

    id, title, over, pipe, weight = "B3", "/perf, one stream, QUIC", "quic", "udppipe", 1.5
    metrics = (Metric("main", "CPU ns/byte, both ends, up and down", per_peer=2, per_naked=1.8,
                      per_other={"ngtcp2": 0.25}),) + Perf.metrics[1:]
    others = ("ngtcp2", "fast")

    def lacks(self, name):
        return None if name != "ngtcp2" or shutil.which("gtlsclient") and shutil.which("gtlsserver") else "no gtlsclient or gtlsserver"

    def beside(self, name, amount):
        if name == "ngtcp2":
            return self.examples(amount)
        return per_naked(self.naked("udpfast" if name == "fast" else self.pipe, amount), amount)

    def examples(self, amount):
        home = tempfile.mkdtemp(prefix="warren-bench-")
        try:
            with open(home + "/file", "wb") as f:
                f.write(os.urandom(MIB) * (amount // MIB))
            port = free_port()
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-keyout", home + "/key", "-out", home + "/crt", "-subj", "/CN=bench"], check=True,
                           stderr=subprocess.DEVNULL)
            place = [["taskset", "-c", str(c)] if c is not None else [] for c in self.setup.cores]
            server = subprocess.Popen([*place[1], "gtlsserver", "-q", "-d", home, "127.0.0.1", str(port), home + "/key",
                                       home + "/crt"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                return self.fetch(server, [*place[0], "gtlsclient", "-q", "--no-quic-dump", "--no-http-dump",
                                           "--exit-on-all-streams-close", f"--download={home}/got", "127.0.0.1", str(port),
                                           f"https://127.0.0.1:{port}/file"], home, amount)
            finally:
                server.kill()
                server.wait()
        finally:
            shutil.rmtree(home)

    def fetch(self, server, command, home, amount):
        os.mkdir(home + "/got")
        time.sleep(0.3)
        begun, at = process_clock(server.pid), time.monotonic()
        client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
        if not os.path.exists(home + "/got/file") or os.path.getsize(home + "/got/file") != amount:
            raise RuntimeError("the example programs did not move the file")
        return {"main": ((used.ru_utime + used.ru_stime) * 1e9 + process_clock(server.pid) - begun) / amount,
                "wall": (time.monotonic() - at) * 1e9 / amount}


class Connections(Case):
    id, title = "B6", "fresh connections, 1 byte each way"
    metrics = (Metric("main", "CPU us/connection, both ends", per_peer=3, per_naked=1.5),
               Metric("client", "CPU us, dialler"), Metric("server", "CPU us, listener"))
    yardstick, chain = "naked", "conns"

    def warm(self, client, server):
        slow = client.impl == "js" and self.over == "quic"
        client.call("bench-conns", addr=server.addr(), count=3 if slow else WARM_CONNECTIONS, timeout=120000)

    def measure(self, name):
        count = self.size(60, 200, 2000)
        if name == "js" and self.over == "quic":
            count //= 6    # a connection costs it a second
        if name == "naked":
            return per_naked(self.naked(self.chain, count), count, 1e-3)
        c, s = self.started[name]
        with self.meter(name) as m:
            good(c.call("bench-conns", addr=s.addr(), count=count, timeout=self.patience), count)
        return per(m, count, 1e-3)


class ConnectionsTls(Connections):
    over, chain = "tls", "tlsconns"
    metrics = (Metric("main", "CPU us/connection, both ends", per_peer=1, per_naked=1.25),) + Connections.metrics[1:]


class ConnectionsQuic(Connections):
    """The yardstick shakes hands over TCP: what TLS costs is the same."""

    over, chain, weight = "quic", "tlsconns", 1.5
    metrics = (Metric("main", "CPU us/connection, both ends", per_peer=1, per_naked=1.6),) + Connections.metrics[1:]


class Streams(Case):
    id, title = "B7", "streams on one connection, 1 byte each way"
    metrics = (Metric("main", "CPU us/stream, one after the other", per_peer=5, per_naked=2),
               Metric("at_once", "CPU us/stream, many at once"))
    yardstick, ping = "naked", "pingpong"

    def warm(self, client, server):
        super().warm(client, server)
        client.call("bench-streams", peer=server.id(), count=500, timeout=120000)

    def measure(self, name):
        count, at_once = self.size(1000, 4000, 50000), self.size(200, 1000, 1000)
        if name == "naked":
            return per_naked(self.naked(self.ping, count, 1, 1), count, 1e-3)
        c, s = self.started[name]
        with self.meter(name) as m:
            good(c.call("bench-streams", peer=s.id(), count=count, timeout=self.patience), count)
        out = per(m, count, 1e-3)
        with self.meter(name) as m:
            reply = c.call("bench-streams", peer=s.id(), count=at_once, parallel=at_once, timeout=self.patience)
        if reply["failed"] == 0:
            out["at_once"] = m.total() / at_once * 1e-3
        return out


class StreamsTls(Streams):
    over = "tls"


class StreamsQuic(Streams):
    over, ping = "quic", "udpping"


class Requests(Case):
    id, title = "B17", "FIND_NODE on a live connection"
    metrics = (Metric("main", "CPU us/request, both ends", per_peer=3, per_naked=2),
               Metric("client", "CPU us, asking"), Metric("server", "CPU us, answering"))
    yardstick = "naked"
    cross = False

    def prepare(self, name):
        s = self.peer(name, "server", ["--dht", "server", "--dht-prefix", DHT])
        around = self.peer("warren", "client", ["--dht", "server", "--dht-prefix", DHT, "--hosts", NODES_AROUND,
                                                "--bootstrap", s.addr()])
        self.started[name] = (around, s)
        end = time.monotonic() + 60
        while len(s.call("dht-table")["peers"]) < 20:
            if time.monotonic() > end:
                raise RuntimeError("the routing table did not fill")
            time.sleep(0.2)
        c = self.peer(name, "client", ["--dht", "client", "--dht-prefix", DHT, "--listen", "none"])
        self.started[name] = (c, s, around)
        c.call("connect", addr=s.addr())
        time.sleep(1)
        reply = c.call("dht-query", peer=s.id(), key="00" * 32)
        if len(reply["peers"]) < 19:
            raise RuntimeError("the answer has only %d peers" % len(reply["peers"]))
        c.call("bench-findnode", peer=s.id(), count=200, timeout=120000)

    def meter(self, name):
        c, s, _ = self.started[name]
        return Meter({"client": c.proc.pid, "server": s.proc.pid})

    def measure(self, name):
        count = self.size(500, 2000, 20000)
        if name == "naked":
            return per_naked(self.naked("pingpong", count, FIND_REQUEST, FIND_REPLY), count, 1e-3)
        c, s, _ = self.started[name]
        with self.meter(name) as m:
            good(c.call("bench-findnode", peer=s.id(), count=count, timeout=self.patience), count)
        return per(m, count, 1e-3)


class Idle(Case):
    id, title = "B13", "idle connections, identify done"
    metrics = (Metric("main", "KiB anonymous memory/connection", per_peer=10, most=3.0),
               Metric("rss", "KiB resident/connection"))
    rounds_at_most, weight = 3, 1.5
    cross = False
    FIRST = 50     # held before the base is read: what is allocated once is allocated by then
    BATCH = 25     # that shake hands side by side

    def prepare(self, name):
        pass

    def measure(self, name):
        count = self.size(200, 1000, 4000)
        s = self.peer(name, "server")
        c = self.peer("warren", "client", ["--listen", "none", "--hosts", self.FIRST + count], ())
        self.started[name] = (c, s)
        try:
            self.hold(c, s, 0, self.FIRST)
            base = self.memory(s)
            self.hold(c, s, self.FIRST, count)
            full = self.memory(s)
            held = len(s.call("peers")["peers"])
            if held != self.FIRST + count:
                raise RuntimeError("only %d connections were held" % held)
        finally:
            self.finish(name)
        return {"main": (full["anonKiB"] - base["anonKiB"]) / count, "rss": (full["rssKiB"] - base["rssKiB"]) / count}

    def hold(self, client, server, begin, count):
        for at in range(begin, begin + count, self.BATCH):
            good(client.call("hold", addr=server.addr(), host=at, count=self.BATCH, timeout=self.patience), self.BATCH)

    def memory(self, server):
        time.sleep(self.size(2, 5, 60))
        first = server.call("gc")
        time.sleep(2)
        second = server.call("gc")
        return min(first, second, key=lambda m: m["anonKiB"])


class IdleTls(Idle):
    over = "tls"
    metrics = (Metric("main", "KiB anonymous memory/connection", per_peer=10, most=14),) + Idle.metrics[1:]


class IdleQuic(Idle):
    over = "quic"
    metrics = (Metric("main", "KiB anonymous memory/connection", per_peer=10, most=64),) + Idle.metrics[1:]


class AtRest(Case):
    id, title = "B14", "a node with a DHT server, no connections"
    metrics = (Metric("main", "ms, exec to ready", per_peer=10, most=10),
               Metric("cpu", "CPU ms, exec to ready"), Metric("anon", "KiB anonymous memory", most=2048),
               Metric("rss", "KiB resident", per_peer=5),
               Metric("above", "KiB resident above the libraries", most=1536),
               Metric("size", "KiB stripped program", per_peer=8, most=2048))
    others = ("libraries",)
    cross = False

    def complete(self, result):
        if "warren" in result and "libraries" in result:
            result["warren"]["above"] = result["warren"]["rss"] - result["libraries"]["rss"]

    def prepare(self, name):
        self.started[name] = ()
        self.home = getattr(self, "home", None) or tempfile.mkdtemp(prefix="warren-bench-")
        self.sizes = getattr(self, "sizes", {})
        self.measure(name)    # makes the key, warms the caches

    def command(self, name):
        if name == "warren":
            return [self.setup.node, "run", "--data", self.home + "/w", "--control", self.home + "/w.sock", "--network",
                    "bench", "--bootstrap", "none", "--no-mdns", "--no-portmap", "--dht", "server", "--listen",
                    "/ip4/127.0.0.1/tcp/0"]
        if name == "libraries":
            os.makedirs(self.home + "/l", exist_ok=True)
            return [self.setup.naked, "init", self.home + "/l"]
        return [programs()[0][name], "--dht", "server", "--dht-prefix", DHT, "--seed", "7"]

    def measure(self, name):
        command = self.command(name)
        begun = time.monotonic()
        p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            while True:
                line = p.stdout.readline()
                if not line:
                    raise RuntimeError("ended before it was ready")
                if b"ready" in line:
                    break
            ms = (time.monotonic() - begun) * 1e3
            cpu = process_clock(p.pid) / 1e6
            time.sleep(0.5)
            with open(f"/proc/{p.pid}/status") as f:
                status = dict(line.split(":", 1) for line in f)
        finally:
            p.terminate()
            p.stdin.close()
            p.wait(10)
            p.stdout.close()
        out = {"main": ms, "cpu": cpu, "anon": float(status["RssAnon"].split()[0]), "rss": float(status["VmRSS"].split()[0])}
        size = self.stripped(name, command[0]) if name != "libraries" else None
        return dict(out, size=size) if size else out

    def stripped(self, name, program):
        """KiB; None for a program that is a script before an interpreter."""
        if name not in self.sizes:
            with open(program, "rb") as f:
                elf = f.read(4) == b"\x7fELF"
            if elf:
                copy = self.home + "/" + name + ".stripped"
                subprocess.run(["strip", "-o", copy, program], check=True)
                self.sizes[name] = os.path.getsize(copy) / 1024
            else:
                self.sizes[name] = None
        return self.sizes[name]

    def close(self):
        if getattr(self, "home", None):
            shutil.rmtree(self.home, ignore_errors=True)


def good(reply, count):
    if reply.get("failed") or reply.get("done", count) != count:
        raise RuntimeError("%s of %d failed: %s" % (reply.get("failed"), count, reply.get("errors")))
    return reply


def free_port():
    """A UDP port that nobody has; for programs that cannot choose one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


CASES = (Perf, PerfTls, PerfQuic, Connections, ConnectionsTls, ConnectionsQuic, Streams, StreamsTls, StreamsQuic, Requests,
         Idle, IdleTls, IdleQuic, AtRest)
