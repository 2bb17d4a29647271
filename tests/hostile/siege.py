"""What floods over a network share: the node that bears them, and an attacker on a fast cable with millions of addresses.

The addresses are public ones, as nobody in these namespaces has any other way to be from elsewhere: the rules for
strangers' networks apply.
"""
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

NODE, GOOD, PORT = "45.81.0.2", "45.81.0.1", 4001    # the node's and the good peer's end of their link
NODE_EVIL, CABLE_EVIL = "45.90.0.2", "45.90.0.1"     # of the cable
EVIL_NET, EVIL_BLOCK = "46.0", "46.0.0.0/9"          # all of it lies behind the attacker's end


class Node:
    """A node on a host of the lab. `peak`: the most anonymous memory, in KiB, that it was seen with."""

    def __init__(self, host, program, *flags, **kw):
        self.host, self.program, self.id, self.peak = host, program, None, 0
        self.directory = tempfile.mkdtemp(prefix="warren-hostile-")
        self.control = os.path.join(self.directory, "control.sock")
        self.log = open(os.path.join(self.directory, "log"), "ab")
        self.proc = host.popen([program, "run", "--data", self.directory, "--control", self.control, "--network", "lab",
                                "--bootstrap", "none", "--no-mdns", "--no-portmap", *flags], stdout=subprocess.PIPE,
                               stderr=self.log, text=True, **kw)
        for line in self.proc.stdout:
            word, value = line.split(None, 1)
            if word == "peer":
                self.id = value.strip()
            if word == "ready":
                break
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while self.proc.poll() is None:
            self.peak = max(self.peak, self.anonymous())
            time.sleep(0.05)

    def anonymous(self):
        try:
            with open("/proc/%d/status" % self.proc.pid) as status:
                return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))
        except (OSError, StopIteration):
            return 0

    def cpu(self):
        with open("/proc/%d/stat" % self.proc.pid) as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, *args, timeout=60):
        return self.host.run([self.program, *args, "--node", self.control], capture_output=True, text=True,
                             timeout=timeout)

    def rows(self, *args):
        """The objects that a command answers with."""
        done = self.ask(*args, "--json")
        if done.returncode != 0:
            raise RuntimeError("warren %s: %s %s" % (" ".join(args), done.stdout, done.stderr))
        return [json.loads(line) for line in done.stdout.splitlines()]

    def log_tail(self):
        with open(self.log.name, errors="replace") as log:
            return "".join(log.readlines()[-5:])

    def close(self):
        """Its exit status."""
        try:
            if self.proc.poll() is None:
                self.proc.terminate()
            return sanitized.ended(self.proc, 10)
        finally:
            self.log.close()
            shutil.rmtree(self.directory)


def ip(host, *args):
    subprocess.run(["ip", "-n", host.ns, *args], check=True)


def cable(node, evil):
    subprocess.run(["ip", "link", "add", "cable", "netns", evil.ns, "type", "veth", "peer", "name", "cable", "netns",
                    node.ns], check=True)
    for host, address in ((evil, CABLE_EVIL), (node, NODE_EVIL)):
        ip(host, "addr", "add", address + "/24", "dev", "cable")
        ip(host, "link", "set", "cable", "up")
    ip(evil, "route", "add", "local", EVIL_BLOCK, "dev", "lo")
    ip(node, "route", "add", EVIL_BLOCK, "via", CABLE_EVIL)
