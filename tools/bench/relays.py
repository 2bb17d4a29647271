"""The benchmarks of relays: B9 what passing bytes on costs, B10 what a guest and a circuit cost while nothing happens.

The relay alone is measured, on a core of its own. The two ends are warren's for every relay, so that all relays carry
the same. All run in one namespace with addresses that every implementation takes for public."""

import re
import shutil
import subprocess
import tempfile
import time

from cases import MIB, OVER, Case, Metric, good
from figures import Meter, process_clock
from lab import Lab, why_not
from peerproc import Peer, programs

RELAY, GUEST, CALLER = "11.0.1.1", "11.0.2.1", "11.0.3.1"
MESSAGE = 1200           # bytes
LIFTED = "duration=0,data=0,reservations=100000,circuits=100000"
LIFTED_OURS = ",per-net=100000,rate=0"


class Relays(Case):
    cross, weight = False, 1.7

    def unable(self):
        return why_not()

    def host(self):
        if not hasattr(self, "lab"):
            self.lab = Lab(self.setup.link).__enter__()
            self.inside = self.lab.host("relays")
            for addr in (RELAY, GUEST, CALLER):
                self.inside.run(["ip", "addr", "add", addr + "/32", "dev", "lo"], check=True)
        return self.inside

    def close(self):
        super().close()
        if hasattr(self, "lab"):
            self.lab.__exit__()

    def core(self, which):
        core = self.setup.cores[which]
        return ["taskset", "-c", str(core)] if core is not None else []

    def relay(self, impl):
        limits = LIFTED + (LIFTED_OURS if impl == "warren" else "")
        command = self.host().command(self.core(1)) + [programs()[0][impl]]
        r = Peer(impl, [*command[1:], *OVER[self.over], "--relay", "--relay-limits", limits, "--listen", f"/ip4/{RELAY}/tcp/0"],
                 path=command[0], name=f"{impl} (relay)")
        self.setup.versions[impl] = r.ready.get("version", "")
        return r

    def end(self, count, listen):
        command = self.host().command(self.core(0)) + [programs()[0]["warren"]]
        return Peer("warren", [*command[1:], *OVER[self.over], "--circuit", "--reach", "private", "--hosts", count, "--listen", listen],
                    path=command[0], name="warren (end)")

    def together(self, calls):
        """Answers of commands that run side by side."""
        return [c.wait() for c in list(calls)]


def circuit(relay, guest, host):
    return relay.addr() + "/p2p-circuit/p2p/" + guest.id(host)


class Passing(Relays):
    id, title = "B9", "a circuit relay: bulk, messages of 1,200 bytes"
    metrics = (Metric("main", "relay's CPU ns/byte, bulk on one circuit", per_peer=3, per_naked=1.25,
                      per_other={"coturn": 1 / 3}),
               Metric("many", "relay's CPU ns/byte, bulk on many circuits", per_peer=3),
               Metric("message", "relay's CPU us/message, one at a time", per_peer=3, per_naked=1.25),
               Metric("messages", "relay's CPU us/message, many circuits", per_peer=3, per_other={"coturn": 1 / 3}),
               Metric("added", "ms, p99 of a message and its echo above the direct one's", per_naked=2))
    yardstick, others = "naked", ("coturn", "haproxy")
    kinds = "relay", "relayping", "pingpong"    # of naked
    PROGRAMS = {"coturn": ("turnserver", "turnutils_uclient", "turnutils_peer"), "haproxy": ("haproxy", "iperf3")}

    def lacks(self, name):
        missing = [p for p in self.PROGRAMS.get(name, ()) if not shutil.which(p)]
        return "no " + ", ".join(missing) if missing else None

    def circuits(self):
        return self.size(20, 100, 100)

    def messages(self):
        """So many that the hundredth part of them is no matter of luck: two of such parts are subtracted."""
        return self.size(5000, 10000, 20000)

    def prepare(self, name):
        r = self.relay(name)
        self.started[name] = (r,)
        b = self.end(self.circuits() + 1, f"/ip4/{GUEST}/tcp/0")
        self.started[name] = (r, b)
        a = self.end(self.circuits() + 1, "none")
        self.started[name] = (r, b, a)
        for i in range(self.circuits()):
            b.call("reserve", addr=r.addr(), host=i, look=False)
            a.call("connect", addr=circuit(r, b, i), host=i)
        a.call("connect", addr=b.addr(self.circuits()), host=self.circuits())    # the direct pair
        a.call("perf", peer=b.id(), up=4 * MIB, down=0, timeout=120000)

    def measure(self, name):
        if name == "naked":
            return self.measure_naked()
        if name in self.PROGRAMS:
            return getattr(self, name)()
        r, b, a = self.started[name]
        count, amount, messages = self.circuits(), self.size(32, 128, 512) * MIB, self.messages()
        out = {}
        with Meter({"relay": r.proc.pid}) as m:
            a.call("perf", peer=b.id(), up=amount, down=0, timeout=self.patience)
        out["main"] = m.total() / amount
        each = amount // count
        with Meter({"relay": r.proc.pid}) as m:
            self.together(a.start("perf", host=i, peer=b.id(i), up=each, down=0, timeout=self.patience) for i in range(count))
        out["many"] = m.total() / (each * count)
        with Meter({"relay": r.proc.pid}) as m:
            alone = good(a.call("bench-messages", peer=b.id(), count=messages, bytes=MESSAGE, timeout=300000), messages)
        out["message"] = m.total() / messages / 2 * 1e-3    # there and back
        straight = good(a.call("bench-messages", host=count, peer=b.id(count), count=messages, bytes=MESSAGE,
                               timeout=300000), messages)
        out["added"] = max(alone["p99"] - straight["p99"], 1e-3)
        each = messages // 5
        with Meter({"relay": r.proc.pid}) as m:
            self.together(a.start("bench-messages", host=i, peer=b.id(i), count=each, bytes=MESSAGE, timeout=300000)
                          for i in range(count))
        out["messages"] = m.total() / (each * count) / 2 * 1e-3
        return out

    def measure_naked(self):
        amount, messages = self.size(32, 128, 512) * MIB, self.messages()
        bulk, passed, direct = self.kinds
        one = self.naked(passed, messages, MESSAGE, MESSAGE)
        straight = self.naked(direct, messages, MESSAGE, MESSAGE, together=True)    # as the ends around a relay
        return {"main": self.naked(bulk, amount)["relay_ns"] / amount,
                "message": one["relay_ns"] / messages / 2 * 1e-3,
                "added": max((one["p99_ns"] - straight["p99_ns"]) * 1e-6, 1e-3)}

    def coturn(self):
        """Datagrams by channel data, nothing encrypted; what the clients received counts."""
        inside, home = self.host(), tempfile.mkdtemp(prefix="warren-bench-")
        count, each = self.circuits(), self.size(500, 2000, 5000)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = inside.popen(self.core(1) + ["turnserver", "-n", "-m", "1", "--no-tls", "--no-dtls", "--no-cli", "-L", RELAY,
                                              "-E", RELAY, "-p", "3478", "-a", "-u", "bench:bench", "-r", "bench",
                                              "--allow-loopback-peers", "--log-file", "stdout", "--pidfile", home + "/pid",
                                              "--userdb", home + "/db"], **quiet)
        peer = inside.popen(self.core(0) + ["turnutils_peer", "-L", GUEST, "-p", "3480"], **quiet)
        try:
            time.sleep(1.5)
            before = process_clock(server.pid)
            run = inside.run(self.core(0) + ["turnutils_uclient", "-u", "bench", "-w", "bench", "-e", GUEST, "-r", "3480",
                                             "-L", CALLER, "-p", "3478", "-n", str(each), "-m", str(count), "-l",
                                             str(MESSAGE), "-z", "1", "-c", RELAY], capture_output=True, text=True,
                             timeout=120)
            used = process_clock(server.pid) - before
        finally:
            for p in (server, peer):
                p.terminate()
                p.wait(10)
            shutil.rmtree(home)
        got = [int(n) for n in re.findall(r"tot_recv_msgs=(\d+)", run.stdout + run.stderr)]
        if not got or got[-1] < each * count // 2:
            raise RuntimeError("coturn passed %s of %d messages on" % (got[-1] if got else "none", each * count))
        return {"main": used / (got[-1] * 2 * MESSAGE), "messages": used / got[-1] / 2 * 1e-3}

    def haproxy(self):
        """Bytes between two TCP connections, nothing encrypted."""
        inside, home = self.host(), tempfile.mkdtemp(prefix="warren-bench-")
        amount = self.size(256, 1024, 4096) * MIB
        with open(home + "/conf", "w") as f:
            f.write("global\n nbthread 1\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
                    f"listen through\n bind {RELAY}:5201\n server s {GUEST}:5201\n")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = inside.popen(self.core(0) + ["iperf3", "-s", "-1", "-B", GUEST], **quiet)
        proxy = inside.popen(self.core(1) + ["haproxy", "-db", "-f", home + "/conf"], **quiet)
        try:
            time.sleep(1)
            before = process_clock(proxy.pid)
            inside.run(self.core(0) + ["iperf3", "-c", RELAY, "-n", str(amount)], check=True, timeout=120, **quiet)
            used = process_clock(proxy.pid) - before
        finally:
            for p in (server, proxy):
                p.terminate()
                p.wait(10)
            shutil.rmtree(home)
        return {"main": used / amount}


class PassingTls(Passing):
    title, over = "a circuit relay reached over TLS: bulk, messages of 1,200 bytes", "tls"
    kinds = "aesrelay", "aesrelayping", "aespingpong"


class Resting(Relays):
    """The guests do not listen: 10,000 of them, each with a listener, are more than the files that a process may open."""

    id, title = "B10", "a circuit relay's guests and circuits at rest"
    metrics = (Metric("main", "KiB anonymous memory/reservation, its connection included", per_peer=10, most=8),
               Metric("circuit", "KiB anonymous memory/idle circuit", per_peer=10, most=6))
    FIRST = 10      # of each before the base is read
    AT_ONCE = 10    # handshakes
    JS_GUESTS = 1000    # as many more as fit into a machine's memory: each takes half a megabyte

    def __init__(self, setup):
        super().__init__(setup)
        self.rounds_at_most = self.size(1, 3, 3)

    def prepare(self, name):
        pass

    def measure(self, name):
        guests, circuits = self.size(40, 1000, 10000), self.size(40, 200, 1000)
        if name == "js":
            guests = min(guests, self.JS_GUESTS)
        r = self.relay(name)
        self.started[name] = (r,)
        try:
            b = self.end(self.FIRST + guests, "none")
            self.started[name] = (r, b)
            a = self.end(self.FIRST + circuits, "none")
            self.started[name] = (r, b, a)

            def memory_after(end, begin, count, cmd, more):
                for i in range(begin, count, self.AT_ONCE):
                    self.together([end.start(cmd, host=h, **more(h)) for h in range(i, min(i + self.AT_ONCE, count))])
                return self.memory(r)
            reserve = (b, "reserve", lambda i: {"addr": r.addr(), "look": False})
            come = (a, "connect", lambda i: {"addr": r.addr()})
            call = (a, "connect", lambda i: {"addr": circuit(r, b, i)})
            seen = []
            for (end, cmd, more), begin, count in ((reserve, 0, self.FIRST), (reserve, self.FIRST, self.FIRST + guests),
                                                   (come, 0, self.FIRST + circuits), (call, 0, self.FIRST),
                                                   (call, self.FIRST, self.FIRST + circuits)):
                seen.append(memory_after(end, begin, count, cmd, more))
        finally:
            self.finish(name)
        return {"main": max(seen[1] - seen[0], 1e-3) / guests, "circuit": max(seen[4] - seen[3], 1e-3) / circuits,
                "guests": guests, "circuits": circuits}

    def memory(self, relay):
        time.sleep(self.size(1.5, 5, 30))
        return min(relay.call("gc")["anonKiB"] for _ in range(2))


CASES = (Passing, PassingTls, Resting)
