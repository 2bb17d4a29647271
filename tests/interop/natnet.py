"""A small internet in network namespaces for the rows of nat.py: addresses that every implementation takes for public.

                         core  (no route out)
        .---------.--------+---------.
      relay     open     acc-a     acc-b      veth; 11.0.1.2 and 11.0.2.2 are public hosts, the former 11.0.5.1 to 4 too
                           |         |        DELAY_MS each way (tests/natlab/link.c)
                         nat-a     nat-b      11.0.3.2 and 11.0.4.2; port-restricted, new connections from outside are
                           |         |        dropped without a word
                         home-a    home-b     192.168.1.2 both

    with Net(link_program) as net:
        net.peer("go", "home-a", ["--dcutr"])

The NATs are the kernel's: endpoint-independent mapping that keeps ports, address- and port-dependent filtering. With
`nats` each side has another kind instead, in the words of tests/natlab/nat.h, done by the link.
"""

import os
import subprocess
import sys

from peerproc import Peer, Program, programs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "natlab"))
import lab  # noqa: E402

DELAY_MS = 20  # one way between a home and the core: 40 between the homes, relays included
FIRST_PORT = 4001
PUBLIC = {"relay": "11.0.1.2", "open": "11.0.2.2"}
HOME = {"home-a": "11.0.3.2", "home-b": "11.0.4.2"}  # what the world sees of them
LAN = "192.168.1.2"
MANY = "11.0.5.{l}"  # for several hosts of one process, each with an address of its own
MANY_COUNT = 4

NAT = """
table ip nat {
    chain post {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "link0" masquerade
    }
}
table ip filter {
    chain in {
        type filter hook input priority filter; policy accept;
        iifname "link0" ct state != { established, related } drop
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname "link0" ct state != { established, related } drop
    }
}
"""


def run(*args, **kw):
    subprocess.run(args, check=True, **kw)


def why_not():
    reason = lab.why_not()
    if reason is None and subprocess.run(["which", "nft"], stdout=subprocess.DEVNULL).returncode != 0:
        reason = "needs the nft command (nftables)"
    return reason


class Net:
    """tag keeps the namespaces of several nets in one process apart; relay_ms is one way between relay and core."""

    def __init__(self, link_program, tag="", nats=None, delay_ms=DELAY_MS, relay_ms=0):
        self.lab = lab.Lab(link_program)
        self.tag, self.nats, self.delay_ms, self.relay_ms = tag, nats or {}, delay_ms, relay_ms
        self.hosts = {}
        self.port = FIRST_PORT  # where everybody listens

    def __enter__(self):
        self.lab.__enter__()
        try:
            for name in ("core", "relay", "open", "acc-a", "acc-b", "nat-a", "nat-b", "home-a", "home-b"):
                self.hosts[name] = self.lab.host(name + self.tag)
            for name in ("core", "acc-a", "acc-b", "nat-a", "nat-b"):
                self.at(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            if self.relay_ms:
                self.lab.link(self.hosts["core"], "11.0.1.1/24", self.hosts["relay"], "11.0.1.2/24", delay_ms=self.relay_ms)
            else:
                self.cable("core", "11.0.1.1/24", "relay", "11.0.1.2/24")
            self.cable("core", "11.0.2.1/24", "open", "11.0.2.2/24")
            for i, side in ((3, "a"), (4, "b")):
                self.cable("core", f"11.1.{i}.1/24", f"acc-{side}", f"11.1.{i}.2/24")
                self.uplink(i, side)
                self.cable(f"nat-{side}", "192.168.1.1/24", f"home-{side}", LAN + "/24")
                self.at("core", "ip", "route", "add", f"11.0.{i}.0/24", "via", f"11.1.{i}.2")
                for name, via in ((f"acc-{side}", f"11.1.{i}.1"), (f"nat-{side}", f"11.0.{i}.1"),
                                  (f"home-{side}", "192.168.1.1")):
                    if name != f"nat-{side}" or side not in self.nats:
                        self.at(name, "ip", "route", "add", "default", "via", via)
            for name, via in (("relay", "11.0.1.1"), ("open", "11.0.2.1")):
                self.at(name, "ip", "route", "add", "default", "via", via)
            for i in range(MANY_COUNT):
                self.at("relay", "ip", "addr", "add", MANY.replace("{l}", str(1 + i)) + "/32", "dev", "lo")
            self.at("core", "ip", "route", "add", MANY.replace("{l}", "0") + "/24", "via", PUBLIC["relay"])
            self.at("core", "ip", "route", "add", "blackhole", "default")
        except BaseException:
            self.lab.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        self.lab.__exit__(*exc)

    def uplink(self, i, side):
        """The link of a home to the core, with its NAT."""
        access, nat = self.hosts[f"acc-{side}"], self.hosts[f"nat-{side}"]
        if side not in self.nats:
            self.lab.link(access, f"11.0.{i}.1/24", nat, f"11.0.{i}.2/24", delay_ms=self.delay_ms)
            self.at(f"nat-{side}", "nft", "-f", "-", input=NAT.encode())
            return
        # the outside address is the translator's; the device has none
        self.lab.link(nat, "-", access, f"11.0.{i}.1/24", delay_ms=self.delay_ms, seed=i,
                      nat=f"{self.nats[side]} address=11.0.{i}.2")
        self.at(f"nat-{side}", "ip", "route", "add", "default", "dev", "link0")

    def forget(self):
        """What the NATs still know of earlier peers must not help or hinder the next ones: these use another port."""
        self.port += 1

    def at(self, name, *args, **kw):
        run(*self.hosts[name].command(args), **kw)

    def cable(self, a, addr_a, b, addr_b):
        """A veth pair: in each namespace the interface is named after the other end."""
        ends = ((a, "to-" + b, addr_a), (b, "to-" + a, addr_b))
        run("ip", "link", "add", "name", ends[0][1], "netns", self.hosts[a].ns, "type", "veth", "peer", "name",
            ends[1][1], "netns", self.hosts[b].ns)
        for name, interface, addr in ends:
            self.at(name, "ip", "addr", "add", addr, "dev", interface)
            self.at(name, "ip", "link", "set", "dev", interface, "up")

    def listen(self, name, transport, address=None):
        ip4 = f"/ip4/{address or PUBLIC.get(name, LAN)}"
        both = {"tcp": [f"{ip4}/tcp/{self.port}"], "quic": [f"{ip4}/udp/{self.port}/quic-v1"]}
        return sum(both.values(), []) if transport == "both" else both[transport]

    def peer(self, impl, name, transport, args=(), address=None, **kw):
        """Starts a peer of that implementation on that host; does not wait until it is ready."""
        prefix = self.hosts[name].command([])
        where = sum((["--listen", a] for a in self.listen(name, transport, address)), [])
        return Peer(impl, ["--transport", transport, *where, *args], name=f"{impl} at {name}", prefix=prefix,
                    wait=False, **kw)

    def program(self, name, transport, args=(), **kw):
        """The same with `warren run`."""
        where = sum((["--listen", a] for a in self.listen(name, transport)), [])
        return Program(programs()[0]["program"], ["--bootstrap", "none", *where, *args], name=f"program at {name}",
                       prefix=self.hosts[name].command([]), wait=False, **kw)
