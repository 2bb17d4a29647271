"""Packets put into the core as if they came from somewhere, and a look at what arrives at a host: the proof that a
plain dial would fail, without a trace in the dialler's NAT and without a clock."""
import select
import socket
import struct
import time

PATIENCE = 20       # seconds for the packet that has to arrive
ETH_IPV4 = 0x0800


def checksum(data):
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def packet(protocol, src, dst, body, sum_at):
    addresses = socket.inet_aton(src[0]) + socket.inet_aton(dst[0])
    pseudo = addresses + struct.pack(">BBH", 0, protocol, len(body)) + body + b"\0" * (len(body) % 2)
    body = body[:sum_at] + struct.pack(">H", checksum(pseudo)) + body[sum_at + 2:]
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 60, protocol, 0) + addresses + body


def datagram(src, dst, data):
    body = struct.pack(">HHHH", src[1], dst[1], 8 + len(data), 0) + data
    return packet(socket.IPPROTO_UDP, src, dst, body, 6)


def syn(src, dst):
    body = struct.pack(">HHIIBBHHH", src[1], dst[1], 7, 0, 5 << 4, 2, 1000, 0, 0)
    return packet(socket.IPPROTO_TCP, src, dst, body, 16)


class Watch:
    """Whatever IPv4 comes in at a host's cable."""

    def __init__(self, host):
        with host.inside():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_IPV4))
        self.sock.bind(("lan0", ETH_IPV4))
        self.sock.setblocking(False)

    def packets(self):
        """(protocol, source address, source port, data) of what has arrived."""
        found = []
        while True:
            try:
                data, origin = self.sock.recvfrom(65536)
            except BlockingIOError:
                return found
            if origin[2] == socket.PACKET_OUTGOING or len(data) < 28:
                continue
            header = (data[0] & 15) * 4
            found.append((data[9], socket.inet_ntoa(data[12:16]), struct.unpack_from(">H", data, header)[0],
                          data[header + 8:]))

    def close(self):
        self.sock.close()


def arrives(net, host, protocol, src, dst, control):
    """Whether a packet from one outside endpoint to another reaches a host. `control` sends one that does, on the
    same way behind it, and tells how to know it."""
    raw = syn(src, dst) if protocol == socket.IPPROTO_TCP else datagram(src, dst, b"would this arrive?")
    watch = Watch(host)
    with net.core.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    try:
        sender.sendto(raw, (dst[0], 0))
        known = control(sender)
        seen, end = [], time.monotonic() + PATIENCE
        while not any(known(p) for p in seen):
            if time.monotonic() > end:
                raise TimeoutError("the control packet did not arrive")
            select.select([watch.sock], [], [], 1)
            seen += watch.packets()
        return any(p[0] == protocol and (p[1], p[2]) == src for p in seen)
    finally:
        sender.close()
        watch.close()
