# SPDX-License-Identifier: GPL-2.0-or-later
"""What guest memory is made of, and devices with several functions."""

from driver import ABI, Guest, endpoint
from machine import vfio_user
from test_fallback import is_master, master, settled
from test_pins import check_views, ready

MIB = 1 << 20
GIB = 1 << 30
BASE = 0x4000000
HOLE = 0x60000


def test_backends(t):
    """The guest's memory may be anything that QEMU takes."""
    folder = t.folder()
    for backend in ("memory-backend-ram", "memory-backend-ram,share=on",
                    "memory-backend-memfd,share=off",
                    "memory-backend-memfd,share=on,prealloc=on",
                    "memory-backend-memfd,share=on,reserve=off",
                    f"memory-backend-file,share=on,mem-path={folder}/ram",
                    f"memory-backend-file,share=off,mem-path={folder}"):
        with t.machine(backend=backend, memory="256M") as machine:
            guest = ready(t, machine, size=256 * MIB)
            t.equal(guest.map(BASE, 4096), ABI.ST_OK, f"map in {backend}")
            t.equal(machine.servers[0].maps, {BASE: 2 * MIB}, "maps")
            check_views(t, machine)
            master(machine)
            t.equal(guest.detach(endpoint(0, 5)), ABI.ST_OK, "DETACH")
            settled(machine)
            t.equal(machine.servers[0].mapped_bytes(), 256 * MIB - HOLE,
                    "all of it")


def test_huge_pages(t):
    """A block is not smaller than the pages of the host that it is made of."""
    # Nobody touches the memory, so no huge page needs to be there.
    dimm = ("-object", "memory-backend-memfd,id=huge,size=1G,hugetlb=on,"
            "hugetlbsize={},share=on,reserve=off",
            "-device", "pc-dimm,id=dimm,memdev=huge")
    for size, bytes_ in (("2M", 2 * MIB), ("1G", GIB)):
        extra = [argument.format(size) for argument in dimm]
        try:
            machine = t.machine(memory="512M,slots=1,maxmem=2G", extra=extra)
        except (OSError, ValueError):
            t.skip(f"no huge pages of {size} on this machine")
        with machine:
            where, = (device["data"]["addr"] for device in
                      machine.qmp("query-memory-devices"))
            guest = ready(t, machine, size=where + GIB)
            server = machine.servers[0]
            t.equal(guest.block, bytes_, "block")
            t.equal(guest.map(where + 5 * 4096, 4096), ABI.ST_OK, "map")
            t.equal(server.maps, {where: bytes_}, "maps")
            guest.unmap(where + 5 * 4096, 4096)
            machine.set("unpin-interval", 1)
            t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
            t.equal(server.maps, {}, "maps")


def test_hole_below_4g(t):
    """Where RAM lies in two parts, all of both is pinned, and nothing else."""
    with t.machine(memory="5G", coiommu=",block=1G") as machine:
        server, = machine.servers
        master(machine)
        t.equal(server.mapped_bytes(), 5 * GIB - HOLE, "all of it")
        low = max(start + size for start, size in server.maps.items()
                  if start < 4 * GIB)
        t.equal(low < 4 * GIB, True, "there is a hole")
        guest = Guest(machine)
        t.equal(guest.enable(10 * GIB), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(endpoint(0, 5)), ABI.ST_OK, "ATTACH")
        t.equal(guest.pin_bytes(low, 4096), ABI.ST_RANGE, "PIN in the hole")
        t.equal(guest.pin_bytes(low - 4096, 8192), ABI.ST_RANGE, "PIN into it")
        t.equal(guest.pin_bytes(4 * GIB, 4096), ABI.ST_OK, "PIN above")
        t.equal(guest.pin_bytes(4 * GIB - 4096, 8192), ABI.ST_RANGE,
                "PIN from the BIOS on")


def test_memory_passed_over(t):
    """ROM, and memory that comes and goes by itself, are not for devices."""
    with open(f"{t.folder()}/rom", "wb") as file:
        file.truncate(128 * MIB)
    extra = ("-object", "memory-backend-memfd,id=vmem,size=256M,share=on",
             "-device", "virtio-mem-pci,memdev=vmem,requested-size=128M",
             "-object", "memory-backend-file,id=rom,size=128M,share=on,"
             f"readonly=on,rom=on,mem-path={file.name}",
             "-device", "pc-dimm,memdev=rom")
    with t.machine(memory="512M,slots=2,maxmem=4G", extra=extra) as machine:
        server, = machine.servers
        guest = ready(t, machine, size=8 * GIB)
        for device in machine.qmp("query-memory-devices"):
            data = device["data"]
            where = data.get("memaddr") or data["addr"]
            t.equal(guest.pin_bytes(where, 4096), ABI.ST_RANGE,
                    f"PIN in {device['type']}")
        master(machine)
        t.equal(guest.detach(endpoint(0, 5)), ABI.ST_OK, "DETACH")
        settled(machine)
        t.equal(server.mapped_bytes(), 512 * MIB - HOLE, "all of RAM")


def functions(machine):
    """Two functions of one device, the second one first as PCI wants it."""
    return [vfio_user(machine, 1, "f1", addr="5.1"),
            vfio_user(machine, 0, "f0", addr="5.0", multifunction=True)]


def test_functions(t):
    """Each function of a device is an endpoint of its own."""
    first, second = endpoint(0, 5), endpoint(0, 5) + 1
    with t.machine(servers=2, devices=functions) as machine:
        one, two = machine.servers
        guest = Guest(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        t.equal([guest.request(ABI.OP_PROBE, number)[0]
                 for number in (first, second, second + 1)],
                [ABI.ST_OK, ABI.ST_OK, ABI.ST_NODEV], "PROBE")
        t.equal(guest.attach(first), ABI.ST_OK, "ATTACH")
        master(machine)
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        t.equal((one.maps, two.maps), ({BASE: 2 * MIB},) * 2, "maps")
        t.equal(machine.counter("fallback-active"), 0, "active")
        # Its sibling is used without the driver, and then with it.
        master(machine, devfn=5 << 3 | 1)
        t.equal((machine.counter("fallback-active"), two.mapped_bytes()),
                (1, 512 * MIB - HOLE), "pin-all for the second")
        t.equal(guest.attach(second), ABI.ST_OK, "ATTACH")
        t.equal(machine.counter("fallback-active"), 0, "active")
        machine.set("fallback", "refuse")
        t.equal(guest.detach(first), ABI.ST_OK, "DETACH")
        t.equal((is_master(machine), is_master(machine, devfn=5 << 3 | 1)),
                (False, True), "the bits")
        t.equal(BASE in two.maps, True, "what the second uses")
        t.equal(guest.detach(second), ABI.ST_OK, "DETACH")
        settled(machine)
        t.equal((one.maps, two.maps), ({}, {}), "maps")
