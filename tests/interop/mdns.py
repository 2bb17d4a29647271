#!/usr/bin/env python3
"""Multicast DNS between test peers: two network namespaces on one cable, every implementation against warren.

    mdns.py                  all that is available here
    mdns.py --impl go,rust   only these against warren
    mdns.py --require go     one of these that cannot be built is a failure, not a skip

Each case starts one peer, then the other, and waits until each has heard of the other and until warren can connect
to what it heard. Exit code 77 when the machine cannot make network namespaces. The last line is
'N passed, N failed, N skipped'.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback

import peerproc
from peerproc import Peer, eventually

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "natlab"))
import lab  # noqa: E402

NET4, NET6 = "10.77.0.%d", "fd77::%d"
PATIENCE = 20  # seconds to hear of each other: rust asks anew after 10 at the latest, js every 10


def ip(*args):
    subprocess.run(["ip"] + list(args), check=True)


class Cable:
    """Two namespaces and a cable between them, with addresses of every kind."""

    def __enter__(self):
        self.lab = lab.Lab(None)
        self.lab.__enter__()
        try:
            self.hosts = [self.lab.host("mdns%d" % i) for i in range(2)]
            a, b = (h.ns for h in self.hosts)
            ip("link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b)
            for i, host in enumerate(self.hosts):
                ip("-n", host.ns, "addr", "add", NET4 % (i + 1) + "/24", "dev", "eth0")
                ip("-n", host.ns, "addr", "add", NET6 % (i + 1) + "/64", "dev", "eth0", "nodad")
                ip("-n", host.ns, "link", "set", "dev", "eth0", "up")
                # Programs that leave the interface of their multicast to the routing table find it.
                ip("-n", host.ns, "route", "add", "224.0.0.0/4", "dev", "eth0")
        except BaseException:
            self.lab.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        self.lab.__exit__(*exc)

    def peer(self, impl, side, listen, extra=()):
        program = peerproc.programs()[0][impl]
        args = self.hosts[side].command([program, "--mdns", "--listen", listen] + list(extra))
        return Peer(impl, args[1:], path=args[0], name="%s%d" % (impl, side))


def heard(of, by):
    return of.id() in by.call("mdns-peers")["peers"]


def hear_each_other(cable, first, second, listen):
    with cable.peer(first, 0, listen % 1) as a:
        time.sleep(0.5)  # one of them has been there for a while
        with cable.peer(second, 1, listen % 2) as b:
            for by, of in ((a, b), (b, a)):
                try:
                    eventually(lambda: heard(of, by), timeout=PATIENCE, step=0.2)
                except AssertionError:
                    raise AssertionError("%s has not heard of %s" % (by.name, of.name))
            for peer, other in ((a, b), (b, a)):
                if peer.impl == "warren":
                    peer.call("connect", addr=other.addr())
                    assert peer.call("ping", peer=other.id(), count=1)["rtts"]
                    break


def private_networks_are_apart(cable, keys):
    with cable.peer("warren", 0, "/ip4/10.77.0.1/tcp/0", ["--psk", keys[0]]) as a:
        with cable.peer("warren", 1, "/ip4/10.77.0.2/tcp/0", ["--psk", keys[1]]) as b:
            if keys[0] == keys[1]:
                eventually(lambda: heard(b, a) and heard(a, b), timeout=PATIENCE, step=0.2)
                return
            time.sleep(5)
            assert not heard(b, a) and not heard(a, b)


def write_key(path, byte):
    with open(path, "w") as f:
        f.write("/key/swarm/psk/1.0.0/\n/base16/\n" + "%02x" % byte * 32 + "\n")
    return path


def cases(impls, folder):
    for impl in impls:
        yield "%s, then warren" % impl, lambda c, i=impl: hear_each_other(c, i, "warren",
                                                                          "/ip4/10.77.0.%d/tcp/0")
        if impl != "warren":
            yield "warren, then %s" % impl, lambda c, i=impl: hear_each_other(c, "warren", i,
                                                                              "/ip4/10.77.0.%d/tcp/0")
    yield "over IPv6", lambda c: hear_each_other(c, "warren", "warren", "/ip6/fd77::%d/tcp/0")
    keys = [write_key(os.path.join(folder, "key%d" % i), i) for i in range(2)]
    yield "one private network", lambda c: private_networks_are_apart(c, [keys[0], keys[0]])
    yield "two private networks", lambda c: private_networks_are_apart(c, keys)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impl", default=",".join(peerproc.IMPLS))
    parser.add_argument("--require", default="")
    options = parser.parse_args()
    why = lab.why_not()
    paths, reasons = ({}, {}) if why else peerproc.programs()
    if why or "warren" not in paths:
        print("skipped: " + (why or reasons["warren"]))
        print("0 passed, 0 failed, 1 skipped")
        return 77
    passed = failed = skipped = 0
    impls = []
    for impl in options.impl.split(","):
        if impl in paths:
            impls.append(impl)
            continue
        required = impl in options.require.split(",") or impl in peerproc.broken
        print("%s %s: %s" % ("failed " if required else "skipped", impl, reasons.get(impl, "unknown")))
        failed, skipped = failed + required, skipped + (not required)
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases(impls, folder):
            started = time.monotonic()
            try:
                with Cable() as cable:
                    case(cable)
                passed += 1
                print("passed  %-28s %5.1f s" % (name, time.monotonic() - started), flush=True)
            except Exception:
                failed += 1
                print("failed  %-28s %5.1f s" % (name, time.monotonic() - started))
                traceback.print_exc(file=sys.stdout)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
