"""The kinds of NAT that a site may have, each as the words that describe it, and which of them the kernel can do."""

# What every kind is unless it says otherwise. `mapping` none: addresses are routed, nothing is translated.
PLAIN = {"mapping": "eim", "filter": "apdf", "ports": "preserve", "unsolicited": "drop", "hairpin": "no"}

KINDS = {
    "public": {"mapping": "none", "filter": "eif"},
    "firewall": {"mapping": "none"},
    "full-cone": {"filter": "eif"},
    "restricted": {"filter": "adf"},
    "port-restricted": {},
    "port-restricted-random": {"ports": "random"},
    "refusing": {"unsolicited": "refuse"},
    "answering": {"unsolicited": "answer"},
    "symmetric-sequential": {"mapping": "apdm", "ports": "sequential"},
    "symmetric-preserving": {"mapping": "apdm"},
    "symmetric-random": {"mapping": "apdm", "ports": "random"},
}

# The words and what they may be; None: anything, the translator judges.
WORDS = {
    "mapping": ("none", "eim", "adm", "apdm"),
    "filter": ("eif", "adf", "apdf"),
    "ports": ("preserve", "sequential", "random"),
    "unsolicited": ("drop", "refuse", "answer"),
    "hairpin": ("no", "yes"),
    "rst": ("ignored", "closes"),
    "simultaneous": ("yes", "no"),
    "pairing": ("paired", "arbitrary"),
    "pool": None, "step": None, "range": None, "sessions": None, "seed": None, "busy": None,
    "udp-timeout": None, "udp-stream-timeout": None, "tcp-opening-timeout": None, "tcp-timeout": None,
}

# Time-outs are settings of the kernel's as well.
TIMEOUTS = {
    "udp-timeout": ("nf_conntrack_udp_timeout",),
    "udp-stream-timeout": ("nf_conntrack_udp_timeout_stream",),
    "tcp-opening-timeout": ("nf_conntrack_tcp_timeout_syn_sent", "nf_conntrack_tcp_timeout_syn_recv"),
    "tcp-timeout": ("nf_conntrack_tcp_timeout_established",),
}


def words_of(kind, given):
    """What a kind means, with the words that a description gives on top."""
    return {**PLAIN, **KINDS[kind], **given}


def in_kernel(words):
    """Whether nftables does exactly this."""
    for word, value in words.items():
        if word not in PLAIN and word not in TIMEOUTS and not (word == "range" and words["ports"] == "random"):
            return False
    if words["mapping"] == "none":
        return True
    if words["mapping"] == "eim" and words["ports"] == "preserve":
        return words["hairpin"] == "no" or words["filter"] == "eif"
    if words["ports"] == "random" and words["mapping"] in ("eim", "apdm"):
        return words["filter"] == "apdf" and words["hairpin"] == "no"
    return False
