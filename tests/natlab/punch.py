"""A hole puncher of a few lines, beside which a node is measured: what it manages, a node has to manage.

Both ends learn from public observers how they look from outside, tell each other (here: by being in one process), and
send at the same moment. No retries, no hints, one guess at how a NAT goes on counting.
"""
import errno
import select
import socket
import time

import probe

GUESSES = 8             # ports tried beyond the last one that a counting NAT gave
UDP_SECONDS = 2         # 25 round trips
TCP_SECONDS = 7         # two retransmissions of a SYN that was sent too early
AGAIN_UDP, AGAIN_TCP = 0.1, 0.05
IDLE, TALKING, DONE = range(3)


def candidates(local, seen):
    """Where the peer should aim, from what three observers saw one after the other."""
    addr, last = seen[-1]
    ports = [port for _, port in seen]
    if len(set(ports)) == 1:
        return [(addr, last)]
    if local in ports:
        return [(addr, local)]    # kept, but for those observers with whom a neighbour has the port
    steps = {b - a for a, b in zip(ports, ports[1:])}
    step = steps.pop()
    if not steps and 0 < step <= 16:
        return [(addr, last + step * i) for i in range(1, GUESSES + 1)]
    return [(addr, last)]


def observers_for(observers):
    one, two = observers.hosts[:2]
    return [(one.addr, probe.PORTS[0]), (two.addr, probe.PORTS[0]), (two.addr, probe.PORTS[1])]


# ---- the plain dial

def plain_udp(dialler, listener, observers, port=0):
    """Whether a packet sent to where an observer sees the listener arrives."""
    observer = observers_for(observers)[0]
    with probe.udp(listener, port) as theirs, probe.udp(dialler) as mine:
        mine.sendto(b"plain", probe.observe(theirs, observer))
        return any(data == b"plain" for data, _ in probe.round_trips(theirs, observer))


def plain_tcp(dialler, listener, observers, port):
    observer = observers_for(observers)[0]
    mapped, stream = probe.observe_tcp(listener, port, observer)
    with stream, probe.tcp(listener, port, listen=True) as server, probe.udp(listener) as control:
        with probe.dial(probe.tcp(dialler), mapped):
            probe.round_trips(control, observer)
            return bool(select.select([server], [], [], 0)[0])


# ---- UDP

class UdpEnd:
    def __init__(self, host, port, observers):
        self.sock = probe.udp(host, port)
        self.seen = [probe.observe(self.sock, o) for o in observers_for(observers)]
        self.mine = candidates(port, self.seen)
        self.targets, self.state = [], IDLE

    def send_all(self):
        for target in self.targets:
            self.send(b"knock", target)

    def send(self, data, target):
        try:
            self.sock.sendto(data, target)
        except ConnectionRefusedError:
            self.sock.sendto(data, target)    # that was about an earlier packet

    def take(self):
        for data, peer in probe.drain(self.sock):
            if data == b"knock":
                self.send(b"come in", peer)
                if peer not in self.targets:    # its NAT gave it a port for us alone
                    self.targets.append(peer)
                    self.send(b"knock", peer)
            elif data == b"come in":
                self.state = DONE


def punch_udp(a, b, observers, ports):
    """Seconds until each end has had an answer from the other, or None."""
    ends = [UdpEnd(host, port, observers) for host, port in zip((a, b), ports)]
    for end, other in (ends, ends[::-1]):
        end.targets = list(other.mine)
    started = time.monotonic()
    try:
        while time.monotonic() - started < UDP_SECONDS:
            for end in ends:
                end.send_all()
            again = time.monotonic() + AGAIN_UDP
            while time.monotonic() < again:
                select.select([end.sock for end in ends], [], [], max(0, again - time.monotonic()))
                for end in ends:
                    end.take()
                if all(end.state == DONE for end in ends):
                    return time.monotonic() - started
        return None
    finally:
        for end in ends:
            end.sock.close()


# ---- TCP

class TcpEnd:
    """Dials every candidate from the port it listens on, again at once when it is refused."""

    def __init__(self, host, port, observers):
        self.host, self.port, self.state = host, port, IDLE
        self.streams, self.seen = [], []
        for observer in observers_for(observers):
            where, stream = probe.observe_tcp(host, port, observer)
            self.seen.append(where)
            self.streams.append(stream)    # kept open: a mapping lives as long as its connections
        self.mine = candidates(port, self.seen)
        self.server = probe.tcp(host, port, listen=True)
        self.dials, self.open = {}, []

    def dial(self, target):
        sock = probe.tcp(self.host, self.port)
        code = sock.connect_ex(target)
        if code in (0, errno.EINPROGRESS):
            self.dials[target] = sock
        else:
            sock.close()

    def turn(self, targets):
        for target in targets:
            if target not in self.dials and target not in {name for name, _ in self.open}:
                self.dial(target)
        while select.select([self.server], [], [], 0)[0]:
            sock, peer = self.server.accept()
            sock.setblocking(False)
            self.greet(peer, sock)
        for target, sock in list(self.dials.items()):
            code = probe.settled(sock)
            if code is not None:
                del self.dials[target]
                if code == 0:
                    self.greet(target, sock)
                else:
                    sock.close()
        for _, sock in self.open:
            self.take(sock)

    def greet(self, peer, sock):
        self.open.append((peer, sock))
        sock.send(b"?")

    def take(self, sock):
        try:
            data = sock.recv(64)
            if b"?" in data:
                sock.send(b"!")
            if b"!" in data:
                self.state = DONE
        except (BlockingIOError, ConnectionError):
            pass

    def close(self):
        for sock in [self.server, *self.streams, *self.dials.values(), *(sock for _, sock in self.open)]:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")    # no TIME_WAIT
            sock.close()


def punch_tcp(a, b, observers, ports):
    ends = [TcpEnd(host, port, observers) for host, port in zip((a, b), ports)]
    started = time.monotonic()
    try:
        while time.monotonic() - started < TCP_SECONDS:
            for end, other in (ends, ends[::-1]):
                end.turn(other.mine)
            if all(end.state == DONE for end in ends):
                return time.monotonic() - started
            waiting = [s for end in ends for s in end.dials.values()]
            talking = [s for end in ends for _, s in end.open] + [end.server for end in ends]
            select.select(talking, waiting, [], AGAIN_TCP)
        return None
    finally:
        for end in ends:
            end.close()
