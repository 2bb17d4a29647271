"""Reads the description of a network (docs/lab.md).

    site   NAME [WORD=VALUE ...]    a home: a router, and hosts behind it
    carrier NAME [WORD=VALUE ...]   a router of a provider, for sites that say behind=NAME
    run    HOST COMMAND ...         once the network is up, one after the other
    start  HOST COMMAND ...         the same, and not waited for
"""
import ipaddress
import re
import shlex

import kinds

LINK_WORDS = ("delay", "jitter", "loss", "rate")
PLACES_MAX = 250        # a place has a second byte of 11.0.0.0/8 of its own
HOSTS_MAX = 100
LAN = "192.168.1.0/24"  # of every home, as in life
PORTMAP = ("igd", "pmp", "pcp")
NAME = re.compile(r"^[a-z][a-z0-9-]{0,29}$")


class Wrong(Exception):
    """The description says something that has no meaning; the text names line and word."""


class Place:
    """A router: a site's or a carrier's."""

    def __init__(self, name, is_carrier, words):
        self.name, self.is_carrier = name, is_carrier
        self.kind = words.pop("nat", "public" if not is_carrier else "port-restricted")
        self.behind = words.pop("behind", None)
        self.hosts = number(words.pop("hosts", "1"), 1, HOSTS_MAX, "hosts")
        self.lan = prefix(words.pop("lan", LAN))
        self.ipv6 = one_of(words.pop("ipv6", "none"), ("none", "open", "firewall"), "ipv6")
        self.udp = one_of(words.pop("udp", "open"), ("open", "blocked"), "udp")
        self.tcp = one_of(words.pop("tcp", "open"), ("open", "443"), "tcp")
        self.portmap = [one_of(p, PORTMAP, "portmap") for p in words.pop("portmap", "").split(",") if p]
        self.link = {word: decimal(words.pop(word), word) for word in LINK_WORDS if word in words}
        if self.kind not in kinds.KINDS:
            raise Wrong("nat=%s: the kinds are %s" % (self.kind, ", ".join(kinds.KINDS)))
        for word, value in words.items():
            if word not in kinds.WORDS:
                raise Wrong("'%s' is not a word for a %s" % (word, "carrier" if is_carrier else "site"))
            if kinds.WORDS[word]:
                one_of(value, kinds.WORDS[word], word)
        self.words = kinds.words_of(self.kind, words)
        self.in_kernel = kinds.in_kernel(self.words)
        if not self.in_kernel and self.words["unsolicited"] == "answer":
            raise Wrong("unsolicited=answer is of the kernel's NAT, which cannot do the rest")
        if self.portmap and (not self.in_kernel or self.words["mapping"] == "none"):
            raise Wrong("portmap needs a NAT in the kernel; this one is not")


class Description:
    def __init__(self):
        self.places, self.commands = {}, []

    def hosts(self):
        """Every host's name and its site."""
        for place in self.places.values():
            if not place.is_carrier:
                for i in range(place.hosts):
                    yield host_name(place, i), place


def host_name(place, i):
    return place.name if i == 0 else "%s-%d" % (place.name, i + 1)


def one_of(value, choices, word):
    if value not in choices:
        raise Wrong("%s=%s: it is one of %s" % (word, value, ", ".join(choices)))
    return value


def number(value, least, most, word):
    if not value.isdigit() or not least <= int(value) <= most:
        raise Wrong("%s=%s: a number from %d to %d" % (word, value, least, most))
    return int(value)


def decimal(value, word):
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        raise Wrong("%s=%s: a number" % (word, value))
    return float(value)


def prefix(value):
    try:
        net = ipaddress.ip_network(value)
    except ValueError:
        net = None
    if net is None or net.version != 4 or net.prefixlen != 24:
        raise Wrong("lan=%s: a network such as 192.168.1.0/24" % value)
    return net


def parse_place(description, words):
    if len(words) < 2 or not NAME.match(words[1]):
        raise Wrong("a name is missing: a small letter, then up to 29 more, digits or dashes")
    if words[1] in description.places or words[1] == "core":
        raise Wrong("there is a place %s already" % words[1])
    if len(description.places) == PLACES_MAX:
        raise Wrong("more than %d places" % PLACES_MAX)
    given = {}
    for word in words[2:]:
        key, equals, value = word.partition("=")
        if not equals or key in given:
            raise Wrong("'%s': words look like delay=20, each once" % word)
        given[key] = value
    place = Place(words[1], words[0] == "carrier", given)
    if place.behind is not None:
        above = description.places.get(place.behind)
        if above is None or not above.is_carrier:
            raise Wrong("behind=%s: there is no such carrier above this line" % place.behind)
    clash = {host_name(place, i) for i in range(place.hosts)} & {name for name, _ in description.hosts()}
    if clash and not place.is_carrier:
        raise Wrong("there is a host %s already" % clash.pop())
    description.places[place.name] = place


def parse_line(description, words):
    if words[0] in ("site", "carrier"):
        parse_place(description, words)
    elif words[0] in ("run", "start"):
        if len(words) < 3 or words[1] not in dict(description.hosts()):
            raise Wrong("%s HOST COMMAND: the hosts are %s" %
                        (words[0], ", ".join(dict(description.hosts())) or "none yet"))
        description.commands.append((words[0], words[1], words[2:]))
    else:
        raise Wrong("'%s': a line begins with site, carrier, run or start" % words[0])


def parse(text, name="description"):
    description = Description()
    for at, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
            if words:
                parse_line(description, words)
        except (Wrong, ValueError) as wrong:
            raise Wrong("%s:%d: %s" % (name, at, wrong)) from None
    for place in description.places.values():
        for other in place.words.get("busy", "").split(","):
            if other and other not in description.places:
                raise Wrong("%s: %s: busy=%s: there is no such place" % (name, place.name, other))
    return description
