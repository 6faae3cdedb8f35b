#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""check_json.py FILE GIB...: what the demo's JSON must show.

Independent of the demo's own verdict: it reads nothing but the file.
"""
import json
import sys

KEYS = {"mode", "vm_mem_bytes", "ready_s", "peak_pinned_bytes",
        "final_pinned_bytes", "demand_pins", "nvme_ok", "net_ok",
        "iommu_faults"}
MIB = 1 << 20
GIB = 1 << 30


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = json.load(file)
    sizes = [int(arg) * GIB for arg in sys.argv[2:]]
    for row in rows:
        assert set(row) == KEYS, row
        assert row["ready_s"] > 0, row
        assert row["iommu_faults"] == 0, row
    table = {(row["mode"], row["vm_mem_bytes"]): row for row in rows}
    assert len(table) == len(rows) == 2 + 2 * len(sizes), rows

    none = table["none", 128 * MIB]
    assert none["peak_pinned_bytes"] == 0, none
    assert none["nvme_ok"] is None and none["net_ok"] is None, none
    for size in [128 * MIB] + sizes:
        row = table["static", size]
        assert row["peak_pinned_bytes"] >= size, row
        assert row["final_pinned_bytes"] >= size, row
        assert row["demand_pins"] is None, row
        assert row["nvme_ok"] is True and row["net_ok"] is True, row
    for size in sizes:
        row = table["coiommu", size]
        assert 0 < row["final_pinned_bytes"] <= row["peak_pinned_bytes"], row
        assert row["peak_pinned_bytes"] < 200 * MIB, row
        assert row["demand_pins"] > 0, row
        assert row["nvme_ok"] is True and row["net_ok"] is True, row
    # Where static pinning has most to pin, by a margin that no noise hides.
    largest = [table[mode, sizes[-1]]["ready_s"] for mode in ("coiommu", "static")]
    assert largest[0] < largest[1], largest


main()
