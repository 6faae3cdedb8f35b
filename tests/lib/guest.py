# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest under TCG that is driven from here.

The guest's /init (tests/guest/init) obeys the serial console: one command a
line, answered by its output and "@end STATUS".  QEMU itself is asked through
QMP, which is where the device's counters are.
"""

import re
import select
import time

import tsc
from qemu import PATIENCE, Qemu, QemuError

# What no test may leave in the kernel's log.
SPLAT = re.compile(
    r"WARNING: |BUG: |Oops|Call Trace|general protection|kernel panic"
    r"|Kernel panic|UBSAN|KASAN|KFENCE|blocked for more than|rcu: INFO"
    r"|soft lockup|INFO: (possible|trying|lockdep)|suspicious RCU usage"
    r"|kmemleak: \d+ new|ODEBUG"
    # but for what the DMA API's checker says when it starts and grows
    r"|DMA-API: (?!preallocated|debugging enabled|debugging disabled on"
    r"|dma_debug_entry pool)")

KERNEL_ARGS = (
    "console=ttyS0 panic=-1 mitigations=off nokaslr tsc=reliable "
    "no_timer_check random.trust_cpu=on audit=0 apparmor=0 nowatchdog "
    # A host that stands still is no stall of the guest's.
    "rcupdate.rcu_cpu_stall_timeout=300 "
    "cryptomgr.notests quiet loglevel=4 printk.devkmsg=on")


def kernel_args():
    """Those, and what this machine wants."""
    return f"{KERNEL_ARGS} {tsc.kernel_argument()}"


class Failure(Exception):
    """A check that did not hold."""


def check(condition, text):
    if not condition:
        raise Failure(text)


class Guest(Qemu):
    """A running guest; use it in a with statement.

    qemu, image: the binary, and the folder with vmlinux and initrd
    devices: arguments for QEMU, after those of the device
    coiommu: further properties of the device, or None to have none
    args: further kernel arguments
    kernel: vmlinux, which boots faster, or vmlinuz.  QEMU loads the former
        anew at each reset, and waking up from suspend to RAM is one.
    boot: what -boot says
    firmware: arguments for QEMU that let firmware boot from a disk; without
    them QEMU brings the kernel

    QEMU's trace goes to the file self.trace.  A subclass may switch on events
    of its own; it must not name another file by -D, as only the last one counts.
    """

    CPUS = ["-accel", "tcg,thread=multi", "-smp", "2"]

    # The table of a kernel that is dead, or ought to be.
    ABANDONED = "coiommu_abandoned"

    def __init__(self, qemu, image, devices, coiommu="", args="",
                 memory="512M", kernel="vmlinux", boot="strict=on",
                 firmware=None):
        super().__init__("coiommu-guest-")
        self.trace = self.path("trace")
        self.crashes = 0
        device = []
        if coiommu is not None:
            device = ["-device", ",".join(filter(None, (
                "coiommu,id=coi,x-track-emulated=on", coiommu)))]
        if firmware is None:
            firmware = ["-kernel", f"{image}/{kernel}",
                        "-initrd", f"{image}/initrd",
                        "-append", f"{kernel_args()} {args}"]
        command = [
            qemu, "-M", "q35", *self.CPUS,
            "-cpu", "max,la57=off,erms=off,fsrm=off",
            "-m", memory, "-nodefaults", "-no-user-config", "-no-reboot",
            "-display", "none", "-boot", boot,
            *self.chardev("serial"), "-serial", "chardev:serial",
            "-D", self.trace, "-trace", self.ABANDONED,
            *firmware, *device, *devices]
        print("+", " ".join(command), flush=True)
        try:
            self.launch(command)
            self.serial = self.accept("serial")
            self.buffer = b""
            self.wait_ready()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind, value, trace):
        try:
            if kind is Failure:
                print(self.run("dmesg | tail -n 60", ok=None)[1])
        except (Failure, OSError):
            pass
        self.close()

    def _read_until(self, pattern, timeout, wake=False):
        """What the guest prints up to the pattern; the match as well.

        wake: type spaces, which wake up a guest that sleeps.
        """
        end = time.monotonic() + timeout
        while True:
            match = re.search(pattern, self.buffer)
            if match:
                text = self.buffer[:match.start()]
                self.buffer = self.buffer[match.end():]
                return text.decode(errors="replace").replace("\r", ""), match
            left = end - time.monotonic()
            ready = left > 0 and select.select(
                [self.serial], [], [], min(left, 2) if wake else left)[0]
            if wake and left > 0 and not ready:
                self.serial.sendall(b" ")
                continue
            data = self.serial.recv(65536) if ready else b""
            if not data:
                print(self.buffer.decode(errors="replace"), flush=True)
                raise Failure("the guest is silent" if not ready
                              else "the guest is gone")
            self.buffer += data

    def wait_ready(self):
        """Wait for /init of a kernel that has been started."""
        self._read_until(rb"@ready\r?\n", PATIENCE)

    def run(self, command, ok=True, timeout=PATIENCE):
        """Run a shell command in the guest: its status and its output.

        ok: whether it must succeed (True), must fail (False), or may do
        either (None).
        """
        self.start(command)
        return self.end(command, ok, timeout)

    def start(self, command):
        """Have a command run whose end() is waited for later, or never."""
        print("guest#", command, flush=True)
        self.serial.sendall(command.encode() + b"\n")

    def end(self, command, ok=True, timeout=PATIENCE, wake=False):
        """Wait for the end of the command that was started; as run()."""
        text, match = self._read_until(rb"@end (\d+)\r?\n", timeout, wake)
        status = int(match.group(1))
        if text.strip():
            print(text.rstrip(), flush=True)
        if ok is not None:
            check((status == 0) == ok,
                  f"'{command}' ended with status {status}")
        return status, text

    def output(self, command, **kwargs):
        """The output of a command that succeeds."""
        return self.run(command, **kwargs)[1]

    def monitor(self, command, **arguments):
        """A QMP command's result."""
        try:
            return self.qmp(command, **arguments)
        except QemuError as error:
            raise Failure(f"QMP {command}: {error}") from None

    def wait_event(self, name):
        """Wait for a QMP event that has not come before the last command.

        Meanwhile the serial line is read, or a guest that says much would wait
        for us.
        """
        end = time.monotonic() + PATIENCE
        while name not in self.events:
            check(time.monotonic() < end, f"there is no event {name}")
            if select.select([self.serial], [], [], 0.1)[0]:
                self.buffer += self.serial.recv(65536)
            self.monitor("query-status")

    def counter(self, name):
        """One of the device's counters."""
        return self.monitor("qom-get", path="/machine/peripheral/coi",
                            property=name)

    def check_abandoned(self):
        """A table was given up for each kernel that crashed, and no other."""
        with open(self.trace, encoding="utf-8") as trace:
            count = trace.read().count(self.ABANDONED)
        check(count == self.crashes, f"{self.crashes} tables are given up, "
                                     f"not {count}")

    def table(self, name="dtt"):
        """A debugfs file of the driver, as a dictionary of numbers."""
        text = self.output(f"cat /sys/kernel/debug/coiommu/{name}")
        return {k: int(v) for k, v in
                (line.split() for line in text.splitlines())}

    def wait(self, command, timeout=100):
        """Wait until a command succeeds; the seconds are the guest's sleep."""
        self.run(f"i=0; until {command}; do i=$((i+1)); "
                 f"[ $i -lt {timeout * 5} ] || break; sleep 0.2; done; "
                 f"[ $i -lt {timeout * 5} ]", timeout=2 * timeout + PATIENCE)

    def address(self, vendor_device):
        """The PCI addresses of the functions with this vendor:device."""
        vendor, device = vendor_device.split(":")
        text = self.output(
            "for d in /sys/bus/pci/devices/*; do "
            f"grep -q 0x{vendor} $d/vendor && grep -q 0x{device} $d/device && "
            "echo ${d##*/}; done; true")
        return text.split()

    def load(self):
        """Load the driver as udev would: by the function's modalias."""
        function = self.address("1af4:10f0")
        check(len(function) == 1, "there is one coIOMMU function")
        self.run(f"modprobe $(cat /sys/bus/pci/devices/{function[0]}/modalias)")
        self.run("test -d /sys/module/coiommu")
        self.run(f"test -e /sys/bus/pci/drivers/coiommu/{function[0]}")

    def unplug(self, ident, address):
        """Pull a device out.  Only at the end of its eject the guest is done.

        Its files in sysfs are gone before the driver has heard of it.
        """
        self.monitor("device_del", id=ident)
        self.wait_event("DEVICE_DELETED")
        self.run(f"test ! -e /sys/bus/pci/devices/{address}")

    def unbind(self, address):
        self.run(f"echo {address} > "
                 f"/sys/bus/pci/devices/{address}/driver/unbind")

    def fallback_over(self):
        """Until nothing stays pinned for devices that were used without us."""
        end = time.monotonic() + PATIENCE
        while self.counter("fallback-bytes") or self.counter("fallback-busy"):
            check(time.monotonic() < end, "pin-all ends in time")
            time.sleep(0.1)

    def check_idle(self):
        """No mapping is left, in the table or in the host."""
        self.fallback_over()
        table = self.table()
        check(table["mappings"] == 0, "all counts are back to 0")
        check(table["underflows"] == 0, "no count was taken back twice")
        check(table["pinned-units"] == 0, "no unit is PINNED any more")
        check(self.counter("attached-endpoints") == 0, "nothing is attached")
        check(self.counter("pinned-bytes") == 0, "nothing is pinned")

    def check_clean(self):
        """No DMA went wrong, and neither kernel nor host has a complaint."""
        check(self.counter("dma-faults") == 0, "no DMA missed its mapping")
        self.check_abandoned()
        log = self.output("dmesg")
        splat = SPLAT.search(log)
        check(not splat, f"the kernel's log has '{splat and splat.group()}'")
        # A checker that has given up finds nothing.
        self.run("! grep -s debug_locks /proc/lockdep_stats | grep -qw 0")
