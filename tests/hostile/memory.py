#!/usr/bin/env python3
"""Every allocation of the whole program fails, libraries included, and the node lives on.

usage: memory.py WARREN ALLOC_FAULT.so [--all] [--only turns|starts] [-v]; --all takes half an hour

The node under test is the program itself with alloc_fault.c preloaded, between whose malloc and its
callers (our code, libuv, msgpack-c, protobuf-c, LMDB, libsodium, libcrypto, GnuTLS, the C library) it stands.
c-ares would ask the system's name servers here; it has test_names_memory.c. Three parts:

turns     A scenario (connect, ping, lookup, provide, put, get, join, a stream, a transfer, a rule that is
          committed to disk, being connected to and asked, events, status, metrics) is run once for each of its
          allocations, and that one fails. After each the node still connects, is asked, finds.
stretches The same with a hundred allocations in a row, from every thirtieth on.
starts    Each place (stack of calls) that allocates between exec and the first commit fails once, in first
          and in later starts by turns. The node comes up, or says why and ends with 1; either way its
          directory then serves a start without failures, under the same identity.

Failures come by number since the test armed them, never by time. Memory is overwritten when it is freed,
so that later use shows. At the orderly end of turns and stretches the blocks still allocated are compared,
place by place, with those of a run without failures. Without --all, starts take every place where our own
code calls the allocator and each EACH_OF_THEIRS-th of the libraries' inner ones.

What no program can survive, because the library offers neither an error nor a hook that may fail:

libuv     uv__io_start aborts when its table of watchers cannot grow. We have a handful of descriptors in
          it, so this is one allocation inside uv_loop_init; nothing has been opened then. It aborts too when
          a thread for work cannot be made: env_uv.c has them made before anything is opened.
libtasn1  asn1_create_element, under every GnuTLS call that reads or makes a certificate (QUIC, TLS),
          dereferences what calloc returned.
libgmp    ends the process when it is out of memory; GnuTLS's curves other than Ed25519 count with it.
libcrypto 3.5 waits for itself when it cannot make its two first locks: to note the error it begins the very
          initialisation, by pthread_once, that it is in. Nothing has been opened then.

libcrypto 3.0 crashes too if its default context could not be made: aead.c asks for it first.
"""
import argparse
import ctypes
import mmap
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "natlab"))
from messagepack import Reader, Short, pack  # noqa: E402

FRAMES, FAILURES, BLOCKS, TRACED, MAPS_SIZE = 14, 64, 1 << 15, 1 << 14, 65536
PATIENCE = 60  # seconds that anything may take on a loaded machine
QUIET = ["--network", "lab", "--bootstrap", "none", "--no-mdns", "--no-portmap", "--limits", "small",
         "--dht", "server", "--public", "127.0.0.0/8", "--perf", "all", "--listen", "/ip4/127.0.0.1/tcp/0"]
EVER = 1 << 62
RECOVERY = 30  # seconds until a node finds again what it found before: ours, three tries of 10 seconds


SLOW = 20  # seconds for an answer; a stream waits 15 for a place, a lookup with nobody to ask 10 for somebody
EACH_OF_THEIRS = 6
# The library, how it ends, and how many frames up it may be from the allocation.
FATAL = [("libuv.", -signal.SIGABRT, 4), ("libtasn1.", -signal.SIGSEGV, 3), ("libgmp.", -signal.SIGABRT, 4)]
WAITS_FOR_ITSELF = 0x30500000  # OpenSSL from this version on


class Bad(Exception):
    """What must not happen."""


class Hangs(Bad):
    """Neither ready nor ended."""


# ---- what alloc_fault.c shares --------------------------------------------------------------------


class Block(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("at", "size", "number")] + \
               [("stack", ctypes.c_uint64 * FRAMES)]


class Board(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in
                ("armed", "skip", "count", "explain", "seen", "failed", "live", "lost")] + \
               [("failures", ctypes.c_uint64 * FRAMES * FAILURES),
                ("trace", ctypes.c_uint64 * TRACED),
                ("maps", ctypes.c_char * MAPS_SIZE),
                ("blocks", Block * BLOCKS)]


class Fault:
    def __init__(self, path):
        self.path = path
        with open(path, "wb") as file:
            file.truncate(ctypes.sizeof(Board))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), ctypes.sizeof(Board))
        self.board = Board.from_buffer(self.map)

    def arm(self, skip, count):
        b = self.board
        b.seen = b.failed = 0
        b.skip, b.count = skip, count
        ctypes.memset(ctypes.addressof(b.failures), 0, ctypes.sizeof(b.failures))
        b.armed = 1

    def disarm(self):
        self.board.armed = 0
        return self.board.failed

    def clear(self):
        """Before the next process."""
        ctypes.memset(ctypes.addressof(self.board), 0, ctypes.sizeof(Board))

    def live(self):
        return ctypes.c_int64(self.board.live).value

    def stacks(self):
        return [tuple(self.board.failures[i]) for i in range(min(self.board.failed, FAILURES))]

    def blocks(self):
        return [(b.number, b.size, tuple(b.stack)) for b in self.board.blocks if b.at > 1]

    def modules(self):
        found = []
        for line in self.board.maps.decode().splitlines():
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ \d+ +(/.*)", line)
            if m:
                found.append((int(m[1], 16), int(m[2], 16), int(m[4], 16), m[5]))
        return found

    def show(self, stack):
        """A stack in words, with the tools at hand."""
        modules, lines = self.modules(), []
        for address in stack:
            if not address:
                break
            where = next((m for m in modules if m[0] <= address < m[1]), None)
            if not where:
                lines.append(f"    {address:#x}")
                continue
            base = min(m[0] for m in modules if m[3] == where[3])
            offset = address - base - 1
            got = subprocess.run(["addr2line", "-fCe", where[3], hex(offset)], capture_output=True,
                                 text=True, check=False).stdout.split("\n")
            name = got[0] if len(got) > 1 and got[0] != "??" else hex(offset)
            line = os.path.basename(got[1]) if len(got) > 1 and not got[1].startswith("??") else \
                os.path.basename(where[3])
            lines.append(f"    {name} {line}")
        return "\n".join(lines)


# ---- the control socket -------------------------------------------------------------------------------


class Gone(Exception):
    """The node closed the control connection, or does not answer there."""


class Refused(Exception):
    def __init__(self, error):
        super().__init__(f"{error.get('code')}: {error.get('text')}")
        self.code = error.get("code")


class Control:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.data, self.id = b"", 0
        try:
            self.sock.connect(path)
        except OSError as error:
            self.sock.close()
            raise Gone(str(error)) from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def message(self):
        while True:
            u = Reader(self.data)
            try:
                value = u.value()
                self.data = self.data[u.at:]
                return value
            except Short:
                pass
            try:
                got = self.sock.recv(65536)
            except TimeoutError:
                raise Bad("a call is not answered") from None
            except OSError as error:
                raise Gone(str(error)) from error
            if not got:
                raise Gone("closed")
            self.data += got

    def call(self, method, **params):
        self.id += 1
        try:
            self.sock.sendall(pack([0, self.id, method, [params]]))
        except OSError as error:
            raise Gone(str(error)) from error
        while True:
            m = self.message()
            if m[0] == 1 and m[1] == self.id:
                if m[2] is not None:
                    raise Refused(m[2])
                return m[3]
            if m[0] == 2 and m[1] == "error":
                raise Gone(str(m[2]))


# ---- nodes --------------------------------------------------------------------------------------------


class Node:
    def __init__(self, program, root, name, preload=None, fault=None):
        self.data = os.path.join(root, name)
        self.control = os.path.join(root, name + ".sock")
        env = dict(os.environ, HOME=root, XDG_RUNTIME_DIR=root, XDG_DATA_HOME=root,
                   XDG_CONFIG_HOME=root)
        if preload:
            # Freed memory is overwritten at once, so what is used after it was freed is noticed.
            env.update(LD_PRELOAD=preload, ALLOC_FAULT=fault.path, MALLOC_PERTURB_="165",
                       GLIBC_TUNABLES="glibc.malloc.tcache_count=0",
                       ASAN_OPTIONS="verify_asan_link_order=0:allocator_may_return_null=1")
        self.log = open(os.path.join(root, name + ".log"), "ab")
        self.log_from = self.log.tell()
        self.process = subprocess.Popen([program, "run", "--data", self.data, "--control",
                                         self.control, *QUIET],
                                        stdout=subprocess.PIPE, stderr=self.log, env=env)
        self.addr = self.peer = None

    def ready(self):
        """Whether it came up. If not, it has ended."""
        seen, out = b"", self.process.stdout.fileno()
        end = time.monotonic() + PATIENCE
        while b"\nready " not in seen or not seen.endswith(b"\n"):
            if not select.select([out], [], [], max(0, end - time.monotonic()))[0]:
                raise Hangs("neither ready nor ended")
            got = os.read(out, 65536)
            if not got:
                self.wait()
                return False
            seen += got
        words = [line.split() for line in seen.decode().splitlines()]
        self.peer = next(w[1] for w in words if w[0] == "peer")
        self.addr = next(w[1] for w in words if w[0] == "listen") + "/p2p/" + self.peer
        return True

    def wait(self):
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Bad("does not end") from None

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.wait()
        return self.process.returncode

    def said(self):
        with open(self.log.name, "rb") as file:
            file.seek(self.log_from)
            return file.read().decode(errors="replace")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def cid(number):
    """A CIDv1 of raw bytes, sha2-256, whose digest starts with number."""
    data = b"\x01\x55\x12\x20" + struct.pack(">Q", number) + bytes(24)
    bits = int.from_bytes(data + b"\0" * (-len(data) % 5), "big")
    chars = (len(data) * 8 + 4) // 5
    total = (len(data) + (-len(data) % 5)) * 8 // 5
    return "b" + "".join(BASE32[bits >> 5 * (total - 1 - i) & 31] for i in range(chars))


BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def stranger(number):
    """A peer id that nobody has."""
    value = int.from_bytes(b"\x12\x20" + struct.pack(">Q", number) + bytes(24), "big")
    text = ""
    while value:
        value, digit = divmod(value, 58)
        text = BASE58[digit] + text
    return text


def peer_bytes(text):
    value = 0
    for char in text:
        value = value * 58 + BASE58.index(char)
    return b"\0" * (len(text) - len(text.lstrip("1"))) + value.to_bytes((value.bit_length() + 7) // 8, "big")


class World:
    """Two nodes that know each other, and the one under test, which knows one of them."""

    def __init__(self, program, preload, root):
        self.program, self.preload, self.root = program, preload, root
        self.fault = Fault(os.path.join(root, "fault"))
        self.node, self.others, self.round = None, [], 0

    def open(self):
        for name in ("near", "far"):
            self.others.append(Node(self.program, self.root, name))
        near, far = self.others
        if not near.ready() or not far.ready():
            raise Bad("the other nodes do not start: " + near.said() + far.said())
        with Control(far.control) as c:
            c.call("connect", peer=near.addr)
            self.settled(c, near.peer)
            c.call("dht.provide", cid=cid(0))
        for node in self.others:    # of 840 rounds in a row nobody is to be slowed down
            with Control(node.control) as c:
                c.call("allow", what="127.0.0.0/8")

    def settled(self, control, peer):
        """Waits until the peer is in the routing table, for which it was identified and asked."""
        end = time.monotonic() + PATIENCE
        while all(p["peer"] != peer for p in control.call("dht.table")["peers"]):
            if time.monotonic() > end:
                raise Bad("a peer is not taken into the routing table")
            time.sleep(0.002)

    def start(self):
        self.node = Node(self.program, self.root, "tested", self.preload, self.fault)
        return self.node.ready()

    def close(self):
        for node in [self.node, *self.others]:
            if node:
                node.kill()

    # -- the scenario

    def steps(self):
        """What the node under test is asked. A near node's part comes as a function."""
        near, me, n = self.others[0], self.node, self.round
        key = b"/pk/" + peer_bytes(me.peer)
        yield "subscribe", {}
        yield "connect", {"peer": near.addr}
        yield "status", {}
        yield "ping", {"peer": near.peer, "count": 1}
        yield "find", {"peer": stranger(n)}
        yield "dht.provide", {"cid": cid(n)}
        yield "dht.providers", {"cid": cid(0)}
        yield "dht.unprovide", {"cid": cid(n)}
        yield "dht.put", {"key": key, "value": peer_bytes(me.peer)[2:]}
        yield "dht.get", {"key": b"/pk/" + peer_bytes(near.peer)}
        yield "join", {"name": "a name"}
        yield "find.in", {"name": "a name"}
        yield "leave", {"name": "a name"}
        yield "open", {"peer": near.peer, "protocol": "/ipfs/ping/1.0.0"}
        yield "perf", {"peer": near.peer, "up": 300000, "down": 300000}
        yield "allow", {"what": "203.0.113.0/24"}
        yield "rules", {}
        yield "disconnect", {"peer": near.peer}
        yield self.dialled, {}
        yield "peers", {}
        yield "metrics", {}

    def dialled(self):
        near = self.others[0]
        with Control(near.control) as c:
            self.hang_up(c)    # an end that it has not heard of yet would be taken for a live connection
            c.call("connect", peer=self.node.addr, timeout_ms=20000)
            c.call("ping", peer=self.node.peer, count=1)
            try:
                c.call("dht.providers", cid=cid(EVER + self.round), timeout_ms=20000)
            except Refused:
                pass    # nobody has it: it was asked

    def scenario(self, patience=EVER):
        """Whatever fails, fails with an answer or a closed control connection. Gives up after so many of
        the latter: while memory is out the node accepts once a second only."""
        control, refused = None, []
        self.round += 1
        for method, params in self.steps():
            began = time.monotonic()
            try:
                if callable(method):
                    method()
                    continue
                control = control or Control(self.node.control)
                control.call(method, timeout_ms=20000, **params)
            except Refused as error:
                refused.append((method, error.code, time.monotonic() - began))
            except Gone:
                refused.append((method, "gone", time.monotonic() - began))
                if control:
                    control.sock.close()
                control, patience = None, patience - 1
                if patience == 0:
                    break
        if control:
            control.sock.close()
        return refused

    def usable(self):
        near = self.others[0]
        with Control(self.node.control) as c:
            end = time.monotonic() + RECOVERY
            while True:
                try:
                    c.call("connect", peer=near.addr)
                    self.settled(c, near.peer)
                    c.call("dht.providers", cid=cid(0))
                    break
                except Refused as error:
                    if time.monotonic() > end:
                        raise Bad(f"does not recover: {error}") from None
                    time.sleep(0.05)
            c.call("status")
            # The next round starts without a connection.
            c.call("disconnect", peer=near.peer)
        with Control(near.control) as c:
            end = time.monotonic() + PATIENCE
            while any(p["peer"] == self.node.peer for p in c.call("peers")["peers"]):
                if time.monotonic() > end:
                    raise Bad("the connection does not close")
                self.hang_up(c)    # it may have called again by itself
                time.sleep(0.001)

    def hang_up(self, control):
        try:
            control.call("disconnect", peer=self.node.peer)
        except Refused:
            pass    # it is not connected


# ---- the test -----------------------------------------------------------------------------------------


class Test:
    def __init__(self, world, verbose):
        self.world, self.verbose = world, verbose
        self.bad, self.failed, self.places = [], 0, set()
        self.began = time.monotonic()

    def report(self, what, number, count):
        w = self.world
        text = f"{what}, allocation {number} and {count - 1} more" if count > 1 else \
            f"{what}, allocation {number}"
        text += "\n" + w.node.said()[-1500:]
        for stack in w.fault.stacks()[:3]:
            text += "  failed:\n" + w.fault.show(stack) + "\n"
        self.bad.append(text)
        print("BAD", text, flush=True)

    def place(self, stack):
        """The same in each process, wherever it lies in memory."""
        found = []
        for address in stack:
            where = next((m for m in self.modules if m[0] <= address < m[1]), None)
            found.append((where[3], address - where[0] + where[2]) if where else address)
        return tuple(found)

    def begin(self):
        w = self.world
        w.fault.board.explain = 1
        if not w.start():
            raise Bad("does not start: " + w.node.said())
        self.modules = w.fault.modules()
        with Control(w.node.control) as c:
            c.call("allow", what="127.0.0.0/8")    # to ask as often as this test does
        for _ in range(3):
            w.scenario()
            w.usable()

    def left(self):
        """What is not freed at the end, by place."""
        count = {}
        if self.world.fault.board.lost:
            raise Bad("more live blocks than alloc_fault.c has room for")
        for _, size, stack in self.world.fault.blocks():
            key = self.place(stack)
            count.setdefault(key, [0, 0, stack])
            count[key][0] += 1
            count[key][1] += size
        return count

    def end(self, what):
        w = self.world
        code = w.node.stop()
        if code != 0:
            self.report(f"{what}: ends with {code}", 0, 1)
        return self.left()

    def compare(self, what, left, control):
        for key, (count, size, stack) in left.items():
            more = count - control.get(key, (0, 0, None))[0]
            if more > 0:
                text = f"{what}: {more} blocks, {size} bytes are left over\n" + \
                    self.world.fault.show(stack)
                self.bad.append(text)
                print("BAD", text, flush=True)

    def control(self):
        self.world.fault.clear()
        self.begin()
        w = self.world
        w.fault.arm(EVER, 0)
        refused = w.scenario()
        total = w.fault.board.seen
        w.fault.disarm()
        w.usable()
        expected = [("find", "WR_ENOTFOUND"), ("find.in", "WR_ENOTFOUND")]    # a stranger, and nobody else
        if [(m, c) for m, c, _ in refused] != expected:
            raise Bad(f"the scenario without failures: {refused}")
        return total, self.end("control")

    def one(self, number, count):
        """Fails so many allocations from this one on, then asks for the world."""
        w = self.world
        w.fault.arm(number, count)
        try:
            refused = w.scenario(EVER if count == 1 else 2)
            hit = w.fault.disarm()
            self.failed += hit
            self.places |= {self.place(s) for s in w.fault.stacks()}
            if self.verbose:
                print(f"{time.monotonic() - self.began:8.3f}", number, count, hit, refused, flush=True)
            if w.node.process.poll() is not None:
                raise Bad(f"ended with {w.node.process.returncode}")
            slow = [r for r in refused if r[2] > SLOW]
            if slow:
                raise Bad(f"took long: {slow}")
            stacks, asked = w.fault.stacks(), time.monotonic()
            w.usable()
            took = time.monotonic() - asked
            if self.verbose and took > 1:
                print(f"slow to recover: {took:.1f} s")
                for stack in stacks[:1]:
                    print(w.fault.show(stack))
            return hit
        except (Bad, Gone, Refused) as error:
            w.fault.disarm()
            if w.node.process.poll() is None:
                time.sleep(0.2)
            code = w.node.process.poll()
            self.report(f"{type(error).__name__} {error} (ended: {code})", number, count)
            w.node.kill()
            w.fault.clear()
            self.begin()
            return 1

    def in_turn(self, total, count, step, control, what):
        w = self.world
        w.fault.clear()
        self.begin()
        before, number = self.failed, 0
        while True:
            hit = self.one(number, count)
            number += step
            if not hit and number > total:
                break
        left = self.end(what)
        self.compare(what, left, control)
        print(f"{what}: {self.failed - before} allocations failed", flush=True)


class Starts:
    """Each place that allocates on the way to `ready` fails once: first starts and later ones."""

    def __init__(self, test):
        self.test, self.world = test, test.world
        self.ended = self.up = self.fatal = 0
        self.template = os.path.join(self.world.root, "template")
        w = self.world
        node = Node(w.program, w.root, "template")
        if not node.ready():
            raise Bad("does not start: " + node.said())
        with Control(node.control) as c:
            c.call("connect", peer=w.others[0].addr)
            w.settled(c, w.others[0].peer)
            c.call("allow", what="203.0.113.0/24")
        self.peer = node.peer
        if node.stop() != 0:
            raise Bad("the template does not stop: " + node.said())
        node.kill()

    def first_commit(self, node):
        """A rule is on disk before the answer: the first time, that starts threads and more."""
        try:
            with Control(node.control) as c:
                c.call("allow", what="203.0.113.0/24", timeout_ms=20000)
        except (Refused, Gone):
            pass

    def places(self):
        """The first allocation of each place."""
        w, first = self.world, {}
        w.fault.clear()
        w.fault.board.explain = 1
        w.fault.arm(EVER, 0)
        node = Node(w.program, w.root, "start", w.preload, w.fault)
        node.ready()
        self.first_commit(node)
        seen = w.fault.board.seen
        w.fault.disarm()
        node.stop()
        node.kill()
        if seen > TRACED:
            raise Bad(f"{seen} allocations, more than can be told apart")
        for number in range(seen):
            first.setdefault(w.fault.board.trace[number], number)
        own = sorted(n for h, n in first.items() if h & 1)
        return seen, own, sorted(n for h, n in first.items() if not h & 1)

    def again(self, data, peer):
        """The directory is whole: a node without trouble starts on it, as the same peer."""
        w = self.world
        node = Node(w.program, w.root, "start")
        try:
            if not node.ready():
                raise Bad("does not start any more: " + node.said())
            if peer and node.peer != peer:
                raise Bad(f"{data} has lost its identity")
            if node.stop() != 0:
                raise Bad("does not stop: " + node.said())
        finally:
            node.kill()

    def one(self, number, count, fresh):
        w = self.world
        data = os.path.join(w.root, "start")
        shutil.rmtree(data, ignore_errors=True)
        if not fresh:
            shutil.copytree(self.template, data)
        w.fault.clear()
        w.fault.arm(number, count)
        node = Node(w.program, w.root, "start", w.preload, w.fault)
        ready = hangs = False
        try:
            try:
                ready = node.ready()
            except Hangs:
                hangs = self.waits_for_itself()
                if not hangs:
                    raise
                node.process.kill()
                node.wait()
            if ready:
                self.up += 1
                self.first_commit(node)
                w.fault.disarm()
                with Control(node.control) as c:
                    c.call("status")
                if node.stop() != 0:
                    raise Bad(f"ends with {node.process.returncode}")
            else:
                self.ended += 1
                w.fault.disarm()
                if hangs or self.is_fatal(node.process.returncode):
                    self.fatal += 1
                elif node.process.returncode != 1:
                    raise Bad(f"ends with {node.process.returncode}")
                elif not node.said().strip():
                    raise Bad("ends without a word")
            self.test.failed += w.fault.board.failed
            self.again(data, None if fresh else self.peer)
        except (Bad, Gone, Refused) as error:
            w.node = node
            self.test.modules = w.fault.modules()
            self.test.report(f"start: {type(error).__name__} {error}", number, count)
        finally:
            node.kill()

    def waits_for_itself(self):
        """Was it libcrypto's base that got no memory? Known and named at the top of this file."""
        modules = self.world.fault.modules()
        for stack in self.world.fault.stacks():
            paths = [next((m[3] for m in modules if m[0] <= a < m[1]), "") for a in stack[1:6] if a]
            names = [os.path.basename(path) for path in paths]
            if len(names) == 5 and all(n.startswith("libcrypto.") for n in names[:4]) and names[4].startswith("libc.") \
                    and ctypes.CDLL(paths[0]).OpenSSL_version_num() >= WAITS_FOR_ITSELF:
                return True
        return False

    def is_fatal(self, code):
        """Known and named at the top of this file."""
        f = self.world.fault
        modules = f.modules()
        for stack in f.stacks():
            names = [next((os.path.basename(m[3]) for m in modules if m[0] <= a < m[1]), "")
                     for a in stack if a]
            for library, how, depth in FATAL:
                if code == how and any(n.startswith(library) for n in names[1:1 + depth]):
                    return True
        return False

    def run(self, everything):
        seen, own, theirs = self.places()
        before = self.test.failed
        chosen = own + (theirs if everything else theirs[::EACH_OF_THEIRS])
        for i, number in enumerate(chosen):
            self.one(number, 1, i % 2 == 0)
        print(f"starts: {self.test.failed - before} allocations failed, of {len(own)} places in our code "
              f"and {len(theirs)} in libraries that allocate {seen} times; {self.up} came up, "
              f"{self.ended} ended, {self.fatal} of these in a library", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("preload")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", choices=("turns", "starts"))
    parser.add_argument("-v", action="store_true")
    o = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="warren-hostile-") as root:
        world = World(os.path.abspath(o.program), os.path.abspath(o.preload), root)
        test = Test(world, o.v)
        try:
            world.open()
            if o.only != "starts":
                total, control = test.control()
                print(f"the scenario allocates {total} times", flush=True)
                test.in_turn(total, 1, 1, control, "turns")
                test.in_turn(total, 100, 30, control, "stretches")
                print(f"{len(test.places)} places have failed", flush=True)
            if o.only != "turns":
                Starts(test).run(o.all)
        finally:
            world.close()
    print(f"{test.failed} allocations failed, {len(test.bad)} times with harm")
    return 1 if test.bad or not test.failed else 0


if __name__ == "__main__":
    sys.exit(main())
