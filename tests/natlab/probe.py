"""Measures a NAT from outside and inside: what RFC 4787 calls mapping, filtering, allocation and hairpin.

One process holds every socket: those of the hosts behind NATs and those of the public hosts that answer, each made in
its namespace. Whether something does *not* arrive is decided by other packets that do: three round trips on a path that
works, begun after the one in question was sent.
"""
import collections
import errno
import select
import socket
import threading
import time

PATIENCE = 20        # seconds for what has to arrive; a lab on a busy machine is slow, never lossy
RESEND = 0.5         # seconds
CONTROL_TRIPS = 3
PORTS = (7001, 7002)


def udp(host, port=0):
    with host.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host.addr, port))
    sock.setblocking(False)
    return sock


def tcp(host, port=0, listen=False):
    with host.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host.addr, port))
    sock.setblocking(False)
    if listen:
        sock.listen(64)
    return sock


def to_text(endpoint):
    return "%s:%d" % endpoint


def from_text(text):
    addr, port = text.rsplit(":", 1)
    return addr, int(port)


def drain(sock):
    """What a UDP socket has got: (bytes, from); a refusal counts as nothing."""
    got = []
    while True:
        try:
            got.append(sock.recvfrom(2048))
        except BlockingIOError:
            return got
        except ConnectionRefusedError:
            continue


class Observers:
    """Public hosts that tell whoever asks under which endpoint they see it, over UDP and TCP, on two ports each."""

    def __init__(self, hosts):
        self.hosts = hosts
        self.udp = {(host.addr, port): udp(host, port) for host in hosts for port in PORTS}
        self.tcp = {(host.addr, port): tcp(host, port, listen=True) for host in hosts for port in PORTS}
        self.running = True
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        accepted = {}
        poller = select.poll()
        sockets = {sock.fileno(): sock for sock in [*self.udp.values(), *self.tcp.values()]}
        listening = {sock.fileno() for sock in self.tcp.values()}
        for number in sockets:
            poller.register(number, select.POLLIN)
        while self.running:
            for number, _ in poller.poll(200):
                sock = sockets.get(number) or accepted.get(number)
                if number in listening:
                    stream, peer = sock.accept()
                    stream.sendall(to_text(peer).encode() + b"\n")
                    accepted[stream.fileno()] = stream
                    poller.register(stream.fileno(), select.POLLIN)
                elif number in accepted:
                    self.answer_stream(stream_of=accepted, number=number, poller=poller)
                else:
                    for data, peer in drain(sock):
                        if data[:1] == b"?":
                            sock.sendto(b"!" + data[1:] + b" " + to_text(peer).encode(), peer)
        for sock in accepted.values():
            sock.close()

    @staticmethod
    def answer_stream(stream_of, number, poller):
        sock = stream_of[number]
        try:
            data = sock.recv(2048)
            if data:
                sock.sendall(data)
                return
        except OSError:
            pass
        poller.unregister(number)
        del stream_of[number]
        sock.close()

    def close(self):
        self.running = False
        self.thread.join()
        for sock in [*self.udp.values(), *self.tcp.values()]:
            sock.close()


questions = iter(range(1 << 62))


def observe(sock, observer):
    """Where an observer sees this socket. Whatever else arrives meanwhile is thrown away."""
    token = b"%d" % next(questions)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        sock.sendto(b"?" + token, observer)
        again = time.monotonic() + RESEND
        while time.monotonic() < again:
            select.select([sock], [], [], max(0, again - time.monotonic()))
            for data, peer in drain(sock):
                if peer == observer and data.startswith(b"!" + token + b" "):
                    return from_text(data.split(b" ")[1].decode())
    raise TimeoutError("no observer answered")


def round_trips(sock, observer, count=CONTROL_TRIPS):
    """So long on the way there and back, count times; what arrives from others meanwhile is returned."""
    others = []
    for _ in range(count):
        token = b"%d" % next(questions)
        end, done = time.monotonic() + PATIENCE, False
        sock.sendto(b"?" + token, observer)
        while not done:
            if time.monotonic() > end:
                raise TimeoutError("a control packet was lost")
            select.select([sock], [], [], RESEND)
            for data, peer in drain(sock):
                if peer == observer:
                    done = done or data.startswith(b"!" + token + b" ")
                else:
                    others.append((data, peer))
    return others


def dial(sock, endpoint):
    """Begins a connection."""
    code = sock.connect_ex(endpoint)
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, "connect")
    return sock


def settled(sock, wait=0):
    """None: still trying. 0: connected. Else the error."""
    if not select.select([], [sock], [], wait)[1]:
        return None
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def read_line(sock, wait=PATIENCE):
    data = b""
    end = time.monotonic() + wait
    while not data.endswith(b"\n"):
        select.select([sock], [], [], max(0, end - time.monotonic()))
        try:
            more = sock.recv(2048)
        except BlockingIOError:
            raise TimeoutError("no answer over TCP") from None
        if not more:
            raise ConnectionError("closed")
        data += more
    return data.decode().strip()


def observe_tcp(host, port, observer):
    """Connects from a port: where the observer sees it, and the connection."""
    sock = dial(tcp(host, port), observer)
    if settled(sock, PATIENCE) != 0:
        raise TimeoutError("no connection to an observer")
    return from_text(read_line(sock)), sock


def allocation(local, seen):
    """How ports are chosen, from what was seen of sockets or remotes in this order."""
    same = sum(1 for mine, theirs in zip(local, seen) if mine == theirs)
    if same * 2 >= len(seen):
        return "preserve"
    steps = {b - a for a, b in zip(seen, seen[1:])}
    if len(steps) == 1 and 0 < steps.pop() <= 16:
        return "sequential"
    return "random"


def mapping(seen):
    """From what two addresses saw on two ports each: a1 a2 b1 b2."""
    if len(set(seen)) == 1:
        return "eim"
    return "adm" if seen[0] == seen[1] and seen[2] == seen[3] else "apdm"


class Subject:
    """A host whose NAT is measured. `ports` are its own: two hosts behind one carrier must not share any."""

    def __init__(self, host, observers, ports):
        self.host, self.ports = host, iter(ports)
        one, two, self.stranger = observers.hosts[:3]
        self.four = [(h.addr, p) for h in (one, two) for p in PORTS]
        self.observers = observers

    def measure(self):
        found = collections.OrderedDict()
        found.update(self.udp_mapping())
        found.update(self.udp_filter())
        found.update(self.tcp_mapping())
        found.update(self.tcp_filter())
        found["hairpin"] = self.hairpin()
        found.update(self.unsolicited())
        return found

    def udp_mapping(self):
        port = next(self.ports)
        with udp(self.host, port) as sock:
            seen = [observe(sock, o) for o in self.four]
        if seen[0] == (self.host.addr, port) and len(set(seen)) == 1:
            return {"udp mapping": "none", "udp ports": "preserve", "pool": 1}
        kind = mapping(seen)
        local, outside = [port] * 4, [s[1] for s in seen]
        if kind == "eim":
            socks = [udp(self.host, next(self.ports)) for _ in range(4)]
            local = [s.getsockname()[1] for s in socks]
            outside = [observe(s, self.four[0])[1] for s in socks]
            for sock in socks:
                sock.close()
        return {"udp mapping": kind, "udp ports": allocation(local, outside), "pool": len({s[0] for s in seen})}

    def udp_filter(self):
        """Packets from the observer's other port and from a stranger, then three round trips."""
        with udp(self.host, next(self.ports)) as sock, udp(self.stranger) as stranger:
            mapped = observe(sock, self.four[0])
            self.observers.udp[self.four[1]].sendto(b"other port", mapped)
            stranger.sendto(b"stranger", mapped)
            got = {data for data, _ in round_trips(sock, self.four[0])}
        return {"udp filter": "eif" if b"stranger" in got else "adf" if b"other port" in got else "apdf"}

    def tcp_mapping(self):
        port = next(self.ports)
        streams, seen = [], []
        for observer in self.four:
            where, stream = observe_tcp(self.host, port, observer)
            seen.append(where)
            streams.append(stream)
        kind = "none" if seen[0] == (self.host.addr, port) and len(set(seen)) == 1 else mapping(seen)
        local, outside = [port] * 4, [s[1] for s in seen]
        if kind == "eim":
            local, outside = [], []
            for _ in range(4):
                local.append(next(self.ports))
                where, stream = observe_tcp(self.host, local[-1], self.four[0])
                outside.append(where[1])
                streams.append(stream)
        for stream in streams:
            stream.close()
        return {"tcp mapping": kind, "tcp ports": allocation(local, outside)}

    def tcp_filter(self):
        port = next(self.ports)
        mapped, stream = observe_tcp(self.host, port, self.four[0])
        near = self.observers.hosts[0]
        with tcp(self.host, port, listen=True) as listener, stream, udp(self.host, next(self.ports)) as control:
            with dial(tcp(near), mapped), dial(tcp(self.stranger), mapped):
                round_trips(control, self.four[0])
                came = set()
                while select.select([listener], [], [], 0)[0]:
                    accepted, peer = listener.accept()
                    accepted.close()
                    came.add(peer[0])
        return {"tcp filter": "eif" if self.stranger.addr in came else "adf" if near.addr in came else "apdf"}

    def hairpin(self):
        """Two sockets that send to each other's outside endpoint, after both have opened the way."""
        with udp(self.host, next(self.ports)) as one, udp(self.host, next(self.ports)) as two:
            ends = [observe(sock, self.four[0]) for sock in (one, two)]
            if ends[0][0] == self.host.addr:
                return "none"
            for sock, end in ((one, ends[1]), (two, ends[0]), (one, ends[1])):
                try:
                    sock.sendto(b"hairpin", end)
                except ConnectionRefusedError:
                    pass
                got = round_trips(two, self.four[0], 1)
            return "yes" if any(peer == ends[0] for _, peer in got) else "no"

    def unsolicited(self):
        """What a stranger gets who sends to a port that nobody opened; and whether such a packet, come too early,
        changes the port from which the host's own packet to him leaves."""
        nobody = (self.host.public, 999)
        with udp(self.stranger) as stranger, dial(tcp(self.stranger), nobody) as stream, \
                udp(self.host, next(self.ports)) as sock:
            stranger.connect(nobody)
            stranger.send(b"anybody")
            mapped = observe(sock, self.four[0])
            round_trips(sock, self.four[0])
            refused = [stranger.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), settled(stream)]
            early = self.observers.udp[(self.stranger.addr, PORTS[0])]
            early.sendto(b"early", mapped)
            round_trips(sock, self.four[0])
            later = observe(sock, (self.stranger.addr, PORTS[0]))
        answers = {code == errno.ECONNREFUSED for code in refused}
        text = "refuse" if answers == {True} else "drop" if answers == {False} else "mixed"
        return {"unsolicited": text, "early packet": "harmless" if later == mapped else "moves the port"}
