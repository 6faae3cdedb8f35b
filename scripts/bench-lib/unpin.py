# SPDX-License-Identifier: GPL-2.0-or-later
"""The temporal locality of DMA: what unpinning sooner or later costs.

One VM under one load, whose unpin thread is set to one policy and interval after the
other.  A repin is a block that is asked for within 10 s of being let go: one that
should have stayed.
"""

import statistics

from results import spread
from rigcase import MIB, in_order, run_case, where

HOST_MIB = 2304
INTERVALS_MS = (50, 200, 500, 1000, 2000, 4000, 8000)
POLICIES = ("lazy", "timeout")


def run(bench):
    intervals = (100, 1000) if bench.quick else INTERVALS_MS
    settings = [f"{policy}:{ms}" for policy in POLICIES for ms in intervals]
    # Nothing is let go: what the others are compared with.
    settings.append("off:1000")
    found = run_case(bench, HOST_MIB, 3600, envs=settings,
                     rounds=1 if bench.quick else 2,
                     seconds=3 if bench.quick else 8)
    rows = found["unpin"]
    for row in rows + found["mixing"]:
        row["rate"] = per_second(row, "ios")
    if not rows:
        # What went wrong has been told as a problem.
        return
    base = statistics.mean(row["rate"] for row in where(rows, policy="off"))
    for policy in in_order(rows, "policy"):
        for ms in sorted(in_order(where(rows, policy=policy), "interval_ms")):
            table_row(bench, where(rows, policy=policy, interval_ms=ms), base)
    for row in found["mixing"]:
        time_row(bench, "unpin-mixing", row)
    for row in rows:
        time_row(bench, "unpin-rounds", row)


def per_second(row, name):
    return row[name] * 1e6 / row["us"]


def time_row(bench, table, row):
    """One look, and when it began, in seconds since the VM's start."""
    bench.row(table, at_s=round(row["at_ms"] / 1000),
              policy=row["policy"], interval_ms=row["interval_ms"],
              pin_requests_per_s=round(
                  per_second(row, "demand_pin_requests"), 2),
              repins_per_s=round(per_second(row, "repins"), 2),
              unpinned_per_s=round(per_second(row, "unpinned_blocks"), 2),
              pinned_mib=round(row["pinned"] / MIB, 1),
              ios_per_s=round(row["rate"]))


def table_row(bench, runs, base):
    """The runs of one setting."""
    def each(name):
        return [per_second(row, name) for row in runs]

    bench.row("unpin", policy=runs[0]["policy"],
              interval_ms=runs[0]["interval_ms"], runs=len(runs),
              **spread("pin_requests_per_s", each("demand_pin_requests"), 2),
              **spread("repins_per_s", each("repins"), 2),
              unpinned_per_s=round(statistics.mean(
                  each("unpinned_blocks")), 2),
              races=sum(row["unpin_races"] for row in runs),
              pins_per_1000_ios=round(
                  1000 * sum(row["demand_pin_requests"] for row in runs)
                  / sum(row["ios"] for row in runs), 3),
              **spread("pinned_mib", [row["pinned"] / MIB for row in runs], 1),
              **spread("rate_of_off", [row["rate"] / base for row in runs], 3))
