#!/usr/bin/env python3
"""The transport test of the public interop suites, in both of their forms, over a real Redis: every combination that
warren speaks, against itself, go, rust and js, in both roles. The contract is suite/README.md.

    WARREN_SUITE=PATH suite.py                 all of it
    WARREN_SUITE=PATH suite.py --only quic     only combinations whose name has this in it
    suite.py --foreign                         the control: foreign programs among themselves as well

Everything runs in a network namespace of its own, with one address that is none of the loopback's and no way out, so
the programs listen on 0.0.0.0 as they are told to in the suites. The last line is 'N passed, N failed, N skipped'.
"""

import argparse
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import peerproc

INSIDE = "WARREN_SUITE_INSIDE"  # set in the namespace
ADDRESS = "11.0.0.1"            # counts as public everywhere, and nothing leaves
REDIS = f"{ADDRESS}:6379"
TIMEOUT = 40                    # seconds of one test; the suites give 180
COMBINATIONS = [("tcp", "noise", "yamux"), ("tcp", "tls", "yamux"), ("quic-v1", None, None)]
NEWER = re.compile(r"latency:\n  handshake_plus_one_rtt: (\d+\.?\d*)\n  ping_rtt: (\d+\.?\d*)\n  unit: ms\n")
OLDER = re.compile(r'\{[^{}]*"handshakePlusOneRTTMillis": *(\d+\.?\d*)[^{}]*"pingRTTMilllis": *(\d+\.?\d*)[^{}]*\}')


def environment(form, dialer, combination, name, timeout=TIMEOUT):
    transport, security, muxer = combination
    role = "true" if dialer else "false"
    if form == "newer":
        test = hashlib.sha256((name + "\n").encode()).hexdigest()[:8]
        values = {"TEST_KEY": test, "IS_DIALER": role, "TRANSPORT": transport, "SECURE_CHANNEL": security,
                  "MUXER": muxer, "LISTENER_IP": "0.0.0.0", "REDIS_ADDR": REDIS, "DEBUG": "false",
                  "TEST_TIMEOUT_SECS": str(timeout)}
    else:
        values = {"is_dialer": role, "transport": transport, "security": security, "muxer": muxer, "ip": "0.0.0.0",
                  "redis_addr": REDIS, "test_timeout_seconds": str(timeout)}
    keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "ASAN_OPTIONS", "UBSAN_OPTIONS")}
    return dict(keep, **{k: v for k, v in values.items() if v is not None})


def launch(program, env):
    return subprocess.Popen([program], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def end(process, how="terminate"):
    """Its exit code and what it wrote; it is ended if it has not."""
    if process.poll() is None:
        getattr(process, how)()
    try:
        out, err = process.communicate(timeout=peerproc.sanitized.patience(10))
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return process.returncode, out, err


def ask_redis(*args):
    with socket.create_connection((ADDRESS, 6379), timeout=5) as s:
        s.sendall(f"*{len(args)}\r\n".encode() + b"".join(f"${len(a)}\r\n{a}\r\n".encode() for a in args))
        return s.recv(65536)


def check(truth, text):
    if not truth:
        raise AssertionError(text)


def meet(programs, form, combination, dialer, listener, name):
    """One test as the suites run it; returns the times that the dialer printed."""
    one = launch(programs[listener], environment(form, False, combination, name))
    other = launch(programs[dialer], environment(form, True, combination, name))
    try:
        out, err = other.communicate(timeout=TIMEOUT + 20)
    except subprocess.TimeoutExpired:
        _, out, err = end(other, "kill")
    alive = one.poll() is None
    code, _, said = end(one)
    logs = f"\ndialer: {err[-600:]}\nlistener: {said[-600:]}"
    check(other.returncode == 0, f"the dialer ended with {other.returncode}{logs}")
    check(alive, f"the listener ended by itself with {code}{logs}")
    found = (NEWER if form == "newer" else OLDER).search(out)
    check(found, f"no result in {out!r}{logs}")
    whole, ping = float(found[1]), float(found[2])
    check(0 < ping < whole, f"a ping of {ping} ms within {whole} ms")
    return f"{whole:.1f} ms, ping {ping:.2f} ms"


def refuses(programs, form, combination):
    """What warren has not got ends at once, and not with 0."""
    for dialer in (True, False):
        code, _, err = end_by_itself(launch(programs["warren"], environment(form, dialer, combination, "refused")), 20)
        check(code not in (0, None), f"exit {code} for {combination}")
        check(err.strip(), "no word about it")


def end_by_itself(process, patience):
    try:
        out, err = process.communicate(timeout=patience)
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        end(process, "kill")
        return None, "", ""


def times_out(programs, form, dialer):
    """Nobody comes: it ends when the test's time is over, and not with 0."""
    env = environment(form, dialer, COMBINATIONS[0], f"alone {form} {dialer}", timeout=2)
    ask_redis("DEL", "listenerAddr")
    code, _, _ = end_by_itself(launch(programs["warren"], env), 20)
    check(code not in (0, None), f"exit {code}")


def publishes(programs, form):
    """The list holds one address, which others can reach and which names the peer."""
    name = f"publishes {form}"
    env = environment(form, False, COMBINATIONS[2], name)
    key = env["TEST_KEY"] + "_listener_multiaddr" if form == "newer" else "listenerAddr"
    ask_redis("DEL", key)
    ask_redis("RPUSH", key, "/ip4/127.0.0.1/udp/1/quic-v1")  # left over from another run
    listener = launch(programs["warren"], env)
    try:
        peerproc.eventually(lambda: b"/p2p/12D3KooW" in ask_redis("LRANGE", key, "0", "-1"))
        answer = ask_redis("LRANGE", key, "0", "-1").decode()
        check(answer.startswith("*1\r\n"), f"more than one value: {answer!r}")
        check(f"/ip4/{ADDRESS}/udp/" in answer, f"not the address: {answer!r}")
    finally:
        code, _, _ = end(listener)
    check(code == 0, f"exit {code} after SIGTERM")


def cases(options, programs):
    impls = [i for i in peerproc.IMPLS if i in programs]
    for form in ("newer", "older"):
        for combination in COMBINATIONS:
            label = " ".join(c for c in combination if c)
            for dialer in impls:
                for listener in impls:
                    if "warren" not in (dialer, listener) and not options.foreign:
                        continue
                    name = f"{dialer} x {listener} ({label})"
                    yield (f"{form} {label:16} {dialer} -> {listener}",
                           lambda f=form, c=combination, d=dialer, l=listener, n=name: meet(programs, f, c, d, l, n))
        for combination in (("tcp", "noise", "mplex"), ("tcp", None, "yamux"), ("ws", "noise", "yamux")):
            yield (f"{form} refused {' '.join(str(c) for c in combination)}",
                   lambda f=form, c=combination: refuses(programs, f, c))
        for dialer in (True, False):
            yield (f"{form} alone, {'dialer' if dialer else 'listener'}",
                   lambda f=form, d=dialer: times_out(programs, f, d))
        yield f"{form} publishes", lambda f=form: publishes(programs, f)


def run_inside(options):
    subprocess.run("ip link set lo up && ip link add name here type veth peer name there && ip link set there up && "
                   f"ip addr add {ADDRESS}/24 dev here && ip link set here up", shell=True, check=True)
    programs, reasons = peerproc.programs()
    count = {"passed": 0, "failed": 0, "skipped": 0}
    suites = {"warren": os.environ["WARREN_SUITE"]}
    for impl in peerproc.FOREIGN:
        if impl in programs:
            suites[impl] = os.path.join(os.path.dirname(programs[impl]), "suite")
        else:
            outcome = "failed" if impl in peerproc.broken else "skipped"
            count[outcome] += 1
            print(f"{outcome:8}{impl}: {reasons[impl]}")
    with tempfile.TemporaryDirectory() as where:
        redis = subprocess.Popen(["redis-server", "--bind", ADDRESS, "--port", "6379", "--protected-mode", "no",
                                  "--save", "", "--appendonly", "no", "--dir", where],
                                 executable=redis_program(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            peerproc.eventually(redis_answers)
            for name, function in cases(options, suites):
                if options.only in name:
                    count[run_case(name, function)] += 1
        finally:
            redis.terminate()
            redis.wait()
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


def redis_program():
    """The server. Debian's package redis-tools has it too, under the name of a tool (it looks at the name by which it
    is called), and starts no daemon when it is installed."""
    return shutil.which("redis-server") or shutil.which("redis-check-rdb")


def redis_answers():
    try:
        return b"PONG" in ask_redis("PING")
    except OSError:
        return False


def run_case(name, function):
    began = time.monotonic()
    outcome, note = "passed", ""
    try:
        note = function() or ""
    except Exception as e:  # a failed case must not end the run
        outcome, note = "failed", str(e) if isinstance(e, AssertionError) else f"{type(e).__name__}: {e}"
    print(f"{outcome:8}suite {name:48}{time.monotonic() - began:6.1f} s" + (f"  {note}" if note else ""), flush=True)
    return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--foreign", action="store_true")
    options = parser.parse_args()
    if os.environ.get(INSIDE):
        return run_inside(options)
    if not os.access(os.environ.get("WARREN_SUITE", ""), os.X_OK):
        sys.exit("WARREN_SUITE does not name a program")
    if not redis_program():
        print("skipped suite: no Redis here (Debian package redis-tools)\n0 passed, 0 failed, 1 skipped")
        return 0
    peerproc.programs()  # they are built outside, where the packages are
    private = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    return subprocess.run(private + [sys.executable, os.path.abspath(__file__)] + sys.argv[1:],
                          env=dict(os.environ, **{INSIDE: "1"})).returncode


if __name__ == "__main__":
    sys.exit(main())
