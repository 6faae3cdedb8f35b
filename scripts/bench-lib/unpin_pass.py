# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pass of the unpin thread costs, and what the device's state weighs.

No guest runs: the test is the guest's CPU (tests/qtest), and its memory is
sparse, so a VM of a terabyte is as cheap as one of a gigabyte.  A vfio-user
peer stands where VFIO would be.

Blocks are pinned next to each other ("dense"), so that their entries share pages
of the table, or all over the VM ("spread"), each with a page of its own as soon
as the VM is large enough.

All blocks are mapped, so a pass has to look and unpins nothing.  With
unpin-policy=timeout it looks at each block in each pass; with lazy, blocks
whose mappings stay are looked at in every eighth pass, all in the same one if
they were pinned together, as here: the median is a pass without, the maximum
one with looks.
"""

import ctypes
import statistics
import struct
import time

from driver import ABI, LEAVES, REQUESTS, SLOTS, Guest, endpoint
from machine import PATIENCE, Machine
from results import spread

MIB, GIB = 1 << 20, 1 << 30
BLOCK = 2 * MIB
POLICIES = ("timeout", "lazy")
INTERVAL_MS = 20
# Blocks that stay reach the oldest generation after 1 + 2 + 4 + 8 passes.
WARM_UP = 16
PR_SET_THP_DISABLE = 41

# Above the table's leaves, which take 4 KiB for each 64 MiB from LEAVES on;
# below the first block that is pinned.
DIRECTORY = 0x5000000
FIRST_BLOCK = 0x8000000
# q35 leaves a hole below 4 GiB; a VM of 2 GiB or less has no memory above.
LOW_END = 2 * GIB
# The default model is AMD's, whose memory stops short of 1 TiB.
CPU = ("-cpu", "Skylake-Server,phys-bits=46")


class SparseGuest(Guest):
    """A driver whose directory has room for a terabyte."""

    def prepare(self, size, slots=2):
        self.size = size
        leaves = -(-size // (ABI.DTT_LEAF_ENTRIES * self.unit))
        # In small pieces: QEMU's buffers for a large one would be measured.
        for first in range(0, leaves, 256):
            entries = [LEAVES + i * 4096 | ABI.DTT_DIR_PRESENT
                       for i in range(first, min(first + 256, leaves))]
            self.machine.write_bytes(
                DIRECTORY + first * 8,
                struct.pack(f"<{len(entries)}Q", *entries))
        self.machine.write_bytes(SLOTS, struct.pack(
            f"<{slots}Q", *(REQUESTS + i * 4096 for i in range(slots))))
        self.set_reg("DRIVER_FEATURES", self.reg("DEVICE_FEATURES"))
        self.set_reg("DTT_ROOT", DIRECTORY)
        self.set_reg("DTT_SIZE", size)
        self.set_reg("REQ_ROOT", SLOTS)
        self.set_reg("REQ_SLOTS", slots)


def memory_end(gib):
    """The end of guest memory: what does not fit below 4 GiB is above."""
    size = gib * GIB
    return size if size <= LOW_END else 4 * GIB + size - LOW_END


def blocks_of(gib, count, placement):
    """That many blocks: one after the other, or all over the VM's memory."""
    size = gib * GIB - FIRST_BLOCK
    stride = BLOCK if placement == "dense" else \
        size // count // BLOCK * BLOCK
    if not stride:
        raise ValueError(f"{count} blocks don't fit {gib} GiB")
    addresses = []
    for i in range(count):
        address = FIRST_BLOCK + i * stride
        if gib * GIB > LOW_END and address >= LOW_END:
            address += 4 * GIB - LOW_END
        addresses.append(address)
    return addresses


def start(bench, gib):
    """A machine and its guest, enabled and attached."""
    machine = Machine(bench.qemu, bench.log, memory=f"{gib}G", extra=CPU,
                      coiommu=f",block={BLOCK},unpin-interval={INTERVAL_MS}")
    try:
        guest = SparseGuest(machine)
        guest.prepare(memory_end(gib))
        for status in (guest.command(ABI.CMD_ENABLE),
                       guest.attach(endpoint(0, 5))):
            if status != ABI.ST_OK:
                raise RuntimeError(f"ENABLE or ATTACH: status {status}")
    except BaseException:
        machine.kill()
        raise
    return machine, guest


def hold(guest, addresses):
    """Map a page in each of these blocks, and keep it mapped."""
    for address in addresses:
        guest.set_entry(address, 1)
    most = ABI.REQ_MAX_RANGES
    for i in range(0, len(addresses), most):
        status, _ = guest.pin(*((address >> 12, 1)
                                for address in addresses[i:i + most]))
        if status != ABI.ST_OK:
            raise RuntimeError(f"PIN: status {status}")


def passes(machine, count):
    """The durations of that many passes, in microseconds."""
    seen = machine.counter("unpin-passes")
    durations = []
    while len(durations) < count + WARM_UP:
        number = machine.counter("unpin-passes")
        duration = machine.counter("unpin-pass-ns")
        # The same number afterwards: the duration is this pass's.
        if number != seen and machine.counter("unpin-passes") == number:
            seen = number
            durations.append(duration / 1000)
        time.sleep(INTERVAL_MS / 4000)
    return durations[WARM_UP:]


def measure(bench, gib, count, placement, samples):
    bench.step(f"VM of {gib} GiB, {count} blocks of 2 MiB, {placement}")
    machine, guest = start(bench, gib)
    with machine:
        hold(guest, blocks_of(gib, count, placement))
        for policy in POLICIES:
            machine.set("unpin-policy", policy)
            durations = passes(machine, samples)
            machine.set("unpin-policy", "off")
            if machine.counter("pinned-blocks") != count:
                raise RuntimeError("a mapped block was unpinned")
            bench.row("unpin-pass", policy=policy, placement=placement,
                      vm_gib=gib, blocks=count,
                      pinned_mib=count * BLOCK // MIB, passes=samples,
                      **spread("pass_us", durations),
                      ns_per_block=round(
                          1000 * statistics.median(durations) / count))


# ---- memory ----

def anonymous(pid):
    """Bytes of a process's own memory; shared guest memory isn't in it."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        for line in lines:
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("smaps_rollup has no Anonymous")


def plain(bench, gib):
    """The same VM without coIOMMU: its peer is told of all memory at once."""
    machine = Machine(bench.qemu, bench.log, memory=f"{gib}G", extra=CPU,
                      coiommu=None)
    end = time.monotonic() + PATIENCE
    while machine.servers[0].mapped_bytes() < gib * GIB:
        if time.monotonic() > end or not machine.alive():
            machine.kill()
            raise RuntimeError("QEMU without coIOMMU did not start")
        time.sleep(0.05)
    return machine


def settled(pid):
    """anonymous(), as soon as it stands still."""
    before = -1
    while True:
        now = anonymous(pid)
        if now == before:
            return now
        before = now
        time.sleep(0.5)


def per_gib(bench, small, large):
    """Bytes that coIOMMU adds to QEMU for each GiB that the VM is larger.

    Both VMs have memory above 4 GiB: that costs something of its own.
    """
    grown = {}
    for kind in ("with", "without"):
        sizes = []
        for gib in (small, large):
            if kind == "with":
                machine, _ = start(bench, gib)
            else:
                machine = plain(bench, gib)
            with machine:
                sizes.append(settled(machine.process.pid))
        grown[kind] = (sizes[1] - sizes[0]) / (large - small)
    for kind, value in grown.items():
        bench.row("unpin-memory", what=f"QEMU {kind} coIOMMU, nothing pinned",
                  per="GiB of VM", bytes=round(value))
    bench.row("unpin-memory", what="coIOMMU's part of that", per="GiB of VM",
              bytes=round(grown["with"] - grown["without"]))


def per_block(bench, gib, few, many):
    """Bytes that QEMU grows by for each block more that is pinned."""
    addresses = blocks_of(gib, many, "spread")
    machine, guest = start(bench, gib)
    with machine:
        hold(guest, addresses[:few])
        before = settled(machine.process.pid)
        hold(guest, addresses[few:])
        grown = settled(machine.process.pid) - before
        bench.row("unpin-memory", what=f"pinned, from {few} to {many} blocks",
                  per="block", bytes=round(grown / (many - few), 1))


def run(bench):
    bench.fact("accelerator", "qtest: no guest code; vfio-user peer")
    sizes = (1, 16) if bench.quick else (1, 16, 256, 1024)
    one = 8 if bench.quick else 250
    samples = 4 if bench.quick else 64
    for placement in ("dense", "spread"):
        for gib in sizes:
            measure(bench, gib, one, placement, samples)
        for factor in (10, 100):
            measure(bench, sizes[-1], one * factor, placement, samples)
    # Whole huge pages would count as grown where one byte was used.
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    bench.step("memory per block")
    per_block(bench, sizes[-1], one, one * 100)
    bench.step("memory per GiB of VM")
    per_gib(bench, 16, 64 if bench.quick else 1024)
