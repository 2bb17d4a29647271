"""The benchmarks, by the numbers of the plan: B1 perf, B5 first byte over a long path, B6 fresh connections, B7
streams, B8 latency beside a transfer, B13 idle connections, B14 a node at rest, B17 DHT requests.

A case prepares contenders (pairs of test peers that stay for all rounds) and measures one of them once. Every metric is
such that less is better."""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time

from figures import Meter, process_clock
from lab import Lab, why_not
from peerproc import Peer, programs

MIB = 1 << 20
DHT = "/wbench"
WARM_CONNECTIONS = 30
RTT_MS = 60          # of the emulated path
NODES_AROUND = 40    # DHT servers that the asked one knows
FIND_REQUEST, FIND_REPLY = 56, 1500  # bytes on the wire, near enough for the yardstick


class Metric:
    """per_peer: the best peer's figure divided by ours has to reach it; per_naked: ours divided by the yardstick's may
    not pass it; most: ours may not pass it."""

    def __init__(self, key, unit, per_peer=None, per_naked=None, most=None):
        self.key, self.unit = key, unit
        self.per_peer, self.per_naked, self.most = per_peer, per_naked, most


class Case:
    id = title = ""
    metrics = ()
    yardstick = None       # name of a contender, or None
    rounds_at_most = 1000
    cross = True           # pairs of two implementations make sense

    def __init__(self, setup):
        self.setup = setup
        self.started = {}

    def unable(self):
        """A sentence when the machine cannot do it."""
        return None

    def size(self, quick, normal, full):
        return {"quick": quick, "normal": normal, "full": full}[self.setup.size]

    def peer(self, impl, side, args=(), prefix=()):
        core = self.setup.cores[0 if side == "client" else 1]
        command = list(prefix) + (["taskset", "-c", str(core)] if core is not None else [])
        command += [programs()[0][impl], "--security", self.setup.security] + list(args)
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

    def naked(self, *args):
        cores = self.setup.cores
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

    def warm(self, client, server):
        super().warm(client, server)
        client.call("perf", peer=server.id(), up=32 * MIB, down=32 * MIB, timeout=120000)

    def measure(self, name):
        amount = self.size(64, 256, 1024) * MIB
        if name == "naked":
            out = per_naked(self.naked("pipe", amount), amount)
            return dict(out, up=out["main"], down=out["main"])
        c, s = self.started[name]
        out = {}
        for way, args in (("up", {"up": amount, "down": 0}), ("down", {"up": 0, "down": amount})):
            with self.meter(name) as m:
                c.call("perf", peer=s.id(), timeout=600000, **args)
            for key, value in per(m, amount, both=way).items():
                out[key] = value if key == way else out.get(key, 0) + value / 2
        out["main"] = (out["up"] + out["down"]) / 2
        return out


class Connections(Case):
    id, title = "B6", "fresh connections, 1 byte each way"
    metrics = (Metric("main", "CPU us/connection, both ends", per_peer=3, per_naked=1.5),
               Metric("client", "CPU us, dialler"), Metric("server", "CPU us, listener"))
    yardstick = "naked"

    def warm(self, client, server):
        client.call("bench-conns", addr=server.addr(), count=WARM_CONNECTIONS, timeout=120000)

    def measure(self, name):
        count = self.size(60, 200, 2000)
        if name == "naked":
            return per_naked(self.naked("conns", count), count, 1e-3)
        c, s = self.started[name]
        with self.meter(name) as m:
            good(c.call("bench-conns", addr=s.addr(), count=count, timeout=600000), count)
        return per(m, count, 1e-3)


class Streams(Case):
    id, title = "B7", "streams on one connection, 1 byte each way"
    metrics = (Metric("main", "CPU us/stream, one after the other", per_peer=5, per_naked=2),
               Metric("at_once", "CPU us/stream, many at once"))
    yardstick = "naked"

    def warm(self, client, server):
        super().warm(client, server)
        client.call("bench-streams", peer=server.id(), count=500, timeout=120000)

    def measure(self, name):
        count, at_once = self.size(1000, 4000, 50000), self.size(200, 1000, 1000)
        if name == "naked":
            return per_naked(self.naked("pingpong", count, 1, 1), count, 1e-3)
        c, s = self.started[name]
        with self.meter(name) as m:
            good(c.call("bench-streams", peer=s.id(), count=count, timeout=600000), count)
        out = per(m, count, 1e-3)
        with self.meter(name) as m:
            reply = c.call("bench-streams", peer=s.id(), count=at_once, parallel=at_once, timeout=600000)
        if reply["failed"] == 0:
            out["at_once"] = m.total() / at_once * 1e-3
        return out


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
            good(c.call("bench-findnode", peer=s.id(), count=count, timeout=600000), count)
        return per(m, count, 1e-3)


class OverLink(Case):
    """Client and server in namespaces of their own, on a link that this case makes."""

    delay_ms, rate_mbit = RTT_MS / 2, 0

    def unable(self):
        if not os.access(self.setup.link, os.X_OK):
            return "the link emulator is not built"
        return why_not()

    def hosts(self):
        if not hasattr(self, "lab"):
            self.lab = Lab(self.setup.link).__enter__()
            self.near, self.far = self.lab.host("near"), self.lab.host("far")
            self.lab.link(self.near, "10.77.0.1/24", self.far, "10.77.0.2/24", delay_ms=self.delay_ms,
                          rate_mbit=self.rate_mbit)
        return self.near, self.far

    def prepare(self, name):
        near, far = self.hosts()
        client, _, server = name.partition(">")
        s = self.peer(server or client, "server", ["--listen", "/ip4/10.77.0.2/tcp/0"], far.command([]))
        c = self.peer(client, "client", ["--listen", "none"], near.command([]))
        self.started[name] = (c, s)
        self.warm(c, s)

    def rtt(self, server):
        """Median milliseconds of a TCP handshake on the link."""
        port = server.addr().split("/")[4]
        text = ("import socket,time\nfor i in range(9):\n t=time.monotonic()\n"
                f" s=socket.create_connection(('10.77.0.2',{port}))\n print(time.monotonic()-t)\n s.close()")
        run = self.near.run(["python3", "-c", text], capture_output=True, text=True, check=True)
        return statistics.median(float(x) for x in run.stdout.split()) * 1e3

    def close(self):
        super().close()
        if hasattr(self, "lab"):
            self.lab.__exit__()


class FirstByte(OverLink):
    id, title = "B5", f"dial, 1 byte answered, {RTT_MS} ms path"
    metrics = (Metric("main", "round trips, p50", per_peer=1.0, most=3.05), Metric("p99", "round trips, p99", most=3.35))

    def warm(self, client, server):
        client.call("bench-conns", addr=server.addr(), count=3, timeout=120000)

    def measure(self, name):
        count = self.size(10, 20, 100)
        c, s = self.started[name]
        rtt = self.rtt(s)
        reply = good(c.call("bench-conns", addr=s.addr(), count=count, timeout=600000), count)
        return {"main": reply["p50"] / rtt, "p99": reply["p99"] / rtt, "rtt_ms": rtt}


class Beside(OverLink):
    id, title = "B8", "32-byte ping beside a transfer on the same connection, 100 Mbit/s, 20 ms"
    metrics = (Metric("main", "ms, ping p99 under load", per_peer=5), Metric("p50", "ms, ping p50 under load"),
               Metric("idle", "ms, ping p99 idle"), Metric("transfer", "ns/byte of the transfer"))
    delay_ms, rate_mbit = 10, 100

    def measure(self, name):
        count = self.size(40, 60, 100)
        c, s = self.started[name]
        idle = good(c.call("bench-ping", peer=s.id(), count=count, timeout=120000), count)
        bytes_up = self.size(80, 160, 400) * MIB
        begun = time.monotonic()
        up = c.start("perf", peer=s.id(), up=bytes_up, down=0, timeout=600000)
        time.sleep(1.5)
        loaded = good(c.call("bench-ping", peer=s.id(), count=count // 2, timeout=300000), count // 2)
        during = not up.done.is_set()
        up.wait()
        spent = time.monotonic() - begun
        if not during:
            raise RuntimeError("the transfer ended before the pings")
        return {"main": loaded["p99"], "p50": loaded["p50"], "idle": idle["p99"],
                "transfer": spent / bytes_up * 1e9}


class Idle(Case):
    id, title = "B13", "idle connections, identify done"
    metrics = (Metric("main", "KiB anonymous memory/connection", per_peer=10, most=3.0),
               Metric("rss", "KiB resident/connection"))
    rounds_at_most = 3
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
            good(client.call("hold", addr=server.addr(), host=at, count=self.BATCH, timeout=600000), self.BATCH)

    def memory(self, server):
        time.sleep(self.size(2, 5, 60))
        first = server.call("gc")
        time.sleep(2)
        second = server.call("gc")
        return min(first, second, key=lambda m: m["anonKiB"])


class AtRest(Case):
    id, title = "B14", "a node with a DHT server, no connections"
    metrics = (Metric("main", "ms, exec to ready", per_peer=10, most=10),
               Metric("cpu", "CPU ms, exec to ready"), Metric("anon", "KiB anonymous memory", most=2048),
               Metric("rss", "KiB resident", per_peer=5),
               Metric("size", "KiB stripped program", per_peer=8, most=2048))
    yardstick = None
    cross = False

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
        size = self.stripped(name, command[0])
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


CASES = (Perf, FirstByte, Connections, Streams, Beside, Idle, AtRest, Requests)
