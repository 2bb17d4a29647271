"""The kernel's connection tracking in the namespace that the caller is in: list entries, delete entries."""
import collections
import ipaddress
import socket
import struct

NETLINK_NETFILTER = 12
CT_GET, CT_DELETE = 1 << 8 | 1, 1 << 8 | 2
REQUEST, ACK, DUMP = 1, 4, 0x300
DONE, ERROR = 3, 2
TUPLE_ORIG, TUPLE_REPLY, PROTOINFO = 1, 2, 4
TUPLE_IP, TUPLE_PROTO = 1, 2
V4_SRC, V4_DST = 1, 2
PROTO_NUM, SRC_PORT, DST_PORT = 1, 2, 3
NESTED = 0x8000
TCP_STATES = ("none", "syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close",
              "syn_sent2")

Entry = collections.namedtuple("Entry", "protocol src src_port dst dst_port reply_src reply_dst reply_port state raw")


def attributes(data):
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        found[kind & ~NESTED] = data[4:size]
        data = data[size + 3 & ~3:]
    return found


def read_tuple(data):
    parts = attributes(data)
    ip, proto = attributes(parts[TUPLE_IP]), attributes(parts[TUPLE_PROTO])
    if V4_SRC not in ip:
        return None
    ports = [int.from_bytes(proto.get(port, b"\0\0"), "big") for port in (SRC_PORT, DST_PORT)]
    return (str(ipaddress.ip_address(ip[V4_SRC])), ports[0], str(ipaddress.ip_address(ip[V4_DST])), ports[1],
            proto[PROTO_NUM][0])


def read_entry(data):
    found = attributes(data)
    orig, reply = read_tuple(found[TUPLE_ORIG]), read_tuple(found[TUPLE_REPLY])
    if orig is None:
        return None
    state = ""
    if orig[4] == socket.IPPROTO_TCP and PROTOINFO in found:
        tcp = attributes(attributes(found[PROTOINFO]).get(1, b""))
        state = TCP_STATES[tcp[1][0]] if 1 in tcp else ""
    return Entry(orig[4], *orig[:4], reply[0], reply[2], reply[3], state, found[TUPLE_ORIG])


def ask(sock, kind, flags, payload=b""):
    """The answers' bodies."""
    body = struct.pack("=BBH", socket.AF_INET, 0, 0) + payload
    sock.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body)
    while True:
        data = sock.recv(1 << 18)
        while len(data) >= 16:
            size, answer = struct.unpack_from("=IH", data)
            if answer in (DONE, ERROR):
                return
            yield data[20:size]
            data = data[size + 3 & ~3:]


def entries():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        return [e for e in map(read_entry, ask(sock, CT_GET, DUMP)) if e]


def forget(remote):
    """Deletes every entry of a conversation with an address, whoever began it. (Its own outside address stands in all
    that a router translates, so that is not looked at.)"""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        for entry in entries():
            if remote in (entry.src, entry.reply_src):
                tuple_ = struct.pack("=HH", 4 + len(entry.raw), TUPLE_ORIG | NESTED) + entry.raw
                for _ in ask(sock, CT_DELETE, ACK, tuple_):
                    pass


def flush():
    """Deletes all: the router has restarted."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        for _ in ask(sock, CT_DELETE, ACK):
            pass
