#!/usr/bin/env python3
"""What nodes find out about themselves, against the truth of the laboratory.

usage: verdicts.py BUILD_DIR [--transport quic,tcp] [--only SITE,SITE] [--logs DIR] [--full]

A node behind every kind of NAT of kinds_test.py, and eight in the open on networks of their own. Reachability has to be
right within 30 s of the start; what `check` says of mapping, filter, allocation, pooling and hairpin has to be right when it
says anything, and has to say it within a minute, with no more than 400 packets. The number of NATs has to be right where
peers see the node's own address or its router tells, and unknown elsewhere. Before that six homes with IPv6, in a laboratory
where those in the open have it, too, and are met by it first: both families, each address, and what is said of mapping and
filter have to be right in the same time, with 400 packets for both families together. With --full instead: how long NATs remember a
silent socket, by `check --full` of nodes behind kernel NATs of several time-outs; and that they know it still when they are
started again.
"""
import argparse
import collections
import os
import sys
import threading
import time

import box
import describe
import kinds_test
import rpc
from net import Net
from nodes import ADDR, PORT, Node, NodeFailed

PUBLIC = ("boot", "second", "third", "fourth", "fifth")
# Connected to those in the open and outside the DHT: no home ever talks to them, as to most of a large network.
STRANGERS = ("strange", "stranger", "strangest")
REACHABLE_SECONDS = 30
CHECK_SECONDS = 60
WORDS = {"none": "none", "eim": "endpoint-independent", "adm": "address-dependent", "apdm": "address-and-port-dependent",
         "eif": "endpoint-independent", "adf": "address-dependent", "apdf": "address-and-port-dependent",
         "preserve": "preserving"}
SECTION = {"quic": "udp", "tcp": "tcp"}
LEAST_RIGHT = 14
PACKETS = 400              # from the node, of both families, until all of it is known
# A conflict towards one peer alone could be a lie of his: of that nothing may be said. And a pool.
SITES = [(name, words.replace("busy=pub", "busy=boot,second"), wanted, "no") for name, words, wanted, _ in kinds_test.SITES]
SITES += [("onebusy", "nat=symmetric-preserving busy=boot", "unknown apdf preserve drop no", "no"),
          ("pooled", "pool=16 pairing=arbitrary nat=symmetric-random", "apdm apdf random drop no", "yes")]
# Routers that open ports: strangers get in, but to what was asked for only. Not where miniupnpd is not installed.
HELPFUL = [("helpful", "nat=port-restricted portmap=igd", "eim apdf preserve drop no", "no"),
           ("nested", "nat=port-restricted portmap=pcp behind=isp", "eim apdf preserve drop no", "no")]
LAYERS = {"none": "none", "helpful": "one", "nested": "two-or-more"}    # by mapping or name; unknown anywhere else
LIFETIMES = (30, 60, 120, 180, 300)    # seconds, the kernel's for UDP that was answered
FULL_SECONDS = 360
RECALL_SECONDS = 60        # from a start until what was measured in an earlier life is known again

# Name, its line, the families it listens by; reachable by IPv4 and IPv6; mapping and filter of each ("-": nothing is said of
# it); the code of `check`.
SIX = [("sixopen", "nat=public ipv6=open", "6", "unknown public", "-", "none eif", "public"),
       ("sixwall", "nat=public ipv6=firewall", "6", "unknown private", "-", "none apdf", "firewall"),
       ("dual", "nat=port-restricted ipv6=open", "46", "private public", "eim apdf", "none eif", "public"),
       ("dualwall", "nat=port-restricted ipv6=firewall", "46", "private private", "eim apdf", "none apdf", "nat-easy"),
       ("bothopen", "nat=public ipv6=open", "46", "public public", "none eif", "none eif", "public"),
       ("bothwall", "nat=firewall ipv6=firewall", "46", "private private", "none apdf", "none apdf", "firewall")]
ADDR6 = {"quic": "/ip6/%s/udp/%d/quic-v1", "tcp": "/ip6/%s/tcp/%d"}

Six = collections.namedtuple("Six", "name words families reachable axes4 axes6 code")
Site = collections.namedtuple("Site", "name mapping filter ports hairpin pooling reachable layers helped")


def described():
    return SITES + (HELPFUL if box.find("miniupnpd") else [])


def sites(only):
    for name, words, wanted, pooling in described():
        if only and name not in only:
            continue
        mapping, filter_, ports, _, hairpin = wanted.split()
        yield Site(name, mapping, filter_, ports, hairpin, pooling, filter_ == "eif" or name == "helpful",
                   LAYERS.get(name, LAYERS.get(mapping, "unknown")), "portmap" in words)


def description(full):
    lines = ["site %s delay=20" % name for name in PUBLIC + STRANGERS]
    if full:
        lines += ["site life%d nat=port-restricted udp-stream-timeout=%d delay=20" % (n, n) for n in LIFETIMES]
        return describe.parse("\n".join(lines), "verdicts")
    lines += ["carrier isp delay=20", "carrier mobile nat=symmetric-random delay=20"]
    lines += ["site %s %s%s" % (name, words, "" if "behind" in words else " delay=20") for name, words, *_ in described()]
    return describe.parse("\n".join(lines), "verdicts")


def six(only):
    return [Six(*row) for row in SIX if not only or row[0] in only]


def description6():
    return describe.parse("\n".join(["site %s delay=20 ipv6=open" % name for name in PUBLIC + STRANGERS] +
                                    ["site %s %s delay=20" % row[:2] for row in SIX]), "verdicts, IPv6")


def interfaces(host):
    """Their counters, by name."""
    with host.inside():
        with open("/proc/thread-self/net/dev", encoding="ascii") as file:
            rows = [line.split(":", 1) for line in file if ":" in line]
    return {name.strip(): counters for name, counters in rows if name.strip() != "lo"}


def sent(host, transport):
    """Packets that a host has sent over UDP or TCP, by the kernel's count: nodes of both transports share a host. TCP's
    own leaves out what was sent again. What UDP sends at once for a packet of several counts as one there: of it, all
    that left by the interfaces is counted but for TCP's."""
    with host.inside():
        with open("/proc/thread-self/net/snmp", encoding="ascii") as file:
            lines = [line.split() for line in file]
        with open("/proc/thread-self/net/snmp6", encoding="ascii") as file:
            counts = {name: int(value) for name, value in map(str.split, file)}
    for names, values in zip(lines[::2], lines[1::2]):
        counts.update((names[0] + name, int(value)) for name, value in zip(names[1:], values[1:]))
    if transport == "tcp":
        return counts["Tcp:OutSegs"]
    left = sum(int(counters.split()[9]) for counters in interfaces(host).values())
    return left - counts["Tcp:OutSegs"] - counts["Tcp:RetransSegs"] - counts["Icmp:OutMsgs"] - counts["Icmp6OutMsgs"]


def split_packets(host):
    """Has the kernel cut what leaves into packets before it counts them at the interface."""
    for name in interfaces(host):
        host.run(["ip", "link", "set", "dev", name, "gso_max_segs", "1"], check=True)


def wrong_axes(site, found, layers):
    """What a check says that is not so; and what it does not say."""
    wrong, unknown = [], []
    wanted = {"mapping": {WORDS.get(site.mapping, site.mapping)}, "allocation": {WORDS.get(site.ports, site.ports)},
              "filtering": {WORDS[site.filter]} | ({"none"} if site.mapping == "none" and site.filter == "eif" else set()),
              "pooling": {site.pooling}, "layers": {site.layers}}
    found = dict(found, layers=layers)
    if site.mapping == "none":
        del wanted["allocation"]
    # Where every peer sees another port nobody can know at which one a neighbour would have to dial.
    if site.hairpin != "none":
        wanted["hairpin"] = {site.hairpin} | ({"unknown"} if site.mapping not in ("eim", "unknown") else set())
    for axis, values in wanted.items():
        said = found.get(axis, "unknown")
        if said in values:
            continue
        if said == "unknown":
            unknown.append(axis)
        else:
            wrong.append("%s: %s, is %s" % (axis, said, " or ".join(sorted(values))))
    return wrong, unknown


class Run:
    def __init__(self, net, args, transport):
        self.net, self.args, self.transport = net, args, transport
        self.folder = os.path.join(args.logs or net.dir, "verdicts-" + transport)
        self.lock, self.right, self.wrong, self.unknown = threading.Lock(), set(), set(), set()
        self.packets = {}

    def start(self, name, *flags, portmap=False):
        return Node(self.net.hosts[name], self.args, self.folder, list(flags), portmap=portmap).wait_ready()

    def run(self):
        """The public nodes listen for one transport only, so that two runs stand side by side."""
        listen = ["--listen", ADDR[self.transport] % ("0.0.0.0", PORT)]
        # On two ports: who asks both learns whether its NAT gives every port of a peer another one.
        two = [*listen, "--listen", ADDR[self.transport] % ("0.0.0.0", PORT + 1)]
        boot = self.start("boot", "--bootstrap", "none", *two)
        known = ["--bootstrap", boot.address(self.transport)]
        nodes = [boot] + [self.start(name, *two, *known) for name in PUBLIC[1:]]
        listen += known
        known = [word for node in nodes for word in ("--bootstrap", node.address(self.transport))]
        nodes += [self.start(name, "--dht", "off", *listen[:2], *known) for name in STRANGERS]
        # What they want to know they ask each other, not the homes: the packets of an answer would count there.
        settling = time.monotonic()
        for node in nodes[:len(PUBLIC)]:
            self.reachability(node, settling, "public")
        threads = []
        for site in sites(self.args.only):
            split_packets(self.net.hosts[site.name])
            node = self.start(site.name, "--dht", "client", *listen, portmap=site.helped)
            nodes.append(node)
            threads.append(threading.Thread(target=self.judge, args=(site, node, time.monotonic())))
            threads[-1].start()
        for thread in threads:
            thread.join()
        for node in nodes:
            node.stop()
        for node in nodes:
            node.process.wait(30)

    def judge(self, site, node, started):
        wanted = "public" if site.reachable else "private"
        try:
            said, after = self.reachability(node, started, wanted)
            wrong, unknown = self.checked(site, node, started)
            packets, known = sent(node.host, self.transport), time.monotonic() - started
        except (rpc.RpcError, OSError) as error:
            said, after, wrong, unknown, packets, known = "failed: %s" % error, 0, [], [], 0, 0
        with self.lock:
            self.packets[site.name] = packets
            (self.right if said == wanted else self.wrong).add(site.name)
            if unknown:
                self.unknown.add(site.name)
            print("  %-4s %-10s %-7s after %4.1f s, check after %4.1f s and %3d packets%s%s%s" %
                  (self.transport, site.name, said, after, known, packets, "" if said == wanted else ", should be " + wanted,
                   "; WRONG " + "; ".join(wrong) if wrong else "",
                   "; unknown: " + " ".join(unknown) if unknown else ""), flush=True)
            if wrong:
                self.wrong.add(site.name)

    @staticmethod
    def reachability(node, started, wanted):
        """What it says when it is right, or when the time is over, and when."""
        while True:
            mark = node.control.mark()
            said = node.call("check")["reachable4"]
            left = started + REACHABLE_SECONDS - time.monotonic()
            if said == wanted or left <= 0:
                return said, time.monotonic() - started
            node.control.wait_event(lambda e: e["event"] in ("reachability-changed", "addresses-changed"), mark,
                                    min(left, 5))

    def checked(self, site, node, started):
        while True:
            found = node.call("check")
            wrong, unknown = wrong_axes(site, found.get(SECTION[self.transport], {}), found["layers"])
            left = started + CHECK_SECONDS - time.monotonic()
            if not (wrong or unknown) or left <= 0:
                return wrong, unknown
            node.control.wait_event(lambda e: e["event"] == "address-observed", node.control.mark(), min(left, 0.2))


class SixRun(Run):
    """Homes with IPv6."""

    def run(self):
        listen = {family: ["--listen", addr[self.transport] % (any_, PORT)]
                  for family, addr, any_ in (("4", ADDR, "0.0.0.0"), ("6", ADDR6, "::"))}
        both = listen["4"] + listen["6"]

        def known(*nodes):
            return [word for node in nodes for word in
                    ("--bootstrap", node.address(self.transport), "--bootstrap",
                     ADDR6[self.transport] % (node.host.addr6, PORT) + "/p2p/" + node.peer)]
        boot = self.start("boot", "--bootstrap", "none", *both)
        nodes = [boot] + [self.start(name, *both, *known(boot)) for name in PUBLIC[1:]]
        nodes += [self.start(name, "--dht", "off", *both, *known(*nodes)) for name in STRANGERS]
        settling = time.monotonic()
        for node in nodes:
            self.both(node, settling, "public public")
        threads = []
        for site in six(self.args.only):
            split_packets(self.net.hosts[site.name])
            node = self.start(site.name, "--dht", "client", *known(boot), *(w for f in site.families for w in listen[f]))
            nodes.append(node)
            threads.append(threading.Thread(target=self.judge6, args=(site, node, time.monotonic())))
            threads[-1].start()
        for thread in threads:
            thread.join()
        for node in nodes:
            node.stop()
        for node in nodes:
            node.process.wait(30)

    @staticmethod
    def both(node, started, wanted):
        """Reachability by both families, as Run.reachability."""
        while True:
            mark = node.control.mark()
            found = node.call("check")
            said, left = "%(reachable4)s %(reachable6)s" % found, started + REACHABLE_SECONDS - time.monotonic()
            if said == wanted or left <= 0:
                return said, time.monotonic() - started
            node.control.wait_event(lambda e: e["event"] in ("reachability-changed", "addresses-changed"), mark, min(left, 1))

    def amiss(self, site, found):
        """What is not said, or said otherwise than it is."""
        amiss, udp = [], SECTION[self.transport]
        for section, wanted in ((udp, site.axes4), (udp + "6", site.axes6)):
            said = found.get(section, {})
            said = [said.get("mapping", "unknown"), said.get("filtering", "unknown")]
            if said != (["unknown"] * 2 if wanted == "-" else [WORDS[word] for word in wanted.split()]):
                amiss.append("%s %s" % (section, " ".join(said)))
        if found["code"] != site.code:
            amiss.append("code " + found["code"])
        outside = {"ip4": found.get("external"), "ip6": self.net.hosts[site.name].addr6}
        for family, reachable in zip(outside, site.reachable.split()):
            verdict = {"public": "reachable", "private": "unreachable"}.get(reachable)
            mine = [a for a in found["addresses"] if a["addr"].startswith("/%s/%s/" % (family, outside[family])) and
                    "/p2p-circuit" not in a["addr"]]
            if verdict and not any(a["verdict"] == verdict for a in mine):
                amiss.append("no %s address is %s" % (family, verdict))
            amiss += ["%(addr)s %(verdict)s" % a for a in mine if a["verdict"] not in (verdict, "unknown")]
        return amiss

    def judge6(self, site, node, started):
        try:
            said, after = self.both(node, started, site.reachable)
            amiss = self.amiss(site, node.call("check"))
            while amiss and time.monotonic() < started + CHECK_SECONDS:
                node.control.wait_event(lambda e: e["event"] == "address-observed", node.control.mark(), 1)
                amiss = self.amiss(site, node.call("check"))
            packets, known = sent(node.host, self.transport), time.monotonic() - started
        except (rpc.RpcError, OSError) as error:
            said, after, amiss, packets, known = "failed: %s" % error, 0, [], 0, 0
        with self.lock:
            self.packets[site.name] = packets
            (self.right if said == site.reachable else self.wrong).add(site.name)
            if amiss:
                self.unknown.add(site.name)
            print("  %-4s %-10s IPv4 and IPv6 %-16s after %4.1f s, check after %4.1f s and %3d packets%s%s" %
                  (self.transport, site.name, said, after, known, packets,
                   "" if said == site.reachable else ", should be " + site.reachable,
                   "; amiss: " + ", ".join(amiss) if amiss else ""), flush=True)


class FullRun(Run):
    """check --full, for each time-out beside the others."""

    def run(self):
        listen = ["--listen", ADDR["quic"] % ("0.0.0.0", PORT)]
        boot = self.start("boot", "--bootstrap", "none", *listen)
        listen += ["--bootstrap", boot.address("quic")]
        nodes = [boot] + [self.start(name, *listen) for name in PUBLIC[1:]]
        threads = []
        for seconds in LIFETIMES:
            nodes.append(self.start("life%d" % seconds, "--dht", "client", *listen))
            flags = ["--dht", "client", *listen]
            threads.append(threading.Thread(target=self.measure, args=(seconds, nodes.pop(), flags)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        for node in nodes:
            node.stop()
        for node in nodes:
            node.process.wait(30)

    def recalled(self, node, flags):
        """What a node says after a restart, and when."""
        node.stop()
        node.process.wait(30)
        node = Node(node.host, self.args, self.folder, flags, again=True).wait_ready()
        started = time.monotonic()
        while True:
            found, after = node.call("check")["udp"], time.monotonic() - started
            if found["lifetime"] == "measured" or after > RECALL_SECONDS:
                break
            node.control.wait_event(lambda e: True, node.control.mark(), 1)
        node.stop()
        node.process.wait(30)
        return found.get("lifetime_ms", 0) / 1000, after

    def measure(self, seconds, node, flags):
        started = time.monotonic()
        try:
            first = node.call("check")["udp"]["lifetime"]
            found = node.call("check", timeout=FULL_SECONDS + 30, full=True)["udp"]
        except rpc.RpcError as error:
            first, found = str(error), {}
        took, said = time.monotonic() - started, found.get("lifetime_ms", 0) / 1000
        good = (first == "learning" and found.get("lifetime") == "measured" and abs(said - seconds) <= seconds / 10 and
                took <= FULL_SECONDS)
        packets = sent(node.host, "quic")
        try:
            again, after = self.recalled(node, flags)
        except (rpc.RpcError, NodeFailed, OSError) as error:
            print("  %-7s started again: %s" % (node.name, error), flush=True)
            again, after = 0, 0
        good = good and again == said
        with self.lock:
            (self.right if good else self.wrong).add(node.name)
            print("  %-7s %s, measured %.1f s after %.0f s, %d packets; started again %.1f s after %.0f s%s" %
                  (node.name, first, said, took, packets, again, after, "" if good else "; WRONG"), flush=True)


def inside_full(args):
    with Net(description(True), args.link) as net:
        run = FullRun(net, args, "quic")
        run.run()
    print("%d passed, %d failed, 0 skipped" % (len(run.right), len(run.wrong)))
    return 1 if run.wrong else 0


def side_by_side(net, args, kind):
    """One run for each transport, all at once."""
    runs = [kind(net, args, transport) for transport in args.transport]
    threads = [threading.Thread(target=run.run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs


def inside6(args):
    """How many transports passed. Of so few sites each has to be right."""
    passed = 0
    with Net(description6(), args.link) as net:
        for run in side_by_side(net, args, SixRun):
            good, count = len(run.right - run.wrong - run.unknown), len(six(args.only))
            many = [name for name, packets in run.packets.items() if packets > PACKETS]
            print("over %s, homes with IPv6: all of it right on %d of %d sites; packets at most %d, more than %d on %d" %
                  (run.transport, good, count, max(run.packets.values(), default=0), PACKETS, len(many)), flush=True)
            passed += good == count and not many
    return passed


def inside(args):
    passed = failed = 0
    if args.full:
        return inside_full(args)
    if six(args.only):
        passed = inside6(args)
        failed = len(args.transport) - passed
    if not list(sites(args.only)):
        print("%d passed, %d failed, 0 skipped" % (passed, failed))
        return 1 if failed else 0
    with Net(description(False), args.link) as net:
        for run in side_by_side(net, args, Run):
            count = len(list(sites(args.only)))    # those that were never judged, too
            good = len(run.right - run.wrong)
            many = [name for name, packets in run.packets.items() if packets > PACKETS]
            print("over %s: reachability right on %d of %d sites, nothing wrong on %d, everything known on %d; packets at most"
                  " %d, more than %d on %d" %
                  (run.transport, len(run.right), count, good, len(run.right - run.wrong - run.unknown),
                   max(run.packets.values()), PACKETS, len(many)), flush=True)
            well = good >= min(LEAST_RIGHT, count) and not many
            passed, failed = (passed + 1, failed) if well else (passed, failed + 1)
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("--transport", default="quic,tcp")
    p.add_argument("--only", default="")
    p.add_argument("--logs", default="")
    p.add_argument("--full", action="store_true", help="the lifetime of mappings instead: six minutes")
    args = p.parse_args()
    args.transport, args.only = args.transport.split(","), {s for s in args.only.split(",") if s}
    args.link = os.path.join(os.path.abspath(args.build), "tests/natlab/lab_link")
    args.warren = os.path.join(os.path.abspath(args.build), "tools/warren")
    return box.test("natlab/verdicts", 2 * len(args.transport), lambda: inside(args))


if __name__ == "__main__":
    sys.exit(main())
