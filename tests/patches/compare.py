#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare two runs of QEMU's tests, case by case.

    compare.py PLAIN PATCHED

Both are meson's testlog.junit.xml.  Says what differs, and how many cases ended
how.  Exit status 1 if any differs, or if next to nothing has been run.
"""

import collections
import sys
import xml.etree.ElementTree

# A run that has ended early has few.
ENOUGH = 400


def results(path):
    """{(test, case): "passed", "skipped" or "failed"}"""
    found = {}
    for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            how = "passed"
            if case.find("skipped") is not None:
                how = "skipped"
            if case.find("failure") is not None or \
                    case.find("error") is not None:
                how = "failed"
            found[suite.get("name"), case.get("name")] = how
    return found


def main():
    plain, patched = (results(path) for path in sys.argv[1:])
    differ = 0
    for name in sorted(plain.keys() | patched.keys()):
        before, after = (side.get(name, "missing")
                         for side in (plain, patched))
        if before != after:
            differ += 1
            print(f"{' '.join(name)}: {before} unpatched, {after} patched")
        elif before == "failed":
            print(f"{' '.join(name)}: failed in both")
    for label, side in (("unpatched", plain), ("patched", patched)):
        print(f"{label}: {dict(collections.Counter(side.values()))}")
    print(f"{differ} of {len(plain)} cases differ")
    return 1 if differ or len(plain) < ENOUGH else 0


if __name__ == "__main__":
    sys.exit(main())
