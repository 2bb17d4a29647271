#!/usr/bin/env python3
"""The warren program from outside: every command, its JSON fields, its exit codes, its mistakes.

usage: test_commands.py WARREN [unittest arguments]

Nodes listen on loopback, know no bootstrap peer and keep everything in a temporary directory."""
import contextlib
import hashlib
import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

WARREN = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "warren"
POOR_SOCKETS = os.path.join(os.path.dirname(WARREN), "../tests/cli/cli_poor_sockets")
YES, NO, USAGE, NO_NODE, TIMEOUT = range(5)
PATIENCE = 60  # seconds that anything may take on a loaded machine
STRANGER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
CID = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
NOBODY = ["--bootstrap", "none"]
ALONE = ["--no-mdns", "--no-portmap"]
QUIET = [*NOBODY, *ALONE]


class Result:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def rows(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def row(self):
        rows = self.rows()
        assert len(rows) == 1, self.out
        return rows[0]


class Home:
    """A user of their own: directories, and an environment that points into them."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="warren-cli-")
        self.path = self.dir.name
        self.env = dict(os.environ, HOME=self.path, XDG_RUNTIME_DIR=self.at("run"),
                        XDG_DATA_HOME=self.at("data"), XDG_CONFIG_HOME=self.at("config"))
        self.env.pop("WARREN_NODE", None)
        os.makedirs(self.at("run"))
        os.makedirs(self.at("config/warren"))

    def at(self, name):
        return os.path.join(self.path, name)

    def write(self, name, text):
        with open(self.at(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.at(name)

    def warren(self, *args, **kw):
        kw.setdefault("text", True)
        return Result(subprocess.run([WARREN, *args], env=self.env, capture_output=True,
                                     timeout=PATIENCE, **kw))

    def popen(self, *args, program=WARREN, **kw):
        return subprocess.Popen([program, *args], env=self.env, **kw)

    def close(self):
        self.dir.cleanup()


class Node:
    """A node that runs until it is closed."""

    def __init__(self, home, name, *flags, listen="/ip4/127.0.0.1/tcp/0", network="lab", public=True,
                 program=WARREN, bootstrap=NOBODY):
        self.home = home
        self.data = home.at(name)
        args = ["run", "--data", self.data, "--listen", listen, "--network", network,
                *(["--public", "127.0.0.0/8"] if public else []), *bootstrap, *ALONE, *flags]
        self.process = home.popen(*args, program=program, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True)
        self.log, self.news = "", threading.Condition()
        self.reader = threading.Thread(target=self.read_log, daemon=True)
        self.reader.start()
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("ready"):
                break
        self.words = [line.split(None, 1) for line in self.lines]
        if not self.words or self.words[-1][0] != "ready":
            code = self.process.wait(PATIENCE)
            raise RuntimeError("run ended with %d: %s" % (code, self.log))
        self.peer = self.words[0][1]
        self.socket = self.words[-1][1]
        self.listen = [value for word, value in self.words if word == "listen"]
        self.addr = self.listen[0] + "/p2p/" + self.peer if self.listen else None

    def read_log(self):
        for line in self.process.stderr:
            with self.news:
                self.log += line
                self.news.notify_all()

    def wait_log(self, text):
        with self.news:
            if not self.news.wait_for(lambda: text in self.log, PATIENCE):
                raise AssertionError("no \"%s\" in the log:\n%s" % (text, self.log))

    def wait_protocol(self, name, there=True):
        """Until the node answers a protocol, or does not any more."""
        end = time.monotonic() + PATIENCE
        while (name in self.json("id")[0]["protocols"]) != there:
            assert time.monotonic() < end, name

    def wait_identified(self, peer):
        """Until a connected peer has told who it is."""
        end = time.monotonic() + PATIENCE
        while not any(row["agent"] for row in self.json("peers") if row["peer"] == peer):
            assert time.monotonic() < end, peer

    def __call__(self, *args, **kw):
        return self.home.warren(*args, "--node", self.socket, **kw)

    def json(self, *args):
        result = self(*args, "--json")
        assert result.code == YES, (args, result.code, result.out, result.err)
        return result.rows()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.close()
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()


class Case(unittest.TestCase):
    def setUp(self):
        self.home = Home()
        self.addCleanup(self.home.close)
        self.warren = self.home.warren

    def node(self, name, *flags, **kw):
        node = Node(self.home, name, *flags, **kw)
        self.addCleanup(node.close)
        return node

    def pair(self):
        a, b = self.node("a"), self.node("b")
        self.assertEqual(b("connect", a.addr).code, YES)
        self.assertEqual(a("wait", "--peer", b.peer, "--timeout", "30").code, YES)
        return a, b

    def talk(self, a, b, question, answer, *flags):
        """One cat on each side; what each received, and how both ended."""
        got = {}
        server = self.home.popen("cat", "--listen", "/chat/1", "--node", a.socket, *flags,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        a.wait_protocol("/chat/1")
        client = self.home.popen("cat", a.peer, "/chat/1", "--node", b.socket, *flags,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)

        def run(name, process, data):
            got[name] = process.communicate(data, timeout=PATIENCE)[0]

        threads = [threading.Thread(target=run, args=("server", server, answer)),
                   threading.Thread(target=run, args=("client", client, question))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((server.returncode, client.returncode), (YES, YES))
        return got["server"], got["client"]

    def has(self, row, *fields):
        for field in fields:
            self.assertIn(field, row)

    def fails(self, result, code, says):
        self.assertEqual(result.code, code, result.err)
        self.assertIn(says, result.err)
        self.assertRegex(result.err, r"(?m)^warren[ :]")
        self.assertEqual(result.out, "")


class Help(Case):
    def commands(self):
        text = self.warren("help").out
        found = []
        for line in text.splitlines():
            match = re.match(r"  ([a-z]+(?: [a-z]+)*)(?=  | [A-Z\[-])", line)
            if match:
                found.append(match.group(1))
        return found

    def test_every_command_explains_itself(self):
        commands = self.commands()
        self.assertGreater(len(commands), 28)
        for name in commands:
            for args in (["help", *name.split()], [*name.split(), "-h"], [*name.split(), "--help"]):
                result = self.warren(*args)
                self.assertEqual(result.code, YES, args)
                self.assertTrue(result.out.startswith("usage: warren %s" % name), args)
                self.assertIn("--json", result.out)

    def test_every_command_has_a_test(self):
        with open(os.path.abspath(__file__), encoding="utf-8") as file:
            text = file.read()
        for name in self.commands():
            words = ", ".join('"%s"' % word for word in name.split())
            self.assertIn("(" + words, text.replace("\n", " "), name)

    def test_mistakes(self):
        self.assertEqual(self.warren().code, USAGE)
        self.fails(self.warren("stauts"), USAGE, "no command stauts; the nearest is status")
        self.fails(self.warren("stat"), USAGE, "no command stat; the nearest is status")
        self.fails(self.warren("pnig", STRANGER), USAGE, "no command pnig; the nearest is ping")
        self.fails(self.warren("dht", "privide", CID), USAGE, "the nearest is dht provide")
        self.fails(self.warren("dht", "fly"), USAGE, "no command dht fly; `warren help dht` lists all")
        self.assertIn("warren dht get", self.warren("dht").out)
        self.assertEqual(self.warren("dht").code, USAGE)
        self.fails(self.warren("help", "fly"), USAGE, "no command fly; `warren help` lists all")
        self.fails(self.warren("help", "nothing"), USAGE, "no command nothing; `warren help` lists all")
        self.fails(self.warren("ping"), USAGE, "usage: warren ping PEER")
        self.fails(self.warren("ping", "a", "b"), USAGE, "unexpected \"b\"")
        self.fails(self.warren("status", "--fly"), USAGE, "unknown flag --fly\n")
        self.fails(self.warren("ping", "x", "--cuont", "3"), USAGE, "unknown flag --cuont; the nearest is --count\n")
        self.fails(self.warren("ping", "x", "--timeuot=3"), USAGE, "the nearest is --timeout\n")
        self.fails(self.warren("ping", "x", "--count"), USAGE, "--count needs a value")
        self.fails(self.warren("ping", "x", "--count", "many"), USAGE, "is no number")
        self.fails(self.warren("ping", "x", "--timeout", "soon"), USAGE, "is no time")
        self.fails(self.warren("status", "--timeout", "5"), USAGE, "unknown flag --timeout")
        self.fails(self.warren("block", "--remove=1"), USAGE, "takes no value")
        self.fails(self.warren("find", "x", "--in", "y"), USAGE, "not both")
        self.fails(self.warren("find"), USAGE, "PEER is missing")
        self.fails(self.warren("perf", "x", "--up", "10Q"), USAGE, "is no size")
        self.fails(self.warren("cat", "x"), USAGE, "PEER and PROTOCOL are needed")
        self.fails(self.warren("wait", "--online", "--reachable"), USAGE, "at a time")

    def test_no_node(self):
        for args in (["status"], ["stop"], ["ping", "x"], ["events"], ["wait"], ["dht", "table"]):
            self.fails(self.warren(*args), NO_NODE, "start one with `warren run`")
        started = time.monotonic()
        self.fails(self.warren("wait", "--timeout", "200ms"), NO_NODE, "no node is running")
        self.assertGreater(time.monotonic() - started, 0.15)
        self.fails(self.warren("status", "--node", "x" * 200), USAGE, "--node")

    def test_version(self):
        self.assertRegex(self.warren("version").out, r"^warren \d+\.\d+\.\d+\n$")
        self.assertEqual(self.warren("--version").out, self.warren("version").out)
        self.has(self.warren("version", "--json").row(), "version", "api")


class Config(Case):
    def test_show(self):
        rows = {row["key"]: row for row in self.warren("config", "show", "--json").rows()}
        self.assertEqual(rows["dht"], {"key": "dht", "value": "auto", "from": "default", "line": 0,
                                       "live": False})
        self.assertEqual(rows["data"]["value"], self.home.at("data/warren"))
        self.assertEqual(rows["control"]["value"], self.home.at("run/warren/control.sock"))
        self.assertEqual(len(rows["bootstrap"]["value"]), 5)
        self.home.write("config/warren/warren.conf", "\n# mine\ndht = client\nlog = warn\n")
        rows = {row["key"]: row for row in
                self.warren("config", "show", "--log", "debug", "--json").rows()}
        self.assertEqual((rows["dht"]["value"], rows["dht"]["from"], rows["dht"]["line"]),
                         ("client", "file", 3))
        self.assertEqual((rows["log"]["value"], rows["log"]["from"]), ("debug", "flag"))
        # What it prints is itself a settings file.
        shown = self.warren("config", "show")
        self.assertEqual(shown.code, YES)
        path = self.home.write("again.conf", shown.out)
        again = self.warren("config", "show", "--config", path, "--json").rows()
        self.assertEqual({r["key"]: r["value"] for r in again},
                         {r["key"]: r["value"] for r in
                          self.warren("config", "show", "--json").rows()})

    def test_check(self):
        good = self.home.write("good.conf", "listen = /ip4/127.0.0.1/tcp/0\n")
        self.assertEqual(self.warren("config", "check", good).code, YES)
        bad = self.home.write("bad.conf", "lisen = x\n")
        self.fails(self.warren("config", "check", bad), NO,
                   bad + ":1: unknown key lisen; the nearest is listen")
        row = self.warren("config", "check", bad, "--json").row()
        self.assertIs(row["ok"], False)
        self.assertIn("lisen", row["text"])
        self.fails(self.warren("config", "check", self.home.at("none")), NO, "No such file")
        keyless = self.home.write("keyless.conf", f"psk = {self.home.at('none')}\n")
        self.fails(self.warren("config", "check", keyless), NO, "cannot read the network key")


class Key(Case):
    def test_new_and_show(self):
        path = self.home.at("id.key")
        new = self.warren("key", "new", path)
        self.assertEqual(new.code, YES)
        self.assertRegex(new.out, r"^12D3KooW\w{44}\n$")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual(os.stat(path).st_size, 68)
        self.assertEqual(self.warren("key", "show", path).out, new.out)
        self.assertEqual(self.warren("key", "show", path, "--json").row(),
                         {"peer": new.out.strip(), "type": "ed25519", "file": path})
        self.fails(self.warren("key", "new", path), NO, "never overwritten")
        os.chmod(path, 0o640)
        self.fails(self.warren("key", "show", path), NO, "chmod 600")
        os.chmod(path, 0o600)
        with open(path, "r+b") as file:
            file.seek(20)
            byte = file.read(1)[0]
            file.seek(20)
            file.write(bytes([byte ^ 1]))
        self.fails(self.warren("key", "show", path), NO, "not an Ed25519 key")
        self.fails(self.warren("key", "show", self.home.at("none")), NO, "warren key new")
        self.fails(self.warren("key", "new", "/sys/id.key"), NO, "permission denied")   # also to root

    def test_of_a_data_directory(self):
        new = self.warren("key", "new", "--data", self.home.at("d"))
        self.assertEqual(new.code, YES)
        node = self.node("d")
        self.assertEqual(node.peer, new.out.strip())


class Run(Case):
    def test_lines(self):
        node = self.node("a")
        self.assertEqual([word for word, _ in node.words], ["peer", "listen", "ready"])
        for line in node.lines:
            self.assertRegex(line, r"^(peer|listen|ready) +\S+$")
        self.assertRegex(node.listen[0], r"^/ip4/127\.0\.0\.1/tcp/[1-9]\d*$")
        self.assertEqual(node.socket, self.home.at("run/warren/control.sock"))
        self.assertEqual(stat.S_IMODE(os.stat(node.socket).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(node.socket)).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(node.data + "/identity.key").st_mode), 0o600)
        # A second one with a directory of its own puts its socket there.
        other = self.node("b")
        self.assertEqual(other.socket, other.data + "/control.sock")
        self.assertNotEqual(node.peer, other.peer)

    def test_json_lines(self):
        process = self.home.popen("run", "--json", "--data", self.home.at("a"), "--listen",
                                  "/ip4/127.0.0.1/tcp/0", "--network", "lab", *QUIET,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        rows = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.terminate()
        process.stdout.read()
        self.assertEqual(process.wait(PATIENCE), 0)
        process.stdout.close()
        self.assertEqual([list(row) for row in rows], [["peer"], ["listen"], ["ready"]])

    def test_identity_stays(self):
        node = self.node("a")
        peer, port = node.peer, node.listen[0]
        self.assertEqual(node.stop(), 0)
        again = self.node("a", listen=port)
        self.assertEqual((again.peer, again.listen[0]), (peer, port))

    def test_what_a_peer_speaks_is_remembered(self):
        """Whom we met over TLS is offered TLS first after a restart, whatever our favourite is by then."""
        b = self.node("b")
        for favourite in ("tls,noise", "noise,tls"):
            a = self.node("a", "--security", favourite)
            self.assertEqual(a("connect", b.addr).code, YES)
            self.assertEqual(a("wait", "--peer", b.peer, "--timeout", "30").code, YES)
            self.assertEqual([row["security"] for row in a.json("peers") if row["peer"] == b.peer], ["/tls/1.0.0"])
            a.wait_identified(b.peer)
            self.assertEqual(a.stop(), 0, a.log)

    def timed_end(self, node, number=signal.SIGTERM):
        """Seconds that its end takes, beyond what a busy machine makes of next to nothing."""
        started = time.monotonic()
        self.assertEqual(self.warren("version").code, YES)
        version = time.monotonic() - started
        started = time.monotonic()
        self.assertEqual(node.stop(number), 0, node.log)
        self.assertFalse(os.path.exists(node.socket))
        return time.monotonic() - started - 10 * version

    def test_ends_of_all_kinds(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.assertTrue(any(self.timed_end(self.node("a"), number) < 1 for _ in range(5)))
        node = self.node("a")
        node.process.kill()
        node.process.wait(PATIENCE)
        self.fails(self.warren("status"), NO_NODE, "no node is running")
        self.assertEqual(self.node("a").peer, node.peer)

    def test_end_in_the_middle_of_everything(self):
        b = self.node("b")
        waiting = [("connect", STRANGER), ("find", STRANGER), ("dht", "providers", CID),
                   ("dht", "provide", CID), ("find", "--in", "chat"), ("wait", "--reachable"),
                   ("events",), ("cat", "--listen", "/x/1"), ("ping", b.peer, "--count", "0"),
                   ("dht", "get", "/pk/" + STRANGER)]
        took = []
        for turn in range(5):    # at least one with company and one without; more while the machine is slow
            node = self.node("a%d" % turn, network="nobody-else" if turn % 2 else "lab")
            self.assertEqual(node("connect", b.addr).code, YES)
            running = []
            for args in waiting:
                process = self.home.popen(*args, "--node", node.socket, stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                self.addCleanup(process.wait, PATIENCE)
                self.addCleanup(process.kill)
                running.append(process)
            # Each has its place at the socket, or has its answer already.
            end = time.monotonic() + PATIENCE
            while (node.json("limits")[-1]["used"] - 1
                   < sum(process.poll() is None for process in running)):
                self.assertLess(time.monotonic(), end)
            took.append(self.timed_end(node))
            self.assertNotIn("level=error", node.log)
            for process in running:
                self.assertIsNotNone(process.wait(PATIENCE))
            if turn and min(took) < 1:
                break
        self.assertLess(min(took), 1)

    def test_peers_of_last_time(self):
        """Known from an earlier life alone, a peer is found again: no list, no neighbours, no table of the DHT."""
        b = self.node("b", "--dht", "off")
        a = self.node("a", "--dht", "off")
        self.assertEqual(a("connect", b.addr).code, YES)
        a.wait_identified(b.peer)
        self.assertEqual(a.stop(), 0)
        again = self.node("a", "--dht", "off")
        self.assertEqual(again("wait", "--peer", b.peer, "--timeout", str(PATIENCE)).code, YES)

    def test_damaged_store(self):
        """It is put aside and begun anew: the node starts, is who it was, and says so."""
        node = self.node("a")
        self.assertEqual(node("block", "45.0.0.0/8").code, YES)
        self.assertEqual(node.stop(), 0)
        with open(node.data + "/store/store.mdb", "r+b") as file:
            file.write(os.urandom(8192))    # both of the pages where it begins
        again = self.node("a")
        self.assertEqual(again.peer, node.peer)
        again.wait_log("damaged store put aside as *.damaged and begun anew")
        self.assertTrue(os.path.exists(node.data + "/store/store.mdb.damaged"))
        self.assertIn("begun anew", " ".join(w["text"] for w in again.json("status")[0]["warnings"]))
        self.assertEqual({r["metric"]: r["value"] for r in again.json("metrics")}["warren_store_rebuilt_total"], 1)
        self.assertEqual(again("block").out, "")    # it was in there
        self.assertEqual(again("block", "46.0.0.0/8").code, YES)
        self.assertEqual(again.stop(), 0)
        sound = self.node("a")
        self.assertNotIn("begun anew", sound("status").out)
        self.assertEqual(sound("block").out, "46.0.0.0/8\n")

    def test_full_store(self):
        """What cannot be written is said and kept in memory, and written once there is room."""
        def warned():
            return "cannot be written to disk" in node("status").out

        node = self.node("a")
        soft, hard = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (0, hard))
        self.fails(node("block", "45.0.0.0/8"), NO, "in force now, but not on the disk")
        end = time.monotonic() + PATIENCE
        while not warned():
            self.assertLess(time.monotonic(), end)
        self.assertEqual(node("block").out, "45.0.0.0/8\n")
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        while warned():
            self.assertLess(time.monotonic(), end)
        self.assertEqual(node.stop(), 0)
        self.assertEqual(self.node("a")("block").out, "45.0.0.0/8\n")

    def test_log_at_its_size_limit(self):
        limit = 1 << 20
        log = self.home.at("log")
        with open(log, "wb") as file:
            file.truncate(limit)
        with open(log, "ab") as file:
            process = self.home.popen(
                "run", "--data", self.home.at("a"), "--network", "lab", *QUIET, "--listen",
                "/ip4/127.0.0.1/tcp/0", "--log", "debug", stdout=subprocess.PIPE, stderr=file,
                text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE,
                                                                 (limit, limit)))
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.kill)
        self.assertTrue(any(line.startswith("ready") for line in process.stdout))
        self.assertEqual(self.warren("status").code, YES)
        self.assertEqual(self.warren("stop").code, YES)
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertEqual(os.path.getsize(log), limit)

    def test_one_identity_twice(self):
        a = self.node("a")
        os.makedirs(self.home.at("b"), 0o700)
        shutil.copy(a.data + "/identity.key", self.home.at("b"))
        b = self.node("b")
        self.assertEqual(a.peer, b.peer)
        self.fails(a("connect", a.addr), NO, "that is this node itself")
        self.assertEqual(len(a.json("status")[0]["warnings"]), 1)
        self.fails(a("connect", b.addr), NO, "which another node uses")
        warning = a.json("status")[0]["warnings"][1]
        self.assertIn("another node uses this identity at 127.0.0.1:", warning["text"])
        self.assertEqual(warning["command"], "warren key new")

    def test_mistakes(self):
        self.fails(self.warren("--node", "x", "status"), USAGE, "flags come after the command")
        self.fails(self.warren("run", "--lisen", "x"), USAGE, "the nearest is --listen")
        self.fails(self.warren("run", "--dht", "on"), USAGE, "auto, server, client or off")
        self.fails(self.warren("run", "--config", self.home.at("none")), USAGE, "No such file")
        self.home.write("config/warren/warren.conf", "dht = sometimes\n")
        self.fails(self.warren("run"), USAGE, "warren.conf:1: dht: \"sometimes\"")
        os.remove(self.home.at("config/warren/warren.conf"))
        node = self.node("a")
        same = ["run", "--network", "lab", *QUIET]
        self.fails(self.warren(*same, "--data", node.data, "--listen", "/ip4/127.0.0.1/tcp/0"), NO,
                   node.data)
        self.fails(self.warren(*same, "--data", self.home.at("b"), "--listen", node.listen[0]), NO,
                   node.listen[0])
        self.fails(self.warren(*same, "--data", self.home.at("b"), "--listen",
                               "/ip4/127.0.0.1/tcp/0", "--control", node.socket), NO, node.socket)
        loop = ["--listen", "/ip4/127.0.0.1/tcp/0"]
        self.fails(self.warren(*same, "--data", self.home.at("b"), "--listen", "/ip4/203.0.113.5/tcp/0"), NO,
                   "this machine has no such address")
        self.fails(self.warren(*same, "--data", "/proc/nowhere", "--control",
                               self.home.at("c.sock"), *loop), NO, "another place with --data")
        self.fails(self.warren(*same, "--data", self.home.at("b"), "--psk", self.home.at("none"), *loop), NO,
                   "--psk names the file")
        os.chmod(node.data + "/identity.key", 0o644)
        node.stop()
        self.fails(self.warren(*same, "--data", node.data, "--listen", "/ip4/127.0.0.1/tcp/0"), NO,
                   "identity.key")

    def test_reload(self):
        path = self.home.write("my.conf", "limits = home\n")
        node = self.node("a", "--config", path)
        self.assertEqual(node.json("status")[0]["limits_knob"], "home")
        self.home.write("my.conf", "limits = small\ndht = server\n")
        node.process.send_signal(signal.SIGHUP)
        node.wait_log("reload done")
        self.assertEqual(node.json("status")[0]["limits_knob"], "small")
        self.assertEqual({r["name"]: r["max"] for r in node.json("limits")}["connections"], 192)
        self.assertIn("takes a restart\" key=dht", node.log)
        self.home.write("my.conf", "limits = enormous\n")
        node.process.send_signal(signal.SIGHUP)
        node.wait_log("reload refused")
        self.assertIn("my.conf:1: limits", node.log)
        self.assertEqual(node.json("status")[0]["limits_knob"], "small")
        # Whom it is to ask first is taken over as well: it knew nobody.
        first = self.node("first", "--dht", "server")
        lone = self.node("lone", "--config", self.home.write("lone.conf", "log = info\n"), bootstrap=[])
        self.assertEqual(lone("wait", "--online", "--timeout", "100ms").code, TIMEOUT)
        self.home.write("lone.conf", "bootstrap = %s\n" % first.addr)
        lone.process.send_signal(signal.SIGHUP)
        lone.wait_log("reloaded\" key=bootstrap")
        self.assertEqual(lone("wait", "--online", "--timeout", str(PATIENCE)).code, YES)

    def test_http(self):
        node = self.node("a", "--http", "127.0.0.1:0")
        node.wait_log("mod=http")
        port = re.search(r"mod=http .*addr=127\.0\.0\.1:(\d+)", node.log).group(1)
        for path, kind, has in (("/metrics", "text/plain; version=0.0.4", "warren_peers{"),
                                ("/", "text/html", node.peer)):
            with urllib.request.urlopen("http://127.0.0.1:%s%s" % (port, path)) as reply:
                self.assertIn(kind, reply.headers["Content-Type"])
                self.assertIn(has, reply.read().decode())
        self.fails(self.warren("run", "--data", self.home.at("b"), "--listen",
                               "/ip4/127.0.0.1/tcp/0", "--network", "lab", *QUIET,
                               "--http", "127.0.0.1:" + port), NO, "--http")

    def test_stop(self):
        node = self.node("a")
        self.assertEqual(node("stop").code, YES)
        self.assertEqual(node.process.wait(PATIENCE), 0)
        self.fails(self.warren("stop"), NO_NODE, "no node is running")


def rows_of(node):
    return {row["name"]: row for row in node.json("limits")}


class Look(Case):
    def test_status(self):
        a, b = self.pair()
        row = a.json("status")[0]
        self.has(row, "peer", "version", "uptime_ms", "network", "private", "data", "reachable",
                 "listen", "addresses", "observed", "peers", "streams", "bytes_in", "bytes_out", "dht",
                 "limits_knob", "limits", "warnings", "quic")
        self.has(row["paths"], "rtt_min_ms", "rtt_max_ms", "cwnd", "in_flight", "retransmits")
        self.assertEqual(row["relays"], {"search": "waiting", "held": 0, "lent": False, "guests": 0, "circuits": 0})
        self.has(row["peers"], "connected", "direct", "relayed", "lan", "inbound", "outbound")
        self.has(row["dht"], "mode", "table", "queries")
        self.has(row["addresses"][0], "addr", "source", "verdict", "since_ms")
        self.assertEqual((row["peer"], row["network"], row["peers"]["connected"]),
                         (a.peer, "lab", 1))
        self.assertEqual(row["listen"], a.listen)
        text = a("status").out
        for word in (a.peer, "reachable", "addresses", "dht", "budgets", "\npaths       round trips of ",
                     "\nrelays      0 hold a place for this node; ours is not lent\n"):
            self.assertIn(word, text)
        self.assertLess(len(text.splitlines()), 25)
        b.stop()
        self.assertIn("warren connect ADDR", a("status").out)
        self.assertEqual([w["code"] for w in a.json("status")[0]["warnings"]], ["no-peers"])

    def test_id(self):
        node = self.node("a")
        row = node.json("id")[0]
        self.has(row, "peer", "agent", "listen", "addrs", "protocols")
        self.assertEqual(row["peer"], node.peer)
        self.assertEqual(row["addrs"], [node.addr])
        self.assertIn("/ipfs/ping/1.0.0", row["protocols"])
        self.assertIn(node.peer, node("id").out)

    def test_peers(self):
        a, b = self.pair()
        row = a.json("peers")[0]
        self.has(row, "peer", "path", "addr", "direction", "transport", "security", "muxer",
                 "streams", "age_ms", "bytes_in", "bytes_out", "agent", "protocols")
        self.assertEqual((row["peer"], row["direction"], row["path"]), (b.peer, "in", "lan"))
        self.has(row, "rtt_smoothed_ms", "cwnd", "in_flight", "mtu", "retransmits")
        self.assertNotIn("migrations", row)
        self.assertIn(b.peer, a("peers").out)
        self.assertIn("no peers", self.node("c")("peers").out)

    def test_paths_over_quic(self):
        a, b = (self.node(name, listen="/ip4/127.0.0.1/udp/0/quic-v1") for name in "ab")
        self.assertEqual(b("connect", a.addr).code, YES)
        self.assertEqual(b("ping", a.peer, "--count", "1").code, YES)
        row = b.json("peers")[0]
        self.has(row, "rtt_ms", "rtt_smoothed_ms", "cwnd", "in_flight", "mtu", "loss_events", "migrations")
        self.assertEqual((row["transport"], row["migrations"]), ("quic-v1", 0))
        self.assertNotIn("retransmits", row)
        self.assertGreater(row["cwnd"], 2400)
        self.assertRegex(b("peers").out, "quic-v1 .*KiB")
        status = b.json("status")[0]
        self.assertEqual((status["peers"]["quic"], status["peers"]["tcp"]), (1, 0), b("peers", "--json").out + b.log)
        self.assertEqual(status["quic"]["connections"], 1)
        self.has(status["quic"], "loss_events", "migrations")
        self.assertIn("1 over quic", b("status").out)
        values = {row["metric"]: row["value"] for row in b.json("metrics")}
        self.assertEqual(values['warren_connections_transport{protocol="quic"}'], 1)
        self.assertEqual(values['warren_connections_rtt{le="+Inf"}'], 1)
        self.assertEqual(values["warren_quic_migrations_total"], 0)
        self.assertGreater(values["warren_cwnd_bytes"], 2400)

    def test_ping(self):
        a, b = self.pair()
        rows = a.json("ping", b.peer, "--count", "3", "--interval", "10ms")
        self.assertEqual([row["seq"] for row in rows], [1, 2, 3])
        for row in rows:
            self.has(row, "peer", "rtt_ms", "path", "addr", "upgraded")
            self.assertGreater(row["rtt_ms"], 0)
        out = a("ping", b.peer, "--count", "1").out
        self.assertRegex(out, b.peer + r"  \d+\.\d+ ms  lan  /ip4/127\.0\.0\.1/tcp/\d+\n")
        # It connects by itself, by address as by id.
        c = self.node("c")
        self.assertEqual(c("ping", a.addr, "--count", "1").code, YES)
        self.fails(a("ping", a.peer), NO, "this node itself")
        self.fails(a("ping", "nobody"), USAGE, "neither a peer id")
        b.process.send_signal(signal.SIGSTOP)
        try:
            self.assertEqual(a("ping", b.peer, "--count", "1", "--timeout", "300ms").code, TIMEOUT)
        finally:
            b.process.send_signal(signal.SIGCONT)

    def test_events(self):
        a, b = self.node("a"), self.node("b")
        watcher = self.home.popen("events", "--json", "--node", a.socket, "--count", "3",
                                  stdout=subprocess.PIPE, text=True)
        end = time.monotonic() + PATIENCE
        while a.json("metrics") and time.monotonic() < end:  # until the watcher is a client too
            clients = [r["value"] for r in a.json("metrics")
                       if r["metric"] == "warren_control_clients"]
            if clients[0] > 1:
                break
        b("connect", a.addr)
        out, _ = watcher.communicate(timeout=PATIENCE)
        self.assertEqual(watcher.returncode, YES)
        rows = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(len(rows), 3)
        self.has(rows[0], "event", "seq", "unix_ms")
        self.assertIn("connection-opened", [row["event"] for row in rows])
        self.assertEqual(a("events", "--timeout", "50ms").code, TIMEOUT)

    def test_metrics(self):
        node = self.node("a")
        text = node("metrics").out
        self.assertIn("# TYPE warren_peers gauge", text)
        for line in text.splitlines():
            self.assertRegex(line, r"^(# (HELP|TYPE) warren_\w+ .+|warren_\w+(\{\w+=\"[^\"]*\"\})? \d+)$")
        rows = node.json("metrics")
        self.assertGreater(len(rows), 60)
        self.has(rows[0], "metric", "value")

    def test_limits(self):
        a, b = self.pair()
        rows = rows_of(a)
        self.has(rows["connections"], "name", "unit", "used", "peak", "max", "refused")
        self.assertEqual([name for name in rows if "used" not in rows[name]],
                         ["connections-per-peer", "connections-per-network", "new-flows", "tries-of-a-silent-address",
                          "streams-per-connection", "streams-per-protocol"])
        self.assertRegex(a("limits").out, r"(?m)^connections-per-peer +- +- +8 +0$")
        self.assertNotIn('limit_used{limit="connections-per-peer"}', a("metrics").out)
        # What was said of the table is so.
        end = time.monotonic() + PATIENCE
        while not a.json("status")[0]["dht"]["table"]:
            self.assertLess(time.monotonic(), end)
        self.assertEqual(rows_of(a)["routing-table"]["used"], a.json("status")[0]["dht"]["table"])
        b.stop()

    def test_wait(self):
        a = self.node("a")
        for args in (["wait", "--timeout", "100ms"], ["wait", "--reachable", "--timeout", "100ms"],
                     ["wait", "--peer", STRANGER, "--timeout", "100ms"]):
            self.assertEqual(a(*args).code, TIMEOUT, args)
        waiting = self.home.popen("wait", "--online", "--node", a.socket)
        b = self.node("b")
        b("connect", a.addr)
        self.assertEqual(waiting.wait(PATIENCE), YES)
        self.assertEqual(a.json("wait", "--peer", b.peer)[0]["peer"], b.peer)
        # The node may start later than whoever waits for it.
        waiting = self.home.popen("wait", "--peer", a.peer, "--node", self.home.at("c/control.sock"),
                                  "--timeout", str(PATIENCE))
        c = self.node("c", "--control", self.home.at("c/control.sock"))
        c("connect", a.addr)
        self.assertEqual(waiting.wait(PATIENCE), YES)


class Connect(Case):
    def test_connect_and_disconnect(self):
        a, b = self.node("a"), self.node("b")
        row = b.json("connect", a.addr)[0]
        self.has(row, "peer", "path", "addr", "direction", "took_ms")
        self.assertEqual((row["peer"], row["path"]), (a.peer, "lan"))
        self.assertEqual(b("connect", a.addr).code, YES)  # it is connected already: yes
        self.assertEqual(b("disconnect", a.peer).code, YES)
        self.fails(b("disconnect", STRANGER), NO, "`warren peers` lists who is")
        row = b("disconnect", STRANGER, "--json").row()
        self.assertEqual(row["error"], "WR_ENOTFOUND")
        self.has(row, "text")
        self.assertEqual(b("connect", a.listen[0]).code, YES)  # without knowing who it is
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
            port = taken.getsockname()[1]
            self.fails(b("connect", "/ip4/127.0.0.1/tcp/%d/p2p/%s" % (port, STRANGER)), NO,
                       "is the other node running, and on that port?")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            port = gone.getsockname()[1]
        self.fails(b("connect", "/ip4/127.0.0.1/udp/%d/quic-v1/p2p/%s" % (port, STRANGER)), NO,
                   "is the other node running, and on that port?")
        self.fails(b("connect", a.listen[0] + "/p2p/" + STRANGER), NO, "another peer answers")
        self.fails(b("connect", STRANGER), NO, "connect by address")
        # A listener that never answers.
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            port = mute.getsockname()[1]
            self.assertEqual(b("connect", "/ip4/127.0.0.1/tcp/%d/p2p/%s" % (port, STRANGER),
                               "--timeout", "200ms").code, TIMEOUT)

    def test_allow_and_block(self):
        a, b = self.pair()
        self.assertEqual(a("block", b.peer).code, YES)
        self.assertEqual(a("block").out, b.peer + "\n")
        self.assertEqual(a.json("block"), [{"list": "block", "what": b.peer}])
        self.fails(a("connect", b.addr), NO, "`warren block` lists the rules")
        self.assertEqual(a.json("peers"), [])
        self.assertEqual(a("allow", "10.0.0.0/8").code, YES)
        self.assertEqual(a("allow").out, "10.0.0.0/8\n")
        self.fails(a("allow", "elephants"), USAGE, "neither a peer id nor a network")
        a.stop()
        again = self.node("a")
        self.assertEqual(again("block").out, b.peer + "\n")
        self.assertEqual(again("block", b.peer, "--remove").code, YES)
        self.fails(again("block", b.peer, "--remove"), NO, "no such rule")
        self.assertEqual(again("block").out, "")
        self.assertEqual(again("connect", b.addr).code, YES)


class Explain(Case):
    def why(self, node, target, code):
        result = node("why", target)
        row = node("why", target, "--json").row()
        self.assertEqual(result.code, YES if row["path"] != "none" else NO, result.err)
        self.assertEqual(row["code"], code, row)
        self.assertIn("(%s)" % code, result.out)
        self.assertIn(row["text"], result.out)
        self.assertIn(row["hint"], result.out)
        return row

    def test_check(self):
        a = self.node("a")
        result = a("check")
        row = a("check", "--json").row()
        self.assertEqual(result.code, NO)
        self.has(row, "code", "text", "hint", "findings", "reachable4", "reachable6", "udp", "tcp", "addresses")
        self.assertIn(row["code"], ("learning", "offline"))  # a machine without a cable may run this
        self.assertIn("(%s)" % row["code"], result.out)
        self.assertIn("mapping unknown", result.out)
        self.assertEqual(row["udp"]["samples"], 0)

    def test_check_of_a_port_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            listen = "/ip4/127.0.0.1/tcp/%d" % taken.getsockname()[1]
            a = self.node("a", "--listen", listen)
        self.assertEqual(len(a.listen), 1)
        self.assertIn("port-in-use", [f["code"] for f in a("check", "--json").row()["findings"]])
        self.assertIn("a port that this node was to listen on", a("status").out)

    def test_why(self):
        a, b = self.node("a", "--security", "noise"), self.node("b")
        self.why(b, STRANGER, "no-peers")
        row = self.why(b, a.addr, "lan")
        self.assertEqual([(t["addr"], t["code"], t["path"]) for t in row["tried"]],
                         [(a.listen[0], "connected", "direct")])
        self.why(b, a.peer, "lan")
        self.why(a, b.peer, "lan")
        self.why(b, b.peer, "ourselves")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
            row = self.why(b, "/ip4/127.0.0.1/tcp/%d/p2p/%s" % (taken.getsockname()[1], STRANGER),
                           "not-listening")
        self.has(row["tried"][0], "text", "hint", "took_ms", "ago_ms")
        row = self.why(b, a.listen[0] + "/p2p/" + STRANGER, "wrong-peer")
        self.assertEqual([t["code"] for t in row["tried"]], ["wrong-peer", "not-listening"])
        self.why(b, "/ip4/127.0.0.1/tcp/1/http/p2p/" + STRANGER, "wrong-peer")  # nothing new was dialled
        self.assertEqual(b("block", STRANGER).code, YES)
        self.why(b, STRANGER, "blocked")
        tls = self.node("c", "--security", "tls")
        self.assertEqual(tls("why", a.addr).code, NO)
        self.why(tls, a.addr, "unsupported")
        self.fails(b("why", "elephants"), USAGE, "peer")

    def test_why_of_another_network_key(self):
        key = "/key/swarm/psk/1.0.0/\n/base16/\n%s\n"
        a = self.node("a", "--psk", self.home.write("a.key", key % ("a" * 64)))
        b = self.node("b", "--psk", self.home.write("b.key", key % ("b" * 64)))
        self.why(b, a.addr, "wrong-network")

    def test_why_of_a_listener_that_never_answers(self):
        b = self.node("b")
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            target = "/ip4/127.0.0.1/tcp/%d/p2p/%s" % (mute.getsockname()[1], STRANGER)
            row = b("why", target, "--json").row()  # once: the handshake has 15 s
            self.assertEqual((row["path"], row["code"]), ("none", "silent"))


class Relay(Case):
    def wait_held(self, node):
        end = time.monotonic() + PATIENCE
        while [x["state"] for x in node.json("relay", "status")[0]["relays"]] != ["held"]:
            self.assertLess(time.monotonic(), end)

    def test_a_connection_through_a_relay(self):
        r = self.node("r", "--relay", "on")
        b, a = self.node("b", "--relay", "off", "--use-relay", r.addr), self.node("a")
        self.wait_held(b)
        row = b.json("relay", "status")[0]
        self.has(row, "search", "use", "lent")
        self.assertEqual(row["lent"]["offered"], False)
        relay = row["relays"][0]
        self.has(relay, "rtt_ms", "since_ms", "expires_ms", "refreshed", "circuits")
        self.assertEqual((relay["peer"], relay["owner"], relay["voucher"], relay["limited"]),
                         (r.peer, True, True, True))
        self.assertEqual((relay["limit_seconds"], relay["limit_bytes"]), (120, 128 << 10))
        self.assertEqual(relay["addrs"], [r.addr + "/p2p-circuit"])
        self.assertIn(r.peer, b("relay", "status").out)
        self.assertIn(r.addr + "/p2p-circuit/p2p/" + b.peer, b.json("id")[0]["addrs"])
        row = a.json("connect", r.addr + "/p2p-circuit/p2p/" + b.peer)[0]
        self.assertEqual((row["peer"], row["path"], row["addr"]), (b.peer, "relayed", r.addr + "/p2p-circuit"))
        lent = r.json("relay", "status")[0]["lent"]
        self.assertEqual([(g["peer"], g["circuits"]) for g in lent["guests"]], [(b.peer, 1)])
        self.assertEqual((lent["guests_now"], lent["circuits_now"]), (1, len(lent["circuits"])))
        self.assertGreater(lent["bytes"], 0)
        self.assertIn("relay_lent_guests 1", r("metrics").out)
        self.fails(a("relay", "use", "x"), USAGE, "ends in /p2p/PEER")
        self.fails(a("relay", "use", STRANGER, "--remove"), NO, "not in use")
        self.assertEqual(b("relay", "use", r.peer, "--remove").code, YES)
        self.assertEqual(b.json("relay", "status")[0]["relays"], [])
        self.assertEqual(a.json("relay", "use", r.addr)[0]["peer"], r.peer)
        self.assertEqual(a("relay", "use", STRANGER).code, YES)
        self.assertIn("\nrelay       /p2p/%s  holds no place for us, named by you\n" % STRANGER, a("relay", "status").out)

    def test_streams_over_a_circuit_with_limits(self):
        """Only for who says that little will do, on both sides."""
        r = self.node("r", "--relay", "on", listen="/ip4/127.0.0.3/tcp/0")
        b = self.node("b", "--relay", "off", "--use-relay", r.addr, listen="/ip4/127.0.0.2/tcp/0")
        a = self.node("a")
        # Each other's addresses are blocked, so that it stays relayed.
        self.assertEqual((a("block", "127.0.0.2/32").code, b("block", "127.0.0.1/32").code), (YES, YES))
        self.wait_held(b)
        row = a.json("connect", r.addr + "/p2p-circuit/p2p/" + b.peer)[0]
        for row in (row, next(x for x in a.json("peers") if x["peer"] == b.peer)):
            self.assertEqual((row["path"], row["limited"]), ("relayed", True))
            self.assertEqual((row["limit_seconds"], row["limit_bytes"]), (120, 128 << 10))
        self.assertEqual(self.talk(b, a, b"question\n", b"answer\n", "--limited"), (b"question\n", b"answer\n"))
        waiting = self.home.popen("cat", "--listen", "/chat/1", "--node", b.socket, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL)
        b.wait_protocol("/chat/1")
        self.fails(b("cat", "--listen", "/chat/1", "--limited"), NO, "accepted without limited just now")
        self.fails(a("cat", b.peer, "/chat/1", "--limited"), NO, "who accepts it has to say limited, too")
        self.assertEqual(a("cat", b.peer, "/chat/1", "--timeout", "500ms").code, TIMEOUT)
        waiting.terminate()
        waiting.wait()

    def test_lending(self):
        r = self.node("r")
        for mode, offered in (("off", False), ("on", True), ("auto", False)):
            row = r.json("relay", mode)[0]
            self.assertEqual((row["mode"], row["offered"]), (mode, offered))
            self.assertIn("relay %s:" % mode, r("relay", mode).out)
        self.assertEqual(r("relay", "on").code, YES)
        self.assertEqual(r("relay", "off").code, YES)
        self.assertEqual(r("relay", "auto").code, YES)
        self.assertIn("mode auto", r("relay", "status").out)

    def test_what_it_may_carry(self):
        path = self.home.write("my.conf", "relay-rate-each = 64K\n")
        r = self.node("r", "--config", path, "--relay-rate", "1M")
        lent = r.json("relay", "status")[0]["lent"]
        self.assertEqual((lent["rate"], lent["rate_each"]), (1 << 20, 64 << 10))
        self.assertIn("at most 1.0 MiB/s for all circuits, 64.0 KiB/s for each\n", r("relay", "status").out)
        self.home.write("my.conf", "relay-rate-each = none\n")
        r.process.send_signal(signal.SIGHUP)
        r.wait_log("reload done")
        lent = r.json("relay", "status")[0]["lent"]
        self.assertEqual((lent["rate"], lent["rate_each"]), (1 << 20, 0))
        self.assertIn("at most 1.0 MiB/s for all circuits\n", r("relay", "status").out)
        self.assertIn("--relay-rate-each", self.warren("help", "run").out)


class Discover(Case):
    def island(self):
        """Three servers that know the first, and are ready for questions."""
        nodes = [self.node(name, "--dht", "server") for name in "abc"]
        for node in nodes[1:]:
            self.assertEqual(node("connect", nodes[0].addr).code, YES)
            self.assertEqual(node("wait", "--online", "--timeout", "30").code, YES)
        return nodes

    def test_find_and_connect_by_id(self):
        a, b, c = self.island()
        row = c.json("find", b.peer)[0]
        self.assertEqual(row["peer"], b.peer)
        self.assertIn(b.listen[0], row["addrs"])
        self.assertIn(b.listen[0], c("find", b.peer).out)
        self.assertEqual(c("connect", b.peer).code, YES)
        self.fails(c("find", STRANGER), NO, "nobody who was asked knows that peer")
        self.fails(c("connect", STRANGER), NO, "cannot reach")
        off = self.node("e", "--dht", "off")
        self.fails(off("find", b.peer), NO, "`--dht auto` turns it on")

    def test_two_tables(self):
        """On the public network who is on no public address meets in a table of its own, and is in the other one for
        nobody."""
        a, b = (self.node(name, "--dht", "server", network="ipfs", public=False) for name in "ab")
        self.assertEqual(b("connect", a.addr).code, YES)
        for protocol in ("/ipfs/kad/1.0.0", "/ipfs/lan/kad/1.0.0"):
            b.wait_protocol(protocol)
        self.assertEqual(b("wait", "--online", "--timeout", "30").code, YES)
        self.assertEqual([(row["table"], row["peer"]) for row in b.json("dht", "table")], [("lan", a.peer)])

    def test_progress(self):
        """A terminal is told how a search goes, a pipe is not."""
        node = self.node("a")    # it knows nobody, and waits a while for somebody to ask
        find = ["find", STRANGER, "--node", node.socket]
        master, slave = pty.openpty()
        watched = self.home.popen(*find, stdout=subprocess.PIPE, stderr=slave)
        os.close(slave)
        piped = self.warren(*find)
        self.fails(piped, NO, "no peer of the DHT is known yet")
        self.assertNotIn("searching", piped.err)
        self.assertEqual(watched.communicate(timeout=PATIENCE)[0], b"")
        self.assertEqual(watched.returncode, NO)
        shown = b""
        with contextlib.suppress(OSError):    # the end, once nobody has the other side: it comes in as many pieces as it likes
            while piece := os.read(master, 65536):
                shown += piece
        os.close(master)
        shown = shown.decode()
        self.assertRegex(shown, r"searching for \d+ s, \d+ questions asked")
        # That line is wiped before what stays is said.
        self.assertRegex(shown, r"\r\x1b\[Kwarren: no peer of the DHT is known yet")

    def test_join_leave_and_find_in(self):
        a, b, c = self.island()
        self.assertEqual(b("join", "example-chat").code, YES)
        self.assertEqual(b.json("join")[0]["name"], "example-chat")
        self.assertIn("example-chat", b("join").out)
        end = time.monotonic() + PATIENCE
        while c("find", "--in", "example-chat").code != YES and time.monotonic() < end:
            pass
        rows = c.json("find", "--in", "example-chat", "--count", "5")
        self.assertEqual([row["peer"] for row in rows], [b.peer])
        self.fails(c("find", "--in", "nobody-here"), NO, "nobody is there")
        self.assertEqual(b("leave", "example-chat").code, YES)
        self.fails(b("leave", "example-chat"), NO, "was not joined")

    def test_provide_and_providers(self):
        a, b, c = self.island()
        self.fails(b("dht", "providers", CID), NO, "nobody")
        self.assertEqual(b("dht", "provide", CID).code, YES)
        rows = c.json("dht", "providers", CID)
        self.assertEqual([row["peer"] for row in rows], [b.peer])
        self.has(rows[0], "addrs")
        self.assertEqual(b("dht", "provide", CID, "--stop").code, YES)
        self.fails(b("dht", "provide", CID, "--stop"), NO, "does not provide that")
        self.fails(b("dht", "provide", "x"), USAGE, "is not a CID")

    def test_put_get_and_table(self):
        a, b, c = self.island()
        with open(b.data + "/identity.key", "rb") as file:
            public = bytes([8, 1, 18, 32]) + file.read()[-32:]
        key = "/pk/" + b.peer
        put = b.home.warren("dht", "put", key, "--node", b.socket, input=public, text=False)
        self.assertEqual((put.code, put.out), (YES, b"stored\n"), put.err)
        got = b.home.warren("dht", "get", key, "--node", c.socket, text=False)
        self.assertEqual((got.code, got.out), (YES, public))
        self.has(c.json("dht", "get", key)[0], "value")
        self.fails(b("dht", "put", key, "not-a-key"), NO, "")
        self.fails(b("dht", "put", "/x/y", "z"), NO, "/pk/PEER and /ipns/PEER")
        self.fails(c("dht", "get", "/pk/" + STRANGER), NO, "nobody who was asked has it")
        self.fails(c("dht", "get", "/other/x"), NO, "keys are /pk/PEER and /ipns/PEER")
        rows = c.json("dht", "table")
        self.assertIn(a.peer, [row["peer"] for row in rows])
        self.has(rows[0], "peer", "table", "bucket", "connected")
        self.assertIn(a.peer, c("dht", "table").out)


class Carry(Case):
    def test_perf(self):
        a, b = self.pair()
        self.fails(a("perf", b.peer, "--down", "1M"), NO, "allowed peers only")
        self.assertEqual(b("allow", a.peer).code, YES)
        rows = a.json("perf", b.peer, "--up", "3M", "--down", "2M")
        self.has(rows[-1], "peer", "up_bytes", "down_bytes", "up_seconds", "down_seconds")
        self.assertEqual((rows[-1]["up_bytes"], rows[-1]["down_bytes"]), (3 << 20, 2 << 20))
        out = a("perf", b.peer, "--down", "1M").out
        self.assertRegex(out, r"^down  1\.0 MiB in [\d.]+ s, [\d.]+ Gbit/s\n$")
        self.assertEqual(a("perf", STRANGER).code, NO)

    def test_cat(self):
        a, b = self.pair()
        self.assertEqual(self.talk(a, b, b"question\n", b"answer\n"), (b"question\n", b"answer\n"))
        self.assertEqual(self.talk(a, b, b"", b"only this way"), (b"", b"only this way"))
        self.assertEqual(self.talk(a, b, b"only that way", b""), (b"only that way", b""))
        up, down = os.urandom(5 << 20), os.urandom(7 << 20)
        got = self.talk(a, b, up, down)
        self.assertEqual([hashlib.sha256(data).hexdigest() for data in got],
                         [hashlib.sha256(data).hexdigest() for data in (up, down)])
        self.fails(b("cat", a.peer, "/nobody/1"), NO, "does not speak /nobody/1")
        self.fails(b("cat", a.peer, "chat"), USAGE, "is not a protocol name")
        self.assertEqual(b("cat", "--listen", "/chat/1", "--timeout", "50ms").code, TIMEOUT)
        # Nothing of it is left.
        a.wait_protocol("/chat/1", there=False)
        end = time.monotonic() + PATIENCE
        while a.json("status")[0]["streams"]:
            self.assertLess(time.monotonic(), end)

    def test_quic_on_poor_sockets(self):
        """Whatever the system refuses of what makes UDP fast, every byte arrives."""
        up, down = os.urandom(3 << 20), os.urandom(5 << 20)
        for turn, refused in enumerate((["buffers"], ["gro"], ["gso"], ["again"],
                                        ["buffers", "gro", "gso", "again"])):
            with self.subTest(refused=refused):
                self.home.env["POOR_SOCKETS"] = " ".join(refused)
                a, b = (self.node("%s%d" % (name, turn), listen="/ip4/127.0.0.1/udp/0/quic-v1", program=POOR_SOCKETS)
                        for name in "ab")
                self.assertEqual(b("connect", a.addr).code, YES)
                got = self.talk(a, b, up, down)
                self.assertEqual([hashlib.sha256(data).hexdigest() for data in got],
                                 [hashlib.sha256(data).hexdigest() for data in (up, down)])
                for node in (a, b):
                    self.assertEqual(node.stop(), YES)
                    counts = dict(re.findall(r"refused (\w+) (\d+)", node.log))
                    self.assertEqual([word for word, n in counts.items() if n != "0"], refused)

    def test_cat_with_a_reader_that_stalls(self):
        """What the reader does not take stays with the writer, not in the nodes."""
        a, b = self.pair()
        server = self.home.popen("cat", "--listen", "/bulk/1", "--node", a.socket,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        a.wait_protocol("/bulk/1")
        client = self.home.popen("cat", a.peer, "/bulk/1", "--node", b.socket,
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        os.set_blocking(client.stdin.fileno(), False)
        block, wrote = bytes(1 << 20), 0
        while wrote < 1 << 30 and select.select([], [client.stdin], [], 2)[1]:
            wrote += os.write(client.stdin.fileno(), block)  # until nothing goes in any more
        self.assertLess(wrote, 64 << 20)
        os.set_blocking(client.stdin.fileno(), True)
        counted = [0]

        def drain():
            while True:
                data = server.stdout.read(1 << 16)
                if not data:
                    return
                counted[0] += len(data)

        reader = threading.Thread(target=drain)
        reader.start()
        client.stdin.close()
        reader.join(PATIENCE)
        self.assertFalse(reader.is_alive())
        self.assertEqual(server.wait(PATIENCE), YES)
        self.assertEqual(client.wait(PATIENCE), YES)
        self.assertEqual(counted[0], wrote)
        server.stdout.close()

    def test_cat_ends_one_way_first(self):
        a, b = self.pair()
        server = self.home.popen("cat", "--listen", "/chat/1", "--node", a.socket,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        a.wait_protocol("/chat/1")
        client = self.home.popen("cat", a.peer, "/chat/1", "--node", b.socket,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(client.stdout.read(), b"")  # the server has finished, and we hear of it
        self.assertIsNone(client.poll())
        client.stdin.write(b"still here")
        client.stdin.close()
        out, _ = server.communicate(timeout=PATIENCE)
        self.assertEqual(out, b"still here")
        self.assertEqual((client.wait(PATIENCE), server.returncode), (YES, YES))
        client.stdout.close()

    def test_cat_reads_on_when_the_stream_is_over(self):
        """The last bytes wait in the node until the program takes them."""
        a, b = self.pair()
        server = self.home.popen("cat", "--listen", "/chat/1", "--node", a.socket,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        a.wait_protocol("/chat/1")
        # More than a pipe, a socket and the other process hold at most (344,064), less than the node and a pipe at least:
        # what a socket holds depends on the pieces that it is filled with, and those on the machine.
        data = os.urandom(380000)
        client = self.home.popen("cat", a.peer, "/chat/1", "--node", b.socket,
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        client.communicate(data, timeout=PATIENCE)
        self.assertEqual(client.returncode, YES)
        end = time.monotonic() + PATIENCE
        while a.json("status")[0]["streams"]:
            self.assertLess(time.monotonic(), end)
        out, _ = server.communicate(timeout=PATIENCE)
        self.assertEqual(hashlib.sha256(out).hexdigest(), hashlib.sha256(data).hexdigest())
        self.assertEqual(server.returncode, YES)

    def test_cat_that_is_killed(self):
        a, b = self.pair()
        server = self.home.popen("cat", "--listen", "/chat/1", "--node", a.socket,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        a.wait_protocol("/chat/1")
        client = self.home.popen("cat", a.peer, "/chat/1", "--node", b.socket,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        client.stdin.write(b"half")
        client.stdin.flush()
        self.assertEqual(server.stdout.read(4), b"half")
        client.kill()
        client.communicate()
        out, _ = server.communicate(timeout=PATIENCE)  # the stream ended, so it ends
        self.assertEqual(out, b"")
        self.assertEqual(a("status").code, YES)
        self.assertEqual(b("status").code, YES)


if __name__ == "__main__":
    unittest.main(verbosity=2)
