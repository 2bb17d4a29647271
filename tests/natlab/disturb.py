#!/usr/bin/env python3
"""A node at home goes through eight disturbances, and each time a peer elsewhere reaches it again by its id alone.

usage: disturb.py BUILD_DIR [--runs N] [--only NAME] [--home KIND] [--asleep SECONDS] [--logs DIR]

Counted is the time from the moment when the network works again to the answer to a ping of somebody who had no
connection; at most 10 s.
"""
import argparse
import collections
import os
import signal
import statistics
import sys
import time

import box
import describe
import rpc
from net import Net, batch
from nodes import ADDR, PORT, Node

LIMIT_SECONDS = 10
PATIENCE = 40               # how long a run is watched before it counts as lost
SETTLE_SECONDS = 90
RELAYS = ("relayone", "relaytwo", "relaythree")
PUBLIC = ("boot", "stranger", *RELAYS)


def description(kind):
    lines = ["site %s delay=20" % name for name in PUBLIC]
    lines += ["site home nat=%s delay=20" % kind, "site other nat=port-restricted delay=20"]
    return describe.parse("\n".join(lines), "disturb")


class Scene:
    def __init__(self, net, args):
        self.net, self.args = net, args
        self.folder = args.logs or net.dir
        self.nodes = {}
        both = [word for t in ADDR for word in ("--listen", ADDR[t] % ("0.0.0.0", PORT))]
        boot = self.start("boot", "--bootstrap", "none", "--relay", "off", *both)
        self.boot = [word for t in ADDR for word in ("--bootstrap", boot.address(t))]
        self.public_flags = {"boot": ["--bootstrap", "none", "--relay", "off", *both]}
        for name in PUBLIC[1:]:
            flags = ["--relay", "on" if name in RELAYS else "off", *both, *self.boot]
            self.public_flags[name] = flags
            self.start(name, *flags)
        for name in ("home", "other"):
            self.start(name, "--relay", "off", "--dht", "client", *both, *self.boot)

    def start(self, name, *flags, again=False):
        self.nodes[name] = Node(self.net.hosts[name], self.args, self.folder, list(flags), again=again).wait_ready()
        return self.nodes[name]

    def held(self):
        """The relays at which the home has a place."""
        addresses = self.nodes["home"].relayed_addresses()
        return [name for name in RELAYS if any(self.nodes[name].peer in a for a in addresses)]

    def close(self):
        for node in self.nodes.values():
            node.stop()
        for node in self.nodes.values():
            node.process.wait(30)

    def apart(self):
        """Neither has a connection to the other, and no hole of an earlier one is left open."""
        home, other = self.nodes["home"], self.nodes["other"]
        for one, two in ((home, other), (other, home)):
            one.drop(two.peer)
            one.host.router.forget(two.host.public)

    def reached(self, patience):
        """Seconds until somebody without a connection has pinged the home by its id, or None."""
        home, other = self.nodes["home"], self.nodes["other"]
        started = time.monotonic()
        while time.monotonic() - started < patience:
            try:
                other.drop(home.peer)
                other.call("connect", timeout=5, peer=home.peer)
                other.call("ping", timeout=5, peer=home.peer, count=1)
                return time.monotonic() - started
            except rpc.RpcError:
                time.sleep(0.1)    # between two dials of somebody who cannot be reached just now
        return None


# ---- the eight; each returns once the network works again

def lan(scene):
    host = scene.net.hosts["home"]
    return host, "%s/24" % host.addr, host.router.lan_addr(1)


def new_address(scene):
    host, _, gateway = lan(scene)
    host.spare = not getattr(host, "spare", False)
    old, new = (host.router.lan_addr(n) for n in ((10, 77) if host.spare else (77, 10)))
    batch(["addr del %s/24 dev lan0" % old, "addr add %s/24 dev lan0" % new, "route add default via " + gateway], host)
    host.addr = new


def same_address(scene):
    host, addr, gateway = lan(scene)
    batch(["addr del %s dev lan0" % addr, "addr add %s dev lan0" % addr, "route add default via " + gateway], host)


def other_interface(scene):
    """The first cable is pulled after a second one came up with an address of its own; then back. A card keeps its
    hardware address: with another one the router's memory of the last run would cut us off for up to half a minute."""
    host, addr, gateway = lan(scene)
    router, second = host.router, host.router.lan_addr(88)
    batch(["link add name p9 netns %s type veth peer name lan1 address 02:00:00:00:00:58 netns %s" %
           (router.name, host.name)])
    batch(["link set p9 master lan", "link set p9 up"], router)
    batch(["link set lan0 down", "addr add %s/24 dev lan1" % second, "link set lan1 up",
           "route add default via " + gateway], host)
    yield
    batch(["link del lan1", "link set lan0 up", "route add default via " + gateway], host)


def asleep(scene):
    """Stopped while the router forgets it."""
    node = scene.nodes["home"]
    node.process.send_signal(signal.SIGSTOP)
    scene.net.routers["home"].restart()
    time.sleep(scene.args.asleep)    # the disturbance itself
    node.process.send_signal(signal.SIGCONT)


def router_restart(scene):
    scene.net.routers["home"].restart()


def relays_lost(scene):
    """The two relays that the home holds go at once; the third is left."""
    until = time.monotonic() + SETTLE_SECONDS
    while len(scene.held()) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    held = scene.held()
    scene.apart()    # it may have taken a while
    for name in held[:2]:
        scene.nodes[name].stop()
        scene.nodes[name].process.wait(30)
    yield
    for name in held[:2]:
        scene.start(name, *scene.public_flags[name], again=True)


def route_lost(scene):
    host, _, gateway = lan(scene)
    batch(["route del default"], host)
    time.sleep(3)    # the disturbance itself
    batch(["route add default via " + gateway], host)


def vpn(scene):
    """A tunnel that takes the default route, leads nowhere, and goes again."""
    host, _, gateway = lan(scene)
    batch(["tuntap add dev vpn0 mode tun", "addr add 10.99.0.2/24 dev vpn0", "link set vpn0 up",
           "route replace default dev vpn0"], host)
    time.sleep(3)    # the disturbance itself
    batch(["link del vpn0"], host)
    batch(["route replace default via " + gateway], host)


DISTURBANCES = collections.OrderedDict((
    ("new address", new_address), ("same address again", same_address), ("another interface", other_interface),
    ("asleep", asleep), ("router restart", router_restart), ("both relays lost", relays_lost),
    ("no default route", route_lost), ("VPN up and down", vpn)))


def one_run(scene, name):
    if scene.reached(SETTLE_SECONDS) is None:
        return None, "was not reachable before"
    scene.apart()
    disturbance = DISTURBANCES[name](scene)
    if disturbance is not None:
        next(disturbance)    # some have a way back
    seconds = scene.reached(PATIENCE)
    if disturbance is not None:
        list(disturbance)
    return seconds, "not reached within %d s" % PATIENCE if seconds is None else ""


def inside(args):
    passed = failed = 0
    with Net(description(args.home), args.link) as net:
        scene = Scene(net, args)
        try:
            for name in DISTURBANCES:
                if args.only and name != args.only:
                    continue
                times = []
                for _ in range(args.runs):
                    seconds, why = one_run(scene, name)
                    times.append(seconds)
                    if seconds is None or seconds > LIMIT_SECONDS:
                        print("  %s, run %d, until %s: %s" % (name, len(times), time.strftime("%H:%M:%S", time.gmtime()),
                                                              why or "%.1f s" % seconds), flush=True)
                good = [t for t in times if t is not None and t <= LIMIT_SECONDS]
                known = [t for t in times if t is not None]
                print("%-20s %d of %d within %d s, median %s, longest %s" % (
                    name, len(good), len(times), LIMIT_SECONDS,
                    "%.1f s" % statistics.median(known) if known else "-",
                    "%.1f s" % max(known) if known else "-"), flush=True)
                passed, failed = (passed + 1, failed) if len(good) == len(times) else (passed, failed + 1)
        finally:
            scene.close()
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("--runs", type=int, default=1)
    p.add_argument("--only", default="")
    p.add_argument("--home", default="port-restricted", help="the kind of NAT that the home has")
    p.add_argument("--asleep", type=float, default=20, help="seconds that the node is stopped")
    p.add_argument("--logs", default="")
    args = p.parse_args()
    args.link = os.path.join(os.path.abspath(args.build), "tests/natlab/lab_link")
    args.warren = os.path.join(os.path.abspath(args.build), "tools/warren")
    return box.test("natlab/disturb", len(DISTURBANCES), lambda: inside(args))


if __name__ == "__main__":
    sys.exit(main())
