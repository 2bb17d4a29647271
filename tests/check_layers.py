#!/usr/bin/env python3
"""Checks that code includes only downwards and exports only under its own name.

    check_layers.py SOURCE_DIR [LIBRARY.a | OBJECT.o ...]

Prints one line per breach and fails when there is any. The rules:

  folder    transport <- identify, autonat, relay, dcutr, dht <- node <- tools; siblings never include
            one another; nothing outside tests includes tests
  rank      values include values only; machines include no services. The first comment of a header
            names its rank; a source has the rank of its header
  uv        uv.h only where the seam is made real: env_uv*.c and its headers, kv_lmdb.c, tools
  seam      env_uv.h only in those files, tools and tests
  prefix    every global symbol of FILE.o starts with wr_FILE, with the name of a struct or enum that
            FILE's module defines, or with a name that PREFIXES gives it; or it is declared in the
            MODULE.h or MODULE_impl.h whose name it bears; generated code starts with wr__
"""
import functools
import os
import re
import subprocess
import sys

SIBLINGS = ("identify", "autonat", "relay", "dcutr", "dht")
LEVELS = {"transport": 0, **{folder: 1 for folder in SIBLINGS}, "node": 2, "tools": 3}
RANKS = {"Value": 0, "Machine": 1, "Service": 2}

# Headers that a lower rank may include for what they declare beside their service: the notion of time.
TYPES_FOR_ALL = {"transport/env.h"}

# What a file exports beside its own name and those of its types.
PREFIXES = {
    "dht/kbucket": ("wr_kad_",),
    "node/dnsmsg": ("wr_dns_",),
    "transport/base": ("wr_multibase_",),
    "transport/bytes": ("wr_alloc", "wr_realloc", "wr_memdup", "wr_strdup", "wr_free", "wr_read_"),
    "transport/key": ("wr_pubkey_",),
    "transport/limits": ("wr_limits_",),
    "transport/multihash": ("wr_sha256", "wr_cid_"),
    "transport/swarm_connect": ("wr_connect_",),
    "transport/varint": ("wr_uvarint_",),
}

# What the compiler's own instruments add.
INSTRUMENTS = re.compile(r"^(__asan|__odr_asan|__ubsan|__tsan|__sanitizer|__sancov|__gcov|__llvm|__start_|__stop_)")


def strip_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def sources(root):
    """Yields the path below root of every C file in the folders of the program."""
    for folder in LEVELS:
        for path, folders, files in os.walk(os.path.join(root, folder)):
            folders.sort()
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(path, name), root)


def includes(text):
    """Yields (line number, file) of every include."""
    for number, line in enumerate(strip_comments(text).split("\n"), 1):
        match = re.match(r'\s*#\s*include\s*["<]([^">]+)[">]', line)
        if match:
            yield number, match.group(1)


def stem_of(path):
    return os.path.splitext(path)[0]


@functools.lru_cache(maxsize=None)
def header_of(root, path):
    """The header that stands for a file: its own, or that of the module it is a part of (env_uv_net.c
    of env_uv.h or env.h, store_impl.h of store.h)."""
    stem = stem_of(path)
    folder, base = os.path.split(stem)
    words = base.split("_")
    for count in range(len(words), 0, -1):
        header = os.path.join(folder, "_".join(words[:count]) + ".h")
        if os.path.exists(os.path.join(root, header)) and rank_in(root, header):
            return header
    return None


@functools.lru_cache(maxsize=None)
def rank_in(root, header):
    """The rank that a header's first comment names, or None."""
    match = re.search(r"/\*.*?\*/", read(os.path.join(root, header)), flags=re.S)
    rank = re.search(r"\b(Value|Machine|Service)\b", match.group()) if match else None
    return rank.group(1) if rank else None


def rank_of(root, path):
    header = header_of(root, path)
    return rank_in(root, header) if header else None


def is_seam(path):
    base = os.path.basename(path)
    return path.startswith("transport/") and (base.startswith("env_uv") or base == "kv_lmdb.c")


def resolve(root, path, target):
    """Where a quoted include leads, from the root: a bare name lies beside the file."""
    if "/" in target:
        return target
    return os.path.join(os.path.dirname(path), target)


def check_folder(path, target):
    here, there = path.split("/")[0], target.split("/")[0]
    if there == "tests":
        return "the program does not include its tests"
    if there not in LEVELS:
        return "unknown folder " + there
    if LEVELS[there] > LEVELS[here]:
        return "%s does not include %s above it" % (here, there)
    if LEVELS[there] == LEVELS[here] and there != here:
        return "%s does not include %s beside it" % (here, there)
    return None


def check_rank(root, path, target):
    if target in TYPES_FOR_ALL or target.endswith(".pb-c.h"):
        return None
    if not os.path.exists(os.path.join(root, target)):
        return "no such file"
    mine, theirs = rank_of(root, path), rank_of(root, target)
    if mine is None or theirs is None or RANKS[theirs] <= RANKS[mine]:
        return None
    return "a %s does not include a %s" % (mine.lower(), theirs.lower())


def check_includes(root):
    breaches = []
    for path in sources(root):
        in_tools = path.startswith("tools/")
        text = read(os.path.join(root, path))
        if path.endswith(".h") and not in_tools and rank_of(root, path) is None:
            breaches.append("%s:1: rank: the first comment names no rank" % path)
        for number, target in includes(text):
            where = "%s:%d: " % (path, number)
            if target == "uv.h" and not (is_seam(path) or in_tools):
                breaches.append(where + "uv: uv.h is for the seam and tools")
            if target == "transport/env_uv.h" and not (is_seam(path) or in_tools):
                breaches.append(where + "seam: env_uv.h is for tools and tests")
            if not is_ours(text, target):
                continue
            target = resolve(root, path, target)
            problem = check_folder(path, target)
            if problem:
                breaches.append(where + "folder: " + problem)
                continue
            problem = None if in_tools else check_rank(root, path, target)
            if problem:
                breaches.append(where + "rank: " + target + ": " + problem)
    return breaches


def is_ours(text, target):
    """Quoted, not in angle brackets."""
    return re.search(r'#\s*include\s*"%s"' % re.escape(target), text) is not None


def modules_of(stem):
    """A file's name and, where a module has several files, the beginnings of it."""
    words = stem.split("_")
    return ["_".join(words[:count]) for count in range(len(words), 0, -1)]


@functools.lru_cache(maxsize=None)
def types_of(root, folder, stem):
    """Names of the structs and enums that the files of a module define."""
    found = set()
    for module in modules_of(stem):
        for ending in (".h", ".c", "_impl.h", "_priv.h"):
            path = os.path.join(root, folder, module + ending)
            if os.path.exists(path):
                text = strip_comments(read(path))
                found.update(re.findall(r"\b(?:struct|enum)\s+(wr_\w+)\s*\{", text))
    return found


def has_prefix(root, symbol, folder, stem):
    if stem.endswith(".pb-c"):
        return symbol.startswith("wr__")
    names = {"wr_" + module for module in modules_of(stem)} | types_of(root, folder, stem)
    if any(symbol == name or symbol.startswith(name + "_") for name in names):
        return True
    if any(symbol.startswith(name) for name in PREFIXES.get("%s/%s" % (folder, stem), ())):
        return True
    return is_part_of_another(root, symbol, folder)


def is_part_of_another(root, symbol, folder):
    """wr_store_x, implemented anywhere in the folder and declared in a header of store."""
    for module in modules_of(symbol[3:]):
        for ending in (".h", "_impl.h"):
            path = os.path.join(root, folder, module + ending)
            if os.path.exists(path) and re.search(r"\b%s\(" % symbol, strip_comments(read(path))):
                return True
    return False


def symbols(binary):
    """Yields (object stem, symbol) of every global definition in a library or object file."""
    out = subprocess.run(["nm", "-A", "-g", "--defined-only", binary], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    for line in out.splitlines():
        match = re.match(r"(?:.*[:/])?([^:/]+)\.o:\s*[0-9a-fA-F]*\s+([A-Za-z])\s+(\S+)$", line)
        if match:
            yield re.sub(r"\.c$", "", match.group(1)), match.group(3)


def folder_of(binary):
    """libdht.a is of dht; an object file lies in a folder of its source's name."""
    name = os.path.basename(binary)
    return name[3:-2] if name.endswith(".a") else os.path.basename(os.path.dirname(binary))


def check_symbols(root, binary):
    breaches = []
    name, folder, seen = os.path.basename(binary), folder_of(binary), 0
    for stem, symbol in symbols(binary):
        seen += 1
        if not INSTRUMENTS.match(symbol) and not has_prefix(root, symbol, folder, stem):
            breaches.append("%s(%s.o): prefix: %s" % (name, stem, symbol))
    if not seen:
        breaches.append("%s: prefix: no symbols were read" % name)
    return breaches


def main(arguments):
    if len(arguments) < 2:
        print(__doc__.strip().split("\n")[2].strip(), file=sys.stderr)
        return 2
    root, binaries = arguments[1], arguments[2:]
    count = sum(1 for _ in sources(root))
    breaches = check_includes(root)
    for binary in binaries:
        breaches += check_symbols(root, binary)
    for breach in breaches:
        print(breach)
    print("%d files, %d binaries, %d breaches" % (count, len(binaries), len(breaches)))
    return 1 if breaches or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
