# SPDX-License-Identifier: GPL-2.0-or-later
"""counters.py [--write]: is the page of counters what the device's table says?

The page is made of the table in C: a heading for each comment in it, and a row
for each entry.  --write writes it anew; without, exits with 1 and shows how the
page differs, if it does.  A counter that another page names must exist, too.
"""

import difflib
import re
import sys

SOURCE = "hw-coiommu/monitor/counters.c"
PAGE = "docs/user/counters.md"
PAGES = ["docs/user/is-it-working.md", "docs/user/running.md",
         "docs/user/troubleshooting.md"]

HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
<!-- Made of hw-coiommu/monitor/counters.c by tests/style/counters.py; edit that. -->
# Counters

For operators: what QEMU's device counts. A reset of the machine clears no counter. With
`-device coiommu,id=coi0`:

| | one counter | all |
|---|---|---|
| monitor | `qom-get /machine/peripheral/coi0 pinned-bytes` | `info stats vm * coiommu` |
| QMP | `qom-get`, with `"path": "/machine/peripheral/coi0"` | `query-stats`, with `"target": "vm"` and, if you like, `"providers": [{"provider": "coiommu"}]` |

| kind | |
|---|---|
| counter | only grows |
| now | as it is at this moment |
| peak | the most so far |
| histogram | a list: how many were below one unit, 2, 4, 8 ...; the last has the rest |

`query-stats-schemas` tells kinds and units to programs. The guest's side has counters of its
own: [debugfs-coiommu](debugfs-coiommu).
"""
TABLE = """
## {}

| name | kind | unit | what it counts |
|---|---|---|---|
"""
KINDS = {"CUMULATIVE": "counter", "INSTANT": "now", "PEAK": "peak"}
UNITS = {"NUMBER": "", "BYTES": "bytes", "NS": "ns", "US": "us",
         "YES_NO": "0 or 1"}

ENTRY = re.compile(
    r'/\* (?P<heading>[^*]*) \*/'
    r'|(?:STAT|VALUE)\("(?P<name>[\w-]+)", (?P<kind>\w+), (?P<unit>\w+), \w+,'
    r'\s*(?P<text>(?:\s*"[^"]*")+)\)'
    r'|HISTOGRAM\("(?P<name_h>[\w-]+)", (?P<unit_h>\w+), \w+,'
    r'\s*(?P<text_h>(?:\s*"[^"]*")+)\)')


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def table():
    """The table in C, from its first line to its last."""
    return read(SOURCE).split("coiommu_counters[] = {")[1].split("\n};")[0]


def page(source):
    """The page, and the names that it has."""
    text, names = HEAD, set()
    for entry in ENTRY.finditer(source):
        if entry["heading"]:
            text += TABLE.format(" ".join(entry["heading"].split()))
            continue
        name = entry["name"] or entry["name_h"]
        names.add(name)
        kind = KINDS[entry["kind"]] if entry["kind"] else "histogram"
        unit = UNITS[entry["unit"] or entry["unit_h"]]
        what = "".join(re.findall('"([^"]*)"', entry["text"] or entry["text_h"]))
        text += f"| `{name}` | {kind} | {unit} | {what} |\n"
    return text, names


def unknown(names):
    """Counters that a page reads and that do not exist."""
    for path in PAGES:
        for name in re.findall(r"qom-get /machine/\S+ ([a-z-]+)", read(path)):
            if name not in names and name not in SETTINGS:
                yield f"{path}: there is no counter {name}"


# What is read in the same way and no counter.
SETTINGS = {"version", "max-pinned"}


def main(arguments):
    source = table()
    wanted, names = page(source)
    entries = len(re.findall(r"\b(?:STAT|VALUE|HISTOGRAM)\(", source))
    if entries != len(names):
        print(f"{SOURCE}: {entries} entries, of which {len(names)} are understood")
        return 1
    if "--write" in arguments:
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(wanted)
    diff = list(difflib.unified_diff(read(PAGE).splitlines(), wanted.splitlines(),
                                     PAGE, SOURCE, lineterm=""))
    faults = diff + list(unknown(names))
    print("\n".join(faults + [f"{len(names)} counters"]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
