#!/usr/bin/env python3
"""tools/lab: a described network comes up, commands run in it, it goes down again.

usage: tools/lab FILE                    its run and start lines; then, on a terminal, commands that you type
       tools/lab FILE HOST COMMAND ...   its lines, then this command
       tools/lab --check FILE            only says what the description means
       tools/lab --measure FILE          what each site's NAT turns out to be

FILE may be - for standard input. docs/lab.md describes the language. The exit status is that of the first command that
failed. Programs of this build, such as warren, are in PATH.
"""
import argparse
import os
import re
import shlex
import subprocess
import sys
import time

import box
import describe
import probe
from net import Failed, Net

READY_SECONDS = 30


def table(net):
    lines = []
    for router in net.routers.values():
        place = router.place
        kind = place.kind + ("" if place.in_kernel else " (user space)")
        link = " ".join("%s=%g" % item for item in place.link.items())
        behind = " behind " + place.behind if place.behind else ""
        lines.append("%-11s %s %s%s %s" % (place.name, router.outside, kind, behind, link))
        lines += ["  %-9s %s%s" % (host.name, host.addr, " " + host.addr6 if host.addr6 else "")
                  for host in router.hosts]
    return "\n".join(line.rstrip() for line in lines)


def fill(net, words):
    """{HOST.addr}, {HOST.public} and {HOST.peer} are what they are in this network."""
    def value(match):
        host = net.hosts.get(match.group(1))
        found = getattr(host, match.group(2), None)
        if found is None:
            raise Failed("%s is not known%s" % (match.group(), "" if host is None else " yet: no node was started there"))
        return found
    return [re.sub(r"\{([a-z0-9-]+)\.(addr|public|peer)\}", value, word) for word in words]


def wait_node(host, process, path):
    """Until a node that was started is ready, or has ended; its peer id is known then."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file if line.endswith("\n")]
        host.peer = next((l[1] for l in lines if len(l) == 2 and l[0] == "peer"), None)
        if any(l[:1] == ["ready"] for l in lines):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise Failed("the node on %s is not ready: %s" % (host.name, " ".join(lines[-1]) if lines else "it said nothing"))


def log_path(home, name):
    """COMMAND.log, or COMMAND-2.log and so on when one was started on that host before."""
    path, number = os.path.join(home, name + ".log"), 1
    while os.path.exists(path):
        number += 1
        path = os.path.join(home, "%s-%d.log" % (name, number))
    return path


def words_of(place):
    """What a place is, in the words of the description; what is as usual is left out, but for the NAT's."""
    said = {"nat": place.kind, **place.words}
    for name, usual in (("behind", None), ("hosts", 1), ("lan", describe.prefix(describe.LAN)), ("ipv6", "none"),
                        ("udp", "open"), ("tcp", "open")):
        if getattr(place, name) != usual:
            said[name] = getattr(place, name)
    if place.portmap:
        said["portmap"] = ",".join(place.portmap)
    said.update((name, "%g" % value) for name, value in place.link.items())
    return " ".join("%s=%s" % item for item in said.items())


def run(net, how, host, words):
    """The exit status; 0 for one that is only started."""
    home = os.path.join(net.dir, host)
    os.makedirs(home, exist_ok=True)
    words = fill(net, words)
    # A user of their own on every host, so that programs find their own sockets and state.
    env = {**os.environ, "HOME": home, "XDG_RUNTIME_DIR": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}
    print("%s$ %s" % (host, shlex.join(words)), file=sys.stderr, flush=True)
    if how == "run":
        status = net.hosts[host].run(words, env=env, stdin=subprocess.DEVNULL).returncode
        return status if status >= 0 else 128 - status
    log = log_path(home, os.path.basename(words[0]))
    with open(log, "w", encoding="utf-8") as file:
        process = net.hosts[host].popen(words, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    if words[:2] == ["warren", "run"]:
        wait_node(net.hosts[host], process, log)
    return 0


def converse(net):
    """Commands from a terminal until its end."""
    print("type HOST COMMAND ..., or start HOST COMMAND ...; exit ends", file=sys.stderr)
    while True:
        try:
            words = shlex.split(input("lab> "))
        except EOFError:
            return 0
        except (KeyboardInterrupt, ValueError) as error:
            print(error, file=sys.stderr)
            continue
        if words == ["exit"]:
            return 0
        how = words.pop(0) if words and words[0] in ("start", "run") else "run"
        if len(words) < 2 or words[0] not in net.hosts:
            print("HOST COMMAND ...; the hosts are " + ", ".join(net.hosts), file=sys.stderr)
            continue
        try:
            status = run(net, how, words[0], words[1:])
        except Failed as failed:
            print("lab: %s" % failed, file=sys.stderr)
            continue
        if status:
            print("exit status %d" % status, file=sys.stderr)


def measure(net, names):
    observers = probe.Observers([net.hosts[name] for name in names])
    for i, host in enumerate(net.hosts.values()):
        if host.name not in names:
            found = probe.Subject(host, observers, range(20000 + 50 * i, 20050 + 50 * i)).measure()
            print(host.name + "".join("\n  %-13s %s" % item for item in found.items()))
    observers.close()
    return 0


def inside(description, args):
    try:
        with Net(description, args.link) as net:
            print(table(net), file=sys.stderr, flush=True)
            if args.measure:
                return measure(net, args.observers)
            commands = list(description.commands)
            if args.command:
                commands.append(("run", args.command[0], args.command[1:]))
            for how, host, words in commands:
                status = run(net, how, host, words)
                if status:
                    return status
            if not args.command and sys.stdin.isatty():
                return converse(net)
            return 0
    except Failed as failed:
        print("lab: %s" % failed, file=sys.stderr)
        return 1


def read(path):
    with sys.stdin if path == "-" else open(path, encoding="utf-8") as file:
        return file.read()


def describe_error(path, error):
    if isinstance(error, OSError):
        return "%s: %s" % (path, error.strerror)
    return "%s is not a text file" % path if isinstance(error, UnicodeDecodeError) else error


def main():
    usage = __doc__.split("usage: ")[1]
    p = argparse.ArgumentParser(prog="tools/lab", usage=usage, add_help=False)
    p.add_argument("-h", "--help", action="store_true")
    p.add_argument("--link", required=True, help=argparse.SUPPRESS)
    p.add_argument("--check", action="store_true")
    p.add_argument("--measure", action="store_true")
    p.add_argument("file", nargs="?")
    p.add_argument("command", nargs=argparse.REMAINDER)
    args = p.parse_args()
    if args.help or args.file is None:
        print("usage: " + usage.strip(), file=sys.stdout if args.help else sys.stderr)
        return 0 if args.help else 2
    try:
        text = read(args.file)
        if args.measure:
            # Three public hosts to look from, beside what is described.
            args.observers = ["observera", "observerb", "observerc"]
            text += "".join("\nsite %s" % name for name in args.observers)
        description = describe.parse(text, args.file)
        if args.measure:
            for place in description.places.values():
                place.link = {}    # what is lost on the way would look like a filter
        if not description.places:
            raise describe.Wrong("%s describes no site: a line such as `site home nat=port-restricted` does" % args.file)
    except (OSError, UnicodeDecodeError, describe.Wrong) as error:
        print("lab: %s" % describe_error(args.file, error), file=sys.stderr)
        return 2
    if args.command and (len(args.command) < 2 or args.command[0] not in dict(description.hosts())):
        print("lab: HOST COMMAND ...; the hosts are " + ", ".join(dict(description.hosts())), file=sys.stderr)
        return 2
    if args.check:
        for place in description.places.values():
            print("%-11s %-7s %s" % (place.name, "carrier" if place.is_carrier else "site", words_of(place)))
        return 0
    reason = box.why_not()
    if reason:
        print("lab: " + reason, file=sys.stderr)
        return 1
    return box.run(lambda: inside(description, args))


if __name__ == "__main__":
    sys.exit(main())
