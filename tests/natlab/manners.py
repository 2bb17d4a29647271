#!/usr/bin/env python3
"""A node behind a router with room for 64 sessions leaves most of it to the household.

usage: manners.py BUILD_DIR [--minutes N] [--logs DIR]

While it bootstraps, looks up and punches, its open sessions at the router (those that a FIN or RST ended apart) are
counted each second: never more than 48. A neighbour's ten TCP connections go on working, and no packet of the node goes
to a private address off its own link, though peers name such.
"""
import argparse
import ipaddress
import os
import random
import socket
import sys
import threading
import time

import box
import describe
import inject
import probe
import rpc
from net import Net
from nodes import ADDR, PORT, Node

SESSIONS, SHARE = 64, 48
CROWD, PEERS = 24, 4
NEIGHBOUR_STREAMS = 10
STEP_SECONDS = 1
ETH_ALL = 3         # what goes out is shown to none else
KINDS = ("port-restricted", "symmetric-random", "answering", "restricted")
PRIVATE = [ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
                                            "169.254.0.0/16")]


def description():
    lines = ["site %s delay=20" % name for name in ("boot", "relay", "stranger")]
    lines += ["site crowd hosts=%d delay=20" % CROWD]
    lines += ["site peer%d nat=%s delay=20 lan=192.168.%d.0/24" % (i, KINDS[i % len(KINDS)], 20 + i)
              for i in range(PEERS)]
    lines += ["site home nat=port-restricted sessions=%d hosts=2 delay=20" % SESSIONS]
    return describe.parse("\n".join(lines), "manners")


class Capture(threading.Thread):
    """Where a host sends packets."""

    def __init__(self, host):
        super().__init__(daemon=True)
        with host.inside():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_ALL))
        self.sock.bind(("lan0", ETH_ALL))
        self.sock.settimeout(0.5)
        self.own = ipaddress.ip_network(host.router.lan)
        self.remotes, self.private, self.running = set(), {}, True

    def run(self):
        while self.running:
            try:
                data, origin = self.sock.recvfrom(65536)
            except socket.timeout:
                continue
            if origin[2] != socket.PACKET_OUTGOING or origin[1] != inject.ETH_IPV4 or len(data) < 20:
                continue
            dst = ipaddress.ip_address(data[16:20])
            self.remotes.add(dst)
            if dst not in self.own and any(dst in net for net in PRIVATE):
                self.private[str(dst)] = self.private.get(str(dst), 0) + 1


class Scene:
    def __init__(self, net, args):
        self.net, self.args, self.nodes = net, args, {}
        self.busy_to_the_end = False
        both = [word for t in ADDR for word in ("--listen", ADDR[t] % ("0.0.0.0", PORT))]
        boot = self.start("boot", "--bootstrap", "none", *both)
        self.boot = [word for t in ADDR for word in ("--bootstrap", boot.address(t))]
        self.start("relay", "--relay", "on", *both, *self.boot)
        for name in net.hosts:
            if name not in ("boot", "relay", "home", "home-2"):
                # Those at home tell everybody of their private addresses, too.
                lan = ["--public", net.hosts[name].router.lan] if name.startswith("peer") else []
                self.start(name, *both, *self.boot, *lan)
        self.start("home", *both, *self.boot, "--nat-sessions", str(SESSIONS))

    def start(self, name, *flags):
        node = Node(self.net.hosts[name], self.args, self.args.logs or self.net.dir, list(flags)).wait_ready()
        self.nodes[name] = node
        return node

    def busy(self, until):
        """Looks up and connects, one after the other, as long as told."""
        home, others = self.nodes["home"], [n for name, n in self.nodes.items() if name != "home"]
        chance, counts = random.Random(1), [0, 0]
        while time.monotonic() < until:
            peer = chance.choice(others).peer
            for at, method in enumerate(("find", "connect")):
                try:
                    home.call(method, timeout=5, peer=peer)
                    counts[at] += 1
                except rpc.RpcError:
                    pass    # a refusal for want of room is what is asked for
        print("found %d times, connected %d times" % tuple(counts), flush=True)
        self.busy_to_the_end = True

    def close(self):
        for node in self.nodes.values():
            node.stop()
        for node in self.nodes.values():
            node.process.wait(30)


def neighbour_streams(net, observers):
    host, streams = net.hosts["home-2"], []
    for i in range(NEIGHBOUR_STREAMS):
        streams.append(probe.observe_tcp(host, 42000 + i, (observers.hosts[i % 2].addr, probe.PORTS[0]))[1])
    return streams


def alive(streams):
    count = 0
    for stream in streams:
        try:
            stream.sendall(b"still there?\n")
            count += probe.read_line(stream) == "still there?"
        except OSError:
            pass
    return count


def inside(args):
    checks = []
    with Net(description(), args.link) as net:
        observers = probe.Observers([net.hosts["stranger"], net.hosts["boot"]])
        streams = neighbour_streams(net, observers)
        capture = Capture(net.hosts["home"])
        capture.start()
        scene = Scene(net, args)
        end = time.monotonic() + 60 * args.minutes
        worker = threading.Thread(target=scene.busy, args=(end,))
        worker.start()
        held = []
        while worker.is_alive():
            held.append(int(net.routers["home"].link.tell("sessions " + net.hosts["home"].addr)[1]))
            worker.join(STEP_SECONDS)
        print("open sessions of the node: most %d, last %d; it sent to %d addresses" %
              (max(held), held[-1], len(capture.remotes)))
        checks.append(("it was kept busy to the end", scene.busy_to_the_end))
        checks.append(("at most %d sessions" % SHARE, max(held) <= SHARE))
        checks.append(("the neighbour's connections live on", alive(streams) == NEIGHBOUR_STREAMS))
        print("packets to private addresses off the link: %s" % (capture.private or "none"))
        checks.append(("no packet to a private address off the link", not capture.private))
        capture.running = False
        scene.close()
        observers.close()
    for name, good in checks:
        if not good:
            print("FAILED: " + name)
    print("%d passed, %d failed, 0 skipped" % (sum(g for _, g in checks), sum(not g for _, g in checks)))
    return 0 if all(good for _, good in checks) else 1


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("--minutes", type=float, default=10)
    p.add_argument("--logs", default="")
    args = p.parse_args()
    args.link = os.path.join(os.path.abspath(args.build), "tests/natlab/lab_link")
    args.warren = os.path.join(os.path.abspath(args.build), "tools/warren")
    return box.test("natlab/manners", 1, lambda: inside(args))


if __name__ == "__main__":
    sys.exit(main())
