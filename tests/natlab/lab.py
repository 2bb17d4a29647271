"""Two or more hosts in network namespaces, joined by links with delay, loss and a rate.

    with Lab() as lab:
        a, b = lab.host("a"), lab.host("b")
        lab.link(a, "10.77.0.1/24", b, "10.77.0.2/24", delay_ms=30)
        a.run(["ping", "-c", "3", "10.77.0.2"])

Namespaces carry the pid in their names, so parallel runs do not meet; everything is removed at the end. The
namespaces have no route out. Needs root; `why_not()` says why a machine cannot do it, or None.
"""
import os
import shutil
import subprocess

import sanitized


def why_not():
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    if not shutil.which("ip"):
        return "needs the ip command (iproute2)"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    probe = "warren-probe-%d" % os.getpid()
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode != 0:
        return "cannot make network namespaces: " + made.stderr.strip()
    subprocess.run(["ip", "netns", "del", probe], capture_output=True)
    return None


class Host:
    def __init__(self, lab, name):
        self.lab = lab
        self.ns = "warren-%d-%s" % (os.getpid(), name)
        subprocess.run(["ip", "netns", "add", self.ns], check=True)
        subprocess.run(["ip", "-n", self.ns, "link", "set", "dev", "lo", "up"], check=True)

    def command(self, args):
        return ["ip", "netns", "exec", self.ns] + list(args)

    def run(self, args, **kw):
        return subprocess.run(self.command(args), **kw)

    def popen(self, args, **kw):
        process = subprocess.Popen(self.command(args), **kw)
        self.lab.processes.append(process)
        return process


class Lab:
    def __init__(self, link_program):
        self.link_program = link_program
        self.hosts, self.links, self.processes = [], [], []

    def __enter__(self):
        return self

    def host(self, name):
        host = Host(self, name)
        self.hosts.append(host)
        return host

    def link(self, a, addr_a, b, addr_b, delay_ms=0, jitter_ms=0, loss=0, rate_mbit=0, queue_kib=256, seed=1, nat=""):
        args = [self.link_program, a.ns, addr_a, b.ns, addr_b, "--delay", str(delay_ms), "--jitter",
                str(jitter_ms), "--loss", str(loss), "--rate", str(rate_mbit), "--queue", str(queue_kib),
                "--seed", str(seed)] + (["--nat", nat] if nat else [])
        link = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.links.append(link)
        if link.stdout.readline().strip() != "ready":
            raise RuntimeError("the link between %s and %s did not come up" % (a.ns, b.ns))
        return link

    def __exit__(self, *exc):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            sanitized.ended(process, 5)
        for link in self.links:
            link.stdin.close()
            link.wait()
        for host in self.hosts:
            subprocess.run(["ip", "netns", "del", host.ns], capture_output=True)
