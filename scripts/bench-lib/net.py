# SPDX-License-Identifier: GPL-2.0-or-later
"""An assigned NIC's rate and exits, next to all alternatives.

sockperf in the guest, its server on this machine: messages of different sizes in one
direction, and ping-pong, which is what netperf calls TCP_RR.
"""

import paired
from results import spread
from rigcase import in_order, run_case, where
from sockperf import peer

HOST_MIB = 2560
ENVS = ("static", "coiommu", "intel-iommu", "virtio-iommu",
        "virtio-iommu+strict", "virtio-net", "igb")


def run(bench):
    with peer(bench) as address:
        found = run_case(
            bench, HOST_MIB, 4800, peer=address,
            envs=ENVS[:2] if bench.quick else ENVS,
            rounds=1 if bench.quick else 3, seconds=1 if bench.quick else 4)
    rows = [{**row, "load": f"{row['load']} {row['bytes']}"}
            for row in found["net"]]
    paired.table(bench, rows, "message")
    paired.judge(bench, rows, "message")
    for load in in_order(rows, "load"):
        for env in in_order(rows, "env"):
            packets(bench, rows, load, env)


def packets(bench, rows, load, env):
    """How many messages TCP puts into a packet, and the rate of these."""
    found = where(rows, load=load, env=env)
    if not found:
        return
    rates = paired.ratios(rows, load, env, paired.BASE, lambda row:
                          row["packets"] / row["us"])
    bench.row("net-packets", load=load, env=env, runs=len(found),
              **spread("packets_per_message",
                       [row["packets"] / row["count"] for row in found], 3),
              **spread("packet_rate_of_static", rates or [float("nan")], 3))
