#!/usr/bin/env python3
"""Port mapping against a real router, and against some that lie: a warren node at home, miniupnpd in front of it.

    portmap.py BUILD_DIR [NAME ...]

Each story is a site of its own in one laboratory (net.py): the protocols apart, an IPv6 pinhole, a router that
restarts, one that promises and does nothing, one that stands behind a carrier, one that knows only permanent
mappings. Whether a mapping is there is asked from outside, by TCP and by QUIC; that nothing gets in without it is
seen first. Prints "N passed, N failed, N skipped" at the end.
"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import box
import describe
from net import Net

PATIENCE = 60          # seconds; for what has to come, on a busy machine
RESTART_MAX = 10       # seconds from the router's announcement to the mapping made anew
PORT = 4001
PCP_PORT = 5351
ANNOUNCE_PORT = 5350

DESCRIPTION = """
site watcher nat=public ipv6=open
site pcp nat=port-restricted portmap=pcp
site pmp nat=port-restricted portmap=pmp
site igd nat=port-restricted portmap=igd
site off nat=port-restricted
site six nat=port-restricted portmap=pcp ipv6=open
site sixth nat=port-restricted portmap=igd ipv6=open
site back nat=port-restricted portmap=pcp
site liar nat=port-restricted
site zero nat=port-restricted
site nested nat=port-restricted
carrier cgn
site behind nat=port-restricted behind=cgn
site perm nat=port-restricted
site stray nat=port-restricted
"""


class Failure(Exception):
    pass


class Node:
    """A warren node; its log lines about port mapping are kept with the instant they came."""

    def __init__(self, program, host, *flags):
        self.dir = tempfile.mkdtemp(prefix="warren-portmap-")
        self.host, self.program, self.lines = host, program, []
        self.control = os.path.join(self.dir, "control.sock")
        self.news = threading.Condition()
        self.process = host.popen(
            [program, "run", "--data", os.path.join(self.dir, "data"), "--control", self.control, "--network", "lab",
             "--bootstrap", "none", "--no-mdns", "--dht", "off", "--log", "info", *flags,
             "--listen", "/ip4/0.0.0.0/udp/%d/quic-v1" % PORT, "--listen", "/ip4/0.0.0.0/tcp/%d" % PORT,
             "--listen", "/ip6/::/udp/%d/quic-v1" % PORT, "--listen", "/ip6/::/tcp/%d" % PORT],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        for line in self.process.stdout:
            if line.startswith("ready"):
                break

    def read(self):
        for line in self.process.stderr:
            with self.news:
                self.lines.append((time.monotonic(), line.rstrip()))
                self.news.notify_all()

    def wait(self, *words, after=0.0, count=1, patience=PATIENCE):
        """The count-th line since `after` that has all the words: (instant, line)."""
        end = time.monotonic() + patience
        with self.news:
            while True:
                found = [l for l in self.lines if l[0] >= after and all(w in l[1] for w in words)]
                if len(found) >= count:
                    return found[count - 1]
                if time.monotonic() > end or self.process.poll() is not None:
                    raise Failure("no line with %s in:\n%s" % (" ".join(words), self.text()))
                self.news.wait(0.2)

    def text(self):
        return "\n".join(line for _, line in self.lines)

    def ask(self, *command):
        done = self.host.run([self.program, *command, "--node", self.control], capture_output=True, text=True)
        return done.stdout

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(PATIENCE) != 0:
            raise Failure("the node ended with %d:\n%s" % (self.process.returncode, self.text()))
        self.process.stdout.close()


# ---- from outside

def tcp_gets_in(watcher, addr, seconds=3.0):
    """Whoever answers says multistream's name."""
    family = socket.AF_INET6 if ":" in addr else socket.AF_INET
    hello = b"\x13/multistream/1.0.0\n"
    with watcher.inside():
        sock = socket.socket(family, socket.SOCK_STREAM)
    with sock:
        sock.settimeout(seconds)
        try:
            sock.connect((addr, PORT))
            sock.sendall(hello)
            return sock.recv(len(hello)) == hello
        except OSError:
            return False


def quic_gets_in(watcher, addr, seconds=3.0):
    """A first packet of a version that nobody speaks is answered with a list of those that are."""
    family = socket.AF_INET6 if ":" in addr else socket.AF_INET
    packet = b"\xc0\x0b\x0b\x0b\x0b\x08" + b"d" * 8 + b"\x08" + b"s" * 8 + bytes(1200)
    with watcher.inside():
        sock = socket.socket(family, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(seconds / 3)
        for _ in range(3):
            try:
                sock.sendto(packet, (addr, PORT))
                return sock.recv(2000)[1:5] == bytes(4)
            except OSError:
                continue
    return False


def must(what, happened):
    if not happened:
        raise Failure(what)


def expect_in(watcher, addr):
    must("TCP gets in", tcp_gets_in(watcher, addr))
    must("QUIC gets in", quic_gets_in(watcher, addr))


def expect_out(watcher, addr):
    must("TCP stays out", not tcp_gets_in(watcher, addr))
    must("QUIC stays out", not quic_gets_in(watcher, addr))


def rules_of(router):
    return router.run(["nft", "list", "table", "inet", "miniupnpd"], capture_output=True, text=True).stdout


# ---- routers that answer as they please

class Fake:
    """A router's port mapping in a few lines: `answer` makes an answer out of a request, or None."""

    def __init__(self, router, answer):
        self.answer, self.requests = answer, []
        with router.inside():
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sock.bind(("0.0.0.0", PCP_PORT))
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(2000)
                if not data:
                    return
                self.requests.append(data)
                answer = self.answer(data)
                if answer:
                    self.sock.sendto(answer, peer)
            except OSError:
                return

    def close(self):
        wake(self.sock)
        self.thread.join()
        self.sock.close()


def wake(sock):
    """Whoever waits in another thread for something to come gets up; a socket that is closed only is waited for on."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass    # datagrams have no connection to shut; the waiter wakes nevertheless


def pcp_answer(request, external, lifetime=7200, result=0, epoch=1000):
    if request[0] != 2:
        return b"\x02" + bytes([128 | request[1]]) + b"\0\1" + struct.pack("!II", 0, epoch) + bytes(12)
    head = bytes([2, 128 | request[1], 0, result]) + struct.pack("!II", lifetime, epoch) + bytes(12)
    if request[1] == 0:
        return head[:3] + b"\0" + head[4:]
    internal = request[40:42]
    return head + request[24:40] + internal + internal + bytes(10) + b"\xff\xff" + socket.inet_aton(external)


# ---- stories: each gets (lab, program)

def mapped(lab, program, site, protocol):
    host, router, watcher = lab.hosts[site], lab.routers[site], lab.hosts["watcher"]
    control = Node(program, host, "--no-portmap")
    expect_out(watcher, router.outside)
    control.stop()
    node = Node(program, host)
    for kind in ("udp", "tcp"):
        node.wait("mapped", "protocol=" + protocol, "%d/%s" % (PORT, kind),
                  "external=%s:%d" % (router.outside, PORT), "reason=mapped")
    expect_in(watcher, router.outside)
    rows = json.loads(node.ask("check", "--json"))["mappings"]
    told = sorted((r["transport"], r["external"], r["code"]) for r in rows if r["protocol"] == protocol and "port" in r)
    must("check tells of it: %s" % rows,
         told == [(kind, "%s:%d" % (router.outside, PORT), "mapped") for kind in ("tcp", "udp")])
    must("a promise is not announced before somebody got through", router.outside not in node.ask("id", "--json"))
    must("the router has it", str(PORT) in rules_of(router))
    node.stop()
    must("the router has it no more:\n" + rules_of(router), gone(router))


def gone(router):
    end = time.monotonic() + PATIENCE
    while str(PORT) in rules_of(router):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def pcp(lab, program):
    mapped(lab, program, "pcp", "pcp")


def nat_pmp(lab, program):
    # miniupnpd has one switch for both: what begins with PCP's version is not let in.
    router = lab.routers["pmp"]
    router.run(["nft", "insert rule ip lab input udp dport %d @th,64,8 2 drop" % PCP_PORT], check=True)
    mapped(lab, program, "pmp", "nat-pmp")


def igd(lab, program):
    mapped(lab, program, "igd", "upnp")


def switched_off(lab, program):
    """With --no-portmap nothing is asked for; without it the first question comes before the node is ready."""
    fake = Fake(lab.routers["off"], lambda request: None)
    node = Node(program, lab.hosts["off"], "--no-portmap")
    node.ask("status")
    node.stop()
    unasked = len(fake.requests)
    control = Node(program, lab.hosts["off"])
    control.ask("status")
    control.stop()
    fake.close()
    must("no packet to the router: %d" % unasked, unasked == 0)
    must("the control asks", len(fake.requests) > 0)


def pinhole(lab, program):
    """Asked for by PCP."""
    pinholed(lab, program, "six", "pcp")
    # Asked for both to be shut; miniupnpd 2.3.1 sometimes says it did so and keeps one of the two rules.
    for number in (6, 17):
        must("removal of protocol %d is asked for" % number,
             said(lab, "six", "is_fw=1 addr=%s iport=%d proto=%d" % (lab.hosts["six"].addr6, PORT, number)))


def pinhole_upnp(lab, program):
    """Asked for by UPnP. miniupnpd speaks PCP over IPv6 whatever it is told: that is not let in."""
    lab.routers["sixth"].run(["nft", "-f", "-"], input=NO_PCP, text=True, check=True)
    pinholed(lab, program, "sixth", "upnp")
    must("both are removed", said(lab, "sixth", "successfully removed", 2))
    expect_out(lab.hosts["watcher"], lab.hosts["sixth"].addr6)


NO_PCP = """
table ip6 silence {
    chain input {
        type filter hook input priority -10; policy accept;
        udp dport %d drop
    }
}
""" % PCP_PORT


def said(lab, site, words, count=1):
    """Does the router's daemon say so, so often?"""
    end = time.monotonic() + PATIENCE
    while True:
        with open(os.path.join(lab.dir, lab.routers[site].name + ".log"), encoding="utf-8", errors="replace") as file:
            if file.read().count(words) >= count:
                return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def pinholed(lab, program, site, protocol):
    host, router, watcher = lab.hosts[site], lab.routers[site], lab.hosts["watcher"]
    rules = 'add rule inet miniupnpd forward ct state established,related accept\n' \
            'add rule inet miniupnpd forward iifname "wan" meta nfproto ipv6 meta l4proto { tcp, udp } drop\n'
    control = Node(program, host, "--no-portmap")
    expect_in(watcher, host.addr6)    # without a firewall
    router.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    expect_out(watcher, host.addr6)
    control.stop()
    node = Node(program, host)
    for kind in ("udp", "tcp"):
        node.wait("mapped", "protocol=" + protocol, "%d/%s" % (PORT, kind), "external=[%s]:%d" % (host.addr6, PORT))
    expect_in(watcher, host.addr6)
    node.stop()


def restart(lab, program):
    """The router loses everything and says so as it comes up again."""
    host, router, watcher = lab.hosts["back"], lab.routers["back"], lab.hosts["watcher"]
    node = Node(program, host)
    for kind in ("udp", "tcp"):
        node.wait("mapped", "%d/%s" % (PORT, kind))
    expect_in(watcher, router.outside)
    time.sleep(3)    # its count of seconds has to have something to fall back from
    daemon = router.processes.pop()
    daemon.terminate()
    daemon.wait()
    for name in ("prerouting_miniupnpd", "postrouting_miniupnpd", "miniupnpd"):
        router.run(["nft", "flush", "chain", "inet", "miniupnpd", name], check=True)
    router.restart()
    expect_out(watcher, router.outside)
    began = time.monotonic()
    lab.start_portmap(router)
    told, _ = node.wait("router restarted", after=began)
    end = time.monotonic() + PATIENCE
    while not tcp_gets_in(watcher, router.outside, 1.0) and time.monotonic() < end:
        pass
    took = time.monotonic() - began
    expect_in(watcher, router.outside)
    print("  mapped again %.1f s after the router came up, %.1f s after it was noticed" %
          (took, took - (told - began)))
    must("within %d s: %.1f" % (RESTART_MAX, took), took <= RESTART_MAX)
    node.stop()


def liar(lab, program):
    """Grants everything and does nothing."""
    router, watcher = lab.routers["liar"], lab.hosts["watcher"]
    fake = Fake(router, lambda request: pcp_answer(request, router.outside))
    node = Node(program, lab.hosts["liar"])
    node.wait("mapped", "protocol=pcp", "external=%s:%d" % (router.outside, PORT))
    expect_out(watcher, router.outside)
    must("not announced: " + node.ask("id", "--json"), router.outside not in node.ask("id", "--json"))
    node.stop()
    fake.close()


def promises_of_nothing(lab, program):
    """A lifetime of 0, and an outside address that is none."""
    router = lab.routers["zero"]
    fake = Fake(router, lambda request: pcp_answer(request, router.outside, lifetime=0))
    node = Node(program, lab.hosts["zero"])
    node.wait("no mapping", "pcp=error")
    node.stop()
    fake.answer = lambda request: pcp_answer(request, "0.0.0.0")
    node = Node(program, lab.hosts["zero"])
    node.wait("mapped", "reason=no-network")
    must("not in the address book", "mapped" not in node.ask("status", "--json"))
    node.stop()
    fake.close()


def nested(lab, program):
    """Result 12: another NAT on the way to the server."""
    fake = Fake(lab.routers["nested"], lambda request: pcp_answer(request, "11.0.0.1", result=12))
    node = Node(program, lab.hosts["nested"])
    node.wait("no mapping", "pcp=nested-nat")
    node.stop()
    fake.close()


def carrier(lab, program):
    """The router's own outside address is the carrier's."""
    router = lab.routers["behind"]
    fake = Fake(router, lambda request: pcp_answer(request, router.outside))
    node = Node(program, lab.hosts["behind"])
    node.wait("mapped", "external=%s:%d" % (router.outside, PORT), "reason=carrier-nat")
    must("not in the address book", router.outside not in node.ask("status", "--json"))
    node.stop()
    fake.close()


def carrier_real(lab, program):
    """miniupnpd in the same place finds its address out for itself and refuses."""
    router = lab.routers["behind"]
    path = os.path.join(lab.dir, "behind-real.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write("ext_ifname=wan\nlistening_ip=lan\nhttp_port=5000\nenable_natpmp=yes\nenable_upnp=yes\n"
                   "upnp_table_name=miniupnpd\nupnp_nat_table_name=miniupnpd\nmin_lifetime=5\nsecure_mode=yes\n"
                   "ipv6_disable=yes\nuuid=00000000-0000-0000-0000-000000000099\n"
                   "allow 1024-65535 %s 1024-65535\n" % router.lan)
    daemon = router.popen([box.find("miniupnpd"), "-d", "-f", path, "-P", path + ".pid"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    node = Node(program, lab.hosts["behind"])
    node.wait("portmap", "no-network")
    must("not in the address book", router.outside not in node.ask("status", "--json"))
    node.stop()
    daemon.terminate()
    daemon.wait()


# ---- UPnP of our own making

class FakeIgd:
    """SSDP, a description and SOAP: a router that knows only permanent mappings, and has 4001 taken."""

    def __init__(self, router, location=None):
        self.mappings, self.calls, self.searches = {}, [], 0
        self.addr, self.outside = router.lan_addr(1), router.outside
        self.location = location or "http://%s:5001/desc.xml" % self.addr
        with router.inside():
            self.ssdp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.ssdp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.ssdp.bind(("", 1900))
            self.ssdp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                                 socket.inet_aton("239.255.255.250") + socket.inet_aton(self.addr))
            self.http = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.http.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.http.bind((self.addr, 5001))
            self.http.listen(8)
        self.threads = [threading.Thread(target=serve) for serve in (self.serve_ssdp, self.serve_http)]
        for thread in self.threads:
            thread.start()

    def serve_ssdp(self):
        while True:
            try:
                data, peer = self.ssdp.recvfrom(2000)
            except OSError:
                return
            if not data:
                return
            if b"InternetGatewayDevice:1" not in data:
                continue
            self.searches += 1
            self.ssdp.sendto(("HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:schemas-upnp-org:device:"
                              "InternetGatewayDevice:1\r\nUSN: uuid:1\r\nEXT:\r\nSERVER: x\r\nLOCATION: %s\r\n\r\n"
                              % self.location).encode(), peer)

    def serve_http(self):
        while True:
            try:
                conn, _ = self.http.accept()
            except OSError:
                return
            with conn:
                conn.settimeout(5)
                try:
                    self.one(conn)
                except (OSError, ValueError):
                    pass

    def one(self, conn):
        data = b""
        while b"\r\n\r\n" not in data:
            data += conn.recv(4000)
        head, body = data.split(b"\r\n\r\n", 1)
        length = re.search(rb"Content-Length: *(\d+)", head, re.I)
        while length and len(body) < int(length.group(1)):
            body += conn.recv(4000)
        status, text = "200 OK", self.description()
        if head.startswith(b"POST"):
            status, text = self.soap(body.decode())
        conn.sendall(("HTTP/1.1 %s\r\nContent-Type: text/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" %
                      (status, len(text), text)).encode())

    def description(self):
        service = "<service><serviceType>urn:schemas-upnp-org:service:%s:1</serviceType><serviceId>urn:x</serviceId>" \
                  "<controlURL>/%s</controlURL><eventSubURL>/e</eventSubURL><SCPDURL>/s</SCPDURL></service>"
        device = "<device><deviceType>urn:schemas-upnp-org:device:%s:1</deviceType>%s</device>"
        wan = device % ("WANConnectionDevice", "<serviceList>%s</serviceList>" % (service % ("WANIPConnection", "wan")))
        cif = "<serviceList>%s</serviceList>" % (service % ("WANCommonInterfaceConfig", "cif"))
        inner = device % ("WANDevice", cif + "<deviceList>%s</deviceList>" % wan)
        return '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">%s</root>' % (
            device % ("InternetGatewayDevice", "<deviceList>%s</deviceList>" % inner))

    def soap(self, body):
        call = re.search(r"<u:(\w+)", body).group(1)
        arg = lambda name: (re.search(r"<%s>(.*?)</%s>" % (name, name), body) or [None, ""])[1]    # noqa: E731
        self.calls.append((call, arg("NewExternalPort"), arg("NewLeaseDuration")))
        key = (arg("NewProtocol"), arg("NewExternalPort"))
        out = ""
        if call == "GetStatusInfo":
            out = "<NewConnectionStatus>Connected</NewConnectionStatus><NewUptime>100</NewUptime>"
        elif call == "GetExternalIPAddress":
            out = "<NewExternalIPAddress>%s</NewExternalIPAddress>" % self.outside
        elif call == "AddPortMapping":
            if arg("NewLeaseDuration") != "0":
                return self.error(725)
            if key[1] == str(PORT):
                return self.error(718)
            self.mappings[key] = arg("NewInternalPort")
        elif call == "DeletePortMapping":
            self.mappings.pop(key, None)
        return "200 OK", self.envelope('<u:%sResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">%s'
                                       "</u:%sResponse>" % (call, out, call))

    def envelope(self, text):
        return '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>%s' \
               "</s:Body></s:Envelope>" % text

    def error(self, code):
        return "500 Internal Server Error", self.envelope(
            "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="
            '"urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode><errorDescription>x</errorDescription>'
            "</UPnPError></detail></s:Fault>" % code)

    def close(self):
        for sock in (self.ssdp, self.http):
            wake(sock)
        for thread in self.threads:
            thread.join()
        self.ssdp.close()
        self.http.close()


def permanent_only(lab, program):
    """Errors 725 and 718: no lifetime, and another port; removed at the end."""
    igd_router = FakeIgd(lab.routers["perm"])
    node = Node(program, lab.hosts["perm"])
    _, line = node.wait("mapped", "protocol=upnp", "%d/tcp" % PORT)
    must("another port than the taken one: " + line, "external=%s:%d " % (igd_router.outside, PORT) not in line)
    must("both ports: %s" % igd_router.mappings, sorted(igd_router.mappings.values()) == [str(PORT)] * 2)
    node.stop()
    must("removed: %s" % igd_router.mappings, not igd_router.mappings)
    igd_router.close()


def stray_location(lab, program):
    """An answer to the search that names another machine makes us call nobody."""
    target = lab.hosts["watcher"]
    with target.inside():
        trap = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        trap.bind((target.addr, 8080))
        trap.listen(4)
    trap.settimeout(0.5)
    igd_router = FakeIgd(lab.routers["stray"], "http://%s:8080/desc.xml" % target.addr)
    node = Node(program, lab.hosts["stray"])
    node.wait("no mapping", "upnp=no-answer")
    node.stop()
    must("it was asked", igd_router.searches > 0)
    try:
        trap.accept()
        raise Failure("the machine that the answer named was called")
    except socket.timeout:
        pass
    trap.close()
    igd_router.close()


STORIES = [pcp, nat_pmp, igd, pinhole, pinhole_upnp, restart, switched_off, liar, promises_of_nothing, nested, carrier, carrier_real,
           permanent_only, stray_location]


def tell(build, names):
    program, passed, failed = os.path.join(build, "tools/warren"), 0, 0
    with Net(describe.parse(DESCRIPTION, "portmap"), os.path.join(build, "tests/natlab/lab_link")) as lab:
        for story in STORIES:
            if names and story.__name__ not in names:
                continue
            began = time.monotonic()
            try:
                story(lab, program)
                passed += 1
                print("portmap/%s ok %.1f s" % (story.__name__, time.monotonic() - began), flush=True)
            except Exception as error:    # noqa: BLE001, whatever it was, the other stories are told
                failed += 1
                print("portmap/%s FAILED: %s: %s" % (story.__name__, type(error).__name__, error), flush=True)
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    return 1 if failed else 0


def main():
    if len(sys.argv) < 2:
        print(__doc__.split("\n")[2], file=sys.stderr)
        return 2
    lacks = None if box.find("miniupnpd") else "needs miniupnpd (package miniupnpd-nftables)"
    return box.test("natlab/portmap", len(STORIES), lambda: tell(os.path.abspath(sys.argv[1]), sys.argv[2:]), lacks)


if __name__ == "__main__":
    sys.exit(main())
