#!/usr/bin/env python3
"""Every test that README.md names exists."""
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


def main():
    found, lost = missing((HERE / "README.md").read_text())
    for name in lost:
        print(f"tests/README.md names a test that is not there: {name}")
    _, planted = missing("| x | unit/test_yamux.c: test_that_nobody_wrote |")
    if len(planted) != 1 or found < 50:
        print(f"the check itself is broken: {found} names read")
        return 1
    print(f"{found} tests named, {len(lost)} missing")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
