# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest memory in NUMA nodes, and devices on root complexes of their own.

Each node is a piece of memory by itself.  A device reaches what is mapped for
it directly, by the file that QEMU has sent with the map: so wrong data show a
map of the wrong piece, or at the wrong place in it.
"""

import os
import struct

from driver import ABI, Guest, endpoint
from machine import vfio_user
from test_fallback import is_master, master, settled
from test_pins import check_views, ready
from vfio_user_server import VfioUserServer

KIB = 1 << 10
MIB = 1 << 20
HOLE = 0x60000
BUSES = (0x40, 0x80)


class DirectServer(VfioUserServer):
    """A device that does DMA by itself, in the memory that is mapped for it."""

    def __init__(self, *arguments):
        self._files = {}        # iova -> (file, offset)
        super().__init__(*arguments)

    def _map(self, body):
        reply = super()._map(body)
        _, _, offset, iova, _ = struct.unpack("<IIQQQ", body)
        fd, = self.fds
        self._files[iova] = (os.fdopen(os.dup(fd), "r+b", buffering=0), offset)
        return reply

    def _place(self, address):
        """The file of the map with this address, and where it is in there."""
        iova, = (start for start, size in self.maps.items()
                 if start <= address < start + size)
        file, offset = self._files[iova]
        return file.fileno(), offset + address - iova

    def peek(self, address, size):
        fd, offset = self._place(address)
        return os.pread(fd, size, offset)

    def poke(self, address, data):
        fd, offset = self._place(address)
        os.pwrite(fd, data, offset)


def check_data(t, machine, server, *addresses):
    """CPU and device see what the other has written, and nothing else."""
    for address in addresses:
        name = f"{address:#x}".encode()
        machine.write_bytes(address, b"CPU " + name)
        t.equal(server.peek(address, 4 + len(name)), b"CPU " + name,
                f"read at {address:#x}")
        server.poke(address + 64, b"device " + name)
    for address in addresses:
        name = f"{address:#x}".encode()
        t.equal(machine.read_bytes(address + 64, 7 + len(name)),
                b"device " + name, f"write at {address:#x}")


def test_node_boundary(t):
    """Where a node ends inside a unit, both parts of the unit are mapped."""
    for unit, block, node in (("64K", "64K", 200 * MIB + 4 * KIB),
                              ("64K", "2M", 200 * MIB + 68 * KIB),
                              ("2M", "2M", 201 * MIB + 8 * KIB),
                              ("2M", "1G", 255 * MIB - 4 * KIB)):
        with t.machine(server=DirectServer, nodes=(node, 512 * MIB - node),
                       coiommu=f",unit={unit},block={block}") as machine:
            server, = machine.servers
            guest = ready(t, machine)
            first = node // guest.block * guest.block
            end = min(first + guest.block, 512 * MIB)
            server.take_events()
            # Two pages, one on each side, and then one that is there already.
            t.equal(guest.map(node - 4096, 8192), ABI.ST_OK, "map")
            maps = {node: end - node}
            if first:
                maps[first] = node - first
            else:
                maps.update({0: 0xa0000, MIB: node - MIB})
            t.equal(server.maps, maps, f"maps of {unit} at {node:#x}")
            t.equal(guest.pinned(node), True, "PINNED")
            check_views(t, machine)
            check_data(t, machine, server, node - 4096, node - 128, node,
                       node + 2048, end - 4096)
            guest.unmap(node - 4096, 8192)
            t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
            t.equal(server.maps, {}, "maps")


def expanders(machine):
    """A device on each of two root complexes, one for each node."""
    devices = []
    for i, bus in enumerate(BUSES):
        devices += [f"pxb-pcie,id=pxb{i},bus=pcie.0,addr={8 + i},bus_nr={bus},"
                    f"numa_node={i}",
                    f"pcie-root-port,id=rp{i},bus=pxb{i},addr=0,"
                    f"chassis={1 + i}",
                    vfio_user(machine, i, f"d{i}", bus=f"rp{i}")]
    return devices


def test_expanders(t):
    """Devices on several root complexes, each beside a node of its own."""
    with t.machine(server=DirectServer, servers=2, devices=expanders,
                   nodes=(256 * MIB, 256 * MIB)) as machine:
        one, two = machine.servers
        guest = Guest(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        t.equal(machine.said("warning: coiommu: "), [], "warnings")
        for bus in BUSES:
            machine.config_write(bus, 0, 0x18, (bus + 1) * 0x10100 | bus)
            t.equal(guest.attach(endpoint(bus + 1, 0)), ABI.ST_OK, "ATTACH")
            master(machine, devfn=0, bus=bus + 1)
        t.equal((machine.counter("containers"), one.maps, two.maps),
                (2, {}, {}), "before a PIN")
        # In each node, and where one of them ends.
        for address in (64 * MIB, 300 * MIB, 256 * MIB - 4096):
            t.equal(guest.map(address, 8192), ABI.ST_OK, "map")
        maps = {at * MIB: 2 * MIB for at in (64, 254, 256, 300)}
        t.equal((one.maps, two.maps), (maps, maps), "maps")
        check_views(t, machine)
        for server in one, two:
            check_data(t, machine, server, 64 * MIB, 300 * MIB,
                       256 * MIB - 4096, 256 * MIB)
        # One of them is used without the driver, then neither.
        last = endpoint(BUSES[1] + 1, 0)
        t.equal(guest.detach(last), ABI.ST_OK, "DETACH")
        settled(machine)
        t.equal([server.mapped_bytes() for server in (one, two)],
                [512 * MIB - HOLE] * 2, "all is pinned for it")
        check_data(t, machine, two, 128 * MIB, 400 * MIB)
        t.equal(is_master(machine, devfn=0, bus=BUSES[1] + 1), True, "its bit")
        for bus in BUSES:
            master(machine, False, devfn=0, bus=bus + 1)
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal((one.maps, two.maps), ({}, {}), "maps after DISABLE")
