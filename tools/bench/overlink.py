"""The benchmarks over a path with delay: B4 long fat paths, B5 first byte, B8 latency beside a transfer."""

import os
import shutil
import statistics
import subprocess
import time

from cases import MIB, Case, Metric, good
from lab import Lab, why_not
from peerproc import PeerError

RTT_MS = 60          # of B5's path


class OverLink(Case):
    """Client and server in namespaces of their own, on a link that this case makes."""

    delay_ms, rate_mbit, loss, queue_kib = RTT_MS / 2, 0, 0, 256
    PORT = 7    # where somebody accepts connections, for the round trip

    def unable(self):
        if not os.access(self.setup.link, os.X_OK):
            return "the link emulator is not built"
        return why_not()

    def hosts(self):
        if not hasattr(self, "lab"):
            self.lab = Lab(self.setup.link).__enter__()
            self.near, self.far = self.lab.host("near"), self.lab.host("far")
            self.lab.link(self.near, "10.77.0.1/24", self.far, "10.77.0.2/24", delay_ms=self.delay_ms,
                          rate_mbit=self.rate_mbit, loss=self.loss, queue_kib=self.queue_kib)
            self.far.popen(["python3", "-c", "import socket\ns=socket.create_server(('10.77.0.2',%d))\n"
                            "while True: s.accept()[0].close()" % self.PORT])
        return self.near, self.far

    def pair(self, name):
        near, far = self.hosts()
        client, _, server = name.partition(">")
        listen = "/udp/0/quic-v1" if self.over == "quic" else "/tcp/0"
        s = self.peer(server or client, "server", ["--listen", "/ip4/10.77.0.2" + listen], far.command([]))
        self.started[name] = (s,)
        c = self.peer(client, "client", ["--listen", "none"], near.command([]))
        self.started[name] = (c, s)
        return c, s

    def prepare(self, name):
        self.warm(*self.pair(name))

    def drop(self, name):
        """Ends a pair at once, whatever it is doing."""
        for p in self.started.get(name, ()):
            p.proc.kill()
        self.finish(name)

    def rtt(self):
        """Median milliseconds of a TCP handshake on the link."""
        text = ("import socket,time\nfor i in range(9):\n t=time.monotonic()\n"
                f" s=socket.create_connection(('10.77.0.2',{self.PORT}))\n print(time.monotonic()-t)\n s.close()")
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
        rtt = self.rtt()
        reply = good(c.call("bench-conns", addr=s.addr(), count=count, timeout=self.patience), count)
        return {"main": reply["p50"] / rtt, "p99": reply["p99"] / rtt, "rtt_ms": rtt}


class FirstByteTls(FirstByte):
    over = "tls"


class FirstByteQuic(FirstByte):
    over = "quic"
    metrics = (Metric("main", "round trips, p50", per_peer=1.0, most=2.05), Metric("p99", "round trips, p99", most=2.35))


class Beside(OverLink):
    id, title = "B8", "32-byte ping beside a transfer on the same connection, 100 Mbit/s, 20 ms"
    metrics = (Metric("main", "ms, ping p99 under load", per_peer=5), Metric("p50", "ms, ping p50 under load"),
               Metric("idle", "ms, ping p99 idle"), Metric("transfer", "ns/byte of the transfer"))
    delay_ms, rate_mbit = 10, 100
    PINGS_S = 60    # for all of them beside the transfer; the slowest that answered took 10

    def measure(self, name):
        count = self.size(40, 60, 100)
        c, s = self.started[name]
        idle = good(c.call("bench-ping", peer=s.id(), count=count, timeout=120000), count)
        bytes_up = self.size(80, 160, 400) * MIB
        begun = time.monotonic()
        up = c.start("perf", peer=s.id(), up=bytes_up, down=0, timeout=self.patience)
        time.sleep(1.5)
        try:
            loaded = good(c.call("bench-ping", peer=s.id(), count=count // 2, timeout=self.PINGS_S * 1000), count // 2)
        except PeerError as e:
            during = "" if up.done.is_set() else " while its transfer went on"
            self.drop(name)    # what is left of it would load the link for the others
            raise RuntimeError(f"no answer to pings within {self.PINGS_S} s{during}: {e}") from e
        during = not up.done.is_set()
        up.wait()
        spent = time.monotonic() - begun
        if not during:
            raise RuntimeError("the transfer ended before the pings")
        return {"main": loaded["p99"], "p50": loaded["p50"], "idle": idle["p99"],
                "transfer": spent / bytes_up * 1e9}


class BesideQuic(Beside):
    over = "quic"


class LongFat(OverLink):
    """What of the line's rate is used, counted at the far end's device (headers included) for some seconds after a
    warm-up. The buffer before the line holds what is on the way; the socket buffers' limit is 64 MiB for everybody."""

    id = "B4"
    yardstick = "iperf3"
    cross = False
    SOCKET_BUFFER = 64 * MIB
    path, better = "", None

    def __init__(self, setup):
        super().__init__(setup)
        goal = {"noise": 0.95, "quic": 0.90}[self.over] if not self.loss else None
        self.metrics = (Metric("main", f"share of {self.path}", more=True, per_naked=goal, per_peer=self.better),)
        self.title = f"one stream over {self.path}" + (", QUIC" if self.over == "quic" else "")
        self.rounds_at_most = {"quick": 1}.get(setup.size, 5)
        if self.over == "quic":
            self.others = tuple(f"warren {cc}" for cc in setup.cc)

    @property
    def label(self):
        return super().label + " " + self.path.replace(" ", "")

    def lacks(self, name):
        return None if name != "iperf3" or shutil.which("iperf3") else "no iperf3"

    def peer(self, impl, side, args=(), prefix=()):
        """As "warren bbr": with that congestion controller."""
        impl, _, cc = impl.partition(" ")
        return super().peer(impl, side, list(args) + (["--cc", cc] if cc else []), prefix)

    def hosts(self):
        made = hasattr(self, "lab")
        near, far = super().hosts()
        for host in () if made else (near, far):
            for name in ("net.ipv4.tcp_wmem", "net.ipv4.tcp_rmem"):
                host.run(["sysctl", "-qw", f"{name}=4096 131072 {self.SOCKET_BUFFER}"], check=True)
        return near, far

    def prepare(self, name):
        """Each run has peers of its own, so that none waits for a transfer that is not needed any more."""
        if name == "js" and self.setup.size == "quick":
            raise RuntimeError("left out at size quick")

    def received(self):
        text = self.far.run(["cat", "/proc/net/dev"], capture_output=True, text=True, check=True).stdout
        return int(text.split("link0:")[1].split()[0])

    def watch(self):
        time.sleep(self.warm_s * self.size(0.7, 1, 1))
        before, at = self.received(), time.monotonic()
        time.sleep(self.size(4, 8, 30))
        return {"main": (self.received() - before) * 8 / (time.monotonic() - at) / (self.rate_mbit * 1e6)}

    def measure(self, name):
        self.hosts()
        if name == "iperf3":
            return self.iperf()
        try:
            c, s = self.pair(name)
            c.call("connect", addr=s.addr(), timeout=60000)
            amount = int(self.rate_mbit * 125000 * (self.warm_s + 40))    # more than can pass while we look
            transfer = c.start("perf", peer=s.id(), up=amount, down=0, timeout=self.patience)
            seen = self.watch()
            if transfer.done.is_set():
                transfer.wait()
                raise RuntimeError("the transfer ended early")
            return seen
        finally:
            self.drop(name)    # there is no end to wait for

    def iperf(self):
        server = self.far.popen(["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        client = self.near.popen(["iperf3", "-c", "10.77.0.2", "-t", "600"], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        try:
            return self.watch()
        finally:
            for p in (client, server):
                p.kill()
                p.wait()


class Fat(LongFat):
    path, delay_ms, rate_mbit, queue_kib, warm_s, better, weight = "250 Mbit/s x 600 ms", 300, 250, 18310, 14, 1.1, 3


class FatQuic(Fat):
    over = "quic"


class Usual(LongFat):
    path, delay_ms, rate_mbit, queue_kib, warm_s, weight = "100 Mbit/s x 60 ms", 30, 100, 733, 3, 1.7


class UsualQuic(Usual):
    over = "quic"


class Lossy(Usual):
    path, loss = "100 Mbit/s x 60 ms, 1 % loss", 1


class LossyQuic(Lossy):
    over = "quic"


class ShallowQuic(Usual):
    """Where controllers differ: the buffer holds 4 ms."""

    over, path, queue_kib = "quic", "100 Mbit/s x 60 ms, buffer 49 KiB", 49

    @property
    def wanted(self):
        return bool(self.setup.cc)


CASES = (Fat, FatQuic, Usual, UsualQuic, Lossy, LossyQuic, ShallowQuic, FirstByte, FirstByteTls, FirstByteQuic, Beside, BesideQuic)
