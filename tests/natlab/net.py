"""Brings a described network up, inside a room (box.py), and takes it down.

    with Net(describe.parse(text), link_program) as net:
        alice = net.hosts["alice"]
        alice.run(["ping", "-c", "1", net.hosts["bob"].addr])

Every place (describe.py) is a router in a network namespace of its own, and so is every host. Places hang on `core`,
or on their carrier, by a cable, or by a link process where there is delay, loss, a rate, or a NAT that the kernel does
not have. Addresses: place N of the description has 11.N.0.2 outside (100.64.M.2 behind a carrier) and 3ffe:N:b17::/48;
these ranges count as public in every implementation. Hosts are .10, .11, ... of the LAN; in a site without NAT of
11.N.1.0/24.
"""
import contextlib
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

import box
import conntrack
import kinds
import rules
import sanitized

NEWNET = box.NEWNET
LAN_HOST = 10        # the last byte of a LAN's first host
PORTMAP_PORT = 5000
SETTLE_SECONDS = 30  # for the kernel's deferred work on new cables; it handles a hundred a second
SIOCGIFFLAGS, IFF_UP, IFF_RUNNING = 0x8913, 0x1, 0x40    # linux/sockios.h, linux/if.h
IFA_F_TENTATIVE = 0x40                                   # linux/if_addr.h

ROUTER_SETTINGS = {"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1,
                   "net/ipv4/conf/all/rp_filter": 0, "net/ipv4/conf/default/rp_filter": 0,
                   # What TUN hands back may carry the router's own address.
                   "net/ipv4/conf/all/accept_local": 1,
                   # A hairpin between two ports of one bridge has to be routed.
                   "net/bridge/bridge-nf-call-iptables": 0}


class Failed(Exception):
    """The network did not come up; the text says where."""


class Space:
    """A network namespace."""

    def __init__(self, name):
        self.name, self.config = name, []
        self.processes = []

    def command(self, args):
        return ["nsenter", "--net=/run/netns/" + self.name, "--"] + list(args)

    def run(self, args, **kw):
        return subprocess.run(self.command(args), **kw)

    def popen(self, args, **kw):
        process = subprocess.Popen(self.command(args), **kw)
        self.processes.append(process)
        return process

    @contextlib.contextmanager
    def inside(self):
        """Within it, sockets that this thread makes belong to the namespace; they stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open("/run/netns/" + self.name, os.O_RDONLY)
        try:
            box.must(box.libc.setns(there, NEWNET))
            yield
            box.must(box.libc.setns(home, NEWNET))
        finally:
            os.close(home)
            os.close(there)

    def set(self, settings):
        with self.inside():
            for name, value in settings.items():
                path = "/proc/sys/" + name
                if os.path.exists(path):
                    with open(path, "w", encoding="ascii") as file:
                        file.write(str(value))


    def settled(self):
        """Whether every cable carries, and every IPv6 address may be used. Until then packets are dropped."""
        with self.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _, name in socket.if_nameindex():
                answer = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16s16x", name.encode()))
                flags = struct.unpack_from("16xH", answer)[0]
                if flags & IFF_UP and not flags & IFF_RUNNING:
                    return False
            with open("/proc/thread-self/net/if_inet6", encoding="ascii") as file:
                return not any(int(line.split()[4], 16) & IFA_F_TENTATIVE for line in file)


class Host(Space):
    def __init__(self, name, router, addr):
        super().__init__(name)
        self.router, self.addr = router, addr
        self.peer = None    # of the node that runs here, once somebody knows

    @property
    def public(self):
        """The address by which the outside knows it."""
        return self.addr if self.router.place.words["mapping"] == "none" else self.router.outer().outside


class Link:
    """A process between two namespaces (link.c)."""

    def __init__(self, args):
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lock = threading.Lock()

    def wait_ready(self):
        if self.process.stdout.readline().strip() != "ready":
            raise Failed("a link did not come up: " + " ".join(self.process.args))

    def tell(self, line):
        with self.lock:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline().split()
        if not answer or answer[0] != "ok":
            raise Failed("the link does not understand '%s'" % line)
        return answer[1:]


class Router(Space):
    def __init__(self, place, number, above):
        super().__init__("r-" + place.name)
        self.place, self.number, self.above = place, number, above
        self.link, self.link_args, self.inside_count = None, None, 0
        self.hosts = []
        base = "11.%d" % number
        if isinstance(above, Router):
            above.inside_count += 1
            base = "100.64.%d" % above.inside_count
            self.uplink, self.outside = base + ".1", base + ".2"
            self.routed = "100.64.%d.0/24" % (100 + above.inside_count)
            self.up_device = "lan%d" % above.inside_count
        else:
            self.uplink, self.outside = base + ".0.1", base + ".0.2"
            self.routed = base + ".1.0/24"
            self.up_device = "w%d" % number
        self.lan = self.routed if place.words["mapping"] == "none" else str(place.lan)
        self.up_ns = above.name

    def lan_addr(self, last):
        return "%s.%d" % (self.lan.split("/")[0].rsplit(".", 1)[0], last)

    def prefix6(self):
        return "3ffe:%d:b17" % self.number

    def outer(self):
        """The router whose outside address the core sees."""
        return self.above.outer() if isinstance(self.above, Router) else self

    def forget(self, remote):
        """Whatever this router and those above it remember of an address is gone: no hole is left towards it."""
        if self.place.in_kernel:
            with self.inside():
                conntrack.forget(remote)
            if self.place.words["mapping"] != "none" and self.place.words["filter"] == "adf":
                for p in ("udp", "tcp"):
                    self.run(["nft", "flush", "set", "ip", "lab", "seen_" + p], check=True)
        else:
            self.link.tell("forget " + remote)
        if isinstance(self.above, Router):
            self.above.forget(remote)

    def restart(self):
        """All mappings are gone."""
        if not self.place.in_kernel:
            self.link.tell("restart")
        with self.inside():
            conntrack.flush()
        if self.place.in_kernel and self.place.words["filter"] != "apdf" and self.place.words["mapping"] != "none":
            for name in ("map ip lab rev_udp", "map ip lab rev_tcp", "set ip lab seen_udp", "set ip lab seen_tcp"):
                self.run(["nft", "flush"] + name.split(), check=True)


class Net:
    def __init__(self, description, link_program):
        self.description, self.link_program = description, link_program
        self.core = Space("core")
        self.routers, self.hosts = {}, {}
        self.dir = tempfile.mkdtemp(prefix="warren-lab-", dir="/run")    # the room's own, gone with it
        for number, place in enumerate(description.places.values(), 1):
            self.add_place(place, number)

    def add_place(self, place, number):
        router = Router(place, number, self.routers.get(place.behind, self.core))
        self.routers[place.name] = router
        if place.is_carrier:
            return
        for i in range(place.hosts):
            name = place.name if i == 0 else "%s-%d" % (place.name, i + 1)
            host = Host(name, router, router.lan_addr(LAN_HOST + i))
            host.addr6 = "%s:1::%x" % (router.prefix6(), 0x10 + i) if place.ipv6 != "none" else None
            router.hosts.append(host)
            self.hosts[name] = host

    def spaces(self):
        return [self.core, *self.routers.values(), *self.hosts.values()]

    def __enter__(self):
        try:
            self.bring_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        self.close()

    # ---- up

    def bring_up(self):
        batch(["netns add " + space.name for space in self.spaces()])
        for space in self.spaces():    # before there are devices: they take over the defaults
            space.set(self.settings(space))
        cables = []
        for router in self.routers.values():
            cables += self.plan_uplink(router)
            cables += ["link add name %s netns %s type veth peer name lan0 netns %s" %
                       ("p%d" % i, router.name, host.name) for i, host in enumerate(router.hosts)]
        batch(cables)
        links = [Link(router.link_args) for router in self.routers.values() if router.link_args]
        for router in self.routers.values():
            if router.link_args:
                router.link = links.pop(0)
        for router in self.routers.values():
            if router.link:
                router.link.wait_ready()
        self.core.config += ["link set dev lo up", "route add blackhole default", "-6 route add blackhole default"]
        for router in self.routers.values():
            self.configure(router)
        for space in self.spaces():
            batch(space.config, space)
        for router in self.routers.values():
            place = router.place
            text = rules.ipv4(place, router.outside, router.lan) + rules.ipv6(place)
            done = router.run(["nft", "-f", "-"], input=text, text=True, capture_output=True)
            if done.returncode != 0:
                raise Failed("nft refuses the rules of %s: %s\n%s" % (place.name, done.stderr, text))
        self.settle()
        for router in self.routers.values():
            if router.place.portmap:
                self.start_portmap(router)

    def settle(self):
        end = time.monotonic() + SETTLE_SECONDS
        for space in self.spaces():
            while not space.settled():
                if time.monotonic() > end:
                    raise Failed("the cables of %s do not carry" % space.name)
                time.sleep(0.01)

    def settings(self, space):
        settings = {"net/ipv4/ping_group_range": "0 0"}
        if not isinstance(space, Host):
            settings.update(ROUTER_SETTINGS)
        if not any(router.place.ipv6 != "none" for router in self.routers.values()):
            settings["net/ipv6/conf/all/disable_ipv6"] = settings["net/ipv6/conf/default/disable_ipv6"] = 1
        else:
            settings["net/ipv6/conf/default/accept_dad"] = settings["net/ipv6/conf/all/accept_dad"] = 0
        if isinstance(space, Router):
            for word, names in kernel_timeouts(space.place).items():
                settings.update({"net/netfilter/" + name: word for name in names})
        return settings

    def plan_uplink(self, router):
        """The commands that lay a plain cable; for anything else the arguments of a link process."""
        place = router.place
        if place.in_kernel and not place.link:
            return ["link add name wan netns %s type veth peer name %s netns %s" %
                    (router.name, router.up_device, router.up_ns)]
        args = [self.link_program, router.name, "-", router.up_ns, "-", "--name-a", "wan", "--name-b", router.up_device]
        for word, value in place.link.items():
            args += ["--" + word, str(value)]
        if not place.in_kernel:
            words = dict(place.words, address=router.outside)
            if "busy" in words:
                words["busy"] = ",".join(self.public_of(name) for name in words["busy"].split(","))
            words.setdefault("seed", str(router.number))
            args += ["--nat", " ".join("%s=%s" % item for item in words.items())]
        router.link_args = args
        return []

    def public_of(self, place_name):
        """The address under which the core knows a place's first host."""
        router = self.routers[place_name]
        return router.hosts[0].public if router.hosts else router.outside

    def configure(self, router):
        place, lan = router.place, router.lan.split("/")[0].rsplit(".", 1)[0]
        up, translated = router.above.config, not place.in_kernel
        router.config += ["link set dev lo up"]
        # Behind a translator the outside address is the translator's.
        if not translated:
            router.config.append("addr add %s/24 dev wan" % router.outside)
        router.config += ["link set dev wan up"]
        up += ["addr add %s/24 dev %s" % (router.uplink, router.up_device), "link set dev %s up" % router.up_device]
        gateway = "" if router.link_args else " via " + router.uplink
        router.config.append("route add default dev wan" if translated else
                             "route add default%s dev wan src %s" % (gateway, router.outside))
        back = "" if router.link_args else " via " + router.outside
        if place.words["mapping"] == "none":
            up.append("route add %s%s dev %s" % (router.routed, back, router.up_device))
        if place.ipv6 != "none":
            self.configure6(router, up)
        if router.hosts:
            router.config += ["link add name lan type bridge", "addr add %s.1/24 dev lan" % lan, "link set dev lan up"]
        for i, host in enumerate(router.hosts):
            router.config += ["link set dev p%d master lan" % i, "link set dev p%d up" % i]
            host.config += ["link set dev lo up", "addr add %s/24 dev lan0" % host.addr, "link set dev lan0 up",
                            "route add default via %s.1" % lan]
            if host.addr6:
                host.config += ["-6 addr add %s/64 dev lan0 nodad" % host.addr6,
                                "-6 route add default via %s:1::1" % router.prefix6()]

    def configure6(self, router, up):
        net = router.prefix6()
        via_up, via_down = "", ""
        if not router.link_args:
            via_up, via_down = "via %s::1" % net, "via %s::2" % net
        router.config += ["-6 addr add %s::2/64 dev wan nodad" % net, "-6 route add default %s dev wan" % via_up,
                          "-6 addr add %s:1::1/64 dev lan nodad" % net]
        up += ["-6 addr add %s::1/64 dev %s nodad" % (net, router.up_device),
               "-6 route add %s::/48 %s dev %s" % (net, via_down, router.up_device)]

    def start_portmap(self, router):
        """miniupnpd, which speaks all three; those that are not wanted are off, or not let in."""
        place, path = router.place, os.path.join(self.dir, router.name + ".conf")
        yes = lambda name: "yes" if name in place.portmap else "no"    # noqa: E731
        pmp = "yes" if "pmp" in place.portmap or "pcp" in place.portmap else "no"
        # Told of a private outside address it would end; by itself it finds that out and says so to who asks.
        outside = [] if isinstance(router.above, Router) else ["ext_ip=" + router.outside]
        lines = ["ext_ifname=wan", *outside, "listening_ip=lan", "http_port=%d" % PORTMAP_PORT,
                 "enable_natpmp=" + pmp, "enable_upnp=" + yes("igd"), "upnp_table_name=miniupnpd",
                 "upnp_nat_table_name=miniupnpd", "min_lifetime=5", "secure_mode=yes",
                 "ipv6_disable=" + ("no" if place.ipv6 != "none" else "yes"),
                 "uuid=00000000-0000-0000-0000-%012d" % router.number,
                 "allow 1024-65535 %s 1024-65535" % router.lan, "deny 0-65535 0.0.0.0/0 0-65535"]
        with open(path, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
        program = box.find("miniupnpd")
        if not program:
            raise Failed("%s: portmap needs miniupnpd (package miniupnpd-nftables)" % place.name)
        with open(os.path.join(self.dir, router.name + ".log"), "w", encoding="ascii") as log:
            router.popen([program, "-d", "-f", path, "-P", os.path.join(self.dir, router.name + ".pid")],
                         stdout=log, stderr=log)

    # ---- down

    def close(self):
        for space in self.spaces():
            for process in space.processes:
                if process.poll() is None:
                    process.terminate()
        for space in self.spaces():
            for process in space.processes:
                sanitized.ended(process, 5)
        for router in self.routers.values():
            if router.link:
                router.link.process.stdin.close()
                router.link.process.wait()
        present = [space.name for space in self.spaces() if os.path.exists("/run/netns/" + space.name)]
        if present:
            batch(["netns del " + name for name in present])
        shutil.rmtree(self.dir, ignore_errors=True)


def kernel_timeouts(place):
    """Seconds that a description gives, with the kernel's names for them."""
    return {place.words[word]: names for word, names in kinds.TIMEOUTS.items() if word in place.words}


def batch(lines, space=None):
    """Runs many ip commands at once, in a namespace."""
    if not lines:
        return
    args = ["ip", "-batch", "-"]
    run = space.run if space else subprocess.run
    # -6 in front of a line is an option of the program, not of a line.
    for option, chosen in (("-4", [l for l in lines if not l.startswith("-6 ")]),
                           ("-6", [l[3:] for l in lines if l.startswith("-6 ")])):
        if not chosen:
            continue
        extra = ["-6"] if option == "-6" else []
        done = run([args[0], *extra, *args[1:]], input="\n".join(chosen) + "\n", text=True, capture_output=True)
        if done.returncode != 0:
            raise Failed("ip: %s in %s, at:\n%s" % (done.stderr.strip(), space.name if space else "the room",
                                                    "\n".join(chosen)))
