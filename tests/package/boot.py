# SPDX-License-Identifier: GPL-2.0-or-later
"""boot.py QEMU IMAGE DISK: boot from an NVMe disk behind coIOMMU.

IMAGE is a folder with a kernel, vmlinux, and a distribution's initrd.  DISK
holds a system whose init obeys the console, as tests/guest/init does.  The
initrd must have loaded coiommu before nvme: then the disk is tracked from its
first DMA on, and all memory was never pinned for it.
"""

import sys

from guest import Failure, Guest, check


def main(qemu, image, disk):
    devices = ["-drive", f"if=none,id=disk,file={disk},format=raw,snapshot=on",
               "-device", "nvme,serial=coiommu,drive=disk"]
    with Guest(qemu, image, devices, memory="1G",
               args="root=/dev/nvme0n1 rootfstype=ext4 rw") as guest:
        guest.run("grep -q '^/dev/nvme0n1 / ext4' /proc/mounts")
        log = guest.output("dmesg | grep -E 'coiommu|nvme'")
        ours = log.find("coiommu 0000:")
        check(0 <= ours < log.find("nvme nvme0: pci function"),
              "coiommu has come before nvme")
        check("not tracked" not in log, "no device was left out")
        check(guest.counter("attached-endpoints") == 1, "the disk is tracked")
        check(guest.counter("fallback-pins") == 0, "it always was")
        check(guest.table()["mappings"] > 0, "its mappings are counted")
        check(guest.counter("pinned-bytes") > 0, "they are pinned")
        guest.check_clean()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failure as failure:
        sys.exit(f"FAILED: {failure}")
