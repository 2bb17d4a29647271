"""The matrix with real nodes: `warren run` in every home, a relay, a bootstrap peer and a stranger in the open.

A try: the holes of the last one are closed; it is proved that a packet from the dialler's endpoint would not reach the
listener's; the dialler connects through the relay; both exchange data over it; then the direct connection has to come
by itself, and data has to flow over it.
"""
import os
import shutil
import socket
import subprocess
import threading
import time

import inject
import probe
import rpc

PORT = 4001                # the same in every home, as in the field
READY_SECONDS = 60
SETTLE_SECONDS = 60        # until every home has a reservation, or knows that it needs none
CONNECT_SECONDS = 20
PUBLIC_NODES = ("relay", "boot", "stranger", "fourth", "fifth", "sixth")
# Connected to those and outside the DHT: whom no home ever talks to, as most of a large network.
STRANGERS = ("strange", "strangest")
UPGRADE_SECONDS = 30       # three attempts, and the pauses between them
QUIET_SECONDS = 8          # nothing was tried for so long, and nothing will be: the last failure is not long past
ATTEMPTS = 3
ADDR = {"quic": "/ip4/%s/udp/%d/quic-v1", "tcp": "/ip4/%s/tcp/%d"}
HANDSHAKE_TRIPS = {"quic": 1, "tcp": 2}
PROTOCOL = {"quic": socket.IPPROTO_UDP, "tcp": socket.IPPROTO_TCP}


class NodeFailed(Exception):
    pass


class Node:
    def __init__(self, host, args, folder, flags, portmap=False, program=None, env=None, again=False):
        self.host, self.name = host, host.name
        self.dir = os.path.join(folder, host.name)
        if not again:    # a new node knows nothing of an earlier run
            shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir, exist_ok=True)
        self.log_path = os.path.join(self.dir, "log")
        command = [program or args.warren, "run", "--data", os.path.join(self.dir, "data"), "--control",
                   os.path.join(self.dir, "sock"), "--network", "lab", "--no-mdns", "--log", "debug",
                   *([] if portmap else ["--no-portmap"]), *flags]
        env = {**os.environ, "HOME": self.dir, "XDG_RUNTIME_DIR": self.dir, "XDG_CONFIG_HOME": self.dir, **(env or {})}
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = host.popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True,
                                      env=env)
        self.peer = self.control = None

    def wait_ready(self):
        for line in self.process.stdout:
            word, value = line.split(None, 1)
            if word == "peer":
                self.peer = value.strip()
            if word == "ready":
                self.control = rpc.Control(value.strip())
                return self
        raise NodeFailed("%s did not start: %s" % (self.name, self.tail()))

    def tail(self, count=5):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return " | ".join(file.read().splitlines()[-count:])

    def call(self, method, timeout=CONNECT_SECONDS, **params):
        return self.control.call(method, timeout, **params)

    def address(self, transport, port=PORT):
        """Of a node in the open."""
        return ADDR[transport] % (self.host.addr, port) + "/p2p/" + self.peer

    def connection(self, peer):
        """The best one to a peer, or None."""
        return next((row for row in self.call("peers")["peers"] if row["peer"] == peer), None)

    def relayed_addresses(self):
        return [a["addr"] for a in self.call("status")["addresses"] if a["source"] == "relayed"]

    def drop(self, peer):
        try:
            self.call("disconnect", peer=peer)
        except rpc.RpcError as error:
            if error.code != "WR_ENOTFOUND":
                raise

    def stop(self):
        if self.control:
            self.control.close()
        self.process.terminate()


class Nodes:
    """Those of one transport. `port` is that of the public nodes, so that two sets can stand side by side."""

    def __init__(self, net, args, transport, port):
        self.net, self.args, self.transport, self.port = net, args, transport, port
        self.sides = {"quic": ("a-", "b-"), "tcp": ("c-", "d-")}[transport]
        self.folder = os.path.join(args.logs or net.dir, transport)
        self.public, self.homes = {}, {}
        self.proofs, self.proved = {}, threading.Lock()

    # ---- up and down

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        nodes = [*self.homes.values(), *self.public.values()]
        for node in nodes:
            node.stop()
        for node in nodes:
            node.process.wait(30)

    def start_public(self, name, *flags):
        node = Node(self.net.hosts[name], self.args, self.folder,
                    [*flags, *(w for a in ADDR.values() for w in ("--listen", a % ("0.0.0.0", self.port)))])
        self.public[name] = node
        return node.wait_ready()

    def start(self):
        boot = self.start_public("boot", "--bootstrap", "none", "--relay", "off")
        both = [word for t in ADDR for word in ("--bootstrap", boot.address(t, self.port))]
        relay = self.start_public("relay", "--relay", "on", *both)
        others = [self.start_public(name, "--relay", "off", *both) for name in PUBLIC_NODES[2:]]
        all_of_them = [word for node in (boot, relay, *others)
                       for word in ("--bootstrap", node.address(self.transport, self.port))]
        for name in STRANGERS:
            self.start_public(name, "--relay", "off", "--dht", "off", *all_of_them)
        listen = ["--listen", ADDR[self.transport] % ("0.0.0.0", PORT), "--bootstrap",
                  boot.address(self.transport, self.port)]
        for name, host in self.net.hosts.items():
            if name[:2] in self.sides:
                # As clients of the DHT they are not dialled by one another.
                self.homes[name] = Node(host, self.args, self.folder, [*listen, "--relay", "off", "--dht", "client"])
        for node in self.homes.values():
            node.wait_ready()
        self.each(lambda node: node.call("relay.use", addr=relay.address(self.transport, self.port)))
        self.each(self.settle)

    def each(self, call):
        errors = []

        def one(node):
            try:
                call(node)
            except Exception as error:    # gathered: one home says what is wrong with all
                errors.append("%s: %s" % (node.name, error))
        threads = [threading.Thread(target=one, args=(node,)) for node in self.homes.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            print("\n".join("  " + e for e in errors), flush=True)
        if len(errors) == len(self.homes):
            raise NodeFailed(errors[0])

    def settle(self, node):
        """Until the node can be reached by somebody: through the relay, or because strangers get through."""
        end = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < end:
            mark = node.control.mark()
            status = node.call("status")
            # Whom strangers reach has to find that out; the others that they are not reached, and they need a relay.
            open_to_all = node.host.router.place.words["filter"] == "eif"
            if status["reachable"] == ("yes" if open_to_all else "no") and (open_to_all or node.relayed_addresses()):
                return
            node.control.wait_event(lambda e: e["event"] in ("addresses-changed", "reachability-changed"), mark, 5)
        raise NodeFailed("nobody can reach it after %d s: %s" % (SETTLE_SECONDS, status["addresses"]))

    # ---- a try

    def attempt(self, dialler, listener, wanted):
        a, b = self.homes[dialler], self.homes[listener]
        self.clear(a, b)
        if wanted == "dial":
            return self.dial(a, b)
        if self.plain_arrives(a, b):
            return "dial", 0, False, "a plain packet arrives, so nothing would be proved"
        self.clear(a, b)
        mark, marked = a.control.mark(), b.control.mark()
        circuit = "%s/p2p-circuit/p2p/%s" % (self.public["relay"].address(self.transport, self.port), b.peer)
        found = a.call("connect", peer=circuit)
        first = a.call("ping", peer=b.peer, count=1)    # over whatever there is: data flows from the start
        begun = self.opened(a, b, mark, "relayed")
        if begun is None:
            return "failed", 0, False, "connected by %s, not through the relay" % found["path"]
        direct = self.wait_direct(a, b, mark)
        last = a.call("ping", peer=b.peer, count=1)
        if direct is None:
            path = "relay" if last["path"] == "relayed" else "failed"
            return path, 0, False, "data by %s; %s" % (last["path"], self.words(a, b, begun))
        both = max(begun["at"], (self.opened(b, a, marked, "relayed") or begun)["at"])
        return self.judge(a, b, direct, begun, both, first, last)

    def wait_direct(self, a, b, mark):
        """The event of the direct connection, or None once the listener, who asks, has given up."""
        since, started, heard = b.control.mark(), time.monotonic(), False
        while time.monotonic() - started < (UPGRADE_SECONDS if heard else QUIET_SECONDS):
            direct = a.control.wait_event(self.is_opened(b, "direct"), mark, 0.5)
            if direct:
                return direct
            for event in b.control.since(max(0, since - 50)):
                if event.get("peer") == a.peer and event["event"] == "punch-failed" and event["at"] >= started:
                    heard = True
                    if event["outcome"] in ("hopeless", "unsupported") or event.get("attempt") == ATTEMPTS:
                        # What the last attempt set going may still arrive.
                        return a.control.wait_event(self.is_opened(b, "direct"), mark, 1)
        return None

    def punches(self, a, b, begun):
        """What both nodes told of their attempts, the listener's first."""
        return [e for node, other in ((b, a), (a, b)) for e in node.control.since(0)
                if e["event"].startswith("punch-") and e.get("peer") == other.peer and e["at"] >= begun["at"]]

    def words(self, a, b, begun):
        return "; ".join("%s %s %s" % (e.get("side", ""), e.get("attempt", ""), e["outcome"])
                         for e in self.punches(a, b, begun)) or "nobody tried"

    def judge(self, a, b, direct, begun, both, first, last):
        """both: when both had the relayed connection, the listener half a round trip after the dialler."""
        row = a.connection(b.peer)
        words = self.words(a, b, begun)
        if last["path"] != "direct" or row is None or not row["transport"].startswith(self.transport):
            return "failed", 0, False, "a direct connection opened, but data flows by %s (%s)" % (last["path"], words)
        ways = [e for e in self.punches(a, b, begun) if e["event"] == "punch-succeeded"]
        path = "reverse"    # nobody speaks of an attempt: a plain dial was quicker
        if any(e["outcome"] == "punched" for e in ways):
            path = "predict" if any(e.get("trick") == "predict" for e in ways) else "punch"
        attempt = min((e.get("attempt", 1) for e in ways), default=1)
        seconds, ratio = direct["at"] - both, 0
        if first["path"] == "relayed":
            # CONNECT and SYNC take one and a half round trips over the relay, then the handshake begins.
            floor = 1.5 * first["rtt_min_ms"] + HANDSHAKE_TRIPS[self.transport] * last["rtt_min_ms"]
            ratio = 1000 * seconds / floor
        return path, seconds, attempt <= 1, words, ratio

    def dial(self, a, b):
        """To what the listener announces of itself."""
        started = time.monotonic()
        addrs = [addr for addr in b.call("id")["addrs"] if "/p2p-circuit" not in addr and b.host.public in addr]
        if not addrs:
            return "failed", 0, False, "the listener announces no public address of its own"
        a.call("connect", peer=addrs[0])
        seconds = time.monotonic() - started
        path = a.call("ping", peer=b.peer, count=1)["path"]
        return ("dial" if path == "direct" else "failed"), seconds, True, path

    @staticmethod
    def is_opened(b, path):
        return lambda e: e["event"] == "connection-opened" and e["peer"] == b.peer and e["path"] == path

    def opened(self, a, b, mark, path):
        return next((e for e in a.control.since(mark) if self.is_opened(b, path)(e)), None)

    def clear(self, a, b):
        """No connection and no hole between them is left."""
        a.drop(b.peer)
        b.drop(a.peer)
        a.host.router.forget(b.host.public)
        b.host.router.forget(a.host.public)

    # ---- the proof

    def endpoint(self, node):
        """Where the bootstrap peer sees a node."""
        row = self.public["boot"].connection(node.peer)
        if row is None:
            raise NodeFailed("%s has lost the bootstrap peer" % node.name)
        parts = row["addr"].split("/")
        return parts[2], int(parts[4])

    def plain_arrives(self, a, b):
        """Whether a packet from one node's endpoint to the other's gets through; asked once of every pair."""
        with self.proved:
            if (a.name, b.name) in self.proofs:
                return self.proofs[a.name, b.name]
        src, dst = self.endpoint(a), self.endpoint(b)
        if self.transport == "quic":
            boot = (self.public["boot"].host.addr, self.port)

            def control(sender):
                # From the bootstrap peer's endpoint, which the listener's NAT knows.
                sender.sendto(inject.datagram(boot, dst, b"control"), (dst[0], 0))
                return lambda p: p[3] == b"control"
        else:
            def control(_):
                with probe.udp(b.host) as sock:
                    probe.round_trips(sock, (self.public["relay"].host.addr, probe.PORTS[0]))
                return lambda p: p[0] == socket.IPPROTO_UDP and p[2] == probe.PORTS[0]
        got = inject.arrives(self.net, b.host, PROTOCOL[self.transport], src, dst, control)
        with self.proved:
            self.proofs[a.name, b.name] = got
        return got


class Warren:
    """The matrix's driver. The nodes of both transports are up together; a NAT treats UDP and TCP apart."""
    tries, together = None, True

    def __init__(self, net, args):
        self.net, self.args, self.sets = net, args, {}
        self.observers = probe.Observers([net.hosts[name] for name in PUBLIC_NODES])

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for nodes in self.sets.values():
            nodes.__exit__()
        self.observers.close()

    def begin(self, transport):
        started = time.monotonic()
        nodes = Nodes(self.net, self.args, transport, PORT + ("quic", "tcp").index(transport))
        self.sets[transport] = nodes.__enter__()
        print("warren: %d homes settled over %s in %.0f s" %
              (len(self.sets[transport].homes), transport, time.monotonic() - started), flush=True)

    def attempt(self, dialler, listener, transport, wanted):
        return self.sets[transport].attempt(dialler, listener, wanted)
