"""A NAT of one's own for QUIC: forwards datagrams to a port of this machine, and can do so from another port.

    with Forwarder(4001) as f:
        ... dial 127.0.0.1 at f.port ...
        f.rebind()              # from now on the datagrams come from another port, and answers to the old one vanish
        f.retries               # Retry packets that came back
        f.lose = {2}            # of the dialler's datagrams, counted from 1, these get lost
        f.told                  # of the first of these: kind, as the first byte has it, and to which id
"""
import select
import socket
import threading

LONG, TYPE, RETRY = 0x80, 0x30, 0x30  # bits of a first byte; RFC 9000 section 17.2
BUFFER = 4 << 20


class Forwarder:
    def __init__(self, target):
        self.target = target
        self.inner = self._socket()
        self.outer = self._socket()
        self.port = self.inner.getsockname()[1]
        self.client, self.forwarded, self.retries, self.rebinds = None, 0, 0, 0
        self.lose, self.told = set(), []
        self.over, self.lock = False, threading.Lock()
        self.wake, self.woken = socket.socketpair()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @staticmethod
    def _socket():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            s.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        s.bind(("127.0.0.1", 0))
        s.setblocking(False)
        return s

    def rebind(self):
        with self.lock:
            self.outer.close()
            self.outer = self._socket()
            self.rebinds += 1
        self.wake.send(b"x")

    def _inward(self, outer):
        """All that came from the target; False when the socket is gone."""
        try:
            for _ in range(64):
                data = outer.recv(65536)
                if data and data[0] & LONG and data[0] & TYPE == RETRY and data[1:5] == b"\0\0\0\1":
                    self.retries += 1
                if self.client:
                    self.inner.sendto(data, self.client)
                self.forwarded += len(data)
        except OSError:
            pass

    def _outward(self, outer):
        try:
            for _ in range(64):
                data, self.client = self.inner.recvfrom(65536)
                if len(self.told) <= max(self.lose, default=0):
                    self.told.append((data[0] & (LONG | TYPE), data[5:6 + data[5]] if data[0] & LONG else b""))
                    if len(self.told) in self.lose:
                        continue
                outer.sendto(data, ("127.0.0.1", self.target))
                self.forwarded += len(data)
        except OSError:
            pass

    def _run(self):
        while not self.over:
            with self.lock:
                outer = self.outer
            try:
                ready, _, _ = select.select([self.inner, outer, self.woken], [], [], 1)
            except (OSError, ValueError):
                continue  # rebound meanwhile
            if self.woken in ready:
                self.woken.recv(100)
                continue
            if self.inner in ready:
                self._outward(outer)
            if outer in ready:
                self._inward(outer)

    def close(self):
        self.over = True
        self.wake.send(b"x")
        self.thread.join(5)
        for s in (self.inner, self.outer, self.wake, self.woken):
            s.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
