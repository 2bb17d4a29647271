"""Test peers as Python objects: start one, call its commands, stop it. The contract is peers/README.md.

    with Peer("go", ["--limits", "default"]) as a, Peer("rust") as b:
        a.call("connect", addr=b.addr())
        print(a.call("ping", peer=b.id(), count=3)["rtts"])

call() raises PeerError when the reply says ok:false, Unsupported when it also says unsupported, PeerGone when the
process ended. A Peer keeps its log in memory (tail) and ends with its standard input.
"""

import base64
import collections
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "natlab"))
import sanitized  # noqa: E402

FOREIGN = ("go", "rust", "js")
IMPLS = ("warren",) + FOREIGN
# Seconds. What is broken never comes; what is slow comes later on a machine that does much else, and js is slow.
PATIENCE = 40          # until something comes true
CALL_PATIENCE = 120    # until a command is answered, unless it says another


class PeerError(Exception):
    """A command answered ok:false; the whole reply is in .reply."""

    def __init__(self, text, reply=None):
        super().__init__(text)
        self.reply = reply or {}


class Unsupported(PeerError):
    """This implementation cannot do it."""


class PeerGone(PeerError):
    """The process ended or does not answer."""


broken = set()
_found = None


def programs():
    """{implementation: path}, {implementation: why not}; builds the foreign peers if need be. Those of the latter that
    should have been there are in `broken`."""
    global _found
    if _found is None:
        build = subprocess.run([os.path.join(HERE, "peers", "build.sh")], stdout=subprocess.PIPE, text=True)
        paths, reasons = {}, {}
        for line in build.stdout.splitlines():
            impl, state, rest = (line.split(" ", 2) + ["", ""])[:3]
            if state == "ready":
                paths[impl] = rest
            elif state in ("unavailable", "broken"):
                reasons[impl] = rest
                if state == "broken":
                    broken.add(impl)
        for impl, variable in (("warren", "WARREN_PEER"), ("program", "WARREN_PROGRAM")):
            path = os.environ.get(variable)
            if path and os.access(path, os.X_OK):
                paths[impl] = path
            else:
                reasons[impl] = f"{variable} does not name a program"
        _found = paths, reasons
    return _found


class Call:
    """An answer to come."""

    def __init__(self, peer, cmd, args):
        self.peer, self.cmd, self.args = peer, cmd, args
        self.done = threading.Event()
        self.reply = None

    def wait(self, timeout=None):
        if timeout is None:
            timeout = self.args["timeout"] / 1000 + 60
        if not self.done.wait(timeout):
            raise PeerGone(f"{self.peer.name}: {self.cmd} not answered in {timeout:.0f} s")
        if self.reply is None:
            raise PeerGone(f"{self.peer.name}: ended during {self.cmd}")
        if self.reply.get("ok"):
            return self.reply
        kind = Unsupported if self.reply.get("unsupported") else PeerError
        raise kind(f"{self.peer.name}: {self.cmd}: {self.reply.get('error')}", self.reply)


class Peer:
    def __init__(self, impl, args=(), path=None, name=None, ready_timeout=60, env=None, wait=True, prefix=()):
        """wait=False: returns at once; wait_ready() has to be called before anything else. prefix: the beginning of a
        command that runs the peer somewhere else and becomes it."""
        self.impl, self.name = impl, name or impl
        self.path = path or programs()[0][impl]
        self.args = [str(a) for a in args]
        self.log = collections.deque(maxlen=400)
        self._calls, self._lock, self._numbers = {}, threading.Lock(), itertools.count(1)
        self._ready = threading.Event()
        self.ready = None
        self._ready_timeout = ready_timeout
        self.proc = subprocess.Popen([*prefix, self.path, *self.args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, env=env)
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._read, self._drain)]
        for t in self._threads:
            t.start()
        if wait:
            self.wait_ready()

    def wait_ready(self):
        if not self._ready.wait(sanitized.patience(self._ready_timeout)) or self.ready is None:
            code = self.stop()
            raise PeerGone(f"{self.name}: no ready line (exit {code}): {self.tail(5)}", {"exit": code})
        return self

    def _read(self):
        for line in self.proc.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                self.log.append("not JSON on stdout: " + line.decode(errors="replace").rstrip())
                continue
            if message.get("event") == "ready":
                self.ready = message
                self._ready.set()
            elif "n" in message and "event" not in message:
                with self._lock:
                    call = self._calls.pop(message["n"], None)
                if call:
                    call.reply = message
                    call.done.set()
        self._ready.set()
        with self._lock:
            left, self._calls = self._calls, {}
        for call in left.values():
            call.done.set()

    def _drain(self):
        for line in self.proc.stderr:
            self.log.append(line.decode(errors="replace").rstrip())

    def tail(self, lines=20):
        return "\n".join(list(self.log)[-lines:])

    def start(self, cmd, **args):
        """Sends a command; the answer comes from .wait()."""
        args.setdefault("timeout", CALL_PATIENCE * 1000)
        call = Call(self, cmd, args)
        n = next(self._numbers)
        line = json.dumps(dict(args, n=n, cmd=cmd)) + "\n"
        with self._lock:
            if self.proc.poll() is not None:
                raise PeerGone(f"{self.name}: has ended with {self.proc.returncode}")
            self._calls[n] = call
            try:
                self.proc.stdin.write(line.encode())
                self.proc.stdin.flush()
            except OSError as e:
                raise PeerGone(f"{self.name}: {e}") from e
        return call

    def call(self, cmd, **args):
        return self.start(cmd, **args).wait()

    def id(self, host=0):
        return self.ready["hosts"][host]["id"]

    def addr(self, host=0, index=0):
        entry = self.ready["hosts"][host]
        return entry["addrs"][index] + "/p2p/" + entry["id"]

    def counters(self, host=0):
        return self.call("counters", host=host)["counters"]

    def stop(self, patience=5):
        """Ends the process by closing its input; the exit code, negative for a signal that had to be sent."""
        try:
            self.proc.stdin.close()
        except OSError:
            pass
        code = sanitized.ended(self.proc, patience)
        for t in self._threads:
            t.join(2)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Done:
    """An answer that is there."""

    def __init__(self):
        self.done = threading.Event()
        self.done.set()

    def wait(self, timeout=None):
        return {"ok": True}


class Program:
    """`warren run` as users have it, driven by its own commands, with the calls of a Peer that these can answer."""

    def __init__(self, path, args=(), name="program", ready_timeout=60, wait=True, prefix=()):
        self.impl, self.name, self.path = "program", name, path
        self.log = collections.deque(maxlen=400)
        self.dir = tempfile.mkdtemp(prefix="warren-program-")
        self.socket = os.path.join(self.dir, "socket")
        self._ready_timeout, self._printed, self.ready = ready_timeout, threading.Event(), None
        command = [*prefix, path, "run", "--data", os.path.join(self.dir, "data"), "--control", self.socket, "--no-mdns",
                   "--no-portmap", *map(str, args)]
        self.proc = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._read, self._drain)]
        for t in self._threads:
            t.start()
        if wait:
            self.wait_ready()

    def _read(self):
        peer, listen = None, []
        for line in self.proc.stdout:
            word, value = line.decode().split()
            if word == "peer":
                peer = value
            elif word == "listen":
                listen.append(value)
            elif word == "ready":
                self.ready = {"hosts": [{"id": peer, "addrs": listen}]}
                self._printed.set()
        self._printed.set()

    _drain, tail = Peer._drain, Peer.tail
    id, addr = Peer.id, Peer.addr

    def wait_ready(self):
        if not self._printed.wait(sanitized.patience(self._ready_timeout)) or self.ready is None:
            code = self.stop()
            raise PeerGone(f"{self.name}: no ready line (exit {code}): {self.tail(5)}", {"exit": code})
        return self

    def run(self, *args, timeout=CALL_PATIENCE * 1000, stdin=b""):
        """A command of the program; the objects that it prints."""
        command = [self.path, *args, "--json", "--node", self.socket]
        try:
            done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  timeout=timeout / 1000)
        except subprocess.TimeoutExpired:
            raise PeerError(f"{self.name}: {' '.join(args)}: not done in {timeout / 1000:.0f} s") from None
        out = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode != 0:
            text = out[-1].get("text", "") if out else done.stderr.decode(errors="replace")
            raise PeerError(f"{self.name}: {' '.join(args)}: {text}", out[-1] if out else {})
        return out

    def start(self, cmd, **args):
        if cmd == "dht-refresh":
            return Done()  # it refreshes by itself
        raise Unsupported(f"{self.name}: no {cmd} that one does not wait for")

    def call(self, cmd, timeout=CALL_PATIENCE * 1000, host=0, peer=None, addr=None, cid=None, count=20, key=None, value=None):
        if cmd == "connect":
            return self.run("connect", addr, timeout=timeout)[-1]
        if cmd == "disconnect":
            return self.run("disconnect", peer, timeout=timeout)[-1]
        if cmd == "peers":
            return {"peers": [{"id": p["peer"], "addr": p["addr"], "dir": p["direction"]}
                              for p in self.run("peers", timeout=timeout)]}
        if cmd == "key":
            return {"id": self.id(), "publicKey": id_bytes(self.id())[2:].hex(), "type": "ed25519"}
        if cmd == "dht-table":
            return {"peers": [p["peer"] for p in self.run("dht", "table", timeout=timeout)]}
        if cmd == "dht-find-peer":
            return {"addrs": self.run("find", peer, timeout=timeout)[-1]["addrs"]}
        if cmd == "dht-provide":
            return self.run("dht", "provide", cid, timeout=timeout)[-1]
        if cmd == "dht-find-providers":
            try:
                found = self.run("dht", "providers", cid, "--count", str(count), timeout=timeout)
            except PeerError as e:
                if e.reply.get("error") != "WR_ENOTFOUND":
                    raise
                found = []
            return {"providers": [{"id": p["peer"], "addrs": p["addrs"]} for p in found if "peer" in p]}
        if cmd in ("dht-put", "dht-get"):
            space, _, rest = bytes.fromhex(key).partition(b"/pk/")
            if space:
                raise Unsupported(f"{self.name}: {key} is no /pk key")
            text = "/pk/" + id_text(rest)
            if cmd == "dht-put":
                return self.run("dht", "put", text, timeout=timeout, stdin=bytes.fromhex(value))[-1]
            return {"value": base64.b64decode(self.run("dht", "get", text, timeout=timeout)[-1]["value"]).hex()}
        raise Unsupported(f"{self.name}: no command does {cmd}")

    def stop(self, patience=10):
        """Ends the node as an init system does; its exit code."""
        if self.proc.poll() is None:
            self.proc.terminate()
        code = sanitized.ended(self.proc, patience)
        for t in self._threads:
            t.join(2)
        shutil.rmtree(self.dir, ignore_errors=True)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def eventually(check, timeout=PATIENCE, step=0.05):
    """Calls check until it returns something true; returns that, or raises."""
    end = time.monotonic() + sanitized.patience(timeout)
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"did not come true within {timeout} s")
        time.sleep(step)


BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def id_bytes(text):
    """The multihash bytes of a peer id."""
    n = 0
    for c in text:
        n = n * 58 + BASE58.index(c)
    body = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes(len(text) - len(text.lstrip("1"))) + body


def id_text(multihash):
    """The base58 text of a peer id's multihash bytes."""
    n, text = int.from_bytes(multihash, "big"), ""
    while n:
        n, digit = divmod(n, 58)
        text = BASE58[digit] + text
    return "1" * (len(multihash) - len(multihash.lstrip(b"\0"))) + text


def cid_of(content):
    """CIDv1 (raw, sha2-256) of bytes, as base32 text."""
    cid = b"\x01\x55\x12\x20" + hashlib.sha256(content).digest()
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")
