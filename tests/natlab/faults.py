#!/usr/bin/env python3
"""Faults made in the laboratory, and the one right code that `check` or `why` has to give for each (docs/reasons.md).

usage: faults.py BUILD_DIR [--only NAME,NAME] [--logs DIR]
"""
import argparse
import os
import shutil
import sys
import time

import box
import describe
import rpc
from net import Net
from nodes import ADDR, PORT, Node

NETWORK = """
site boot delay=10
site second delay=10
site third delay=10
site fourth delay=10
site relay delay=10
site home nat=port-restricted delay=20 hosts=4
site random nat=symmetric-random delay=20
site counting nat=symmetric-sequential delay=20
site wall nat=firewall delay=20
site random-too nat=symmetric-random delay=20
carrier isp delay=10
site nested nat=port-restricted behind=isp portmap=pcp
site helpful nat=port-restricted delay=20 portmap=pcp
site mute nat=port-restricted delay=20 udp=blocked
"""
PUBLIC = ("boot", "second", "third", "fourth")
NOBODY = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
SECONDS = 60        # until a code is there; the codes of `check` need peers that tell what they see
KEY = "/key/swarm/psk/1.0.0/\n/base16/\n%s\n"

FAULTS = []


def fault(code):
    """A function that makes the fault and returns the codes that were given, the one right one among them."""
    def register(function):
        FAULTS.append((function.__name__.replace("_", "-"), code, function))
        return function
    return register


class World:
    def __init__(self, net, args):
        self.net, self.args = net, args
        self.folder = os.path.join(args.logs or net.dir, "faults")
        self.nodes, self.kept = [], {}
        everywhere = self.listen(PORT, *ADDR)
        boot = self.start("boot", "--bootstrap", "none", "--relay", "off", *everywhere)
        self.bootstrap = [word for t in ADDR for word in ("--bootstrap", boot.address(t))]
        for name in PUBLIC[1:]:
            self.start(name, *self.bootstrap, *everywhere)
        self.start("relay", *self.bootstrap, "--relay", "on", *everywhere)

    @staticmethod
    def listen(port, *transports, ip="0.0.0.0"):
        return [word for t in transports for word in ("--listen", ADDR[t] % (ip, port))]

    def start(self, host, *flags, name=None, portmap=False):
        """A node on a host; more than one there needs names."""
        name = name or host
        node = Node(self.net.hosts[host], self.args, os.path.join(self.folder, name), list(flags),
                    portmap=portmap)
        self.nodes.append(node)
        self.kept[name] = node
        return node.wait_ready()

    def at(self, host, *transports):
        """The ordinary node of a host, started when it is first wanted."""
        if host not in self.kept:
            self.start(host, *self.bootstrap, *self.listen(PORT, *(transports or ADDR)))
        return self.kept[host]

    def asking(self, host):
        """A node that asks its router for open ports."""
        return self.start(host, *self.bootstrap, *self.listen(4600, *ADDR), name=host + "-asking", portmap=True)

    def fresh_key(self, name, digit):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(KEY % (digit * 64))
        return path

    def close(self):
        for node in self.nodes:
            if node.process.poll() is None:
                node.stop()
        for node in self.nodes:
            node.process.wait(30)


def checked(node, code, seconds=SECONDS):
    """What `check` says once the code is there, or the time is over."""
    end = time.monotonic() + seconds
    while True:
        mark = node.control.mark()
        found = node.call("check")
        codes = [found["code"]] + [f["code"] for f in found["findings"]]
        left = end - time.monotonic()
        if code in codes or left <= 0:
            return codes
        node.control.wait_event(lambda e: True, mark, min(left, 1))


def why(node, peer):
    """The code for the peer as a whole, then those of what was tried."""
    found = node.call("why", timeout=90, peer=peer)
    return [found["code"]] + [t["code"] for t in found["tried"]]


# ---- what stands between a node and the world

@fault("public")
def nothing_in_the_way(w):
    return checked(w.at("fourth"), "public")[:1]


@fault("nat-easy")
def an_ordinary_router(w):
    return checked(w.at("home"), "nat-easy")[:1]


@fault("nat-hard")
def a_router_with_random_ports(w):
    return checked(w.at("random"), "nat-hard")[:1]


@fault("nat-predictable")
def a_router_that_counts_ports(w):
    return checked(w.at("counting"), "nat-predictable")[:1]


@fault("firewall")
def a_firewall(w):
    return checked(w.at("wall"), "firewall")[:1]


@fault("mapped")
def a_router_that_opens_ports(w):
    return checked(w.asking("helpful"), "mapped")[1:]


@fault("mapping-none")
def a_router_that_opens_none(w):
    return checked(w.asking("home-2"), "mapping-none", 90)[1:]


@fault("double-nat")
def a_router_behind_the_providers(w):
    return checked(w.asking("nested"), "double-nat")[1:]


@fault("udp-blocked")
def udp_gets_nowhere(w):
    node, end = w.at("mute"), time.monotonic() + SECONDS
    while True:
        for name in PUBLIC:
            public = w.kept[name]
            try:
                if not node.connection(public.peer):
                    node.call("connect", timeout=30, peer=public.peer)    # by both transports
            except rpc.RpcError:
                pass    # nobody has told of it yet
        codes = checked(node, "udp-blocked", 1)[1:]
        if "udp-blocked" in codes or time.monotonic() > end:
            return codes


@fault("no-peers")
def no_bootstrap(w):
    lonely = w.start("home-2", "--bootstrap", "none", *w.listen(4100, "tcp"), name="lonely")
    return checked(lonely, "no-peers")[1:]


@fault("no-peers")
def nobody_to_ask(w):
    return why(w.kept["lonely"], NOBODY)[:1]


@fault("offline")
def the_cable_is_out(w):
    node = w.start("home-3", *w.bootstrap, *w.listen(PORT, *ADDR))
    node.host.run(["ip", "link", "set", "dev", "lan0", "down"], check=True)
    return checked(node, "offline")[:1]


@fault("twin")
def one_identity_on_two_machines(w):
    first = w.at("home")
    data = os.path.join(w.folder, "copied")
    os.makedirs(data, mode=0o700)
    shutil.copy2(os.path.join(first.dir, "data", "identity.key"), data)
    twin = w.start("home-4", "--data", data, "--bootstrap", "none", *w.listen(4200, "tcp"), name="copy")
    try:
        first.call("connect", peer=ADDR["tcp"] % (twin.host.addr, 4200) + "/p2p/" + twin.peer)
    except rpc.RpcError:
        pass    # it is refused, and seen
    return checked(first, "twin", 10)[1:]


# ---- why a peer is not reached

@fault("not-listening")
def the_port_is_closed(w):
    return why(w.at("home"), ADDR["tcp"] % (w.net.hosts["fourth"].addr, 9) + "/p2p/" + NOBODY)[:1]


@fault("no-answer")
def nobody_at_that_address(w):
    return why(w.at("home"), "/ip4/11.250.1.10/tcp/4001/p2p/16Uiu2HAkuqKYUQjCkoivTDvv2pVGNFMBP51ocLwv82pNdstmj14L")[:1]


@fault("wrong-peer")
def another_peer_at_that_address(w):
    return why(w.at("home"), ADDR["tcp"] % (w.net.hosts["third"].addr, PORT) +
               "/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC")[:1]


@fault("wrong-network")
def another_network_key(w):
    there = w.start("fourth", "--bootstrap", "none", *w.listen(4300, "tcp"), "--psk", w.fresh_key("a.key", "a"),
                    name="keyed")
    here = w.start("home-2", "--bootstrap", "none", *w.listen(4300, "tcp"), "--psk", w.fresh_key("b.key", "b"),
                   name="keyed-otherwise")
    return why(here, ADDR["tcp"] % (there.host.addr, 4300) + "/p2p/" + there.peer)[:1]


@fault("blocked")
def a_rule_forbids_it(w):
    node = w.kept["lonely"]
    node.call("block", what=NOBODY)
    return why(node, NOBODY)[:1]


@fault("no-address")
def a_peer_that_nobody_knows(w):
    return why(w.at("home"), "QmSoLPppuBtQSGwKDZT2M73ULpjvfd3aZ6ha4oFGL1KrGM")[:1]


@fault("no-route")
def an_address_of_another_family(w):
    return why(w.at("home"), "/ip6/3ffe:b17:9::1/tcp/4001/p2p/QmSoLSafTMBsPKadTEgaXctDQVcqN88CNLHXMkTNwMKPnu")[:1]


@fault("ourselves")
def ones_own_id(w):
    node = w.kept["lonely"]
    return why(node, node.peer)[:1]


@fault("unsupported")
def no_transport_in_common(w):
    return why(w.kept["keyed-otherwise"], ADDR["quic"] % (w.net.hosts["third"].addr, PORT) + "/p2p/" + NOBODY)[:1]


@fault("not-listening")
def a_peer_that_is_gone(w):
    there = w.start("fourth", *w.bootstrap, *w.listen(4400, "tcp"), name="mortal")
    address = ADDR["tcp"] % (there.host.addr, 4400) + "/p2p/" + there.peer
    w.at("home").call("connect", peer=address)
    there.process.kill()
    there.process.wait(30)
    end = time.monotonic() + SECONDS
    while w.at("home").connection(there.peer) and time.monotonic() < end:
        w.at("home").control.wait_event(lambda e: e["event"] == "peer-disconnected", w.at("home").control.mark(), 1)
    return why(w.at("home"), address)[:1]


# ---- relays, and holes

def circuit(relay, peer):
    return relay.address("tcp") + "/p2p-circuit/p2p/" + peer


@fault("no-reservation")
def a_peer_that_holds_no_place_at_the_relay(w):
    return why(w.at("home"), circuit(w.kept["relay"], "QmSoLer265NRgSp2LA3dPaeykiS1J6DifTC88f5uVQKNAd"))[:1]


@fault("relay-unreachable")
def a_relay_that_is_gone(w):
    gone = w.start("fourth", "--bootstrap", "none", *w.listen(4500, "tcp"), name="gone")
    address = ADDR["tcp"] % (gone.host.addr, 4500) + "/p2p/" + gone.peer
    gone.process.kill()
    gone.process.wait(30)
    return why(w.at("home"), address + "/p2p-circuit/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ")[:1]


@fault("relayed")
def two_homes_with_random_ports(w):
    a, b = w.at("random"), w.at("random-too")
    b.call("relay.use", addr=w.kept["relay"].address("tcp"))
    end = time.monotonic() + SECONDS
    while not b.relayed_addresses() and time.monotonic() < end:
        b.control.wait_event(lambda e: e["event"] == "addresses-changed", b.control.mark(), 1)
    a.call("connect", timeout=60, peer=circuit(w.kept["relay"], b.peer))
    return why(a, b.peer)[:1]


@fault("punch-hopeless")
def two_random_ports_cannot_meet(w):
    a, b = w.kept["random"], w.kept["random-too"]
    end = time.monotonic() + SECONDS
    while True:
        codes = why(b, a.peer)[1:]
        if "punch-hopeless" in codes or "punch-failed" in codes or time.monotonic() > end:
            return ["punch-hopeless" if c == "punch-failed" else c for c in codes]    # it may have to be tried first
        b.control.wait_event(lambda e: e["event"].startswith("punch-"), b.control.mark(), 1)


def inside(args):
    passed = failed = 0
    with Net(describe.parse(NETWORK, "faults"), args.link) as net:
        world = World(net, args)
        try:
            for name, code, make in FAULTS:
                if args.only and name not in args.only:
                    continue
                started = time.monotonic()
                try:
                    codes = make(world)
                except (rpc.RpcError, OSError, KeyError) as error:
                    codes = ["%s: %s" % (type(error).__name__, error)]
                good = code in codes
                passed, failed = passed + good, failed + (not good)
                print("%-6s %-36s %-16s %5.1f s%s" % ("ok" if good else "FAILED", name, code, time.monotonic() - started,
                                                     "" if good else "; said " + " ".join(codes)), flush=True)
        finally:
            world.close()
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("--only", default="")
    p.add_argument("--logs", default="")
    args = p.parse_args()
    args.only = {s for s in args.only.split(",") if s}
    args.link = os.path.join(os.path.abspath(args.build), "tests/natlab/lab_link")
    args.warren = os.path.join(os.path.abspath(args.build), "tools/warren")
    reason = box.why_not()
    if reason:
        print("natlab/faults skipped: " + reason)
        print("0 passed, 0 failed, %d skipped" % len(FAULTS))
        return 0
    return box.run(lambda: inside(args))


if __name__ == "__main__":
    sys.exit(main())
