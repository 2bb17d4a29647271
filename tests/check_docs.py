#!/usr/bin/env python3
"""What the program's sources and its documents both list is the same list: commands, methods, events, metrics ..."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def section(text, title):
    """What stands under a heading, up to the next one."""
    return re.split(r"^#+ ", text.partition(title + "\n")[2], maxsplit=1, flags=re.M)[0]


def quoted(text):
    return set(re.findall(r"`([^`\n]+)`", text))


def first_column(text):
    return quoted("\n".join(re.findall(r"^\| (`[^|]+) \|", text, flags=re.M)))


def commands(tools, readme):
    table = readme.partition("| Commands | |")[2].partition("\n\n")[0]
    return set(re.findall(r'\.name = "([a-z ]+)",\s*\.args', tools)), quoted(table)


def methods(node, control):
    return (set(re.findall(r'wr_control_method\([^,]+, "([a-z.]+)"', node)) |
            set(re.findall(r'\{"([a-z.]+)", on_\w+\}', node)),
            set(re.findall(r"^### `([a-z.]+)`$", control, flags=re.M)))


def events(node, control):
    named = "".join(re.findall(r"wr_control_event\(([^;]*)\);", node))
    named += re.search(r"\*event_name\(.*?^\}", node, flags=re.M | re.S).group()
    named += "".join(re.findall(r'wr_pack_text\(&p, "event", ([^;]*)\);', node))
    return set(re.findall(r'"([a-z-]+)"', named)), first_column(section(control, "## Events"))


def metrics(node, control):
    """Labels and their values are named there as well: of what has no underscore only what is a metric counts."""
    made = set(re.findall(r'(?:wr_prom_\w+\(out, |METRIC\()"(\w+)"', node))
    told = quoted(section(control, "### `metrics`"))
    return made, {name for name in told if name in made or re.fullmatch(r"[a-z]\w*_\w*[a-z]", name)}


def relay_metrics(node, relay):
    made, told = metrics(node, ""), re.findall(r"`warren_(\w+)`", relay)
    return {name for name in made[0] if name.startswith("relay_lent")}, set(told)


def codes(header, page):
    return re.findall(r'^ {4}X\(\w+, "([a-z-]+)"', header, flags=re.M), first_column(page)


def reasons(header, page):
    """In the same order."""
    return codes(header, page)[0], re.findall(r"^\| `([a-z-]+)` ", page, flags=re.M)


def faults(source, page):
    """Each with its code."""
    made = re.findall(r'^@fault\("([a-z-]+)".*\)\ndef (\w+)\(', source, flags=re.M)
    told = re.findall(r"^\| `([a-z-]+)` \|.*\| `([a-z-]+)` \|$", page.partition("### Faults")[2], flags=re.M)
    return {(name.replace("_", "-"), code) for code, name in made}, set(told)


def main():
    node = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("node/*.c")))
    control, portmap = read("docs/control.md"), codes(read("autonat/portmap.h"), read("docs/portmap.md"))
    tools = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("tools/cmd_*.c")))
    lists = {
        "commands": commands(tools, read("README.md")),
        "methods": methods(node, control),
        "events": events(node, control),
        "metrics": metrics(node, control),
        "metrics of relays": relay_metrics(node, read("docs/relay.md")),
        "reasons": reasons(read("node/reason.h"), read("docs/reasons.md")),
        "codes of port mapping": (set(portmap[0]), portmap[1]),
        "faults": faults(read("tests/natlab/faults.py"), read("docs/lab.md")),
    }
    wrong = 0
    for what, (made, told) in lists.items():
        if made != told or len(made) < 5:
            wrong += 1
            print(f"{what}: only in the code {sorted(set(made) - set(told))}, only in the documents "
                  f"{sorted(set(told) - set(made))}, {len(made)} in all"
                  + (", or in another order" if set(made) == set(told) else ""))
    print(", ".join(f"{len(made)} {what}" for what, (made, _) in lists.items()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
