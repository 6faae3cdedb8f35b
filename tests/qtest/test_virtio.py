# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtio devices whose driver bypasses the guest's DMA API can't be attached."""

import struct

from driver import ABI, Guest, endpoint
from machine import vfio_user_row
from test_fallback import ALL, master

WORDS = "does not offer VIRTIO_F_ACCESS_PLATFORM"
COMMON = 0x3000
# Where QEMU's virtio devices have their common configuration: BAR and address.
BAR4, ADDRESS = 0x20, 0xfd000000
# Where the server's device has its capability.
CAPABILITY = 0x60


def emulated(*options):
    """The same device with each of the options, from slot 5 on."""
    def devices(_machine):
        return [f"virtio-rng-pci,id=d{i},addr={5 + i:#x},{option}"
                for i, option in enumerate(options)]
    return devices


def check_refused(t, machine, guest, slot, refused):
    """ATTACH is refused that many times, and all is pinned for the device."""
    t.equal(guest.probe(endpoint(0, slot)), ABI.ST_OK, "PROBE")
    t.equal(guest.attach(endpoint(0, slot)), ABI.ST_UNSUPPORTED, "ATTACH")
    t.equal(machine.counter("attach-refused"), refused, "attach-refused")
    t.equal(machine.traced("coiommu_attach_refused"), refused, "events")
    t.equal(machine.counter("attached-endpoints"), 0, "attached")
    master(machine, devfn=slot << 3)
    t.equal((machine.counter("fallback-active"),
             machine.counter("pinned-bytes")), (1, ALL), "pinned")
    master(machine, False, devfn=slot << 3)
    t.equal(machine.counter("pinned-bytes"), 0, "pinned without the bit")


def test_virtio_emulated(t):
    """With the feature, without it, transitional, legacy."""
    options = ("disable-legacy=on,iommu_platform=on",
               "disable-legacy=on", "disable-legacy=off",
               "disable-legacy=off,disable-modern=on")
    with t.machine(servers=0, coiommu=",x-track-emulated=on",
                   devices=emulated(*options)) as machine:
        guest = Guest(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        for refused, slot in enumerate((6, 7, 8), 1):
            check_refused(t, machine, guest, slot, refused)
            t.equal(len(machine.said(WORDS, f"d{slot - 5}")), 1, "warnings")
        t.equal(len(machine.said(WORDS)), 3, "warnings in all")
        t.equal(guest.attach(endpoint(0, 5)), ABI.ST_OK, "ATTACH")
        t.equal(guest.detach(endpoint(0, 5)), ABI.ST_OK, "DETACH")
        check_untouched(t, machine, 5)


def check_untouched(t, machine, slot):
    """The device is as its driver expects it to be."""
    machine.config_write(0, slot << 3, BAR4, ADDRESS)
    machine.config_write(0, slot << 3, BAR4 + 4, 0)
    master(machine, devfn=slot << 3)
    t.equal(machine.read(ADDRESS, 4), 0, "the feature select")
    window = capability(machine, slot, 5)
    t.equal([machine.config_read(0, slot << 3, window + offset)
             for offset in (4, 8, 12)], [0, 0, 0], "the window")


def capability(machine, slot, kind):
    """Where virtio's capability of that kind is."""
    pos = machine.config_read(0, slot << 3, 0x34, size=1)
    while pos:
        word = machine.config_read(0, slot << 3, pos)
        if word & 0xff == 9 and word >> 24 == kind:
            return pos
        pos = word >> 8 & 0xff
    raise AssertionError("there is no such capability")


def test_virtio_plugged(t):
    """One that is plugged in is looked at as well, and another one after it."""
    with t.machine(servers=0, coiommu=",x-track-emulated=on",
                   devices=lambda _: ["pcie-root-port,id=rp,addr=0x10"]
                   ) as machine:
        for count in (1, 2):
            machine.qmp("device_add", driver="virtio-rng-pci", id="d",
                        bus="rp", iommu_platform=False)
            t.equal(len(machine.said(WORDS)), count, "warnings")
            machine.qmp("device_del", id="d")
            machine.reset()
            machine.command("clock_step 10000000000")
            t.equal(any(d["name"] == "d" for d in machine.qmp(
                "qom-list", path="/machine/peripheral")), False, "it has gone")


SERVERS = {
    "a NIC of somebody else": (0x8086, 0x1041, False),
    "no virtio device": (0x1af4, 0x10f1, False),
    "legacy": (0x1af4, 0x1000, True),
    "without a window": (0x1af4, 0x1041, True),
}


def virtio_server(server, vendor, device):
    """The server's device says that it is this one, without a window."""
    struct.pack_into("<HH", server._config, 0, vendor, device)
    server._config[6] |= 0x10
    server._config[0x34] = CAPABILITY
    # A common configuration.
    server._config[CAPABILITY:CAPABILITY + 16] = struct.pack(
        "<BBBBBxxxII", 9, 0, 16, 1, 4, COMMON, 0x38)


def test_virtio_assigned(t):
    """A device that is assigned, with what it may be."""
    for name, (vendor, device, refused) in SERVERS.items():
        def devices(machine):
            virtio_server(machine.servers[0], vendor, device)
            return vfio_user_row(machine)
        with t.machine(devices=devices) as machine:
            guest = Guest(machine)
            t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
            if refused:
                check_refused(t, machine, guest, 5, 1)
            else:
                t.equal(guest.attach(endpoint(0, 5)), ABI.ST_OK, name)
            t.equal(len(machine.said(WORDS)), refused, f"{name}: warnings")
