#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Compare the tables of docs/spec.rst with the ABI header.

usage: spec_check.py SPEC HEADER [CC]

Both directions: each row of a table has a constant (or a structure member) of
the same value, and each constant of the table's family has a row.  The
compiler, not this script, says what a constant's value is.  Prints TAP.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path


def simple_table(text, label):
    """The rows of the reST simple table behind `.. _label:`, as lists of cells."""
    lines = text.split(f".. _{label}:\n", 1)[1].splitlines()
    rules = [i for i, l in enumerate(lines) if re.fullmatch(r"=+( +=+)+", l)][:3]
    rule = lines[rules[0]]
    starts = [m.start() for m in re.finditer(r"=+", rule)]
    spans = list(zip(starts, starts[1:] + [None]))
    rows = []
    for line in lines[rules[1] + 1:rules[2]]:
        cells = [line[a:b].strip() for a, b in spans]
        if cells[0]:
            rows.append(cells)
        else:  # a cell that goes on in the next line
            rows[-1] = [f"{x} {y}".strip() for x, y in zip(rows[-1], cells)]
    return rows


class Header:
    """The constants and the layout that the compiler sees in the header."""

    def __init__(self, path, cc):
        self.path, self.cc = path, cc
        macros = self.run(["-dM", "-E", "-x", "c", str(path)])
        self.names = re.findall(r"^#define (COIOMMU_\w+) ", macros, re.M)
        self.text = path.read_text()

    def run(self, args):
        return subprocess.run([self.cc, *args], check=True, text=True,
                              capture_output=True).stdout

    def values(self, expressions):
        """What C integer expressions evaluate to."""
        body = "\n".join(f'printf("%llu\\n", (unsigned long long)({e}));'
                         for e in expressions)
        with tempfile.TemporaryDirectory() as tmp:
            src, exe = Path(tmp, "t.c"), Path(tmp, "t")
            src.write_text(f'#include <stdio.h>\n#include <stddef.h>\n'
                           f'#include "{self.path.resolve()}"\n'
                           f'int main(void) {{ {body} return 0; }}\n')
            self.run(["-o", str(exe), str(src)])
            out = subprocess.run([exe], check=True, text=True, capture_output=True)
        return [int(v) for v in out.stdout.split()]

    def family(self, prefix):
        names = [n for n in self.names if n.startswith(prefix)]
        return dict(zip(names, self.values(names)))

    def comment(self, name):
        """The comment behind a #define."""
        return re.search(rf"#define {name}\b[^/]*/\* (.*?) \*/", self.text).group(1)


def same(spec, header, what):
    for key in sorted(set(spec) | set(header)):
        if spec.get(key) != header.get(key):
            raise AssertionError(f"{what} {key}: specification says "
                                 f"{spec.get(key)}, header {header.get(key)}")
    if not spec:
        raise AssertionError(f"{what}: empty table")


def check_registers(spec, header):
    rows = {}
    for offset, size, access, reset, function in simple_table(spec, "table-registers"):
        name = re.match(r"[A-Z_]+", function).group(0)
        rows[name] = (int(offset, 0), int(size), access)
        if name in ("MAGIC", "VERSION"):
            want = header.family(f"COIOMMU_{name}")[f"COIOMMU_{name}"]
            if int(reset, 0) != want:
                raise AssertionError(f"{name} resets to {reset}, header {want:#x}")
    have = {}
    for name, value in header.family("COIOMMU_REG_").items():
        size, access = re.match(r"(\d), (\w+)", header.comment(name)).groups()
        have[name.removeprefix("COIOMMU_REG_")] = (value, int(size), access)
    same(rows, have, "register")
    slots = header.values(["COIOMMU_SLOTS_MAX"])[0]
    if f" {slots} " not in spec:
        raise AssertionError(f"MAX_SLOTS {slots} is not in the register table")


def check_family(spec, header, label, prefix):
    rows = {r[1]: int(r[0], 0) for r in simple_table(spec, label)}
    have = {n.removeprefix("COIOMMU_"): v for n, v in header.family(prefix).items()}
    same(rows, have, label)


def check_features(spec, header):
    rows = {r[1]: 1 << int(r[0]) for r in simple_table(spec, "table-features")}
    have = {n.removeprefix("COIOMMU_"): v
            for n, v in header.family("COIOMMU_F_").items()}
    same(rows, have, "feature")


def bits(text):
    """The mask of "31", or of "19:0"."""
    high, low = (text.split(":") * 2)[:2] if ":" in text else (text, text)
    return ((1 << (int(high) + 1)) - 1) & ~((1 << int(low)) - 1)


def check_bits(spec, header, label, prefix, names):
    rows = {r[1]: bits(r[0]) for r in simple_table(spec, label)
            if r[1] != "reserved"}
    have = {n: header.values([f"COIOMMU_{prefix}{n}"])[0] for n in names}
    same(rows, have, label)


def check_request(spec, header):
    rows = {r[2]: (int(r[0], 0), int(r[1])) for r in simple_table(spec, "table-request")}
    members = re.search(r"^struct coiommu_request \{(.*?)^\};", header.text,
                        re.M | re.S).group(1)
    names = re.findall(r"(\w+)(?:\[\w+\])?;", members)
    exprs = [e for n in names
             for e in (f"offsetof(struct coiommu_request, {n})",
                       f"sizeof(((struct coiommu_request *)0)->{n})")]
    values = header.values(exprs)
    same(rows, {n: tuple(values[2 * i:2 * i + 2]) for i, n in enumerate(names)},
         "request field")


def check_limits(spec, header):
    ranges, pages, count, saturated = header.values(
        ["COIOMMU_REQ_MAX_RANGES", "COIOMMU_REQ_MAX_PAGES", "COIOMMU_DTT_COUNT_MAX",
         "COIOMMU_DTT_COUNT_SATURATED"])
    for want in (f"from 1 to {ranges}", f"at most {pages} pages", f"``{count:#010x}``",
                 f"``{saturated:#010x}``"):
        if want not in spec:
            raise AssertionError(f'the specification does not say "{want}"')
    version = header.values(["COIOMMU_VERSION_MAJOR", "COIOMMU_VERSION_MINOR"])
    if simple_version(spec) != version:
        raise AssertionError(f"title says {simple_version(spec)}, header {version}")


def simple_version(spec):
    return [int(n) for n in re.search(r"specification, version (\d+)\.(\d+)",
                                      spec).groups()]


def main():
    spec = Path(sys.argv[1]).read_text()
    header = Header(Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "cc")
    tests = [
        ("registers", lambda: check_registers(spec, header)),
        ("features", lambda: check_features(spec, header)),
        ("commands", lambda: check_family(spec, header, "table-commands",
                                          "COIOMMU_CMD_")),
        ("statuses", lambda: check_family(spec, header, "table-status",
                                          "COIOMMU_ST_")),
        ("opcodes", lambda: check_family(spec, header, "table-opcodes",
                                         "COIOMMU_OP_")),
        ("directory-bits", lambda: check_bits(spec, header, "table-directory", "DTT_",
                                              ["DIR_PRESENT", "DIR_ADDR_MASK"])),
        ("entry-bits", lambda: check_bits(spec, header, "table-entry", "",
                                          ["DTT_PINNED", "DTT_ACCESSED",
                                           "DTT_COUNT_MASK"])),
        ("request-layout", lambda: check_request(spec, header)),
        ("limits", lambda: check_limits(spec, header)),
    ]
    print(f"1..{len(tests)}")
    failed = 0
    for number, (name, test) in enumerate(tests, 1):
        try:
            test()
            print(f"ok {number} - {name}")
        except (AssertionError, AttributeError, IndexError) as error:
            failed += 1
            print(f"not ok {number} - {name}\n# {error}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
