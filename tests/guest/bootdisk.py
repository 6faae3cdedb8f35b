#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that SeaBIOS and OVMF boot Linux from.

    bootdisk.py DISK KERNEL INITRD

One FAT partition with the kernel and its initrd, SYSLINUX for SeaBIOS, and a
script for the shell that is in OVMF.
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile

from guest import KERNEL_ARGS

SECTOR = 512
FIRST, SECTORS = 2048, 126 << 11
TYPE_FAT32_LBA, ACTIVE = 0x0c, 0x80

SYSLINUX = f"""serial 0
default linux
label linux
kernel vmlinuz
initrd initrd
append {KERNEL_ARGS}
"""
# A kernel is a UEFI program by its name.
STARTUP = f"fs0:\r\nvmlinuz.efi initrd=\\initrd {KERNEL_ARGS}\r\n"


def boot_sector():
    """SYSLINUX's, with the partition in its table."""
    with open("/usr/lib/syslinux/mbr/mbr.bin", "rb") as mbr:
        code = mbr.read()
    # By sector numbers; the addresses by cylinders are past their end.
    entry = struct.pack("<B3sB3sII", ACTIVE, b"\xfe\xff\xff", TYPE_FAT32_LBA,
                        b"\xfe\xff\xff", FIRST, SECTORS)
    return code.ljust(446, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa"


def run(*command):
    subprocess.run(command, check=True)


def main():
    if len(sys.argv) != 4:
        sys.exit("usage:" + __doc__.split("\n\n")[1].replace("    ", " "))
    disk, kernel, initrd = sys.argv[1:]
    offset = FIRST * SECTOR

    with open(disk, "wb") as image:
        image.write(boot_sector())
        image.truncate(offset + SECTORS * SECTOR)
    run("mformat", "-i", f"{disk}@@{offset}", "-F", "-T", str(SECTORS),
        "-h", "64", "-s", "32", "-H", str(FIRST), "::")
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("syslinux.cfg", SYSLINUX),
                           ("startup.nsh", STARTUP)):
            with open(f"{folder}/{name}", "w", newline="") as file:
                file.write(text)
        shutil.copy(kernel, f"{folder}/vmlinuz")
        shutil.copy(kernel, f"{folder}/vmlinuz.efi")
        shutil.copy(initrd, f"{folder}/initrd")
        run("mcopy", "-i", f"{disk}@@{offset}",
            *(f"{folder}/{name}" for name in sorted(os.listdir(folder))),
            "::")
    run("syslinux", "--offset", str(offset), "--install", disk)


if __name__ == "__main__":
    main()
