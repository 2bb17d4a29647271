#!/usr/bin/env python3
"""The laboratory measured by itself: does every kind of NAT behave as its name says?

usage: kinds_test.py BUILD_DIR

Mapping, filtering and allocation over UDP and TCP, hairpin, what strangers get, whether an early packet does harm;
session caps, holes that a RST closes, links; that nothing leads out, and that nothing stays behind.
"""
import os
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import traceback

import box
import command
import describe
import probe
from net import Net

HERE = os.path.dirname(os.path.abspath(__file__))
DELAY_MS = 20
OBSERVERS = ("pub", "near", "far")

# Name, its line in the description, and what has to be measured:
# mapping, filter, ports; what an unsolicited packet gets; hairpin; what a packet too early does.
HARMLESS, MOVES = "harmless", "moves the port"
SITES = [
    ("open", "nat=public", "none eif preserve refuse none", HARMLESS),
    ("wall", "nat=firewall", "none apdf preserve drop none", HARMLESS),
    ("wallref", "nat=firewall unsolicited=refuse", "none apdf preserve refuse none", HARMLESS),
    ("cone", "nat=full-cone", "eim eif preserve drop no", HARMLESS),
    ("conehair", "nat=full-cone hairpin=yes", "eim eif preserve drop yes", HARMLESS),
    ("restr", "nat=restricted", "eim adf preserve drop no", HARMLESS),
    ("port", "nat=port-restricted", "eim apdf preserve drop no", HARMLESS),
    ("portrand", "nat=port-restricted-random", "eim apdf random drop no", HARMLESS),
    ("refusing", "nat=refusing", "eim apdf preserve refuse no", HARMLESS),
    ("answering", "nat=answering", "eim apdf preserve refuse no", MOVES),
    ("symseq", "nat=symmetric-sequential", "apdm apdf sequential drop no", MOVES),
    ("sympres", "nat=symmetric-preserving busy=pub", "apdm apdf preserve drop no", MOVES),
    ("symrand", "nat=symmetric-random", "apdm apdf random drop no", MOVES),
    ("carried", "nat=port-restricted behind=isp", "eim apdf preserve drop no", HARMLESS),
    ("phone", "nat=public behind=mobile", "apdm apdf random drop no", MOVES),
    # The translator of user space, also where the kernel could do it.
    ("ucone", "nat=full-cone seed=1", "eim eif preserve drop no", HARMLESS),
    ("urestr", "nat=restricted seed=1", "eim adf preserve drop no", HARMLESS),
    ("uport", "nat=port-restricted hairpin=yes", "eim apdf preserve drop yes", HARMLESS),
    ("uref", "nat=refusing seed=1", "eim apdf preserve refuse no", HARMLESS),
    ("useq", "mapping=eim nat=symmetric-sequential step=2", "eim apdf sequential drop no", HARMLESS),
    ("uadm", "mapping=adm nat=symmetric-random", "adm apdf random drop no", MOVES),
]
AXES = ("mapping", "filter", "ports")

DESCRIPTION = "\n".join(["site %s delay=%d" % (name, DELAY_MS) for name in OBSERVERS] + [
    "carrier isp delay=%d" % DELAY_MS, "carrier mobile nat=symmetric-random delay=%d" % DELAY_MS] + [
    "site %s %s%s" % (name, words, "" if "behind" in words else " delay=%d" % DELAY_MS)
    for name, words, *_ in SITES] + [
    "site capped sessions=8 nat=port-restricted",
    "site rstclose rst=closes nat=port-restricted",
    "site rstkeep rst=ignored nat=port-restricted",
    "site sim simultaneous=yes nat=port-restricted delay=%d" % DELAY_MS,
    "site simtoo simultaneous=yes nat=port-restricted delay=%d" % DELAY_MS,
    "site nosim simultaneous=no nat=port-restricted delay=%d" % DELAY_MS,
    "site nosimtoo simultaneous=no nat=port-restricted delay=%d" % DELAY_MS,
    "site pooled pool=4 pairing=arbitrary nat=symmetric-random",
    "site noudp udp=blocked nat=port-restricted",
    "site six ipv6=firewall nat=port-restricted",
    "site sixpub ipv6=open nat=public delay=%d" % DELAY_MS])


MAPPED = ["site mapped portmap=igd,pmp,pcp nat=port-restricted",
          "site mappedcgn portmap=pmp,pcp nat=port-restricted behind=isp"]


# What makes no sense, and the words that say so.
WRONG = [
    ("home a", "'home': a line begins with site, carrier, run or start"),
    ("site", "a name is missing"),
    ("site A", "a name is missing"),
    ("site a\nsite a", ":2: there is a place a already"),
    ("site a hosts=2\nsite a-2", ":2: there is a host a-2 already"),
    ("site a nat=cone", "nat=cone: the kinds are public, firewall"),
    ("site a delay", "'delay': words look like delay=20"),
    ("site a delay=1 delay=2", "'delay=2': words look like delay=20, each once"),
    ("site a delay=-1", "delay=-1: a number"),
    ("site a colour=red", "'colour' is not a word for a site"),
    ("site a ports=odd", "ports=odd: it is one of preserve, sequential, random"),
    ("site a behind=isp", "behind=isp: there is no such carrier above this line"),
    ("site b\nsite a behind=b", ":2: behind=b: there is no such carrier"),
    ("site a hosts=0", "hosts=0: a number from 1 to 100"),
    ("site a lan=192.168.1.0/16", "lan=192.168.1.0/16: a network such as"),
    ("site a nat=answering sessions=5", "unsolicited=answer is of the kernel's NAT"),
    ("site a nat=symmetric-sequential portmap=igd", "portmap needs a NAT in the kernel"),
    ("site a nat=symmetric-preserving busy=b", "busy=b: there is no such place"),
    ("run a ls", "run HOST COMMAND: the hosts are none yet"),
    ("site a\nrun a", ":2: run HOST COMMAND: the hosts are a"),
    ("site a\nrun a 'ls", ":2: No closing quotation"),
]


class Checks:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.lock = threading.Lock()

    def check(self, name, got, wanted):
        with self.lock:
            if got == wanted:
                self.passed += 1
            else:
                self.failed += 1
                print("FAILED %s: measured %s, should be %s" % (name, got, wanted), flush=True)

    def attempt(self, name, call, *args):
        try:
            call(*args)
        except Exception:    # whatever it is, it is this check's failure
            with self.lock:
                self.failed += 1
                print("FAILED %s:\n%s" % (name, traceback.format_exc()), flush=True)


def measure_site(checks, host, observers, ports, wanted, early):
    found = probe.Subject(host, observers, ports).measure()
    mapping, filter_, allocation, unsolicited, hairpin = wanted.split()
    for protocol in ("udp", "tcp"):
        for axis, want in zip(AXES, (mapping, filter_, allocation)):
            checks.check("%s %s %s" % (host.name, protocol, axis), found["%s %s" % (protocol, axis)], want)
    checks.check(host.name + " unsolicited", found["unsolicited"], unsolicited)
    checks.check(host.name + " hairpin", found["hairpin"], hairpin)
    checks.check(host.name + " early packet", found["early packet"], early)


def check_descriptions(checks):
    for text, wanted in WRONG:
        try:
            describe.parse(text)
            said = "nothing"
        except describe.Wrong as wrong:
            said = str(wrong)
        checks.check("description %r" % text, wanted in said, True)
    good = describe.parse("carrier c\nsite a behind=c hosts=2 # two\nstart a-2 echo 'a b'")
    checks.check("description: hosts", [name for name, _ in good.hosts()], ["a", "a-2"])
    checks.check("description: commands", good.commands, [("start", "a-2", ["echo", "a b"])])
    said = [command.words_of(place).split() for place in describe.parse(
        "carrier c rate=5\nsite a behind=c hosts=2 nat=full-cone delay=1.5 loss=2 ipv6=open udp=blocked\n"
        "site b lan=10.9.8.0/24 portmap=pcp,igd nat=refusing").places.values()]
    checks.check("description: what --check says", [set(said[i]) >= set(words.split()) for i, words in enumerate((
        "nat=port-restricted rate=5", "nat=full-cone behind=c hosts=2 delay=1.5 loss=2 ipv6=open udp=blocked",
        "nat=refusing lan=10.9.8.0/24 portmap=pcp,igd unsolicited=refuse"))], [True] * 3)
    checks.check("description: what is as usual", [w for w in said[0] + said[1] if w[:4] in ("lan=", "tcp=")], [])


def check_cap(checks, net, observers):
    host = net.hosts["capped"]
    socks = [probe.udp(host, 41000 + i) for i in range(12)]
    for sock in socks:
        sock.sendto(b"?cap", (observers.hosts[0].addr, probe.PORTS[0]))
    probe.round_trips(socks[0], (observers.hosts[0].addr, probe.PORTS[0]))
    checks.check("capped: flows that get an answer", 1 + sum(1 for s in socks[1:] if probe.drain(s)), 8)
    checks.check("capped: sessions", net.routers["capped"].link.tell("sessions"), ["8", "8"])
    net.routers["capped"].restart()
    checks.check("capped: sessions after a restart", net.routers["capped"].link.tell("sessions"), ["0", "0"])
    for sock in socks:
        sock.close()


def check_rst(checks, net, observers, name, wanted):
    """A connection that a public host refuses; then that host calls back from the port it was aimed at."""
    host, public = net.hosts[name], observers.hosts[1]
    mapped, stream = probe.observe_tcp(host, 42000, (public.addr, probe.PORTS[0]))
    target = probe.tcp(public, 0)
    port = target.getsockname()[1]
    with stream, target, probe.udp(host, 42001) as control, probe.tcp(host, 42000, listen=True) as listener:
        with probe.dial(probe.tcp(host, 42000), (public.addr, port)) as refused:
            checks.check(name + ": refused", probe.settled(refused, probe.PATIENCE), 111)
        probe.dial(target, mapped)
        probe.round_trips(control, (public.addr, probe.PORTS[0]))
        checks.check(name + ": the hole is open", bool(select.select([listener], [], [], 0)[0]), wanted)


def check_simultaneous(checks, net, observers, names, wanted):
    """Two homes dial each other at once, from the ports that they dial."""
    hosts = [net.hosts[name] for name in names]
    observer = (observers.hosts[1].addr, probe.PORTS[0])
    seen = [probe.observe_tcp(host, 43000, observer) for host in hosts]
    with probe.udp(hosts[0], 43001) as control, probe.tcp(hosts[0], 43000) as mine, \
            probe.tcp(hosts[1], 43000) as theirs:
        probe.dial(mine, seen[1][0])
        probe.dial(theirs, seen[0][0])
        probe.round_trips(control, observer)
        checks.check("%s and %s: simultaneous open" % names, (probe.settled(mine), probe.settled(theirs)),
                     (0, 0) if wanted else (None, None))
    for _, stream in seen:
        stream.close()


def check_pool(checks, net, observers):
    """Sixteen mappings over four addresses: that all get one address has a chance of 4^-15."""
    host, seen = net.hosts["pooled"], set()
    for i in range(16):
        with probe.udp(host, 44000 + i) as sock:
            seen.add(probe.observe(sock, (observers.hosts[0].addr, probe.PORTS[0]))[0])
    base = host.public.rsplit(".", 1)[0]
    checks.check("pooled: several addresses", len(seen) > 1, True)
    checks.check("pooled: all from the pool", seen <= {"%s.%d" % (base, i) for i in range(2, 6)}, True)


def check_blocked(checks, net, observers):
    host, observer = net.hosts["noudp"], (observers.hosts[0].addr, probe.PORTS[0])
    with probe.udp(host) as sock:
        sock.sendto(b"?", observer)
        _, stream = probe.observe_tcp(host, 0, observer)    # a control on the same path, begun later
        stream.close()
        checks.check("noudp: UDP", probe.drain(sock), [])


def check_ipv6(checks, net):
    """A firewall over IPv6 lets out, and in only what was asked for."""
    inner, outer = net.hosts["six"], net.hosts["sixpub"]
    socks = []
    for host, port in ((inner, 7100), (outer, 7100), (outer, 7101)):
        with host.inside():
            socks.append(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        socks[-1].bind((host.addr6, port))
        socks[-1].settimeout(probe.PATIENCE)
    mine, theirs, stranger = socks
    mine.sendto(b"hello", (outer.addr6, 7100))
    data, peer = theirs.recvfrom(100)
    checks.check("six: goes out", (data, peer[:2]), (b"hello", (inner.addr6, 7100)))
    stranger.sendto(b"uninvited", peer)    # the answer takes the same way behind it
    theirs.sendto(b"answer", peer)
    checks.check("six: the first that comes in", mine.recvfrom(100)[0], b"answer")
    for sock in socks:
        sock.close()


def ask_gateway(sock, request):
    """Until the daemon, which may just be starting, answers."""
    sock.settimeout(0.3)
    end = time.monotonic() + probe.PATIENCE
    while time.monotonic() < end:
        try:
            sock.sendto(request, ("192.168.1.1", 5351))
            return sock.recv(100)
        except (socket.timeout, ConnectionRefusedError):
            continue
    raise TimeoutError("the gateway does not answer")


def nat_pmp(port):
    return struct.pack(">BBHHHI", 0, 1, 0, port, port, 60)


def pcp(addr, port):
    client = struct.pack(">BBHI10x2s4s", 2, 1, 0, 60, b"\xff\xff", socket.inet_aton(addr))
    return client + struct.pack(">12sB3xHH10x2s4x", b"nonce", socket.IPPROTO_UDP, port, port, b"\xff\xff")


def check_portmap(checks, net, observers):
    """A mapping by NAT-PMP and one by PCP let a stranger in; behind a carrier neither is granted."""
    host = net.hosts["mapped"]
    for name, port, request in (("NAT-PMP", 46000, nat_pmp(46000)), ("PCP", 46001, pcp(host.addr, 46001))):
        with probe.udp(host, port) as sock, probe.udp(observers.hosts[2]) as stranger:
            checks.check("mapped: %s result" % name, ask_gateway(sock, request)[3], 0)
            stranger.sendto(b"mapped", (host.public, port))
            sock.settimeout(probe.PATIENCE)
            checks.check("mapped: through %s" % name, sock.recv(100), b"mapped")
    with net.hosts["mapped"].inside():
        igd = socket.create_connection(("192.168.1.1", 5000), probe.PATIENCE)
    igd.sendall(b"GET /rootDesc.xml HTTP/1.0\r\n\r\n")
    checks.check("mapped: IGD", igd.recv(100).split(b"\r\n")[0], b"HTTP/1.0 200 OK")
    igd.close()
    under = net.hosts["mappedcgn"]
    with probe.udp(under, 46000) as sock:
        checks.check("mappedcgn: NAT-PMP result: network failure", ask_gateway(sock, nat_pmp(46000))[3], 3)
        checks.check("mappedcgn: PCP result: no resources", ask_gateway(sock, pcp(under.addr, 46000))[3], 8)


def check_delay(checks, net, observers):
    """There and back is four times the delay of one link, never less."""
    with probe.udp(net.hosts["port"], 45000) as sock:
        times = []
        for _ in range(5):
            started = time.monotonic()
            probe.round_trips(sock, (observers.hosts[0].addr, probe.PORTS[0]), 1)
            times.append(1000 * (time.monotonic() - started))
    checks.check("delay: below four links' (%.1f ms)" % statistics.median(times), min(times) < 4 * DELAY_MS, False)


def check_closed(checks, net, observers):
    """No way out of the lab."""
    with probe.udp(net.hosts["open"]) as sock, probe.udp(net.hosts["open"]) as control:
        sock.sendto(b"?", ("192.0.2.1", 9))
        probe.round_trips(control, (observers.hosts[0].addr, probe.PORTS[0]))
        checks.check("closed: what comes back from outside", probe.drain(sock), [])
    with net.core.inside():
        devices = {name for _, name in socket.if_nameindex()}
    checks.check("closed: the core's devices", {name for name in devices if not name.startswith("w")}, {"lo"})


def inside(link, checks):
    started = time.monotonic()
    portmap = box.find("miniupnpd")
    if not portmap:
        print("the port mapping daemon was skipped: needs miniupnpd (package miniupnpd-nftables)")
        checks.skipped += 1
    text = "\n".join([DESCRIPTION] + (MAPPED if portmap else []))
    with Net(describe.parse(text, "kinds_test"), link) as net:
        print("%d namespaces up in %.1f s" % (len(net.spaces()), time.monotonic() - started), flush=True)
        observers = probe.Observers([net.hosts[name] for name in OBSERVERS])
        jobs = [(name, measure_site, checks, net.hosts[name], observers, range(50000 + 100 * i, 50100 + 100 * i),
                 wanted, early) for i, (name, _, wanted, early) in enumerate(SITES)]
        jobs += [("cap", check_cap, checks, net, observers),
                 ("rst closes", check_rst, checks, net, observers, "rstclose", False),
                 ("rst ignored", check_rst, checks, net, observers, "rstkeep", True),
                 ("simultaneous", check_simultaneous, checks, net, observers, ("sim", "simtoo"), True),
                 ("no simultaneous", check_simultaneous, checks, net, observers, ("nosim", "nosimtoo"), False),
                 ("pool", check_pool, checks, net, observers), ("blocked", check_blocked, checks, net, observers),
                 ("ipv6", check_ipv6, checks, net), ("delay", check_delay, checks, net, observers)]
        if portmap:
            jobs.append(("portmap", check_portmap, checks, net, observers))
        threads = [threading.Thread(target=checks.attempt, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        checks.attempt("closed", check_closed, checks, net, observers)
        observers.close()
    print("measured %d sites in %.1f s" % (len(SITES), time.monotonic() - started), flush=True)
    print("%d passed, %d failed, %d skipped" % (checks.passed, checks.failed, checks.skipped))
    return 1 if checks.failed else 0


def marked(mark):
    """Processes that carry a mark in their environment, anywhere on this machine."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/environ" % pid, "rb") as file:
                if mark in file.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def check_logs(checks, build):
    """Of two that are started on a host each has a log of its own, though they are one program."""
    text = "site a\nstart a echo one\nstart a echo two\nrun a sh -c 'sleep 0.5; cd; head echo.log echo-2.log'\n"
    lab = subprocess.run([sys.executable, os.path.join(HERE, "command.py"), "--link", link_of(build), "-"],
                         input=text, capture_output=True, text=True, check=False)
    checks.check("logs", lab.stdout.split(), "==> echo.log <== one ==> echo-2.log <== two".split())


def check_killed(checks, build):
    """A laboratory that is killed outright leaves no process behind."""
    mark = b"WARREN_LAB_MARK=%d-%d" % (os.getpid(), time.monotonic_ns())
    name, value = mark.decode().split("=")
    lab = subprocess.Popen([sys.executable, os.path.join(HERE, "command.py"), "--link", link_of(build), "/dev/stdin"],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True, env={**os.environ, name: value})
    lab.stdin.write("site a delay=1\nstart a sleep 1000\nrun a echo running\nrun a sleep 1000\n")
    lab.stdin.close()
    while "running" not in lab.stdout.readline():
        pass
    checks.check("killed: processes before", len(marked(mark)) >= 4, True)
    lab.send_signal(signal.SIGKILL)
    lab.wait()
    end = time.monotonic() + probe.PATIENCE
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.05)
    checks.check("killed: processes left", marked(mark), [])
    lab.stdout.close()


def link_of(build):
    return os.path.join(os.path.abspath(build), "tests/natlab/lab_link")


def main():
    if len(sys.argv) != 2:
        print(__doc__.split("\n")[2], file=sys.stderr)
        return 2
    reason = box.why_not()
    if reason:
        print("natlab/kinds skipped: " + reason)
        print("0 passed, 0 failed, %d skipped" % len(SITES))
        return 0
    checks = Checks()
    checks.attempt("descriptions", check_descriptions, checks)
    checks.attempt("logs", check_logs, checks, sys.argv[1])
    checks.attempt("killed", check_killed, checks, sys.argv[1])
    return box.run(lambda: inside(link_of(sys.argv[1]), checks))


if __name__ == "__main__":
    sys.exit(main())
