# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a VM with assigned devices takes to start, against its memory.

"Ready" is from QEMU's start to its first answer on the monitor, the CPU stopped:
all devices are there by then.  "Init" is to the guest's init.  The cost of an
assignment itself is that of a VM that has next to nothing to pin: static, 128 MiB,
with the same pages.
"""

import statistics

import boot_sparse
from results import spread
from rigcase import MIB, fits, in_order, run_case, target, where

ENVS = ("none", "static+4k", "static", "static+prealloc", "static+hugetlb",
        "intel-iommu", "virtio-iommu", "coiommu", "coiommu+4k",
        "coiommu+block=64K")
# What backs a guest's memory makes no difference once QEMU runs.
GUESTS = ("none", "static", "intel-iommu", "virtio-iommu", "coiommu",
          "coiommu+block=64K")
SIZES_MIB = (256, 1024, 4096, 8192, 16384)
GIB = 1024
# The rig's host beside its largest VM.
HOST_MIB = 2048
OWN_MIB = 128
OWN_ENVS = ("static", "static+4k")
OWN_COST = 1.05
EXTRAPOLATED_GIB = (1, 16, 32, 64, 128)


def sizes(bench):
    """Those that this machine has memory for."""
    if bench.quick:
        return (256, 512)
    host = 0 if bench.options.host_devices else HOST_MIB
    found = tuple(mib for mib in SIZES_MIB if fits(mib + host))
    for mib in SIZES_MIB:
        if mib not in found:
            bench.note(f"no memory for VMs of {mib} MiB: left out")
    return found


def seconds(rows, name):
    return [row[name] / 1e6 for row in rows]


def run(bench):
    memory = sizes(bench)
    if not memory:
        raise SystemExit("this machine hasn't enough free memory for any of "
                         "the sizes.")
    found = run_case(bench, max(memory) + HOST_MIB, 1800, envs=ENVS,
                     guests=GUESTS,
                     sizes=[f"{mib}M" for mib in memory],
                     rounds=1 if bench.quick else 3)
    times = ready_times(found["starts"])
    if any(OWN_MIB not in times.get(env, {}) for env in OWN_ENVS):
        # What went wrong has been told as a problem.
        return
    table(bench, found, times)
    extrapolate(bench, times)
    judge(bench, times)
    boot_sparse.run(bench)


def ready_times(starts):
    """{env: {MiB: [seconds]}}"""
    times = {}
    for env in in_order(starts, "env"):
        for mem in in_order(where(starts, env=env), "mem"):
            times.setdefault(env, {})[mem // MIB] = seconds(
                where(starts, env=env, mem=mem), "ready_us")
    return times


def own_cost(times, env):
    """What an assignment takes with the pages of this environment, in seconds."""
    base = OWN_ENVS[env.endswith("+4k")]
    return statistics.median(times[base][OWN_MIB])


def table(bench, found, times):
    """The main table."""
    for env, points in times.items():
        for mib, found_times in points.items():
            starts = where(found["starts"], env=env, mem=mib * MIB)
            guests = where(found["guests"], env=env, mem=mib * MIB)
            guest = guests[0] if guests else {}
            bench.row(
                "boot", env=env, memory_mib=mib, starts=len(starts),
                **spread("ready_s", found_times, 2),
                times_own=round(statistics.median(found_times)
                                / own_cost(times, env), 2),
                pinned_at_ready_mib=round(starts[-1]["pinned"] / MIB, 1),
                init_s=round(guest["init_us"] / 1e6, 1) if guest else "",
                peak_mib=round(guest["peak"] / MIB, 1) if guest else "",
                idle_mib=round(guest["final"] / MIB, 1) if guest else "")


def extrapolate(bench, times):
    """Where all memory is pinned, a straight line to the paper's 128 GB.

    Through the fastest starts: what else the machine does, and a lack of free huge
    pages, only add to them."""
    for env, points in times.items():
        points = {mib: min(found) for mib, found in points.items()
                  if mib != OWN_MIB}
        if len(points) < 2 or not env.startswith("static"):
            continue
        slope, base = statistics.linear_regression(
            [mib / GIB for mib in points], list(points.values()))
        for gib in EXTRAPOLATED_GIB:
            bench.row("boot-extrapolated", env=env, gib=gib,
                      ready_s=round(base + slope * gib, 2),
                      s_per_gib=round(slope, 3))


def judge(bench, times):
    for env in ("coiommu", "coiommu+4k", "coiommu+block=64K"):
        if env not in times:
            continue
        points = {mib: statistics.median(found)
                  for mib, found in times[env].items()}
        worst = max(points, key=points.get)
        ratio = points[worst] / own_cost(times, env)
        target(bench, f"{env}: ready, at every size, in times of the "
               f"assignment's own cost (static, {OWN_MIB} MiB, such pages)",
               f"<= {OWN_COST}", f"{ratio:.2f} ({worst} MiB)",
               ratio <= OWN_COST)
        flat = points[max(points)] / points[min(points)]
        target(bench, f"{env}: ready, the largest VM in times of the smallest",
               f"<= {OWN_COST}", f"{flat:.2f}", flat <= OWN_COST)
