# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters: properties, query-stats and the page tell the same."""

import os
import re

from driver import ABI, Guest, endpoint

PATH = "/machine/peripheral/iommu"
DOCS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../docs")
HEADER = os.path.join(os.path.dirname(os.path.realpath(__file__)),
                      "../../hw-coiommu/include/coiommu_version.h")
ROW = re.compile(r"^\| `([\w-]+)` \| (\w+) \| ([\w ]*) \|", re.M)
# A row's kind, and its unit, in the words of query-stats-schemas.
KINDS = {"counter": "cumulative", "now": "instant", "peak": "peak",
         "histogram": "log2-histogram"}
UNITS = {"": (None, 0), "bytes": ("bytes", 0), "ns": ("seconds", -9),
         "us": ("seconds", -6), "0 or 1": ("boolean", 0)}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def documented():
    """The page's counters: their kinds and units."""
    rows = ROW.findall(read(os.path.join(DOCS, "user/counters.md")))
    return {name: (KINDS[kind], *UNITS[unit]) for name, kind, unit in rows}


def stats(machine, *names):
    """What query-stats says of the device: values by name, or None."""
    request = {"provider": "coiommu"}
    if names:
        request["names"] = list(names)
    results = machine.qmp("query-stats", target="vm", providers=[request])
    return ({stat["name"]: stat["value"] for stat in results[0]["stats"]}
            if results else None)


def test_counters(t):
    """Each counter is a property and in query-stats, of the kind on the page."""
    with t.machine() as machine:
        guest = Guest(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(endpoint(0, 5)), ABI.ST_OK, "ATTACH")
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        schema, = machine.qmp("query-stats-schemas", provider="coiommu")
        t.equal(schema["target"], "vm", "the target")
        t.equal({stat["name"]: (stat["type"], stat.get("unit"), stat["exponent"])
                 for stat in schema["stats"]}, documented(), "the schema")
        there = {p["name"]: p for p in machine.qmp("qom-list", path=PATH)}
        values = stats(machine)
        t.equal(list(values), list(documented()), "the names, in order")
        for name, value in values.items():
            t.equal(machine.counter(name), value, name)
            t.equal(there[name]["type"] in ("uint64", "uint64List"), True,
                    f"type of {name}")
        t.equal((values["pinned-bytes"], values["requests"],
                 sum(values["pin-time-histogram"])), (2 << 20, 2, 1), "values")
        t.equal(stats(machine, "requests"), {"requests": 2}, "one by name")
        t.equal(stats(machine, "no-such"), None, "one that isn't there")
        t.equal("    pinned-bytes (instant, B): 2097152" in machine.qmp(
            "human-monitor-command", **{
                "command-line": "info stats vm * coiommu"}), True, "monitor")


def test_counters_without_device(t):
    """query-stats goes on when the device has been unrealized, or isn't there."""
    with t.machine() as machine:
        machine.qmp("qom-set", path=PATH, property="realized", value=False)
        t.equal(stats(machine), None, "stats when unrealized")
    with t.machine(coiommu=None, servers=0) as machine:
        t.equal(stats(machine), None, "stats without a device")


def test_version(t):
    """The device tells the version of the release."""
    version = re.search(r'COIOMMU_RELEASE "(.*)"', read(HEADER)).group(1)
    with t.machine() as machine:
        t.equal(machine.counter("version"), version, "version")
