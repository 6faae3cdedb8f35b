# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that come and go, and RAM that goes, while blocks are pinned."""

import errno
import time

from driver import ABI, Guest, endpoint
from machine import PATIENCE, QemuError, plug_vfio_user, vfio_user
from test_pins import forget

MIB = 1 << 20
PORT = 7 << 3

# PCI Express native hotplug, so that the port's registers unplug.
NATIVE = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")


def one_and_a_port(machine):
    """A device in slot 5, and an empty root port in slot 7."""
    return [vfio_user(machine, 0, "d0", addr="5"),
            "pcie-root-port,id=rp,addr=7,chassis=1"]


def only_behind_port(machine):
    return ["pcie-root-port,id=rp,addr=7,chassis=1",
            vfio_user(machine, 0, "d0", bus="rp")]


def start(t, machine, *endpoints, size=512 << 20):
    """Enabled, bus 1 behind the port, endpoints attached."""
    guest = Guest(machine)
    machine.config_write(0, PORT, 0x18, 1 << 16 | 1 << 8)
    t.equal(guest.enable(size), ABI.ST_OK, "ENABLE")
    for number in endpoints:
        t.equal(guest.attach(number), ABI.ST_OK, "ATTACH")
    return guest


def express_capability(machine, bus=0, devfn=PORT):
    offset = machine.config_read(bus, devfn, 0x34, size=1)
    while machine.config_read(bus, devfn, offset, size=1) != 0x10:
        offset = machine.config_read(bus, devfn, offset + 1, size=1)
    return offset


def unplug(t, machine, ident):
    """Ask for an unplug, then switch the slot off as a guest would."""
    control = express_capability(machine) + 0x18
    # Power on, indicator on; then both off.
    machine.config_write(0, PORT, control, 0x0100, size=2)
    machine.qmp("device_del", id=ident)
    machine.config_write(0, PORT, control, 0x0700, size=2)
    t.equal(ident in [child["name"] for child in
                      machine.qmp("qom-list", path="/machine/peripheral")],
            False, "the device is there")


def test_replay(t):
    """A device plugged in later gets what is pinned, and only that."""
    with t.machine(servers=2, devices=one_and_a_port) as machine:
        guest = start(t, machine, endpoint(0, 5))
        one, two = machine.servers
        t.equal(guest.pin((0x10, 1), (0x4000, 1024)), (ABI.ST_OK, 2), "PIN")
        plug_vfio_user(machine, 1, "d1", "rp")
        t.equal(two.maps, one.maps, "maps of the new container")
        t.equal(machine.counter("containers"), 2, "containers")
        t.equal(guest.attach(endpoint(1, 0)), ABI.ST_OK, "ATTACH")
        t.equal(guest.pin((0x8000, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(two.maps, one.maps, "maps after a PIN")
        t.equal(one.mapped_bytes(), machine.counter("pinned-bytes"), "bytes")
        t.equal(one.violations + two.violations, [], "violations")


def test_replay_refused(t):
    """A replay that fails fails device_add, and leaves nothing behind."""
    with t.machine(servers=2, devices=one_and_a_port) as machine:
        guest = start(t, machine, endpoint(0, 5))
        one, two = machine.servers
        t.equal(guest.pin((0x10, 1), (0x4000, 1024)), (ABI.ST_OK, 2), "PIN")
        before = dict(one.maps)
        for nth in (1, 2, 4):
            two.fail_nth(nth, errno.ENOMEM)
            try:
                plug_vfio_user(machine, 1, f"d{nth}", "rp")
                message = "none"
            except QemuError as error:
                message = str(error)
            t.equal("coiommu: cannot map" in message and
                    "Cannot allocate memory" in message, True,
                    f"the error says why ({message})")
            t.equal(two.gone.wait(PATIENCE), True, "connection closed")
            two.fail_never()
            t.equal(two.maps, {}, "maps of the refused container")
            t.equal(one.maps, before, "maps of the other container")
            t.equal(machine.counter("containers"), 1, "containers")
        plug_vfio_user(machine, 1, "good", "rp")
        t.equal(two.maps, one.maps, "maps of the device that came in")
        t.equal(guest.pin((0x8000, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(two.maps, one.maps, "maps after a PIN")


def test_unplug_last(t):
    """When the last attached device goes, its pins go."""
    with t.machine(devices=only_behind_port, extra=NATIVE) as machine:
        guest = start(t, machine, endpoint(1, 0))
        server = machine.servers[0]
        t.equal(guest.pin((0x4000, 1024)), (ABI.ST_OK, 1), "PIN")
        unplug(t, machine, "d0")
        t.equal(server.gone.wait(PATIENCE), True, "connection closed")
        t.equal(server.maps, {}, "maps")
        t.equal(machine.counter("pinned-bytes"), 0, "pinned-bytes")
        t.equal(machine.counter("attached-endpoints"), 0, "endpoints")
        t.equal(machine.counter("containers"), 0, "containers")
        t.equal(guest.published(), [], "PINNED")
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_STATE, 0), "PIN without")
        # Another one in the same place.
        plug_vfio_user(machine, 0, "d1", "rp")
        t.equal(guest.attach(endpoint(1, 0)), ABI.ST_OK, "ATTACH")
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(server.maps, {0x4000000: 2 * MIB}, "maps")


def test_unplug_one_of_two(t):
    """When one of two goes, the other one keeps its pins."""
    def devices(machine):
        return one_and_a_port(machine) + [vfio_user(machine, 1, "d1",
                                                    bus="rp")]

    with t.machine(servers=2, devices=devices, extra=NATIVE) as machine:
        guest = start(t, machine, endpoint(0, 5), endpoint(1, 0))
        one, two = machine.servers
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        unplug(t, machine, "d1")
        t.equal(two.gone.wait(PATIENCE), True, "connection closed")
        t.equal(two.maps, {}, "maps of the one that went")
        t.equal(one.maps, {0x4000000: 2 * MIB}, "maps of the other")
        t.equal(guest.pinned(0x4000000), True, "PINNED")
        t.equal(machine.counter("attached-endpoints"), 1, "endpoints")
        t.equal(guest.pin((0x8000, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(len(one.maps), 2, "maps")


def test_ram_changes(t):
    """RAM that goes away is unpinned, and can't be pinned any more."""
    with t.machine() as machine:
        guest = start(t, machine, endpoint(0, 5))
        server = machine.servers[0]
        top = 512 * MIB
        pages = [(top - 8 * MIB >> 12, 1), (top - 2 * MIB >> 12, 1),
                 (0x4000, 1)]
        t.equal(guest.pin(*pages), (ABI.ST_OK, 3), "PIN")
        server.take_events()
        # The chipset takes the top 1 MiB: TSEG, half of the last block.
        machine.config_write(0, 0, 0x9d, 0x08, size=1)
        machine.config_write(0, 0, 0x9e, 0x01, size=1)
        t.equal(server.take_events(),
                [("unmap", top - 2 * MIB, 2 * MIB, 0)], "events")
        t.equal(guest.pinned(top - 2 * MIB), False, "PINNED")
        t.equal(guest.pinned(top - 8 * MIB), True, "PINNED of another")
        t.equal(guest.pin((top - 4096 >> 12, 1)), (ABI.ST_RANGE, 0), "gone")
        t.equal(guest.pin((top - 2 * MIB >> 12, 1)), (ABI.ST_OK, 1), "rest")
        t.equal(server.take_events(), [("map", top - 2 * MIB, MIB, 0)],
                "half a block")
        t.equal(guest.pinned(top - MIB), False, "PINNED of the lost half")
        # And gives it back.
        machine.config_write(0, 0, 0x9e, 0x00, size=1)
        t.equal(server.take_events(), [("unmap", top - 2 * MIB, MIB, 0)],
                "events")
        t.equal(server.mapped_bytes(), machine.counter("pinned-bytes"),
                "pinned-bytes")
        t.equal(server.violations, [], "violations")


def test_dimm(t):
    """Hotplugged memory can be pinned, and is not before it is asked for."""
    with t.machine(memory="512M,slots=2,maxmem=4G") as machine:
        guest = Guest(machine)
        t.equal(guest.enable(size=8 << 30), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(endpoint(0, 5)), ABI.ST_OK, "ATTACH")
        server = machine.servers[0]
        machine.qmp("object-add", **{"qom-type": "memory-backend-memfd",
                                     "id": "more", "size": 256 * MIB,
                                     "share": True})
        base = 4 << 30
        t.equal(guest.pin((base >> 12, 1)), (ABI.ST_RANGE, 0), "before")
        server.take_events()
        machine.qmp("device_add", driver="pc-dimm", id="dimm", memdev="more")
        t.equal(server.take_events(), [], "events of the plug")
        where = machine.qmp("query-memory-devices")[0]["data"]["addr"]
        t.equal(guest.pin((where >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(server.maps, {where: 2 * MIB}, "maps")


def plug_dimm(machine, name, size, slot, **more):
    """Plug memory in: where it is."""
    machine.qmp("object-add", **{"qom-type": "memory-backend-memfd",
                                 "id": f"ram-{name}", "size": size,
                                 "share": True})
    machine.qmp("device_add", driver="pc-dimm", id=name, slot=slot,
                memdev=f"ram-{name}", **more)
    return {dimm["data"]["id"]: dimm["data"]["addr"] for dimm in
            machine.qmp("query-memory-devices")}[name]


def eject_dimm(machine, slot):
    """Take it out, as the guest's ACPI would, and its backend."""
    name = next(dimm["data"]["id"] for dimm in
                machine.qmp("query-memory-devices")
                if dimm["data"]["slot"] == slot)
    machine.command(f"outl 0xa00 {slot:#x}")
    machine.command("outb 0xa14 0x8")
    machine.qmp("object-del", id=f"ram-{name}")


def test_dimms_share_block(t):
    """RAM that comes and goes leaves its neighbours in a block alone."""
    part = 256 * MIB
    with t.machine(memory="512M,slots=3,maxmem=4G", coiommu=",block=1G",
                   servers=2, devices=one_and_a_port) as machine:
        guest = Guest(machine)
        machine.config_write(0, PORT, 0x18, 1 << 16 | 1 << 8)
        t.equal(guest.enable(size=8 << 30), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(endpoint(0, 5)), ABI.ST_OK, "ATTACH")
        one, two = machine.servers
        a = plug_dimm(machine, "a", part, 0)
        t.equal(guest.map(a, 8192), ABI.ST_OK, "map in the first")
        one.take_events()
        # Another one, for which the first isn't touched.
        b = plug_dimm(machine, "b", part, 1)
        t.equal(a >> 30 == b >> 30, True, "they share a block")
        t.equal(one.take_events(), [], "events of the plug")
        t.equal((guest.pinned(a), guest.pinned(b)), (True, False), "PINNED")
        # The rest of the block can't be pinned: the first is not harmed.
        one.fail_at(b, errno.ENOMEM)
        t.equal(guest.map(b, 4096), ABI.ST_NOMEM, "map that fails")
        one.fail_never()
        forget(machine)
        t.equal(one.maps, {a: part}, "maps")
        t.equal(machine.counter("pinned-bytes"), part, "pinned-bytes")
        one.take_events()
        t.equal(guest.map(b, 4096), ABI.ST_OK, "map in the second")
        t.equal(one.take_events(), [("map", b, part, 0)], "events")
        t.equal((machine.counter("pinned-blocks"),
                 machine.counter("pinned-bytes")), (1, 2 * part), "counters")
        t.equal(len(guest.published()), 2 * part // guest.unit, "units")
        # A third one, that nobody uses, and a device: it gets what is mapped.
        c = plug_dimm(machine, "c", part, 2)
        plug_vfio_user(machine, 1, "d1", "rp")
        t.equal(two.maps, one.maps, "replayed")
        t.equal(sorted(one.maps), [a, b], "maps")
        # The one in the middle goes: nothing else does.
        guest.unmap(b, 4096)
        one.take_events()
        eject_dimm(machine, 1)
        t.equal(one.take_events(), [("unmap", b, part, 0)], "events")
        t.equal(two.maps, {a: part}, "maps")
        t.equal((guest.pinned(a), guest.pinned(b)), (True, False), "PINNED")
        t.equal(guest.pin((b >> 12, 1)), (ABI.ST_RANGE, 0), "PIN of nothing")
        # And is replaced; what was missing all the time is mapped as well.
        t.equal(plug_dimm(machine, "b2", part, 1, addr=b), b, "address")
        t.equal(guest.map(b, 4096), ABI.ST_OK, "map in the new one")
        t.equal(one.take_events(), [("map", b, part, 0), ("map", c, part, 0)],
                "events")
        # In use, the block stays; idle, all of it goes.
        machine.set("unpin-interval", 5)
        machine.set("unpin-policy", "lazy")
        for address, size in ((b, 4096), (a, 8192)):
            time.sleep(0.1)
            t.equal(sorted(one.maps), [a, b, c], "maps while in use")
            guest.unmap(address, size)
        end = time.monotonic() + PATIENCE
        while machine.counter("pinned-blocks"):
            t.equal(time.monotonic() < end, True, "unpinned in time")
            time.sleep(0.01)
        machine.set("unpin-policy", "off")
        t.equal((one.maps, two.maps, guest.published()), ({}, {}, []), "idle")
        # Pinned in part, and unpinned so.
        eject_dimm(machine, 2)
        t.equal(guest.map(a, 4096), ABI.ST_OK, "map")
        t.equal(sorted(one.maps), [a, b], "maps")
        plug_dimm(machine, "c2", part, 2)
        one.take_events()
        eject_dimm(machine, 2)
        t.equal(one.take_events(), [], "events of the one nobody used")
        plug_dimm(machine, "c3", part, 2)
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal(one.take_events(), [("unmap", a, part, 0),
                                    ("unmap", b, part, 0)], "events")
        t.equal((one.maps, two.maps), ({}, {}), "maps")
        t.equal(machine.counter("pinned-bytes"), 0, "pinned-bytes")
        t.equal(one.violations + two.violations, [], "violations")


def test_dimms_share_unit(t):
    """PINNED speaks of all RAM in a unit, also of what came later."""
    with t.machine(memory="512M,slots=2,maxmem=4G",
                   coiommu=",unit=2M,block=1G") as machine:
        guest = Guest(machine)
        t.equal(guest.enable(size=8 << 30), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(endpoint(0, 5)), ABI.ST_OK, "ATTACH")
        server = machine.servers[0]
        size = 257 * MIB
        a = plug_dimm(machine, "a", size, 0)
        shared = a + 256 * MIB
        t.equal(guest.map(shared, 4096), ABI.ST_OK, "map")
        t.equal(guest.pinned(shared), True, "PINNED")
        server.take_events()
        b = plug_dimm(machine, "b", size, 1, addr=a + size)
        t.equal(server.take_events(), [], "events")
        t.equal((guest.pinned(a), guest.pinned(shared)), (True, False),
                "PINNED")
        t.equal(guest.map(b, 4096), ABI.ST_OK, "map in the same unit")
        t.equal(server.maps, {a: size, b: size}, "maps")
        t.equal((guest.pinned(shared), guest.pinned(b)), (True, True),
                "PINNED")
        eject_dimm(machine, 1)
        t.equal(server.maps, {a: size}, "maps")
        server.take_events()
        t.equal(guest.map(shared, 4096), ABI.ST_OK, "map in what stays")
        t.equal(server.take_events(), [], "events")
        t.equal(guest.pinned(shared), True, "PINNED")


def test_edu(t):
    """x-track-emulated: an emulated device lives by the same rules."""
    def devices(machine):
        return ["edu,id=edu,addr=5", "pcie-root-port,id=rp,addr=7,chassis=1"]

    with t.machine(servers=0, coiommu=",x-track-emulated=on",
                   devices=devices) as machine:
        guest = start(t, machine)
        # AHCI and the LPC bridge are the machine's own: not tracked.
        for slot, function in ((31, 0), (31, 2), (0, 0), (4, 0), (7, 0)):
            t.equal(guest.probe(endpoint(0, slot, function)), ABI.ST_NODEV,
                    f"PROBE of {slot}.{function}")
        machine.qmp("device_add", driver="edu", id="hot", bus="rp")
        machine.config_write(0, PORT, 0x20, 0xfd80fd80)
        machine.config_write(0, PORT, 0x04, 6, size=2)
        for number, bus, devfn, bar in ((endpoint(0, 5), 0, 5 << 3,
                                         0xfd000000),
                                        (endpoint(1, 0), 1, 0, 0xfd800000)):
            machine.config_write(bus, devfn, 0x10, bar)
            t.equal(guest.attach(number), ABI.ST_OK, "ATTACH")
            machine.config_write(bus, devfn, 0x04, 6, size=2)
            faults = machine.counter("dma-faults")
            machine.write_bytes(0x4000000, b"from the guest")
            t.equal(edu_copy(machine, bar, 0x4000000, 0x4001000), bytes(14),
                    "copy by DMA before the pin")
            t.equal(machine.counter("dma-faults") > faults, True, "faults")
            t.equal(guest.pin((0x4000, 2)), (ABI.ST_OK, 1), "PIN")
            faults = machine.counter("dma-faults")
            t.equal(edu_copy(machine, bar, 0x4000000, 0x4001000),
                    b"from the guest", "copy by DMA after the pin")
            t.equal(machine.counter("dma-faults"), faults, "faults")
            # Without a driver it reaches everything.
            t.equal(guest.detach(number), ABI.ST_OK, "DETACH")
            while machine.counter("fallback-waiting"):
                time.sleep(0.001)
            machine.write_bytes(0x8001000, bytes(14))
            t.equal(edu_copy(machine, bar, 0x4000000, 0x8001000),
                    b"from the guest", "copy by DMA after DETACH")
            t.equal(machine.counter("dma-faults"), faults, "faults")
            machine.config_write(bus, devfn, 0x04, 2, size=2)
            while machine.counter("fallback-busy"):
                time.sleep(0.001)
            t.equal(machine.counter("pinned-bytes"), 0, "pinned-bytes")
            machine.write_bytes(0x4001000, bytes(14))


def edu_copy(machine, bar, source, target):
    """Have edu copy 14 bytes through its buffer: what is at the target."""
    for src, dst, command in ((source, 0x40000, 1), (0x40000, target, 3)):
        machine.write(bar + 0x80, 8, src)
        machine.write(bar + 0x88, 8, dst)
        machine.write(bar + 0x90, 8, 14)
        machine.write(bar + 0x98, 8, command)
        machine.command(f"clock_step {200 * 1000 * 1000}")
    return machine.read_bytes(target, 14)
