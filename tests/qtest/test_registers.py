# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers: values, widths, reset."""

from driver import ABI, BAR, DEVFN, Guest

# name: (size, value after reset or None if it depends, writable)
REGISTERS = {
    "MAGIC": (4, ABI.MAGIC, False),
    "VERSION": (4, ABI.VERSION, False),
    "DEVICE_FEATURES": (8, ABI.F_ACCESSED | ABI.F_PARTIAL, False),
    "DRIVER_FEATURES": (8, 0, True),
    "UNIT_SHIFT": (4, 16, False),
    "BLOCK_SHIFT": (4, 21, False),
    "MAX_SLOTS": (4, ABI.SLOTS_MAX, False),
    "STATUS": (4, 0, False),
    "MAX_MAPPING": (8, (1 << 64) - 1, False),
    "DTT_ROOT": (8, 0, True),
    "DTT_SIZE": (8, 0, True),
    "REQ_ROOT": (8, 0, True),
    "REQ_SLOTS": (4, 0, True),
    "COMMAND": (4, 0, False),
    "ERROR": (4, 0, False),
    "HOTPLUG_END": (8, 0, False),
}


def offset(name):
    return getattr(ABI, "REG_" + name)


def expected(values, address, size):
    """What a read must return, given the registers' whole values."""
    if size not in (4, 8) or address % size:
        return 0
    for name, value in values.items():
        start, length = offset(name), REGISTERS[name][0]
        if start <= address and address + size <= start + length:
            return value >> (address - start) * 8 & (1 << size * 8) - 1
    return 0


def snapshot(machine):
    """Every register, read as a whole."""
    return {name: machine.read(BAR + offset(name), size)
            for name, (size, _, _) in REGISTERS.items()}


def after_reset():
    return {name: value for name, (_, value, _) in REGISTERS.items()}


def test_identity(t):
    """What the PCI bus sees."""
    with t.machine() as machine:
        t.equal(machine.config_read(0, DEVFN, 0),
                ABI.PCI_DEVICE_ID << 16 | ABI.PCI_VENDOR_ID, "IDs")
        t.equal(machine.config_read(0, DEVFN, 8),
                ABI.PCI_CLASS << 8 | ABI.PCI_REVISION, "class and revision")
        machine.config_write(0, DEVFN, 0x10, 0xffffffff)
        machine.config_write(0, DEVFN, 0x14, 0xffffffff)
        # 8 KiB of 64-bit memory, not prefetchable.
        t.equal(machine.config_read(0, DEVFN, 0x10), 0xffffe004, "BAR, low")
        t.equal(machine.config_read(0, DEVFN, 0x14), 0xffffffff, "BAR, high")


def test_table_is_complete(t):
    """The table above has each register of the ABI header."""
    in_header = {name[4:] for name in vars(ABI) if name.startswith("REG_")}
    t.equal(in_header, set(REGISTERS) | {"DOORBELL"}, "registers")


def test_reads(t):
    """Reads of every size at every address of both pages."""
    with t.machine() as machine:
        Guest(machine)
        values = after_reset()
        t.equal(snapshot(machine), values, "reset values")
        # Something to see in the writable ones.
        for name, (size, _, writable) in REGISTERS.items():
            if writable:
                values[name] = 0x1122334455667788 >> (8 - size) * 8
                machine.write(BAR + offset(name), size, values[name])
        addresses = [*range(0, 0x70), *range(0xff8, 0x1010), 0x1800, 0x1ff8]
        for address in addresses:
            for size in (1, 2, 4, 8):
                # A read over the border is cut in two by QEMU's memory core.
                if address + size > 0x1000 > address:
                    continue
                t.equal(machine.read(BAR + address, size),
                        expected(values, address, size),
                        f"read of {size} at {address:#x}")


def test_writes(t):
    """Writes of every size at every address change what they may, only."""
    with t.machine() as machine:
        Guest(machine)
        values = after_reset()
        pattern = 0xa5a6a7a8a9aaabac
        for address in range(0, 0x70):
            for size in (1, 2, 4, 8):
                # COMMAND, and what follows it up to the doorbell's page, is
                # another test's.
                if address == offset("COMMAND") and size == 4:
                    continue
                value = pattern & (1 << size * 8) - 1
                machine.write(BAR + address, size, value)
                for name, (length, _, writable) in REGISTERS.items():
                    start = offset(name)
                    if (writable and size in (4, 8) and address % size == 0 and
                            start <= address and
                            address + size <= start + length):
                        shift = (address - start) * 8
                        mask = (1 << size * 8) - 1
                        values[name] &= ~(mask << shift)
                        values[name] |= value << shift
                t.equal(snapshot(machine), values,
                        f"registers after a write of {size} at {address:#x}")
                pattern = pattern * 0x5851f42d4c957f2d + 1 & (1 << 64) - 1


def test_doorbell_widths(t):
    """Only an aligned write of 4 bytes rings; the page reads as zero."""
    with t.machine() as machine:
        guest = Guest(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        before = machine.counter("requests")
        for address in (*range(1, 12), 0x800, 0xffc):
            for size in (1, 2, 4, 8):
                if address + size <= 0x1000:
                    machine.write(BAR + ABI.REG_DOORBELL + address, size, 0)
        for size in (1, 2, 8):
            machine.write(BAR + ABI.REG_DOORBELL, size, 0)
        t.equal(machine.counter("requests"), before, "requests")
        machine.write(BAR + ABI.REG_DOORBELL, 4, 0)
        t.equal(machine.counter("requests"), before + 1, "requests")


def test_hotplug_end(t):
    """Where memory can be plugged in: 3.5 GiB from 4 GiB on, and 1 GiB for each
    slot, as DIMMs may have to be aligned."""
    with t.machine(memory="512M,slots=2,maxmem=4G") as machine:
        t.equal(Guest(machine).reg("HOTPLUG_END"), 19 << 29, "HOTPLUG_END")


def test_registers_across_reset(t):
    """A reset of the machine brings every register back."""
    with t.machine() as machine:
        guest = Guest(machine)
        fresh = snapshot(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        t.equal(guest.command(77), ABI.ST_UNSUPPORTED, "bad command")
        used = snapshot(machine)
        changed = {name for name in used if used[name] != fresh[name]}
        t.equal(changed, {"DRIVER_FEATURES", "STATUS", "DTT_ROOT", "DTT_SIZE",
                          "REQ_ROOT", "REQ_SLOTS", "ERROR"}, "changed")
        machine.reset()
        guest.start()
        t.equal(snapshot(machine), fresh, "registers after reset")
