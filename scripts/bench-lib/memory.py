# SPDX-License-Identifier: GPL-2.0-or-later
"""What is pinned through a VM's life: start, boot, idle, two loads, idle.

Pinned is what the host's kernel charges to QEMU, free what it says is available.
Mapped is what coIOMMU's unpin thread saw in use when it last went round: bytes in
blocks that hold mapped pages.
"""

from rigcase import MIB, in_order, run_case, target, where
from sockperf import peer

GUEST_MIB = 4096
QUICK_MIB = 512
HOST_MIB = 2048
ENVS = ("static", "intel-iommu", "virtio-iommu", "coiommu",
        "coiommu+block=64K", "coiommu+unpin-interval=50",
        "coiommu+block=64K+unpin-interval=50")
# Into the same buffers again and again; and ever other pages of memory as well.
LOADS = ("hot", "load")
IDLE_PART = 0.01
PEAK_OVER = 1.25


def run(bench):
    guest_mib = QUICK_MIB if bench.quick else GUEST_MIB
    with peer(bench) as address:
        found = run_case(
            bench, guest_mib + HOST_MIB, 1500, peer=address,
            sizes=f"{guest_mib}M",
            envs=("static", "coiommu") if bench.quick else ENVS,
            seconds=4 if bench.quick else 10)
    for row in found["memory"]:
        bench.row("memory", env=row["env"], phase=row["phase"],
                  second=round(row["ms"] / 1000, 2),
                  pinned_mib=round(row["pinned"] / MIB, 2),
                  host_free_mib=round(row["free"] / MIB),
                  mapped_mib="" if row["mapped"] == "-" else
                  round(row["mapped"] / MIB, 2),
                  demand_pins="" if row["pins"] == "-" else row["pins"])
    for env in in_order(found["memory"], "env"):
        summary(bench, found, env, guest_mib)


def summary(bench, found, env, guest_mib):
    """One line for an environment, and its targets."""
    phases = {phase: where(found["memory"], env=env, phase=phase)
              for phase in ("boot", "idle", *LOADS, "idle-again")}
    peak = where(found["peaks"], env=env)[0]["pinned"]
    idle = phases["idle"][-1]["pinned"]
    # A NIC alone has no such load.
    loads = {load: busiest(phases[load]) for load in LOADS if phases[load]}
    cells = {}
    for load in LOADS:
        pinned, mapped = loads.get(load, ("", ""))
        cells[f"{load}_max_mib"] = pinned and round(pinned / MIB, 1)
        cells[f"{load}_mapped_max_mib"] = mapped and round(mapped / MIB, 1)
    bench.row("memory-summary", env=env,
              peak_mib=round(peak / MIB, 1),
              idle_mib=round(idle / MIB, 1),
              idle_percent=round(100 * idle / MIB / guest_mib, 2), **cells,
              idle_again_mib=round(phases["idle-again"][-1]["pinned"] / MIB, 1),
              host_free_idle_mib=round(phases["idle"][-1]["free"] / MIB))
    if not env.startswith("coiommu"):
        return
    target(bench, f"{env}: pinned when idle after boot, of the VM",
           f"<= {IDLE_PART:.0%}", f"{idle / MIB / guest_mib:.2%}",
           idle <= IDLE_PART * guest_mib * MIB)
    for load, (pinned, mapped) in loads.items():
        target(bench, f"{env}: most that is pinned under '{load}', of the most "
               "bytes in blocks that hold mapped pages", f"<= {PEAK_OVER}",
               f"{pinned / mapped:.2f}", pinned <= PEAK_OVER * mapped)


def busiest(rows):
    """The most that was pinned in these rows, and the most that was mapped."""
    mapped = [row["mapped"] for row in rows if row["mapped"] != "-"]
    return (max(row["pinned"] for row in rows), max(mapped) if mapped else "")
