# SPDX-License-Identifier: GPL-2.0-or-later
"""An assigned disk's rate and exits, next to all alternatives.

fio in the guest does a fixed number of I/Os.  Exits are KVM's own counts, so fio's
start and end are in them.
"""

import paired
from rigcase import MIB, run_case

HOST_MIB = 2560
ENVS = ("static", "coiommu", "intel-iommu", "virtio-iommu",
        "virtio-iommu+strict", "virtio-blk", "nvme")
QUICK_ENVS = ("static", "coiommu", "virtio-iommu", "virtio-blk")


def run(bench):
    found = run_case(
        bench, HOST_MIB, 2400, envs=QUICK_ENVS if bench.quick else ENVS,
        rounds=1 if bench.quick else 3, seconds=1 if bench.quick else 3)
    rows = [{**row, "count": row["ios"]} for row in found["block"]]
    paired.table(bench, rows, "io")
    paired.judge(bench, rows, "io")
    for row in found["pins"]:
        bench.row("block-pins", load=row["load"],
                  second=round(row["ms"] / 1000, 2), pins=row["pins"],
                  requests=row["requests"],
                  pinned_mib=round(row["pinned"] / MIB, 2))
