"""The rules of a router, as nftables text: what is let through, and the NATs that the kernel does exactly."""

REFUSE = ["meta l4proto tcp reject with tcp reset", "meta l4proto udp reject with icmp type port-unreachable", "drop"]
INSIDE = 'iifname "lan*"'
SEEN_SECONDS = 300        # how long an endpoint-independent or address-dependent filter remembers a port

# A map from outside port to inside endpoint, filled by what goes out. nft 1.0.6 wants a new line after each brace.
REV = """
    map rev_%(p)s {
        type inet_service : ipv4_addr . inet_service
        size 65535
        flags dynamic,timeout
        timeout %(seconds)ds
    }
    set seen_%(p)s {
        type inet_service . ipv4_addr
        size 65535
        flags dynamic,timeout
        timeout %(seconds)ds
    }
"""

# What miniupnpd edits, and the base chains that lead there before the router's own.
PORTMAP = """
table inet miniupnpd {
    chain forward {
        type filter hook forward priority 0; policy accept;
        jump miniupnpd
    }
    chain miniupnpd {
    }
    chain prerouting {
        type nat hook prerouting priority -101; policy accept;
        jump prerouting_miniupnpd
    }
    chain prerouting_miniupnpd {
    }
    chain postrouting {
        type nat hook postrouting priority 99; policy accept;
        jump postrouting_miniupnpd
    }
    chain postrouting_miniupnpd {
    }
}
"""


def chain(name, kind, hook, priority, rules, policy="accept"):
    body = "\n        ".join(["type %s hook %s priority %d; policy %s;" % (kind, hook, priority, policy)] + rules)
    return "    chain %s {\n        %s\n    }\n" % (name, body)


def unsolicited(how):
    return {"drop": ["drop"], "refuse": REFUSE, "answer": ["accept"]}[how]


def blocked(place):
    """What the site's hosts may not send."""
    rules = []
    if place.udp == "blocked":
        rules.append('iifname "lan*" meta l4proto udp drop')
    if place.tcp == "443":
        rules.append('iifname "lan*" meta l4proto tcp tcp dport != 443 drop')
    return rules


def masquerade(words):
    if words["ports"] == "preserve":
        return "masquerade"
    if words["mapping"] == "eim":
        # Without a random flag: one port for each source, the same towards everybody. The range lies off what
        # hosts use, because a port inside it would be kept.
        low, high = words.get("range", "10000-30000").split("-")
        return "meta l4proto { tcp, udp } masquerade to :%s-%s" % (low, high)
    if "range" in words:
        return "meta l4proto { tcp, udp } masquerade to :%s fully-random" % words["range"]
    return "masquerade fully-random"


def filters(place):
    """What passes from one side to the other."""
    words = place.words
    if words["mapping"] == "none" and words["filter"] == "eif":
        return chain("forward", "filter", "forward", 0, blocked(place))
    rules = ["ct state established,related accept", INSIDE + " accept", "ct status dnat accept"]
    if words["mapping"] == "none" and words["unsolicited"] == "refuse":
        rules += REFUSE
    return chain("forward", "filter", "forward", 0, blocked(place) + rules, "drop")


def learnt_mappings(words, outside, lan):
    """Filters wider than the kernel's: what goes out is noted, what comes in is sent where the note says."""
    text, pre, fill, post = "", [], [], []
    for p in ("udp", "tcp"):
        text += REV % {"p": p, "seconds": SEEN_SECONDS}
        guard = "%s dport . ip saddr @seen_%s " % (p, p) if words["filter"] == "adf" else ""
        pre.append('iifname "wan" ip daddr %s %sdnat ip to %s dport map @rev_%s' % (outside, guard, p, p))
        going = 'oifname "wan" ct direction original ip saddr %s meta l4proto %s ' % (outside, p)
        fill.append("%supdate @rev_%s { %s sport : ct original ip saddr . ct original proto-src }" % (going, p, p))
        fill.append("%supdate @seen_%s { %s sport . ip daddr }" % (going, p, p))
        if words["hairpin"] == "yes":
            pre.append('iifname "lan*" ip daddr %s dnat ip to %s dport map @rev_%s' % (outside, p, p))
    if words["hairpin"] == "yes":
        # Not masquerade: that would show the router's address in the LAN.
        post.append('oifname "lan*" ip saddr %s ct status dnat snat to %s' % (lan, outside))
    return text, pre, fill, post


def ipv4(place, outside, lan):
    words = place.words
    if not place.in_kernel:
        # A translator sits between this router and the core.
        return "table ip lab {\n%s}\n" % chain("forward", "filter", "forward", 0, blocked(place))
    if words["mapping"] == "none":
        return "table ip lab {\n%s}\n" % filters(place)
    text, pre, fill, post = "", [], [], []
    if words["filter"] != "apdf":
        text, pre, fill, post = learnt_mappings(words, outside, lan)
    entry = [INSIDE + " accept", 'iifname "lo" accept', "ct state established,related accept"]
    text += chain("input", "filter", "input", 0, entry + unsolicited(words["unsolicited"]))
    text += filters(place)
    text += chain("pre", "nat", "prerouting", -100, pre)
    text += chain("post", "nat", "postrouting", 100, post + ['oifname "wan" ' + masquerade(words)])
    text += chain("fill", "filter", "postrouting", 300, fill)
    return "table ip lab {\n%s}\n" % text + (PORTMAP if place.portmap else "")


def ipv6(place):
    if place.ipv6 == "none":
        return ""
    rules = blocked(place)
    if place.ipv6 == "firewall":
        rules += ["ct state established,related accept", 'iifname "wan" meta l4proto { tcp, udp } drop']
    return "table ip6 lab {\n%s}\n" % chain("forward", "filter", "forward", 0, rules)
