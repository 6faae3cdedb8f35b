# SPDX-License-Identifier: GPL-2.0-or-later
"""Random maps and unmaps on two devices against books, by stress_test.

How long and with which random numbers: COIOMMU_STRESS_SECONDS and
COIOMMU_SEED.  Only "stress" is short by itself; the others run by name.
"""

import os
import random

from checks import EDU, EDU_ID, check_attached, finish
from guest import check

FOLDER = "/sys/kernel/debug/stress_test"
UNPIN_FAST = "block=64K,unpin-interval=1"


def state(vm):
    return {k: int(v) for k, v in
            (line.split() for line in
             vm.output(f"cat {FOLDER}/state").splitlines())}


def stress_for(scenario, seconds, coiommu=UNPIN_FAST, may_fail=False,
               **kwargs):
    """Boot, run, and compare the totals that three different places have."""
    seconds = int(os.environ.get("COIOMMU_STRESS_SECONDS", seconds))
    seed = int(os.environ.get("COIOMMU_SEED", random.getrandbits(32)))
    print(f"COIOMMU_SEED={seed}", flush=True)
    with scenario.boot(EDU, EDU, coiommu=coiommu, **kwargs) as vm:
        vm.load()
        vm.run(f"modprobe stress_test may_fail={int(may_fail)}")
        devices = vm.address(EDU_ID)
        check_attached(vm, *devices)
        vm.run(f"echo {seconds} {seed} > {FOLDER}/run",
               timeout=seconds * 2 + 600)
        books, table = state(vm), vm.table()
        for name in ("mapped-units", "mappings"):
            check(books[name] == table[name] > 0, f"{name} are as in the books")
        # A kernel that checks itself is a hundred times as slow.
        pace = 1 if vm.output("uname -r").strip().endswith("debug") else 10
        check(books["maps"] > 10 * pace * seconds, "much was mapped")
        check(books["transfers"] > seconds // 2, "the devices copied")
        check(books["refused"] > 0, "mappings of firmware were refused")
        check(may_fail or books["refused"] == vm.counter("request-errors"),
              "and nothing else")
        names = ("demand-pin-requests", "demand-pin-blocks", "request-errors",
                 "lazy-unpinned-blocks", "reclaimed-blocks", "unpin-passes",
                 "unpin-races", "repins", "pinned-bytes-peak")
        counters = {name: vm.counter(name) for name in names}
        print(counters, flush=True)
        check(counters["lazy-unpinned-blocks"] > pace * seconds,
              "much was unpinned")
        vm.run(f"echo > {FOLDER}/drain")
        check(vm.table()["mappings"] == 0, "all counts are back to 0")
        finish(vm, *devices)


def stress(scenario):
    """Random maps and unmaps; the host unpins as fast as it can."""
    stress_for(scenario, 20)


def stress_long(scenario):
    """The same for ten minutes."""
    stress_for(scenario, 600)


def stress_units(scenario):
    """The same with units and blocks of 4 KiB."""
    stress_for(scenario, 60, coiommu="unit=4K,block=4K,unpin-interval=1")


def stress_bounce(scenario):
    """The same with most memory out of the devices' reach."""
    stress_for(scenario, 60, memory="6G", may_fail=True)


def stress_force(scenario):
    """The same with everything bounced."""
    stress_for(scenario, 60, args="swiotlb=force", may_fail=True)


def stress_quota(scenario):
    """The same with a quota that is too small: mappings fail, at random."""
    stress_for(scenario, 60, coiommu=UNPIN_FAST + ",max-pinned=4M",
               may_fail=True)


SCENARIOS = [stress, stress_long, stress_units, stress_bounce, stress_force,
             stress_quota]
