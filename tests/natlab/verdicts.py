#!/usr/bin/env python3
"""What nodes find out about themselves, against the truth of the laboratory.

usage: verdicts.py BUILD_DIR [--transport quic,tcp] [--only SITE,SITE] [--logs DIR]

A node behind every kind of NAT of kinds_test.py, and eight in the open on networks of their own. Reachability has to be
right within 30 s of the start; what `check` says of mapping, filter, allocation and hairpin has to be right when it says
anything, and has to say it within a minute.
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
from nodes import ADDR, PORT, Node

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

Site = collections.namedtuple("Site", "name mapping filter ports hairpin reachable")


def sites(only):
    for name, _, wanted, _ in kinds_test.SITES:
        if only and name not in only:
            continue
        mapping, filter_, ports, _, hairpin = wanted.split()
        yield Site(name, mapping, filter_, ports, hairpin, filter_ == "eif")


def description():
    lines = ["site %s delay=20" % name for name in PUBLIC + STRANGERS]
    lines += ["carrier isp delay=20", "carrier mobile nat=symmetric-random delay=20"]
    lines += ["site %s %s" % (name, words.replace("busy=pub", "busy=boot") + (
        "" if "behind" in words else " delay=20")) for name, words, *_ in kinds_test.SITES]
    return describe.parse("\n".join(lines), "verdicts")


def wrong_axes(site, found):
    """What a check says that is not so; and what it does not say."""
    wrong, unknown = [], []
    wanted = {"mapping": {WORDS[site.mapping]}, "allocation": {WORDS.get(site.ports, site.ports)},
              "filtering": {WORDS[site.filter]} | ({"none"} if site.mapping == "none" and site.filter == "eif" else set())}
    if site.mapping == "adm":
        wanted["mapping"].add(WORDS["apdm"])    # to know better takes a peer with two ports
    if site.mapping == "none":
        del wanted["allocation"]
    if site.hairpin != "none":
        wanted["hairpin"] = {site.hairpin}
    for axis, values in wanted.items():
        said = found.get(axis, "unknown")
        if said == "unknown":
            unknown.append(axis)
        elif said not in values:
            wrong.append("%s: %s, is %s" % (axis, said, " or ".join(sorted(values))))
    return wrong, unknown


class Run:
    def __init__(self, net, args, transport):
        self.net, self.args, self.transport = net, args, transport
        self.folder = os.path.join(args.logs or net.dir, "verdicts-" + transport)
        self.lock, self.right, self.wrong, self.unknown = threading.Lock(), set(), set(), set()

    def start(self, name, *flags):
        return Node(self.net.hosts[name], self.args, self.folder, list(flags)).wait_ready()

    def run(self):
        """The public nodes listen for one transport only, so that two runs stand side by side."""
        listen = ["--listen", ADDR[self.transport] % ("0.0.0.0", PORT)]
        boot = self.start("boot", "--bootstrap", "none", *listen)
        listen += ["--bootstrap", boot.address(self.transport)]
        nodes = [boot] + [self.start(name, *listen) for name in PUBLIC[1:]]
        known = [word for node in nodes for word in ("--bootstrap", node.address(self.transport))]
        nodes += [self.start(name, "--dht", "off", *listen[:2], *known) for name in STRANGERS]
        threads = []
        for site in sites(self.args.only):
            node = self.start(site.name, "--dht", "client", *listen)
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
        except (rpc.RpcError, OSError) as error:
            said, after, wrong, unknown = "failed: %s" % error, 0, [], []
        with self.lock:
            (self.right if said == wanted else self.wrong).add(site.name)
            if unknown:
                self.unknown.add(site.name)
            print("  %-4s %-10s %-7s after %4.1f s%s%s%s" %
                  (self.transport, site.name, said, after, "" if said == wanted else ", should be " + wanted,
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
            wrong, unknown = wrong_axes(site, node.call("check").get(SECTION[self.transport], {}))
            left = started + CHECK_SECONDS - time.monotonic()
            if not (wrong or unknown) or left <= 0:
                return wrong, unknown
            node.control.wait_event(lambda e: e["event"] == "address-observed", node.control.mark(), min(left, 5))


def inside(args):
    passed = failed = 0
    with Net(description(), args.link) as net:
        runs = [Run(net, args, transport) for transport in args.transport]
        threads = [threading.Thread(target=run.run) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for run in runs:
            count = len(run.right | run.wrong)
            good = len(run.right - run.wrong)
            print("over %s: reachability right on %d of %d sites, nothing wrong on %d, everything known on %d" %
                  (run.transport, len(run.right), count, good, len(run.right - run.wrong - run.unknown)), flush=True)
            passed, failed = (passed + 1, failed) if good >= min(LEAST_RIGHT, count) else (passed, failed + 1)
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("build")
    p.add_argument("--transport", default="quic,tcp")
    p.add_argument("--only", default="")
    p.add_argument("--logs", default="")
    args = p.parse_args()
    args.transport, args.only = args.transport.split(","), {s for s in args.only.split(",") if s}
    args.link = os.path.join(os.path.abspath(args.build), "tests/natlab/lab_link")
    args.warren = os.path.join(os.path.abspath(args.build), "tools/warren")
    reason = box.why_not()
    if reason:
        print("natlab/verdicts skipped: " + reason)
        print("0 passed, 0 failed, %d skipped" % len(args.transport))
        return 0
    return box.run(lambda: inside(args))


if __name__ == "__main__":
    sys.exit(main())
