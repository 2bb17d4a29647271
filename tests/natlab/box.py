"""A room without doors: a child of this process with network, mount and process namespaces of its own.

    sys.exit(box.run(main))        # main() runs inside; its result is the exit status

Inside there is no cable to the outside, /run is empty and private (so `ip netns` names clash with nobody's), and
everything that was started dies with the room, however it ends: after SIGKILL as well.
"""
import ctypes
import os
import shutil
import signal
import sys

NEWNS, NEWUSER, NEWPID, NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
MS_REC, MS_PRIVATE = 16384, 1 << 18
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def why_not():
    """A sentence that says why this machine cannot hold a laboratory, or None."""
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        if not find(program):
            return "needs the command %s (package %s)" % (program, package)
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "needs /dev/net/tun, readable and writable (as root, or chmod 0666)"
    pid = os.fork()
    if pid == 0:
        try:
            open_room()
            os._exit(0)
        except OSError:
            os._exit(1)
    if os.waitpid(pid, 0)[1] != 0:
        return "may not make namespaces: run as root, or allow unprivileged user namespaces"
    return None


def find(program):
    """Routers' tools lie where a plain user's PATH does not lead."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def must(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def open_room():
    flags = NEWNS | NEWPID | NEWNET
    uid, gid = os.geteuid(), os.getegid()
    must(libc.unshare(flags if uid == 0 else flags | NEWUSER))
    if uid == 0:
        return
    for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % gid)):
        with open("/proc/self/" + name, "w", encoding="ascii") as file:
            file.write(text)


def furnish():
    must(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    must(libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755"))
    must(libc.mount(b"proc", b"/proc", b"proc", 0, None))
    os.makedirs("/run/netns")
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def test(name, count, main, lacks=None):
    """Runs the tests of a program in a room of its own; where there cannot be one, or it lacks something, so many are
    skipped."""
    reason = why_not() or lacks
    if reason:
        print("%s skipped: %s" % (name, reason))
        print("0 passed, 0 failed, %d skipped" % count)
        return 0
    return run(main)


class Neighbours:
    """All rooms share the kernel's one table of neighbours. Where it is full, packets are lost and all is slow."""

    def __init__(self):
        try:
            self.file = open("/proc/net/stat/arp_cache", encoding="ascii")
        except OSError:
            self.file = None
        self.before = self.refused()

    def refused(self):
        if not self.file:
            return 0
        self.file.seek(0)
        names, *rows = (line.split() for line in self.file)
        return sum(int(row[names.index("table_fulls")], 16) for row in rows)

    def complain(self):
        count = self.refused() - self.before
        if count:
            print("the kernel's table of neighbours was full %d times, so this run proves nothing: run fewer laboratories"
                  " at once, or allow a larger table (sysctl net.ipv4.neigh.default.gc_thresh3)" % count, flush=True)


def run(main):
    neighbours = Neighbours()
    open_room()
    pid = os.fork()
    if pid == 0:
        must(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        # The first process of a room gets no signal that it does not handle.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
        furnish()
        return main()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    status = os.waitpid(pid, 0)[1]
    neighbours.complain()
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
