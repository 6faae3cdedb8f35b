# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that are unrealized: by the operator, or because realize fails."""

import errno

import vfio_user_server as messages
from driver import ABI, endpoint
from machine import PATIENCE, QemuError, plug_vfio_user, vfio_user
from test_bypass import ALL
from test_fallback import COMMAND, MASTER, MEMORY, is_master, master
from test_hotplug import NATIVE, only_behind_port, one_and_a_port, start, unplug
from test_lockless import WHOLE, big_pin, callers, later, machine_with_callers
from test_pinall import begin
from test_unpin import wait

MIB = 1 << 20
IOMMU = "/machine/peripheral/iommu"


def set_realized(machine, path, value):
    """The error of qom-set, or ""."""
    try:
        machine.qmp("qom-set", path=path, property="realized", value=value)
    except QemuError as error:
        return str(error)
    return ""


def check_gone(t, machine):
    """coIOMMU has been unrealized, and can be asked and set all the same."""
    for prop in machine.qmp("qom-list", path=IOMMU):
        if prop["type"] in ("uint64", "uint64List"):
            machine.counter(prop["name"])
    for name in ("pinned-bytes", "attached-endpoints", "containers",
                 "fallback-active", "fallback-bytes"):
        t.equal(machine.counter(name), 0, name)
    for name, value in (("max-pinned", 1 << 30), ("unpin-policy", "lazy"),
                        ("unpin-interval", 1), ("ahead", MIB),
                        ("fallback", "refuse"), ("escape-threshold", 1)):
        machine.set(name, value)
    machine.reset()
    t.equal(set_realized(machine, IOMMU, True),
            "coiommu cannot be realized a second time: start QEMU anew",
            "realized again")


def test_unrealize(t):
    """Without a device: the machine is as one that has no coIOMMU."""
    with t.machine(devices=lambda machine: only_behind_port(machine)[:1],
                   coiommu=",viot=on") as machine:
        t.equal(set_realized(machine, IOMMU, False), "", "unrealized")
        check_gone(t, machine)
        t.equal(machine.said("unrealized"), [], "warnings")
        plug_vfio_user(machine, 0, "d0", "rp")
        t.equal(machine.servers[0].mapped_bytes() >= ALL, True, "all mapped")
        t.equal(machine.quit(), 0, "exit status")


def test_unrealize_in_use(t):
    """With devices: none reaches memory, and each can go."""
    def devices(machine):
        return one_and_a_port(machine) + [vfio_user(machine, 1, "d1",
                                                    bus="rp")]

    with t.machine(servers=2, devices=devices, extra=NATIVE,
                   coiommu=",viot=on") as machine:
        guest = start(t, machine, endpoint(0, 5))
        one, two = machine.servers
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        # One is attached, the other one has all memory pinned.
        master(machine)
        master(machine, devfn=0, bus=1)
        t.equal(machine.counter("pinned-bytes"), ALL, "all pinned")
        one.commands.clear()
        t.equal(set_realized(machine, IOMMU, False), "", "unrealized")
        t.equal(len(machine.said("coiommu has been unrealized")), 1, "warnings")
        t.equal((one.maps, two.maps), ({}, {}), "maps")
        # While it still had its memory it was taken off the bus.
        t.equal(one.commands, [(MEMORY, ALL)], "writes of PCI_COMMAND")
        t.equal(is_master(machine, devfn=0, bus=1), False, "the other one")
        check_gone(t, machine)
        master(machine)
        t.equal((one.maps, type(one.dma_read(0x4000000, 8))), ({}, int),
                "maps, and an errno")
        machine.config_write(0, 7 << 3, 0x18, 1 << 16 | 1 << 8)
        unplug(t, machine, "d1")
        t.equal(two.gone.wait(PATIENCE), True, "connection closed")
        # One that comes then is as without coIOMMU.
        plug_vfio_user(machine, 1, "d2", "rp")
        t.equal(two.mapped_bytes() >= ALL, True, "all mapped")
        t.equal((one.violations, two.violations), ([], []), "violations")
        t.equal(machine.quit(), 0, "exit status")


def test_unrealize_busy(t):
    """While a request is served, or all is being pinned: each comes to an end."""
    with machine_with_callers(t, one_and_a_port, WHOLE) as machine:
        start(t, machine, endpoint(0, 5))
        _, one = callers(machine)
        server = machine.servers[0]
        big_pin(t, server, one)
        later(0.2, server.release)
        t.equal(set_realized(machine, IOMMU, False), "", "unrealized")
        t.equal((one.ringer.wait(), one.status()), (True, ABI.ST_PENDING),
                "the request")
        t.equal(server.maps, {}, "maps")
        check_gone(t, machine)
        t.equal(machine.quit(), 0, "exit status")
    for delay in (0, 3600000):
        with t.machine(coiommu=f",x-fallback-delay={delay}") as machine:
            server, = machine.servers
            begin(t, machine)
            t.equal(set_realized(machine, IOMMU, False), "", "unrealized")
            t.equal((server.maps, is_master(machine)), ({}, False), "maps")
            check_gone(t, machine)
            t.equal(machine.quit(), 0, "exit status")


def test_unrealize_stuck(t):
    """With memory that the host does not unmap, and a server that is dead."""
    with t.machine(servers=2) as machine:
        guest = start(t, machine, endpoint(0, 5), endpoint(0, 6))
        one, two = machine.servers
        t.equal(guest.pin((0x4000, 1), (0x8000, 1)), (ABI.ST_OK, 2), "PIN")
        one.stick_at(0x4000000, errno.EBUSY)
        two.die()
        t.equal(set_realized(machine, IOMMU, False), "", "unrealized")
        t.equal(list(one.maps), [0x4000000], "maps")
        for prop in machine.qmp("qom-list", path=IOMMU):
            if prop["type"] == "uint64":
                machine.counter(prop["name"])
        machine.reset()
        t.equal(machine.quit(), 0, "exit status")


def test_unrealize_device(t):
    """A tracked device that is unrealized leaves nothing behind."""
    def devices(machine):
        return [vfio_user(machine, i, f"d{i}", addr=f"{5 + i}")
                for i in range(2)]

    with t.machine(servers=2, devices=devices) as machine:
        guest = start(t, machine, endpoint(0, 5), endpoint(0, 6))
        one, two = machine.servers
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(set_realized(machine, "/machine/peripheral/d1", False), "",
                "unrealized")
        t.equal(machine.counter("attached-endpoints"), 1, "endpoints")
        t.equal(guest.attach(endpoint(0, 6)), ABI.ST_NODEV, "ATTACH")
        machine.config_write(0, 6 << 3, COMMAND, MASTER, size=2)
        t.equal(machine.counter("fallback-active"), 0, "fallback-active")
        t.equal(guest.pin((0x8000, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(len(one.maps), 2, "maps")
        # Until its object goes its container is there, and takes part.
        t.equal(two.maps, one.maps, "maps of the other")
        # No reset: QEMU resets devices that are unrealized, and VFIO's write
        # to configuration space that they have no more.
        t.equal(guest.detach(endpoint(0, 5)), ABI.ST_OK, "DETACH")
        t.equal((one.maps, two.maps, machine.counter("pinned-bytes")),
                ({}, {}, 0), "after DETACH")
        t.equal(set_realized(machine, "/machine/peripheral/d0", False), "",
                "the other one")
        t.equal(machine.counter("attached-endpoints"), 0, "endpoints")
        t.equal((one.violations, two.violations), ([], []), "violations")
        t.equal(machine.quit(), 0, "exit status")


def test_unrealize_port(t):
    """The same, with the port above it."""
    with t.machine(devices=only_behind_port) as machine:
        guest = start(t, machine, endpoint(1, 0))
        server, = machine.servers
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(set_realized(machine, "/machine/peripheral/rp", False), "",
                "unrealized")
        t.equal((server.maps, machine.counter("pinned-bytes"),
                 machine.counter("attached-endpoints")), ({}, 0, 0), "counters")
        t.equal(guest.probe(endpoint(1, 0)), ABI.ST_NODEV, "PROBE")
        t.equal(machine.quit(), 0, "exit status")


def deep_ports(machine):
    """So many switches that a path is too long for QEMU's migration."""
    devices = ["pcie-root-port,id=port0,addr=7,chassis=1"]
    for i in range(24):
        devices += [f"cxl-upstream,id=up{i},bus=port{i}",
                    f"cxl-downstream,id=port{i + 1},bus=up{i},port=0,"
                    f"chassis={i + 2}"]
    return devices


def test_realize_fails_late(t):
    """A device that QEMU refuses after we have heard of it is forgotten."""
    def blocked():
        return "blocked-reasons" in machine.qmp("query-migrate")

    with t.machine(servers=0, devices=deep_ports,
                   coiommu=",x-track-emulated=on") as machine:
        for i in range(2):
            try:
                machine.qmp("device_add", driver="e1000e", id=f"late{i}",
                            bus="port24")
                message = ""
            except QemuError as error:
                message = str(error)
            t.equal("Path too long" in message, True, message)
            t.equal(machine.traced("coiommu_master_hook"), i + 1, "events")
            wait(t, lambda: not blocked(), "migration is allowed")
        # One that has no state, and no path, can come in.
        machine.qmp("device_add", driver="edu", id="good", bus="port24")
        t.equal(blocked(), True, "migration is blocked")
        machine.reset()
        t.equal(machine.quit(), 0, "exit status")


def test_vfio_fails_late(t):
    """VFIO refuses a device when its container is there already."""
    with t.machine(servers=2, devices=one_and_a_port, extra=NATIVE) as machine:
        guest = start(t, machine, endpoint(0, 5))
        one, two = machine.servers
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
        pinned = dict(one.maps)
        for message in (messages.VERSION, messages.GET_INFO,
                        messages.REGION_INFO, messages.REGION_READ):
            two.fail_command(message, errno.EIO)
            try:
                plug_vfio_user(machine, 1, f"late{message}", "rp")
                t.equal(True, False, f"message {message}: plugged in")
            except QemuError:
                pass
            t.equal(two.gone.wait(PATIENCE), True, "connection closed")
            two.fail_never()
            t.equal((machine.counter("containers"), two.maps, one.maps),
                    (1, {}, pinned), "containers and maps")
            t.equal(guest.pin((0x8000, 1)), (ABI.ST_OK, 1), "PIN")
            pinned = dict(one.maps)
            # The chipset changes memory: every listener hears of it.
            machine.config_write(0, 0, 0x9e, 0x01, size=1)
            machine.config_write(0, 0, 0x9e, 0x00, size=1)
        for ident in ("d1", "d2"):
            plug_vfio_user(machine, 1, ident, "rp")
            t.equal(guest.attach(endpoint(1, 0)), ABI.ST_OK, "ATTACH")
            t.equal(guest.pin((0xc000, 1)), (ABI.ST_OK, 1), "PIN")
            t.equal(two.maps, one.maps, "maps")
            unplug(t, machine, ident)
            t.equal(two.gone.wait(PATIENCE), True, "connection closed")
            t.equal(two.maps, {}, "maps after the unplug")
        t.equal((one.violations, two.violations), ([], []), "violations")
        t.equal(machine.quit(), 0, "exit status")
