#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Print tsc_early_khz=N, with the rate of this machine's TSC, for a guest's kernel.

TCG passes the TSC through, so a guest's has the same rate.  A kernel that measures
it by its emulated timers, while a starved machine holds these back, may take 2600
MHz for 100; with tsc=reliable nothing corrects that, its clock runs 26 times too
fast, and so do time-outs.  Prints an empty line where there is no TSC.
"""

import ctypes
import mmap
import platform
import time

# rdtsc; shl $32,%rdx; or %rdx,%rax; ret
CODE = bytes.fromhex("0f3148c1e2204809d0c3")


def khz():
    """The rate in kHz: both clocks are read before a pause and after it."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ |
                     mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(CODE)
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(
        ctypes.addressof(ctypes.c_char.from_buffer(page)))

    def look():
        """(ns, TSC), of some the one that was interrupted least."""
        looks = []
        for _ in range(20):
            start = time.monotonic_ns()
            tsc = rdtsc()
            looks.append((time.monotonic_ns() - start, start, tsc))
        return min(looks)[1:]

    before = look()
    time.sleep(0.2)
    after = look()
    return round((after[1] - before[1]) * 1000000 / (after[0] - before[0]))


def kernel_argument():
    return (f"tsc_early_khz={khz()}" if platform.machine() == "x86_64"
            else "")


if __name__ == "__main__":
    print(kernel_argument())
