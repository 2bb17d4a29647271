"""kill -9 of the whole node under load, again and again: kill_node.py BUILD_DIR [--kills N] [--seed N]

The node listens on loopback and knows nobody. While it lives its owner sets rules over the control socket, and peers
store records of their keys and announce content in its DHT. Then it is killed. It has to start again, with the
identity that it had and a store that opens, and know whatever it had acknowledged more than five seconds before the
kill. The closing line counts: N passed, N failed, N skipped.
"""
import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "interop"))
import peerproc  # noqa: E402

KILLS = 20
LOSS_MAX = 5.0       # seconds; design.md: the last few
LIFE = (0.2, 9.0)    # seconds from ready to the kill
PATIENCE = 60        # seconds that anything may take on a loaded machine
RULES_PER_LIFE = 45  # so that all fit the list
HOSTS = 8            # peers inside the process that loads the DHT


class Node:
    def __init__(self, program, directory, flags=("--listen", "/ip4/127.0.0.1/tcp/0", "--dht", "server")):
        self.program, self.directory, self.flags = program, directory, flags
        self.control = os.path.join(directory, "control.sock")

    def start(self):
        """The peer id; fails when the node ends or says nothing."""
        self.log = open(os.path.join(self.directory, "log"), "wb")
        self.proc = subprocess.Popen(
            [self.program, "run", "--data", os.path.join(self.directory, "data"), "--control", self.control, "--network",
             "lab", "--bootstrap", "none", "--no-mdns", "--no-portmap", *self.flags], stdout=subprocess.PIPE, stderr=self.log, text=True)
        said = {}
        for line in self.proc.stdout:
            word, value = line.split(None, 1)
            said[word] = value.strip()
            if word == "ready":
                break
        if "ready" not in said:
            raise AssertionError("the node did not start again: exit %s, %s" % (self.proc.wait(), self.words()))
        self.addr = said["listen"] + "/p2p/" + said["peer"]
        return said["peer"]

    def words(self):
        with open(self.log.name, errors="replace") as log:
            return log.read()[-2000:]

    def kill(self):
        self.proc.kill()
        self.proc.wait()
        self.proc.stdout.close()
        self.log.close()

    def ask(self, *args):
        return subprocess.run([self.program, *args, "--json", "--node", self.control], capture_output=True, text=True,
                              timeout=PATIENCE)


class Load:
    """What is written, and when it was acknowledged: {(kind, name): instant}."""

    def __init__(self, node, peer_program, life, acked):
        self.node, self.life, self.acked = node, life, acked
        self.over = threading.Event()
        self.peer = peerproc.Peer("warren", ["--hosts", HOSTS, "--dht", "client", "--dht-prefix", "/lab"],
                                  path=peer_program)
        self.threads = [threading.Thread(target=f, args=a, daemon=True)
                        for f, a in [(self.rules, ())] + [(self.records, (h,)) for h in range(HOSTS)]]
        for t in self.threads:
            t.start()

    def rules(self):
        for i in range(RULES_PER_LIFE):
            what = "45.%d.%d.0/24" % (self.life, i)
            if self.over.is_set():
                return
            if self.node.ask("block", what).returncode == 0:
                self.acked["rule", what] = time.monotonic()
            self.over.wait(0.1)

    def records(self, host):
        try:
            self.peer.call("connect", host=host, addr=self.node.addr)
            key = b"/pk/" + peerproc.id_bytes(self.peer.id(host))
            value = self.peer.call("key", host=host)["publicKey"]
            self.peer.call("dht-put", host=host, key=key.hex(), value=value)
            self.acked["value", key.hex(), value] = time.monotonic()
            for i in range(1000):
                cid = peerproc.cid_of(b"%d %d %d" % (self.life, host, i))
                self.peer.call("dht-provide", host=host, cid=cid)
                self.acked["provider", cid, self.peer.id(host)] = time.monotonic()
                if self.over.wait(0.15):    # the node takes 20 requests a second of each peer
                    return
        except peerproc.PeerError:
            pass    # the node was killed meanwhile

    def stop(self):
        self.over.set()
        self.peer.stop()
        for t in self.threads:
            t.join()


class Check:
    """Asks the restarted node, as many peers: it takes 200 requests at once of each."""

    def __init__(self, node, peer_program):
        self.node, self.asked = node, 0
        self.peer = peerproc.Peer("warren", ["--hosts", HOSTS, "--dht", "client", "--dht-prefix", "/lab"],
                                  path=peer_program)
        for host in range(HOSTS):
            self.peer.call("connect", host=host, addr=node.addr)
        self.blocked = {row["what"] for row in map(json.loads, node.ask("block").stdout.splitlines()) if "what" in row}

    def has(self, item):
        if item[0] == "rule":
            return item[1] in self.blocked
        self.asked += 1
        host = self.asked % HOSTS
        try:
            if item[0] == "value":
                return self.peer.call("dht-get", host=host, key=item[1])["value"] == item[2]
            answer = self.peer.call("dht-find-providers", host=host, cid=item[1], count=20)
            return item[2] in {p["id"] for p in answer["providers"]}
        except peerproc.PeerError:
            return False

    def stop(self):
        self.peer.stop()


def one_life(node, life, seconds, peer_program, acked, kept, rng, expected_id):
    """Kills it after so long and starts it again: what is wrong then."""
    load = Load(node, peer_program, life, acked)
    time.sleep(seconds)
    node.kill()
    killed_at = time.monotonic()
    load.stop()
    wrong = []
    if node.start() != expected_id:
        wrong.append("it has another identity")
    check = Check(node, peer_program)
    due = [item for item, at in acked.items() if at < killed_at - LOSS_MAX]
    again = rng.sample(sorted(kept), min(20, len(kept)))
    missing = [item for item in due + again if not check.has(item)]
    if missing:
        wrong.append("%d of %d acknowledged records are missing, such as %s" % (len(missing), len(due) + len(again),
                                                                              missing[0]))
    young = [item for item, at in acked.items() if at >= killed_at - LOSS_MAX]
    saved = [item for item in young if check.has(item)]
    check.stop()
    kept.update(set(due + saved) - set(missing))
    acked.clear()
    text = node.words()
    if "damaged" in text or "rebuilt" in text:
        wrong.append("its store did not open: " + text)
    print("%-6s hostile/kill_node life %2d of %.1f s: %d records due, %d seen before, %d of %d younger ones lost" %
          ("FAILED" if wrong else "ok", life, seconds, len(due), len(again), len(young) - len(saved), len(young)),
          *wrong, sep="\n         ", flush=True)
    return not wrong, len(due)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--kills", type=int, default=KILLS)
    p.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    args = p.parse_args()
    build = os.path.abspath(args.build)
    peer_program = os.path.join(build, "tests/interop/warren_peer/warren_peer")
    if not os.access(peer_program, os.X_OK):
        print("hostile/kill_node skipped: warren_peer was not built (it needs jansson)")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    print("seed %d" % args.seed)
    rng = random.Random(args.seed)
    directory = tempfile.mkdtemp(prefix="warren-kill-")
    node = Node(os.path.join(build, "tools/warren"), directory)
    acked, kept, good, due = {}, set(), 0, 0
    expected_id = node.start()
    try:
        for life in range(args.kills):
            right, count = one_life(node, life, rng.uniform(*LIFE), peer_program, acked, kept, rng, expected_id)
            good, due = good + right, due + count
    finally:
        node.kill()
        shutil.rmtree(directory)
    failed = args.kills - good
    if due == 0:
        print("FAILED nothing was ever acknowledged for long enough")
        failed += 1
    print("%d passed, %d failed, 0 skipped" % (good, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
