"""A node's QUIC socket flooded by strangers: quic_flood.py BUILD_DIR [--only MODE,...] [--rate N]

Three hosts in network namespaces without a route out: the node; a good peer behind a link of 100 Mbit/s and 20 ms
round trip; and an attacker on a fast cable with 8 million addresses, who sends 20,000 datagrams a second, each from
another address (quic_flood.c has the modes). During each flood the good peer moves 20 MiB each way over the connection
that it has. Asked of every flood:

- both directions keep at least 80 % of the rate that they had without it;
- the node's anonymous memory grows by less than 12 MiB beyond its quiet peak: a crowd of half-open handshakes fits
  into that, and no more;
- the answers are less than three times what was sent; none at all to what is no first packet, but for a bounded
  number of stateless resets;
- afterwards nothing of it is left under the node's limits, and a newcomer connects.

Then come insiders: 16 peers whose handshake is over, from as many networks, who have nothing in mind but to keep the node
busy (quic_insider.c has the modes), 5,000 times a second together. Of them the same is asked, but for the answers.

A flood after which only the rates were wrong is tried again, up to three times: the machine may have had other things
to do; one in which the attacker himself did not reach his rate says nothing, and counts as skipped in the end. Under
sanitizers (natlab/sanitized.py) all three rates and the memory are told and not judged: they are what the sanitizers
leave. The closing line counts: N passed, N failed, N skipped.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "natlab"))
import lab as lab_module  # noqa: E402
import sanitized  # noqa: E402
import siege  # noqa: E402
from siege import CABLE_EVIL, EVIL_BLOCK, GOOD, NODE, NODE_EVIL, PORT  # noqa: E402

RATE_MBIT, DELAY_MS = 100, 10
BYTES = "20M"
KEPT = 0.8             # of the rate without a flood
GROWTH_KIB = 12 * 1024
TRIES = 3
FRAMES = os.path.join(HERE, "client_hello.bin")
# mode, answers are allowed up to so many times what was sent
MODES = [("hello", 3), ("token", 3), ("junk", 3), ("version", 1), ("short", 1), ("odd", 1)]
INSIDERS = ["keys", "limits", "streams", "empty"]
INSIDER_COUNT, INSIDER_FIRST = 16, "46.0.0.1"


def quic_node(host, program, address):
    return siege.Node(host, program, "--listen", "/ip4/%s/udp/%d/quic-v1" % (address, PORT))


def used(node, name):
    return next(row["used"] for row in node.rows("limits") if row["name"] == name)


def drops(host):
    """Datagrams that the host's sockets had no room for."""
    lines = [line.split() for line in host.run(["cat", "/proc/net/snmp"], capture_output=True, text=True).stdout.splitlines()
             if line.startswith("Udp:")]
    return int(dict(zip(*lines))["RcvbufErrors"])


def rates(good, node):
    """MiB/s up and down."""
    row = good.rows("perf", node.id, "--up", BYTES, "--down", BYTES)[-1]
    return (row["up_bytes"] / row["up_seconds"] / 2**20, row["down_bytes"] / row["down_seconds"] / 2**20)


def settles(node):
    end = time.monotonic() + sanitized.patience(20)
    while used(node, "connections-half-open"):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def one_flood(args, node, good, evil, quiet, mode, most):
    """What is wrong, and whether it was the rates alone; whether the attacker did what he should; the text that tells of
    it. most: None of an insider."""
    before, lost, cpu, began = node.peak, drops(node.host), node.cpu(), time.monotonic()
    if most is None:
        command = [args.insider, mode, NODE_EVIL, str(PORT), INSIDER_FIRST, str(INSIDER_COUNT), "60", str(args.rate / 4)]
    else:
        command = [args.flood, mode, NODE_EVIL, str(PORT), EVIL_BLOCK, "60", str(args.rate), FRAMES]
    flood = evil.popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.nice(5))
    wrong, slow = [], []
    try:
        time.sleep(0.5)
        up, down = rates(good, node)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        wrong.append(str(error))
        up = down = 0.0
    share = (node.cpu() - cpu) / (time.monotonic() - began)
    flood.send_signal(signal.SIGTERM)
    report = json.loads(flood.communicate(timeout=sanitized.patience(20))[0])
    for name, got, had in (("up", up, quiet[0]), ("down", down, quiet[1])):
        if got < KEPT * had and not sanitized.SANITIZED:
            slow.append("%s at %.1f of %.1f MiB/s" % (name, got, had))
    if node.peak - before > GROWTH_KIB and not sanitized.SANITIZED:
        wrong.append("memory grew by %d KiB" % (node.peak - before))
    if not settles(node):
        wrong.append("%d handshakes are still half open" % used(node, "connections-half-open"))
    text = "up %.1f, down %.1f MiB/s, %.0f %% busy, +%d KiB, %d a second (%d dropped), " % (
        up, down, 100 * share, node.peak - before, report["rate"], drops(node.host) - lost)
    if most is None:
        if not report["open"] and not report["ended"]:
            wrong.append("no insider came in")
        text += "%d inside, %d put out, %d streams, %d keys" % tuple(report[k] for k in ("open", "ended", "streams", "keys"))
        return wrong, slow, report["rate"] > 0, text
    if report["answers"] > most * report["bytes"]:
        wrong.append("answers of %d bytes to %d" % (report["answers"], report["bytes"]))
    text += "answers %.3f of what was sent" % (report["answers"] / report["bytes"])
    return wrong, slow, report["rate"] >= 0.9 * args.rate or sanitized.SANITIZED, text


def newcomer(host, args, node):
    peer = quic_node(host, args.warren, CABLE_EVIL)
    try:
        peer.rows("connect", "/ip4/%s/udp/%d/quic-v1/p2p/%s" % (NODE_EVIL, PORT, node.id))
        return []
    except RuntimeError as error:
        return ["a newcomer could not connect: %s" % error]
    finally:
        peer.close()


def run(args, hall):
    node_host, good_host, evil = (hall.host(name) for name in ("node", "good", "evil"))
    hall.link(good_host, GOOD + "/24", node_host, NODE + "/24", delay_ms=DELAY_MS, rate_mbit=RATE_MBIT, queue_kib=512)
    siege.cable(node_host, evil)
    passed = failed = skipped = 0
    node, good = (quic_node(host, args.warren, "0.0.0.0") for host in (node_host, good_host))
    try:
        node.rows("allow", good.id)
        good.rows("connect", "/ip4/%s/udp/%d/quic-v1/p2p/%s" % (NODE, PORT, node.id))
        rates(good, node)    # windows and buffers have grown
        quiet = rates(good, node)
        print("       quiet                up %.1f, down %.1f MiB/s" % quiet, flush=True)
        for mode, most in MODES + [(mode, None) for mode in INSIDERS]:
            if args.only and mode not in args.only.split(","):
                continue
            for _ in range(TRIES):
                wrong, slow, flooded, text = one_flood(args, node, good, evil, quiet, mode, most)
                if wrong or (flooded and not slow):
                    break
            if not flooded and not wrong:
                print("skipped hostile/quic-%s: this machine does not reach %d a second: %s" % (mode, args.rate, text))
                skipped += 1
                continue
            wrong += slow + newcomer(evil, args, node)
            print("%-6s hostile/quic-%-8s %s" % ("FAILED" if wrong else "ok", mode, text), *wrong,
                  sep="\n         ", flush=True)
            passed, failed = passed + (not wrong), failed + bool(wrong)
    finally:
        node.close()
        good.close()
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", default="")
    p.add_argument("--rate", type=int, default=20000)
    p.add_argument("build")
    args = p.parse_args()
    for name, path in (("warren", "tools/warren"), ("flood", "tests/hostile/quic_flood"),
                       ("insider", "tests/hostile/quic_insider"),
                       ("link", "tests/natlab/lab_link")):
        setattr(args, name, os.path.join(os.path.abspath(args.build), path))
    reason = lab_module.why_not()
    if reason:
        print("hostile/quic_flood skipped: %s\n0 passed, 0 failed, %d skipped" % (reason, len(MODES + INSIDERS)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))    # and clean up
    with lab_module.Lab(args.link) as hall:
        return run(args, hall)


if __name__ == "__main__":
    sys.exit(main())
