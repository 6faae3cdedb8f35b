# SPDX-License-Identifier: GPL-2.0-or-later
"""What is pinned, when, and in which containers."""

import errno
import time

from driver import ABI, Guest, endpoint
from machine import PATIENCE, vfio_user

MIB = 1 << 20
GIB = 1 << 30
FIRST, SECOND = endpoint(0, 5), endpoint(0, 6)


def check_views(t, machine):
    """Each server's view of what is mapped agrees with the counters."""
    for server in machine.servers:
        t.equal(server.mapped_bytes(), machine.counter("pinned-bytes"),
                "pinned bytes")
        t.equal(server.violations, [], "calls that type1 would refuse")


def forget(machine):
    """Have the device ask the host again, which has refused a pin just now."""
    machine.set("max-pinned", machine.counter("max-pinned"))


def ready(t, machine, size=512 * MIB, endpoints=(FIRST,)):
    """A guest with the device enabled and endpoints attached."""
    guest = Guest(machine)
    t.equal(guest.enable(size), ABI.ST_OK, "ENABLE")
    for e in endpoints:
        t.equal(guest.attach(e), ABI.ST_OK, "ATTACH")
    return guest


def test_nothing_before_request(t):
    """No map before the first PIN, whatever the guest does up to there."""
    with t.machine() as machine:
        ready(t, machine)
        # Shadow RAM on and off, as firmware does it through the PAM registers.
        for value in (0x33, 0x00, 0x33):
            for register in range(0x90, 0x97):
                machine.config_write(0, 0, register, value, size=1)
        events = machine.servers[0].take_events()
        t.equal([e for e in events if e[0] == "map"], [], "maps")
        t.equal(machine.counter("pinned-bytes"), 0, "pinned bytes")
        t.equal(machine.counter("containers"), 1, "containers")


def test_exact_blocks(t):
    """A PIN maps exactly the blocks that it touches, once."""
    with t.machine(coiommu=",block=64K") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        server.take_events()
        # One page; then a range that cuts two blocks and has one between.
        t.equal(guest.pin((0x4005, 1), (0x500f, 0x12)), (ABI.ST_OK, 2), "PIN")
        want = [0x4000000, 0x5000000, 0x5010000, 0x5020000]
        t.equal(server.take_events(),
                [("map", a, 0x10000, 0) for a in want], "events")
        t.equal(guest.published(), want, "PINNED")
        # Again: nothing new.
        t.equal(guest.pin((0x500f, 0x12)), (ABI.ST_OK, 1), "PIN again")
        t.equal(server.take_events(), [], "events of a repeated PIN")
        check_views(t, machine)
        t.equal(machine.counter("pinned-blocks"), 4, "pinned-blocks")
        # The second one had nothing to pin.
        t.equal(machine.counter("demand-pin-requests"), 1, "requests")
        t.equal(machine.counter("demand-pin-blocks"), 4, "blocks")


def test_default_block(t):
    """By default a block is 2 MiB, and block 0 goes around the VGA hole."""
    with t.machine() as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        t.equal(guest.block, 2 * MIB, "block size")
        server.take_events()
        t.equal(guest.pin((0x10, 1)), (ABI.ST_OK, 1), "PIN in block 0")
        t.equal(server.take_events(), [("map", 0, 0xa0000, 0),
                                       ("map", 0x100000, 0x100000, 0)],
                "pieces of block 0")
        t.equal(guest.pin((0x1000, 513)), (ABI.ST_OK, 1), "PIN")
        t.equal(server.take_events(),
                [("map", 0x1000000, 2 * MIB, 0),
                 ("map", 0x1200000, 2 * MIB, 0)], "events")
        check_views(t, machine)
        hole = [u for u in guest.published() if 0xa0000 <= u < 0x100000]
        t.equal(hole, [], "PINNED in the hole")


def test_sizes(t):
    """Other sizes of units and blocks, below and above 4 GiB."""
    cases = [("4K", "4K", 4096, 4096), ("4K", "64K", 4096, 65536),
             ("64K", "1G", 65536, GIB), ("2M", "0", 2 * MIB, 2 * MIB)]
    for unit, block, unit_size, block_size in cases:
        with t.machine(coiommu=f",unit={unit},block={block}",
                       memory="5G") as machine:
            guest = ready(t, machine, size=7 * GIB)
            server = machine.servers[0]
            t.equal((guest.unit, guest.block), (unit_size, block_size),
                    "sizes")
            server.take_events()
            high = 5 * GIB + 3 * 4096
            t.equal(guest.pin((0x8000, 1), (high >> 12, 1)), (ABI.ST_OK, 2),
                    "PIN")
            want = sorted({0x8000000 // block_size * block_size,
                           high // block_size * block_size})
            maps = [e[1] for e in server.take_events()]
            if block_size == GIB:
                # The first GiB has the hole in it.
                t.equal(maps, [0, 0x100000, 5 * GIB], "maps")
            else:
                t.equal(maps, want, "maps")
            t.equal(guest.pinned(0x8000000), True, "PINNED low")
            t.equal(guest.pinned(high), True, "PINNED high")
            check_views(t, machine)
            t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
            t.equal(server.maps, {}, "maps after DISABLE")


def test_max_mapping(t):
    """MAX_MAPPING follows the container's budget, and can be pinned."""
    with t.machine(coiommu=",block=64K", max_dma_maps=64) as machine:
        guest = ready(t, machine)
        # 64 / 2 pages, less one because a range may start anywhere.
        size = guest.reg("MAX_MAPPING")
        t.equal(size, 31 * 4096, "MAX_MAPPING")
        t.equal(guest.pin(((16 * MIB >> 12) + 1, size // 4096)),
                (ABI.ST_OK, 1), "PIN of it in one piece")
        # The worst place: half a page, whole ones, half a page, all apart.
        pages = [(32 * MIB >> 12) + 16 * i for i in range(size // 4096 + 1)]
        for page in pages:
            guest.count(page << 12, 4096, 1)
        t.equal(guest.pin(*((page, 1) for page in pages)),
                (ABI.ST_OK, len(pages)), "PIN of it page by page")
        check_views(t, machine)
    with t.machine(servers=0) as machine:
        t.equal(Guest(machine).reg("MAX_MAPPING"), (1 << 64) - 1,
                "MAX_MAPPING without a container")


def test_limit(t):
    """At the container's limit the guest learns NOSPACE, and no pin is lost."""
    with t.machine(coiommu=",block=64K", max_dma_maps=16) as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        t.equal(guest.pin((0x4000, 16 * 16)), (ABI.ST_OK, 1), "PIN of 16")
        # In use, all of them.
        guest.count(0x4000000, 16 * 65536, 1)
        t.equal(guest.pin((0x8000, 1)), (ABI.ST_NOSPACE, 0), "PIN of the 17th")
        t.equal(len(server.maps), 16, "maps")
        t.equal(guest.pinned(0x8000000), False, "PINNED")
        check_views(t, machine)


def test_injected_errors(t):
    """ENOMEM and others reach the guest; the failed block leaves nothing."""
    cases = [(errno.ENOMEM, ABI.ST_NOMEM), (errno.ENOSPC, ABI.ST_NOSPACE),
             (errno.EFAULT, ABI.ST_IO), (errno.EINVAL, ABI.ST_IO)]
    with t.machine() as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        for i, (error, status) in enumerate(cases):
            address = 0x2000000 + i * 0x1000000
            server.fail_at(address + 2 * MIB, error)
            # In use, so that they stay when there is no room for another one.
            guest.count(address, 1, 1)
            # Three ranges in three blocks: the second one fails.
            result = guest.pin((address >> 12, 1),
                               (address + 2 * MIB >> 12, 1),
                               (address + 4 * MIB >> 12, 1))
            t.equal(result, (status, 1), f"PIN with errno {error}")
            t.equal(address in server.maps, True, "the block before")
            t.equal(address + 2 * MIB in server.maps, False, "the failed one")
            t.equal(address + 4 * MIB in server.maps, False, "the one after")
            t.equal(guest.pinned(address + 2 * MIB), False, "PINNED")
            check_views(t, machine)
            forget(machine)
        t.equal(machine.counter("pin-errors"), len(cases), "pin-errors")
        server.fail_never()
        t.equal(guest.pin((0x2200000 >> 12, 1)), (ABI.ST_OK, 1), "PIN later")
        check_views(t, machine)


def test_error_in_a_piece(t):
    """The second piece of block 0 fails: the first is unmapped again."""
    with t.machine() as machine:
        guest = ready(t, machine)
        machine.servers[0].fail_at(0x100000, errno.ENOMEM)
        t.equal(guest.pin((0x10, 1)), (ABI.ST_NOMEM, 0), "PIN")
        t.equal(machine.servers[0].maps, {}, "maps")
        check_views(t, machine)


def test_two_containers(t):
    """Each pin is in both containers, or, if one of them fails, in none."""
    with t.machine(servers=2) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        one, two = machine.servers
        t.equal(machine.counter("containers"), 2, "containers")
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(one.maps, {0x4000000: 2 * MIB}, "first container")
        t.equal(two.maps, one.maps, "second container")
        guest.count(0x4000000, 1, 1)
        for bad in (one, two):
            bad.fail_nth(1, errno.ENOMEM)
            t.equal(guest.pin((0x8000, 1)), (ABI.ST_NOMEM, 0), "failing PIN")
            check_views(t, machine)
            forget(machine)
        # With block 0 the failure comes between pieces as well.
        for bad in (one, two):
            for nth in (1, 2):
                bad.fail_nth(nth, errno.ENOSPC)
                t.equal(guest.pin((0x10, 1)), (ABI.ST_NOSPACE, 0),
                        "failing PIN of two pieces")
                bad.fail_never()
                forget(machine)
                check_views(t, machine)
        t.equal(guest.pin((0x10, 1), (0x8000, 1)), (ABI.ST_OK, 2), "PIN")
        check_views(t, machine)
        # As long as one endpoint is attached, pins stay.
        t.equal(guest.detach(FIRST), ABI.ST_OK, "DETACH")
        t.equal(machine.counter("pinned-blocks"), 3, "pinned-blocks")
        t.equal(guest.detach(SECOND), ABI.ST_OK, "DETACH of the last")
        t.equal((one.maps, two.maps), ({}, {}), "maps")
        t.equal(guest.published(), [], "PINNED")


def test_disable(t):
    """DISABLE unpins and withdraws; counts in the table stay as they are."""
    with t.machine() as machine:
        guest = ready(t, machine)
        t.equal(guest.pin((0x4000, 1024)), (ABI.ST_OK, 1), "PIN")
        guest.set_entry(0x4000000, guest.entry(0x4000000) | 5 |
                        ABI.DTT_ACCESSED)
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal(machine.servers[0].maps, {}, "maps")
        t.equal(guest.published(), [], "PINNED")
        t.equal(guest.entry(0x4000000), 5 | ABI.DTT_ACCESSED, "entry")
        t.equal(guest.reg("STATUS"), 0, "STATUS")
        t.equal(machine.counter("attached-endpoints"), 0, "endpoints")
        t.equal(machine.counter("unpinned-blocks"), 2, "unpinned-blocks")
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE again")
        # And from the start.
        ready(t, machine)
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        check_views(t, machine)
        t.equal(machine.counter("pinned-bytes-peak"), 4 * MIB, "peak")


def test_reset(t):
    """A reset of the machine or the function unpins, and spares memory."""
    with t.machine() as machine:
        for kind in ("machine", "function"):
            guest = ready(t, machine)
            t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
            if kind == "machine":
                machine.reset()
                t.equal(machine.servers[0].resets > 0, True, "device reset")
            else:
                function_reset(t, machine)
            t.equal(machine.servers[0].maps, {}, f"maps after {kind} reset")
            t.equal(machine.counter("pinned-bytes"), 0, "pinned-bytes")
            t.equal(machine.counter("attached-endpoints"), 0, "endpoints")
            # The table's memory is no longer the driver's: left alone.
            t.equal(guest.pinned(0x4000000), True, "stale PINNED")


def function_reset(t, machine):
    """Function-level reset through the PCI Express capability."""
    devfn = 4 << 3
    offset = machine.config_read(0, devfn, 0x34, size=1)
    while machine.config_read(0, devfn, offset, size=1) != 0x10:
        offset = machine.config_read(0, devfn, offset + 1, size=1)
        t.equal(offset != 0, True, "PCI Express capability")
    capable = machine.config_read(0, devfn, offset + 4) >> 28 & 1
    t.equal(capable, 1, "FLR capability")
    machine.config_write(0, devfn, offset + 8, 0x8000, size=2)


def test_quit(t):
    """QEMU ends well while blocks are pinned, and lets go of the devices."""
    with t.machine(servers=2) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(machine.quit(), 0, "exit status")
        for server in machine.servers:
            t.equal(server.gone.wait(PATIENCE), True, "connection closed")


def test_late_leaf(t):
    """A block without a leaf is pinned; a later PIN publishes it."""
    with t.machine() as machine:
        guest = Guest(machine)
        guest.prepare(512 * MIB)
        # The second leaf is missing, the third is not in RAM.
        saved = machine.read_bytes(0x100008, 16)
        machine.write(0x100008, 8, 0)
        machine.write(0x100010, 8, 0xa0000 | ABI.DTT_DIR_PRESENT)
        t.equal(guest.command(ABI.CMD_ENABLE), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        t.equal(guest.pin((0x5000, 1), (0x9000, 1)), (ABI.ST_OK, 2), "PIN")
        t.equal(len(machine.servers[0].maps), 2, "maps")
        t.equal(guest.published(), [], "PINNED")
        machine.write_bytes(0x100008, saved)
        t.equal(guest.pin((0x5000, 1), (0x9000, 1)), (ABI.ST_OK, 2), "PIN")
        t.equal((guest.pinned(0x5000000), guest.pinned(0x9000000)),
                (True, True), "PINNED")


def published_entries(machine):
    """How many entries of the table have been written as PINNED."""
    return sum(int(text.split()[-1])
               for text in machine.traces("coiommu_table_publish"))


def test_pinned_costs_little(t):
    """A request in blocks that are pinned costs no more than its pages."""
    with t.machine(coiommu=",unit=4K,block=1G", memory="2G") as machine:
        guest = ready(t, machine, size=2 * GIB)
        t.equal(guest.pin((0x8000, 1)), (ABI.ST_OK, 1), "PIN")
        first = published_entries(machine)
        t.equal(first > 200000, True, f"{first} entries for the block")
        pages = [(0x4000 + 2 * i, 1) for i in range(ABI.REQ_MAX_RANGES)]
        t.equal(guest.pin(*pages), (ABI.ST_OK, len(pages)), "PIN of pages")
        t.equal(published_entries(machine) - first, len(pages), "entries")
        t.equal(guest.pin((0x10000, ABI.REQ_MAX_PAGES)), (ABI.ST_OK, 1),
                "PIN of a range")
        t.equal(published_entries(machine) - first,
                len(pages) + ABI.REQ_MAX_PAGES, "entries")
        t.equal(len(machine.servers[0].maps), 2, "maps")
        check_views(t, machine)


def test_parts(t):
    """A request that takes long is answered in parts, with the monitor between."""
    with t.machine(coiommu=",block=64K") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        # Longer than a doorbell may take.
        server.delay = 0.02
        ranges = [(0x4000, 2 * 16), (0x5000, 16)]
        for blocks, want in ((1, (ABI.ST_AGAIN, 0)), (2, (ABI.ST_AGAIN, 1)),
                             (3, (ABI.ST_OK, 2)), (3, (ABI.ST_OK, 2))):
            t.equal(guest.request(ABI.OP_PIN, ranges=ranges), want, "PIN")
            t.equal(machine.qmp("query-status")["status"], "running", "QMP")
            t.equal(len(server.maps), blocks, "maps")
            t.equal(len(guest.published()), blocks, "PINNED")
        t.equal(machine.counter("partial-requests"), 2, "partial-requests")
        # A failure comes after what has been pinned, whichever part it is in.
        server.fail_at(0x6010000, errno.EFAULT)
        t.equal(guest.request(ABI.OP_PIN, ranges=[(0x6000, 32)]),
                (ABI.ST_AGAIN, 0), "PIN")
        t.equal(guest.request(ABI.OP_PIN, ranges=[(0x6000, 32)]),
                (ABI.ST_IO, 0), "PIN")
        t.equal(machine.counter("request-errors"), 1, "request-errors")
        check_views(t, machine)


def test_whole(t):
    """A driver that does not take parts has all at once, within a limit."""
    with t.machine(coiommu=",block=64K") as machine:
        guest = Guest(machine)
        t.equal(guest.enable(features=ABI.F_ACCESSED), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        machine.servers[0].delay = 0.02
        t.equal(guest.request(ABI.OP_PIN, ranges=[(0x4000, 4 * 16)]),
                (ABI.ST_OK, 1), "PIN")
        t.equal(len(machine.servers[0].maps), 4, "maps")
        check_views(t, machine)
    with t.machine(coiommu=",block=1G", memory="64G") as machine:
        guest = Guest(machine)
        t.equal(guest.enable(66 * GIB, features=0), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        ranges = [((4 + i) * GIB >> 12, 1) for i in range(20)]
        t.equal(guest.request(ABI.OP_PIN, ranges=ranges),
                (ABI.ST_NOMEM, 16), "PIN of 20 GiB")
        t.equal(len(machine.said("asks for more than 16 GiB")), 1, "warning")
        t.equal(len(machine.servers[0].maps), 16, "maps")
        t.equal(guest.request(ABI.OP_PIN, ranges=ranges), (ABI.ST_OK, 20),
                "PIN again")
        check_views(t, machine)


def test_dma_messages(t):
    """DMA that a device does through QEMU reaches pinned blocks only."""
    with t.machine() as machine:
        guest = ready(t, machine)
        machine.config_write(0, 5 << 3, 4, 6, size=2)
        server = machine.servers[0]
        machine.write_bytes(0x4000100, b"in the guest")
        refused = server.dma_read(0x4000100, 12)
        t.equal(isinstance(refused, int) and refused != 0, True,
                "a read before the pin is refused")
        t.equal(server.dma_write(0x4000200, b"bad!") != 0, True,
                "a write before the pin is refused")
        faults = machine.counter("dma-faults")
        t.equal(faults >= 2, True, "dma-faults")
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(server.dma_read(0x4000100, 12), b"in the guest", "read")
        t.equal(server.dma_write(0x4000200, b"from the device"), 0, "write")
        t.equal(machine.read_bytes(0x4000200, 15), b"from the device", "data")
        t.equal(machine.counter("dma-faults"), faults, "dma-faults")
        machine.set("unpin-interval", 5)
        machine.set("unpin-policy", "lazy")
        end = time.monotonic() + PATIENCE
        while machine.counter("pinned-blocks"):
            t.equal(time.monotonic() < end, True, "unpinned in time")
            time.sleep(0.01)
        t.equal(isinstance(server.dma_read(0x4000100, 12), int), True,
                "a read after the unpin is refused")
        t.equal(machine.counter("dma-faults") > faults, True, "dma-faults")


def test_behind_root_port(t):
    """A device behind a root port is called by the guest's bus number."""
    def devices(machine):
        return ["pcie-root-port,id=rp,addr=7,chassis=1",
                vfio_user(machine, 0, "d0", bus="rp")]

    with t.machine(devices=devices) as machine:
        guest = Guest(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        for bus in (1, 9):
            machine.config_write(0, 7 << 3, 0x18, bus << 16 | bus << 8)
            other = 10 - bus
            t.equal(guest.probe(endpoint(bus, 0)), ABI.ST_OK, "PROBE")
            t.equal(guest.probe(endpoint(other, 0)), ABI.ST_NODEV, "PROBE")
        t.equal(guest.attach(endpoint(9, 0)), ABI.ST_OK, "ATTACH")
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        check_views(t, machine)
        # The port itself is no endpoint.
        t.equal(guest.probe(endpoint(0, 7)), ABI.ST_NODEV, "PROBE of a port")
