#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Run one benchmark; scripts/bench calls this.  See --help there."""

import argparse
import contextlib
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.join(HERE, "..", "..", "tests")
# What a test level and a benchmark need alike comes from the level.  Both
# levels have a module "guest"; each benchmark uses one of them.
LEVELS = {"unpin-pass": ("qtest",), "demand-pins": ("guest",),
          "blocks": ("guest",), "bursts": ("guest",),
          "smart": ("guest",), "dma-map": ("guest",), "boot": ("qtest",),
          "memory": (), "block": (), "net": (), "unpin": ()}

from results import Bench  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=LEVELS)
    parser.add_argument("--qemu", required=True)
    parser.add_argument("--image", help="folder with vmlinux and initrd, or "
                        "with one such folder for each kernel")
    parser.add_argument("--kernels", type=str.split, help="their names")
    parser.add_argument("--command", required=True,
                        help="what the user has typed, for the record")
    parser.add_argument("--host-devices", type=str.split, default=[],
                        help="PCI functions of this machine, instead of the "
                        "rig's")
    parser.add_argument("--iommufd", action="store_true")
    parser.add_argument("--destroy-data", action="store_true")
    parser.add_argument("--peer", help="ADDRESS:PORT of a sockperf server")
    parser.add_argument("--json")
    parser.add_argument("--save")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    sys.path[1:1] = [os.path.join(TESTS, level)
                     for level in LEVELS[options.name]]
    case = __import__(options.name.replace("-", "_"))
    bench = Bench(options)
    try:
        # A guest's console goes to the log, the tables to stdout.
        with contextlib.redirect_stdout(bench.log):
            case.run(bench)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        bench.close()
    bench.report()


if __name__ == "__main__":
    main()
