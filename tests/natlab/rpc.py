"""A node's control socket (docs/control.md): calls, and the events that it tells."""
import itertools
import socket
import threading
import time

from messagepack import Reader, Short, pack


class RpcError(Exception):
    def __init__(self, code, text):
        super().__init__("%s: %s" % (code, text))
        self.code = code


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
