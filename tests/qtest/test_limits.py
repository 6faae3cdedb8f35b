# SPDX-License-Identifier: GPL-2.0-or-later
"""Block sizes, and what devices can hold."""

import errno
import struct

from driver import ABI, LEAVES, Guest, endpoint
from machine import QemuError, plug_vfio_user
from test_hotplug import one_and_a_port, start
from test_pins import check_views, ready

MIB = 1 << 20
GIB = 1 << 30
BASE = 0x4000000
FIRST = endpoint(0, 5)
REQUEST = ABI.REQ_MAX_PAGES * 4096

# No answers in parts.
WHOLE = ",x-doorbell-us=0"


def test_block_of_budget(t):
    """A block is so large that half of what a container holds is enough."""
    for maps, memory, options, want in (
            (65535, "512M", "", 2 * MIB),
            (512, "512M", "", 2 * MIB),
            (511, "512M", "", 4 * MIB),
            (64, "512M", "", 16 * MIB),
            (2, "512M", "", 512 * MIB),
            # For memory that may come, too.
            (512, "512M,slots=1,maxmem=1G", "", 4 * MIB),
            (64, "512M", ",block=64K", 65536)):
        with t.machine(coiommu=options, memory=memory,
                       max_dma_maps=maps) as machine:
            t.equal(Guest(machine).block, want,
                    f"block for {maps} mappings and {memory}{options}")
    # Without a container type1's default counts.
    with t.machine(servers=0, memory="128G") as machine:
        t.equal(Guest(machine).block, 8 * MIB, "block for 128 GiB")


def test_block_of_smallest_budget(t):
    """Of several containers the one that holds least decides; for good."""
    with t.machine(servers=2, max_dma_maps=[64, 65535]) as machine:
        t.equal(Guest(machine).block, 16 * MIB, "block")
    with t.machine(servers=2, max_dma_maps=[65535, 64]) as machine:
        guest = ready(t, machine)
        t.equal(guest.block, 16 * MIB, "block")
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal([server.maps for server in machine.servers],
                [{BASE: 16 * MIB}] * 2, "maps")
        machine.reset()
        guest.start()
        t.equal(1 << guest.reg("BLOCK_SHIFT"), 16 * MIB, "after a reset")


def test_block_and_quota(t):
    """max-pinned has to be two blocks of the size that has been computed."""
    want = "max-pinned must be 0 or at least two pin blocks (33554432 bytes)"
    with t.machine(coiommu=",max-pinned=32M", max_dma_maps=64) as machine:
        t.equal(Guest(machine).block, 16 * MIB, "block")
        try:
            machine.set("max-pinned", 16 * MIB)
            message = "none"
        except QemuError as error:
            message = str(error)
        t.equal(want in message, True, message)
    status, message = t.refusal(
        ["-M", "q35,memory-backend=ram", "-m", "128G", "-object",
         "memory-backend-memfd,id=ram,size=128G,share=on", "-device",
         "coiommu,max-pinned=8M"])
    t.equal((status, "at least two pin blocks (16777216 bytes)" in message),
            (1, True), message)


def test_quota_lowered(t):
    """After max-pinned is lowered a mapping finds whatever is idle."""
    for options in ("", WHOLE):
        with t.machine(coiommu=f",block=64K{options}") as machine:
            guest = ready(t, machine)
            server = machine.servers[0]
            t.equal(guest.pin_bytes(BASE, 32 * MIB), ABI.ST_OK, "PIN of 512")
            t.equal(guest.map(BASE + MIB, 65536), ABI.ST_OK, "map that stays")
            machine.set("max-pinned", 2 * 65536)
            t.equal(guest.map(2 * BASE, 4096), ABI.ST_OK, "map")
            t.equal(sorted(server.maps), [BASE + MIB, 2 * BASE], "maps")
            t.equal(machine.counter("pin-errors"), 0, "pin-errors")
            # Nothing is idle now, and that is found out.
            t.equal(guest.map(3 * BASE, 4096), ABI.ST_QUOTA, "one more")
            check_views(t, machine)


def test_host_limit_lowered(t):
    """The same for a limit of the host, which doesn't tell how much."""
    with t.machine(coiommu=f",block=64K{WHOLE}") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        t.equal(guest.pin_bytes(BASE, 32 * MIB), ABI.ST_OK, "PIN of 512")
        t.equal(guest.map(BASE + MIB, 65536), ABI.ST_OK, "map that stays")
        server.max_dma_maps = 2
        t.equal(guest.map(2 * BASE, 4096), ABI.ST_OK, "map")
        t.equal(sorted(server.maps), [BASE + MIB, 2 * BASE], "maps")
        failed = [e for e in server.events if e[3] == errno.ENOSPC]
        t.equal(len(failed) < 10, True, f"{len(failed)} refusals")
        check_views(t, machine)


def test_small_container_plugged(t):
    """A device that holds less than was planned for works by reclaim."""
    with t.machine(servers=2, devices=one_and_a_port) as machine:
        guest = start(t, machine, FIRST)
        one, two = machine.servers
        two.max_dma_maps = 8
        t.equal(guest.block, 2 * MIB, "block")
        t.equal(guest.pin_bytes(BASE, 32 * MIB), ABI.ST_OK, "PIN of 16")
        before = dict(one.maps)
        try:
            plug_vfio_user(machine, 1, "d1", "rp")
            message = "none"
        except QemuError as error:
            message = str(error)
        t.equal("can hold 8 mappings, and the 16 blocks" in message, True,
                message)
        t.equal((one.maps, two.maps), (before, {}), "maps")
        # With less pinned it comes in, and makes the others live with it.
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        guest = start(t, machine, FIRST)
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map that stays")
        plug_vfio_user(machine, 1, "d2", "rp")
        t.equal(guest.attach(endpoint(1, 0)), ABI.ST_OK, "ATTACH")
        size = guest.reg("MAX_MAPPING")
        t.equal(size < 8 * 2 * MIB, True, "MAX_MAPPING")
        for i in range(1, 40):
            t.equal(guest.map(BASE + i * size, size), ABI.ST_OK, "map")
            t.equal(two.maps, one.maps, "maps")
            guest.unmap(BASE + i * size, size)
        t.equal(BASE in two.maps, True, "what is mapped stays")
        check_views(t, machine)


def fill(guest, count):
    """The same count in each entry of the whole table."""
    leaf = struct.pack("<I", count) * ABI.DTT_LEAF_ENTRIES
    per_leaf = ABI.DTT_LEAF_ENTRIES * guest.unit
    for i in range(-(-guest.size // per_leaf)):
        guest.machine.write_bytes(LEAVES + i * 4096, leaf)


# A q35 machine of 128 GiB has 2 of them below 4 GiB, and the rest above.
BUSY_MEMORY = [(0, 0xa0000), (MIB, 2 * GIB), (4 * GIB, 130 * GIB)]


def busy_guest(t, machine):
    guest = ready(t, machine, size=130 * GIB)
    fill(guest, 1)
    return guest


def busy_requests():
    """All of its memory, in requests as large as they may be."""
    for begin, end in BUSY_MEMORY:
        for address in range(begin, end, REQUEST):
            yield address, min(REQUEST, end - address)


def test_busy_128g(t):
    """A guest of 128 GiB that maps every byte fits half of type1's limit."""
    with t.machine(memory="128G") as machine:
        guest = busy_guest(t, machine)
        server = machine.servers[0]
        for address, size in busy_requests():
            t.equal(guest.pin_bytes(address, size), ABI.ST_OK, "PIN")
        t.equal(server.mapped_bytes(),
                sum(end - begin for begin, end in BUSY_MEMORY), "bytes")
        t.equal(len(server.maps) <= 65535 // 2, True,
                f"{len(server.maps)} maps")
        t.equal(len(guest.published()),
                sum(-(-(end - begin) // 65536) for begin, end in BUSY_MEMORY),
                "units that are PINNED")
        t.equal(machine.counter("reclaims"), 0, "reclaims")
        check_views(t, machine)
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal(server.maps, {}, "maps")


def test_busy_beyond(t):
    """Past the limit there is a status, and nothing that was pinned goes."""
    limit = 1500
    with t.machine(memory="128G", coiommu=",block=8M",
                   max_dma_maps=limit) as machine:
        guest = busy_guest(t, machine)
        server = machine.servers[0]
        mapped, refused = [], []
        for address, size in busy_requests():
            status, done = guest.pin((address >> 12, size // 4096))
            if status == ABI.ST_OK:
                t.equal(refused, [], "once full it stays full")
                mapped.append((address, size))
            else:
                t.equal((status, done), (ABI.ST_NOSPACE, 0), "PIN")
                refused.append((address, size))
                if len(refused) == 20:
                    break
        t.equal(len(server.maps), limit, "maps")
        t.equal(machine.counter("unpinned-blocks"), 0, "unpinned")
        for address, size in mapped:
            for block in range(address, address + size, 8 * MIB):
                t.equal(guest.pinned(block), True, f"{block:#x} is pinned")
        t.equal([e for e in server.events
                 if e[0] == "unmap" and e[1] in server.maps], [], "unmaps")
        t.equal({e[3] for e in server.events}, {0, errno.ENOSPC}, "errors")
        # The driver takes back counts, and there is room again.
        for address, size in mapped[3:5]:
            for unit in guest.units(address, size):
                guest.set_entry(unit, ABI.DTT_PINNED)
        t.equal(guest.pin_bytes(*refused[0]), ABI.ST_OK, "PIN with room")
        t.equal(guest.pinned(mapped[4][0]), False, "an idle one went")
        check_views(t, machine)
