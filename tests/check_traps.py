#!/usr/bin/env python3
"""Every test that README.md names exists; and docs/lab.md lists the laboratory's faults, each with its code."""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
NAMED = re.compile(r"((?:[a-z_]+/)+[a-z_]+\.c): ((?:[a-z0-9_]+(?:, )?)+)")


def missing(text):
    found, lost = 0, []
    for file, names in NAMED.findall(text):
        path = HERE / file
        source = path.read_text() if path.exists() else ""
        for name in names.rstrip(", ").split(", "):
            found += 1
            if not re.search(rf"static void {name}\(|cmocka_unit_test\w*\({name}\b|TEST\({name}\)", source):
                lost.append(f"{file}: {name}")
    return found, lost


def faults(text):
    """{name: code} of what is registered in natlab/faults.py."""
    return {name.replace("_", "-"): code
            for code, name in re.findall(r'^@fault\("([a-z-]+)".*\)\ndef (\w+)\(', text, flags=re.M)}


def listed(text):
    """The same of the table in docs/lab.md."""
    return dict(re.findall(r"^\| `([a-z-]+)` \|.*\| `([a-z-]+)` \|$", text.partition("### Faults")[2], flags=re.M))


def main():
    found, lost = missing((HERE / "README.md").read_text())
    for name in lost:
        print(f"tests/README.md names a test that is not there: {name}")
    _, planted = missing("| x | unit/test_yamux.c: test_that_nobody_wrote |")
    if len(planted) != 1 or found < 50:
        print(f"the check itself is broken: {found} names read")
        return 1
    made = faults((HERE / "natlab/faults.py").read_text())
    told = listed((HERE.parent / "docs/lab.md").read_text())
    for name in sorted(n for n in made.keys() | told.keys() if made.get(n) != told.get(n)):
        print(f"{name}: {made.get(name)} in natlab/faults.py, {told.get(name)} in docs/lab.md")
    print(f"{found} tests named, {len(lost)} missing; {len(made)} faults")
    return 1 if lost or made != told or not made else 0


if __name__ == "__main__":
    sys.exit(main())
