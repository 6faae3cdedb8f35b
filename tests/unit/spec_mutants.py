#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Prove that spec_check.py can fail.

usage: spec_mutants.py SPEC HEADER

Changes one number at a time in the specification's tables, and expects the
check to notice each.  Prints TAP.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

CHECK = Path(__file__).with_name("spec_check.py")
LABELS = ["registers", "features", "commands", "status", "directory", "entry",
          "request", "opcodes"]


def mutate(spec, label):
    """The specification with the first number in a table's last
    row that names something changed."""
    head, tail = spec.split(f".. _table-{label}:\n", 1)
    rules = list(re.finditer(r"^=+( +=+)+$", tail, re.M))[:3]
    body = tail[rules[1].end():rules[2].start()]
    row = [l for l in body.splitlines()
           if re.match(r"\d", l) and "reserved" not in l][-1]
    digit = "5" if row[0] != "5" else "6"
    if row.startswith("0x"):
        changed = "0x" + ("7" if row[2] != "7" else "6") + row[3:]
    else:
        changed = digit + row[1:]
    return head + f".. _table-{label}:\n" + tail.replace(row, changed, 1)


def main():
    spec = Path(sys.argv[1]).read_text()
    print(f"1..{len(LABELS)}")
    failed = 0
    for number, label in enumerate(LABELS, 1):
        with tempfile.NamedTemporaryFile("w", suffix=".rst") as mutant:
            mutant.write(mutate(spec, label))
            mutant.flush()
            run = subprocess.run([sys.executable, CHECK, mutant.name, sys.argv[2]],
                                 capture_output=True, text=True)
        caught = run.returncode == 1 and "\nnot ok" in run.stdout
        failed += not caught
        print(f"{'ok' if caught else 'not ok'} {number} - notices-{label}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
