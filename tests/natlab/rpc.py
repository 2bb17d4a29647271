"""A node's control socket (docs/control.md): calls, and the events that it tells."""
import itertools
import socket
import struct
import threading
import time


class RpcError(Exception):
    def __init__(self, code, text):
        super().__init__("%s: %s" % (code, text))
        self.code = code


class Short(Exception):
    """The message is not complete yet."""


# ---- MessagePack, as much of it as the interface uses

def pack(value):
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value) if value >= 0 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, str):
        data = value.encode()
        return b"\xdb" + struct.pack(">I", len(data)) + data
    if isinstance(value, (list, tuple)):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
    return b"\xdf" + struct.pack(">I", len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())


class Reader:
    NUMBERS = {0xca: ">f", 0xcb: ">d", 0xcc: ">B", 0xcd: ">H", 0xce: ">I", 0xcf: ">Q",
               0xd0: ">b", 0xd1: ">h", 0xd2: ">i", 0xd3: ">q"}
    SIZED = {0xc4: (">B", "bin"), 0xc5: (">H", "bin"), 0xc6: (">I", "bin"), 0xd9: (">B", "str"), 0xda: (">H", "str"),
             0xdb: (">I", "str"), 0xdc: (">H", "array"), 0xdd: (">I", "array"), 0xde: (">H", "map"), 0xdf: (">I", "map")}

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        if self.at + size > len(self.data):
            raise Short
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self):
        first = self.take(1)[0]
        if first < 0x80:
            return first
        if first >= 0xe0:
            return first - 256
        if first < 0x90:
            return self.many("map", first & 15)
        if first < 0xa0:
            return self.many("array", first & 15)
        if first < 0xc0:
            return self.many("str", first & 31)
        if first in (0xc0, 0xc2, 0xc3):
            return {0xc0: None, 0xc2: False, 0xc3: True}[first]
        if first in self.NUMBERS:
            return self.number(self.NUMBERS[first])
        form, kind = self.SIZED[first]
        return self.many(kind, self.number(form))

    def many(self, kind, count):
        if kind == "map":
            return {self.value(): self.value() for _ in range(count)}
        if kind == "array":
            return [self.value() for _ in range(count)]
        data = bytes(self.take(count))
        return data if kind == "bin" else data.decode(errors="replace")


class Control:
    """One connection, subscribed to the events; any number of threads may call."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.numbers, self.news = itertools.count(1), threading.Condition()
        self.answers, self.events, self.closed = {}, [], False
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        self.call("subscribe")

    def read(self):
        data = b""
        while True:
            try:
                more = self.sock.recv(1 << 16)
            except OSError:
                more = b""
            with self.news:
                data = self.take(data + more)
                self.closed = not more
                self.news.notify_all()
            if not more:
                return

    def take(self, data):
        reader = Reader(data)
        while True:
            start = reader.at
            try:
                message = reader.value()
            except Short:
                return data[start:]
            if message[0] == 1:
                self.answers[message[1]] = (message[2], message[3])
            elif message[0] == 2 and message[1] == "event":
                event = message[2][0]
                event["at"] = time.monotonic()
                self.events.append(event)

    def call(self, method, timeout=60, **params):
        """The result; RpcError when the node says no, or says nothing."""
        number = next(self.numbers)
        params["timeout_ms"] = int(timeout * 1000)
        with self.news:
            self.sock.sendall(pack([0, number, method, [params]]))
            self.news.wait_for(lambda: number in self.answers or self.closed, timeout + 30)
            if number not in self.answers:
                raise RpcError("GONE", "%s was not answered" % method)
            error, result = self.answers.pop(number)
        if error is not None:
            raise RpcError(error.get("code"), error.get("text"))
        return result

    def mark(self):
        """Events from here on are those after now."""
        with self.news:
            return len(self.events)

    def since(self, mark):
        with self.news:
            return self.events[mark:]

    def wait_event(self, test, since, timeout):
        """The first event after a mark that passes a test, or None."""
        def found():
            return next((e for e in self.events[since:] if test(e)), None)
        with self.news:
            self.news.wait_for(lambda: found() or self.closed, timeout)
            return found()

    def close(self):
        self.sock.close()
