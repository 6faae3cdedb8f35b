# SPDX-License-Identifier: GPL-2.0-or-later
"""An assigned NIC's rate and exits, next to all alternatives.

sockperf in the guest, its server on this machine: messages of different sizes in one
direction, and ping-pong, which is what netperf calls TCP_RR.
"""

import paired
from rigcase import run_case
from sockperf import peer

HOST_MIB = 2560
ENVS = ("static", "coiommu", "intel-iommu", "virtio-iommu",
        "virtio-iommu+strict")


def run(bench):
    with peer(bench) as address:
        found = run_case(
            bench, HOST_MIB, 2400, peer=address,
            envs=ENVS[:2] if bench.quick else ENVS,
            rounds=1 if bench.quick else 3, seconds=1 if bench.quick else 4)
    rows = [{**row, "load": f"{row['load']} {row['bytes']}"}
            for row in found["net"]]
    paired.table(bench, rows, "message")
    paired.judge(bench, rows, "message")
