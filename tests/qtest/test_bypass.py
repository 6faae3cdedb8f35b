# SPDX-License-Identifier: GPL-2.0-or-later
"""VFIO devices that are not tracked: the operator hears of each."""

import json

from driver import ABI, Guest, endpoint
from machine import PATIENCE, plug_vfio_user, vfio_user
from test_hotplug import NATIVE, express_capability

MIB = 1 << 20
# A machine of 512 MiB, without the legacy hole; VFIO maps ROM besides.
ALL = 512 * MIB - 0x60000
PXB_BUS = 0x80
ON_BYPASS = ("is on a PCI bus that bypasses any IOMMU",
             "Remove bypass_iommu=on from that bus")
NOT_EXPRESS = ("is not on a PCI Express bus below pcie.0",
               "Plug it into pcie.0 or a pcie-root-port")


def expander(option=""):
    """A second root complex with an empty port."""
    return [f"pxb-pcie,id=pxb,bus_nr={PXB_BUS},bus=pcie.0{option}",
            "pcie-root-port,id=rp,bus=pxb,addr=0,chassis=3"]


def check_bypass(t, machine, server, name, words):
    """All memory is mapped for one device, and this is said once."""
    warnings = machine.said("warning: coiommu: ")
    t.equal(len(warnings), 1, f"warnings {warnings}")
    for word in (f"coiommu: {name} ", "all guest memory (512 MiB)", *words):
        t.equal(word in warnings[0], True, f"{word!r} in {warnings[0]!r}")
    t.equal(server.mapped_bytes() >= ALL, True, "all is mapped")
    t.equal((machine.counter("bypass-devices"),
             machine.counter("bypass-bytes")), (1, ALL), "counters")
    t.equal(machine.traced("coiommu_bypass"), 1, "events")


def check_tracked(t, machine, server):
    """The device in slot 5 is tracked as ever."""
    guest = Guest(machine)
    t.equal(server.maps, {}, "maps of the tracked device")
    t.equal((machine.counter("containers"), machine.counter("pinned-bytes")),
            (1, 0), "containers and pinned-bytes")
    t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
    t.equal(guest.attach(endpoint(0, 5)), ABI.ST_OK, "ATTACH")
    t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN")
    t.equal(server.maps, {0x4000000: 2 * MIB}, "maps")
    t.equal(machine.counter("pinned-bytes"), 2 * MIB, "pinned-bytes")
    return guest


def test_bypass_cold(t):
    """In the machine from the start, for each reason."""
    for devices, bus, words in (
            (expander(",bypass_iommu=on"), "rp", ON_BYPASS),
            (["pcie-pci-bridge,id=br"], "br", NOT_EXPRESS),
            (["pcie-pci-bridge,id=far", "pci-bridge,id=br,bus=far,addr=2,"
              "chassis_nr=4"], "br", NOT_EXPRESS)):
        def all_devices(machine, devices=devices, bus=bus):
            return [vfio_user(machine, 0, "d0", addr="5"), *devices,
                    vfio_user(machine, 1, "d1", bus=bus,
                              addr="0" if bus == "rp" else "1")]

        with t.machine(servers=2, devices=all_devices) as machine:
            check_bypass(t, machine, machine.servers[1], "d1", words)
            check_tracked(t, machine, machine.servers[0])


def test_bypass_hotplug(t):
    """Plugged in while the machine runs, and out, and in again."""
    def devices(machine):
        return [vfio_user(machine, 0, "d0", addr="5"),
                *expander(",bypass_iommu=on")]

    with t.machine(servers=2, devices=devices, extra=NATIVE) as machine:
        one, two = machine.servers
        t.equal(machine.counter("bypass-devices"), 0, "before")
        plug_vfio_user(machine, 1, "d1", "rp")
        check_bypass(t, machine, two, "d1", ON_BYPASS)
        check_tracked(t, machine, one)
        control = express_capability(machine, PXB_BUS, 0) + 0x18
        machine.config_write(PXB_BUS, 0, control, 0x0100, size=2)
        machine.qmp("device_del", id="d1")
        machine.config_write(PXB_BUS, 0, control, 0x0700, size=2)
        t.equal(two.gone.wait(PATIENCE), True, "connection closed")
        t.equal((machine.counter("bypass-devices"),
                 machine.counter("bypass-bytes")), (0, 0), "after")
        t.equal(one.maps, {0x4000000: 2 * MIB}, "maps of the other")
        plug_vfio_user(machine, 1, "d2", "rp")
        t.equal(machine.counter("bypass-devices"), 1, "again")
        t.equal(len(machine.said("coiommu: d2 ")), 1, "warnings for it")


def test_bypass_not(t):
    """Another root complex doesn't bypass unless it is told to."""
    def devices(machine):
        return [*expander(), vfio_user(machine, 0, "d0", bus="rp")]

    with t.machine(devices=devices) as machine:
        t.equal(machine.said("warning: coiommu: "), [], "warnings")
        t.equal((machine.counter("bypass-devices"),
                 machine.counter("bypass-bytes"),
                 machine.counter("containers")), (0, 0, 1), "counters")
        t.equal(machine.servers[0].maps, {}, "maps")


def test_plain_syntax_first(t):
    """coIOMMU in plain syntax comes before JSON, wherever it stands."""
    def devices(machine):
        return [vfio_user(machine, 0, "d0", addr="5"), "coiommu,id=late,addr=4"]

    with t.machine(coiommu=None, devices=devices) as machine:
        t.equal(machine.servers[0].maps, {}, "maps")
        t.equal(machine.qmp("qom-get", path="/machine/peripheral/late",
                            property="containers"), 1, "containers")


def test_json_sizes(t):
    """Sizes are numbers in JSON, as docs/user/running.md says."""
    device = {"driver": "coiommu", "id": "iommu", "unit": 4096,
              "block": 1 << 20, "max-pinned": 256 * MIB, "ahead": 0}
    with t.machine(coiommu=None, servers=0,
                   devices=lambda machine: [json.dumps(device)]) as machine:
        for name in ("unit", "block", "max-pinned", "ahead"):
            t.equal(machine.counter(name), device[name], name)
        machine.qmp("human-monitor-command", **{
            "command-line": "qom-set /machine/peripheral/iommu max-pinned 64M"})
        t.equal(machine.counter("max-pinned"), 64 * MIB, "with a suffix")
    for wrong in ("64K", "65536"):
        status, message = t.refusal(
            ["-M", "q35", "-device",
             json.dumps({"driver": "coiommu", "unit": wrong})])
        t.equal((status, "Parameter 'unit' expects uint64" in message),
                (1, True), message)
