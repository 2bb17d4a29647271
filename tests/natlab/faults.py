#!/usr/bin/env python3
"""Faults made in the laboratory, and the one right code that `check` or `why` has to give for each (docs/reasons.md).

usage: faults.py BUILD_DIR [--only NAME,NAME] [--logs DIR]

Faults are made side by side, for mostly one waits; only what builds upon another fault comes after it.
"""
import argparse
import contextlib
import os
import shutil
import socket
import sys
import threading
import time

import box
import describe
import portmap
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
site customer nat=port-restricted behind=isp
site guarded delay=10
site crowd nat=port-restricted delay=20
site left nat=port-restricted delay=20
site right nat=port-restricted delay=20
site middle nat=port-restricted delay=20
site clumsy nat=port-restricted delay=20
site deft nat=port-restricted delay=20
site helpful nat=port-restricted delay=20 portmap=pcp
site mute nat=port-restricted delay=20 udp=blocked
"""
PUBLIC = ("boot", "second", "third", "fourth")
# As clients of the DHT they are not dialled by one another: two who meet before they know that they are private have no
# hole to punch.
PUNCHERS = ("left", "right", "middle", "clumsy", "deft")
NOBODY = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
SECONDS = 180       # until a code is there, on a busy machine; the codes of `check` need peers that tell what they see
KEY = "/key/swarm/psk/1.0.0/\n/base16/\n%s\n"
YEAR = 365 * 24 * 3600
PLACES_PER_NET = 8  # a relay's, for one network; relay_server.h
HOST_FIREWALL = """
table inet wall {
    chain input {
        type filter hook input priority 0; policy drop;
        iif "lo" accept
        ct state established,related accept
    }
}
"""

FAULTS = []


def fault(code, after=None):
    """A function that makes the fault and returns the codes that were given, the one right one among them. after: the
    one that has to be made before, by the same thread."""
    def register(function):
        FAULTS.append((function.__name__.replace("_", "-"), code, function, after))
        return function
    return register


class World:
    def __init__(self, net, args):
        self.net, self.args = net, args
        self.folder = os.path.join(args.logs or net.dir, "faults")
        self.nodes, self.kept = [], {}
        self.guard, self.starting = threading.Lock(), {}
        everywhere = self.listen(PORT, *ADDR)
        boot = self.start("boot", "--bootstrap", "none", "--relay", "off", *everywhere)
        self.bootstrap = [word for t in ADDR for word in ("--bootstrap", boot.address(t))]
        together([lambda name=name: self.start(name, *self.bootstrap, *everywhere) for name in PUBLIC[1:]] +
                 [lambda: self.start("relay", *self.bootstrap, "--relay", "on", *everywhere)])

    @staticmethod
    def listen(port, *transports, ip="0.0.0.0"):
        return [word for t in transports for word in ("--listen", ADDR[t] % (ip, port))]

    def start(self, host, *flags, name=None, **more):
        """A node on a host; more than one there needs names."""
        name = name or host
        node = Node(self.net.hosts[host], self.args, os.path.join(self.folder, name), list(flags), **more)
        with self.guard:
            self.nodes.append(node)
        node.wait_ready()
        with self.guard:
            self.kept[name] = node
        return node

    def at(self, host, **more):
        """The ordinary node of a host, started when it is first wanted."""
        with self.guard:
            one_at_a_time = self.starting.setdefault(host, threading.Lock())
        with one_at_a_time:
            if host not in self.kept:
                flags = ["--dht", "client"] if host in PUNCHERS else []
                self.start(host, *flags, *self.bootstrap, *self.listen(PORT, *ADDR), **more)
            return self.kept[host]

    def asking(self, host):
        """A node that asks its router for open ports."""
        return self.start(host, *self.bootstrap, *self.listen(4600, *ADDR), name=host + "-asking", portmap=True)

    def fresh_key(self, name, digit):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(KEY % (digit * 64))
        return path

    def guest(self, host, relay, **more):
        """The ordinary node of a host, with a place at a relay, or none after so long."""
        node = self.at(host, **more)
        node.call("relay.use", addr=relay.address("tcp"))
        wait_until(lambda: node.relayed_addresses(), node, "addresses-changed")
        return node

    def close(self):
        for node in self.nodes:
            if node.process.poll() is None:
                node.stop()
        for node in self.nodes:
            node.process.wait(30)


def together(calls):
    """Makes all calls at once, each in a thread of its own; the first error is raised when all are over."""
    errors = []

    def one(call):
        try:
            call()
        except BaseException as error:    # noqa: BLE001, told below
            errors.append(error)
    threads = [threading.Thread(target=one, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def wait_until(test, node, event, seconds=SECONDS):
    """What test() says in the end: looked at whenever a node tells an event, or a second has passed."""
    end = time.monotonic() + seconds
    while True:
        mark = node.control.mark()
        found = test()
        if found or time.monotonic() > end:
            return found
        node.control.wait_event(lambda e: e["event"].startswith(event), mark, 1)


def checked(node, code, seconds=SECONDS, layers=None):
    """What `check` says once the code is there (and the number of NATs, if one is given), or the time is over."""
    end = time.monotonic() + seconds
    while True:
        mark = node.control.mark()
        found = node.call("check")
        codes = [found["code"]] + [f["code"] for f in found["findings"]]
        left = end - time.monotonic()
        counted = layers in (None, found["layers"])
        if (code in codes and counted) or left <= 0:
            return codes if counted else codes[:1] + ["layers " + found["layers"]]
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
    return checked(w.asking("helpful"), "mapped", layers="one")[1:]


@fault("mapping-none")
def a_router_that_opens_none(w):
    return checked(w.asking("home-2"), "mapping-none", 90)[1:]


@fault("double-nat")
def a_router_behind_the_providers(w):
    return checked(w.asking("nested"), "double-nat", layers="two-or-more")[1:]


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


@fault("firewall")
def a_firewall_on_the_machine_itself(w):
    host = w.net.hosts["guarded"]
    host.run(["nft", "-f", "-"], input=HOST_FIREWALL, text=True, check=True)
    return checked(w.at("guarded"), "firewall")[:1]


@fault("carrier-nat")
def a_router_that_tells_of_its_carrier(w):
    router = w.net.routers["customer"]
    answer = lambda request: portmap.pcp_answer(request, router.outside)    # noqa: E731
    with contextlib.closing(portmap.Fake(router, answer)):
        return checked(w.asking("customer"), "carrier-nat", layers="two-or-more")[1:]


@fault("port-in-use")
def another_program_has_the_port(w):
    w.kept["third"]    # it listens there
    node = w.start("third", *w.bootstrap, *w.listen(PORT, "tcp"), *w.listen(4700, "quic"), name="latecomer")
    return checked(node, "port-in-use", 10)[1:]


@fault("clock-wrong")
def a_clock_that_is_off_by_a_year(w):
    data = os.path.join(w.folder, "aged")
    flags = ["--data", data, "--bootstrap", "none", *w.listen(4800, "tcp")]
    before = w.start("fourth", *flags, name="in-time")
    right = "clock-wrong" not in checked(before, "no-peers", 10)
    before.stop()
    before.process.wait(30)
    clock = {"LD_PRELOAD": w.args.clock, "LAB_CLOCK": str(-YEAR)}
    return checked(w.start("fourth", *flags, name="a-year-off", env=clock), "clock-wrong", 10)[1:] if right else []


@fault("no-peers")
def no_bootstrap(w):
    lonely = w.start("home-2", "--bootstrap", "none", *w.listen(4100, "tcp"), name="lonely")
    return checked(lonely, "no-peers")[1:]


@fault("no-peers", after=no_bootstrap)
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
    shutil.rmtree(data, ignore_errors=True)
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


@fault("silent")
def something_that_says_nothing(w):
    host = w.net.hosts["second"]
    with host.inside():
        listener = socket.create_server((host.addr, 4900))
    with listener:
        return why(w.at("home"), ADDR["tcp"] % listener.getsockname() + "/p2p/" +
                   "QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt")[:1]


@fault("wrong-network")
def another_network_key(w):
    there = w.start("fourth", "--bootstrap", "none", *w.listen(4300, "tcp"), "--psk", w.fresh_key("a.key", "a"),
                    name="keyed")
    here = w.start("home-2", "--bootstrap", "none", *w.listen(4300, "tcp"), "--psk", w.fresh_key("b.key", "b"),
                   name="keyed-otherwise")
    return why(here, ADDR["tcp"] % (there.host.addr, 4300) + "/p2p/" + there.peer)[:1]


@fault("blocked", after=nobody_to_ask)
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


@fault("ourselves", after=a_rule_forbids_it)
def ones_own_id(w):
    node = w.kept["lonely"]
    return why(node, node.peer)[:1]


@fault("unsupported", after=another_network_key)
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


@fault("relay-refused")
def a_relay_that_refuses(w):
    node = w.start("crowd", "--bootstrap", "none", *w.listen(4490, "tcp"), name="turned-away")
    node.call("relay.use", addr=w.kept["boot"].address("tcp"))    # which is not to relay
    return checked(node, "relay-refused")[1:]


@fault("relay-full")
def a_relay_without_a_place_left(w):
    relay = w.start("second", "--bootstrap", "none", "--relay", "on", *w.listen(4600, "tcp"), name="small-relay")
    address = ADDR["tcp"] % (relay.host.addr, 4600) + "/p2p/" + relay.peer
    crowd = []

    def guest(i):
        node = w.start("crowd", "--bootstrap", "none", *w.listen(4500 + i, "tcp"), name="guest-%d" % i)
        node.call("relay.use", addr=address)
        crowd.append(node)
    together([lambda i=i: guest(i) for i in range(PLACES_PER_NET + 1)])

    def left_out():
        return [node for node in crowd if not node.relayed_addresses()]
    wait_until(lambda: len(left_out()) <= 1, crowd[0], "relay")
    return checked(left_out()[0], "relay-full")[1:]


@fault("relayed")
def two_homes_with_random_ports(w):
    a, b = w.at("random"), w.guest("random-too", w.kept["relay"])
    a.call("connect", timeout=60, peer=circuit(w.kept["relay"], b.peer))
    return why(a, b.peer)[:1]


@fault("punch-hopeless", after=two_homes_with_random_ports)
def two_random_ports_cannot_meet(w):
    a, b = w.kept["random"], w.kept["random-too"]
    final = ("punch-hopeless", "punch-failed")
    codes = wait_until(lambda: [c for c in why(b, a.peer)[1:] if c in final], b, "punch-")
    return ["punch-hopeless" if c == "punch-failed" else c for c in codes]    # it may have to be tried first


# ---- a node that is built to miss, and one that is not, with the same peers

def meet(w, node):
    """Three are called through the relay: the code needs the attempts of two, and one that a busy machine breaks off
    does not count. All have to know that they are private: who does not yet announces addresses, and the plain dial to
    one opens the way for the peer's punch. Returns who they are."""
    guests = [w.guest(name, w.kept["relay"]) for name in ("left", "right", "middle")]
    for each in guests + [node]:
        wait_until(lambda each=each: each.call("check")["reachable4"] == "private", each, "reachability")
    for guest in guests:
        node.call("connect", timeout=60, peer=circuit(w.kept["relay"], guest.peer))
    return [guest.peer for guest in guests]


@fault("punch-never")
def punching_that_is_broken(w):
    node = w.at("clumsy", program=w.args.unpunched)
    checked(node, "nat-easy")    # with nothing known of itself it would not try
    peers = meet(w, node)

    def told():
        return any(t["path"] == "punched" for peer in peers for t in node.call("why", peer=peer)["trying"])
    if not wait_until(told, node, "punch-"):
        return ["nothing told while it lasted"]
    return checked(node, "punch-never")[1:]


@fault("punched", after=punching_that_is_broken)
def the_same_without_the_fault(w):
    node = w.at("deft")
    checked(node, "nat-easy")
    peers = meet(w, node)
    codes = wait_until(lambda: all("punched" in why(node, p) for p in peers) and ["punched"], node, "punch-") or []
    return [c for c in codes if "punch-never" not in checked(node, "punch-never", 0)]


def chains(only):
    """Lists of faults, each to be made in its order; with those that a chosen one builds upon."""
    wanted = [f for f in FAULTS if not only or f[0] in only]
    for f in wanted:
        wanted += [g for g in FAULTS if g[2] is f[3] and g not in wanted]
    lists = {}
    for f in FAULTS:
        if f in wanted:
            chain = lists.get(f[3]) or []
            chain.append(f)
            lists[f[2]] = chain
    return list({id(chain): chain for chain in lists.values()}.values())


def make_all(world, chain, results):
    for name, code, make, _ in chain:
        started = time.monotonic()
        try:
            codes = make(world)
        except Exception as error:    # noqa: BLE001, whatever it was, the other faults are told
            codes = ["%s: %s" % (type(error).__name__, error)]
        good = code in codes
        results.append(good)
        print("%-6s %-40s %-16s %5.1f s%s" % ("ok" if good else "FAILED", name, code, time.monotonic() - started,
                                             "" if good else "; said " + " ".join(codes)), flush=True)


def inside(args):
    results, started = [], time.monotonic()
    with Net(describe.parse(NETWORK, "faults"), args.link) as net:
        world = World(net, args)
        try:
            together([lambda chain=chain: make_all(world, chain, results) for chain in chains(args.only)])
        finally:
            world.close()
    print("faults: %d in %.0f s" % (len(results), time.monotonic() - started))
    print("%d passed, %d failed, 0 skipped" % (results.count(True), results.count(False)))
    return 0 if all(results) else 1


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("--only", default="")
    p.add_argument("--logs", default="")
    args = p.parse_args()
    args.only = {s for s in args.only.split(",") if s}
    args.link = os.path.join(os.path.abspath(args.build), "tests/natlab/lab_link")
    args.warren = os.path.join(os.path.abspath(args.build), "tools/warren")
    args.clock = os.path.join(os.path.abspath(args.build), "tests/natlab/lab_clock.so")
    args.unpunched = os.path.join(os.path.abspath(args.build), "tests/natlab/lab_unpunched")
    return box.test("natlab/faults", len(FAULTS), lambda: inside(args))


if __name__ == "__main__":
    sys.exit(main())
