# SPDX-License-Identifier: GPL-2.0-or-later
"""Environments compared with static pinning, in pairs.

Each environment has a VM in several rounds.  The rate of a machine that others use
changes with time, so a VM is compared with the static one of the same round only, and
what is told is the median of these ratios.
"""

import statistics

from results import spread
from rigcase import in_order, target, where

BASE, OURS = "static", "coiommu"
VIOMMUS = ("intel-iommu", "virtio-iommu", "virtio-iommu+strict")
EXITS_OVER = 0.01
RATE_UNDER = 0.97
SLOWER = 2
# The kernel's CPU times have a resolution of 10 ms.
TICK_US = 10000


def ratios(rows, load, env, base, value):
    """Of a figure, value(row), in the rounds in which both environments have run."""
    found = []
    for row in where(rows, load=load, env=env):
        others = where(rows, load=load, env=base, round=row["round"])
        if others and value(others[0]):
            found.append(value(row) / value(others[0]))
    return found


def rate(row):
    return row["rate"]


def exits(row):
    """Without those that the host's own interrupts cause: its timer's tick."""
    return (row["exits"] - row["irq_exits"]) / row["count"]


def emulation(row):
    """Exits for which QEMU, or KVM, has to emulate a device."""
    return (row["mmio_exits"] + row["io_exits"]) / row["count"]


def cpu(row):
    return row["cpu"] * TICK_US / row["count"]


def table(bench, rows, unit):
    """The benchmark's main table; unit: what is counted."""
    for load in in_order(rows, "load"):
        for env in in_order(rows, "env"):
            runs = where(rows, load=load, env=env)
            if not runs:
                continue
            rates = ratios(rows, load, env, BASE, rate)
            over = ratios(rows, load, env, BASE, exits)
            requests = [row["requests"] for row in runs]
            bench.row(
                bench.name, load=load, env=env, domain=runs[0]["domain"],
                rounds=len(runs), count=sum(row["count"] for row in runs),
                **spread("rate", [row["rate"] for row in runs]),
                **spread("rate_of_static", rates or [float("nan")], 3),
                **spread(f"exits_per_{unit}", [exits(row) for row in runs], 3),
                **spread("exits_of_static", over or [float("nan")], 3),
                **{f"emulation_exits_per_{unit}": round(statistics.median(
                    emulation(row) for row in runs), 4),
                   f"all_exits_per_{unit}": round(statistics.median(
                       row["exits"] / row["count"] for row in runs), 3),
                   f"cpu_us_per_{unit}": round(statistics.median(
                       cpu(row) for row in runs), 1),
                   "cpu_percent": round(statistics.median(
                       100 * row["cpu"] * TICK_US / row["us"]
                       for row in runs)),
                   "requests": "" if "-" in requests else sum(requests),
                   "pins": "" if "-" in requests else
                   sum(row["pins"] for row in runs)})


def judge(bench, rows, unit):
    for load in in_order(rows, "load"):
        found = ratios(rows, load, OURS, BASE, exits)
        if not found:
            continue
        median = statistics.median(found)
        target(bench, f"{load}: exits per {unit}, of static's",
               f"<= {1 + EXITS_OVER}", f"{median:.3f}",
               median <= 1 + EXITS_OVER)
        # The exits of pinning alone, which no noise is in.
        asked = statistics.median(
            row["requests"] / row["count"]
            for row in where(rows, load=load, env=OURS))
        part = asked / statistics.median(
            exits(row) for row in where(rows, load=load, env=BASE))
        target(bench, f"{load}: exits for coIOMMU's requests, of static's",
               f"<= {EXITS_OVER}", f"{part:.5f}", part <= EXITS_OVER)
        median = statistics.median(ratios(rows, load, OURS, BASE, rate))
        target(bench, f"{load}: rate, of static's", f">= {RATE_UNDER}",
               f"{median:.3f}", median >= RATE_UNDER)
        for env in VIOMMUS:
            theirs = ratios(rows, load, env, BASE, rate)
            if theirs and statistics.median(theirs) <= 1 / SLOWER:
                times = statistics.median(
                    ratios(rows, load, OURS, env, rate))
                target(bench, f"{load}: rate, of {env}'s", f">= {SLOWER}",
                       f"{times:.2f}", times >= SLOWER)
