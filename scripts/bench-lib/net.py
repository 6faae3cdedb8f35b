# SPDX-License-Identifier: GPL-2.0-or-later
"""An assigned NIC's rate and exits, next to all alternatives.

sockperf in the guest, its server on this machine: messages of different sizes in one
direction, and ping-pong, which is what netperf calls TCP_RR.
"""

import paired
from rigcase import run_case
from sockperf import Sockperf

HOST_MIB = 2560
ENVS = ("static", "coiommu", "intel-iommu", "virtio-iommu",
        "virtio-iommu+strict")
# The rig's gateway, which is L0.
GATEWAY = "10.0.2.2"


def measure(bench, peer):
    return run_case(
        bench, HOST_MIB, 2400, peer=peer,
        envs=ENVS[:2] if bench.quick else ENVS,
        rounds=1 if bench.quick else 3, seconds=1 if bench.quick else 4)


def run(bench):
    if bench.options.host_devices:
        found = measure(bench, bench.options.peer)
    else:
        with Sockperf(bench.log) as server:
            found = measure(bench, f"{GATEWAY}:{server.port}")
    rows = [{**row, "load": f"{row['load']} {row['bytes']}"}
            for row in found["net"]]
    paired.table(bench, rows, "message")
    paired.judge(bench, rows, "message")
