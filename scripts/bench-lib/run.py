#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Run one benchmark; scripts/bench calls this.  See --help there."""

import argparse
import contextlib
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..", "..")
# What test levels and benchmarks need alike.
sys.path += [os.path.join(TOP, folder)
             for folder in ("tests/lib", "tests/qtest", "scripts/lib")]

from results import Bench  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
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
