"""MessagePack, as much of it as the control socket (docs/control.md) uses."""
import struct


class Short(Exception):
    """The message is not complete yet."""


def pack(value):
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value) if value >= 0 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, str):
        data = value.encode()
        return b"\xdb" + struct.pack(">I", len(data)) + data
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, (list, tuple)):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
    return b"\xdf" + struct.pack(">I", len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())


class Reader:
    NUMBERS = {0xca: ">f", 0xcb: ">d", 0xcc: ">B", 0xcd: ">H", 0xce: ">I", 0xcf: ">Q",
               0xd0: ">b", 0xd1: ">h", 0xd2: ">i", 0xd3: ">q"}
    SIZED = {0xc4: (">B", "bin"), 0xc5: (">H", "bin"), 0xc6: (">I", "bin"), 0xd9: (">B", "str"), 0xda: (">H", "str"),
             0xdb: (">I", "str"), 0xdc: (">H", "array"), 0xdd: (">I", "array"), 0xde: (">H", "map"), 0xdf: (">I", "map")}

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        if self.at + size > len(self.data):
            raise Short
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self):
        first = self.take(1)[0]
        if first < 0x80:
            return first
        if first >= 0xe0:
            return first - 256
        if first < 0x90:
            return self.many("map", first & 15)
        if first < 0xa0:
            return self.many("array", first & 15)
        if first < 0xc0:
            return self.many("str", first & 31)
        if first in (0xc0, 0xc2, 0xc3):
            return {0xc0: None, 0xc2: False, 0xc3: True}[first]
        if first in self.NUMBERS:
            return self.number(self.NUMBERS[first])
        form, kind = self.SIZED[first]
        return self.many(kind, self.number(form))

    def many(self, kind, count):
        if kind == "map":
            return {self.value(): self.value() for _ in range(count)}
        if kind == "array":
            return [self.value() for _ in range(count)]
        data = bytes(self.take(count))
        return data if kind == "bin" else data.decode(errors="replace")
