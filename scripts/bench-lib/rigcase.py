# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmarks on a host with VFIO: this machine, or the rig's.

The measurements are scripts (rig/NAME.sh) that run on that host.  They leave rows,
"TABLE key=value ...", which become the tables of the benchmark's Python.
"""

import collections
import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20
# What L0's QEMU needs besides, and some air; as in lib/rig.sh.
AIR_MIB = 1536


def fits(mib):
    """Has this machine memory for a rig of that many MiB?"""
    with open("/proc/meminfo") as lines:
        free = next(int(line.split()[1]) for line in lines
                    if line.startswith("MemAvailable:"))
    return free // 1024 >= mib + AIR_MIB


def _value(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def read_rows(path):
    """Tables, lists of dicts, of the rows in a file; one without rows is []."""
    tables = collections.defaultdict(list)
    with open(path) as lines:
        for line in lines:
            table, *cells = line.split()
            tables[table].append(
                {key: _value(value) for key, value in
                 (cell.split("=", 1) for cell in cells)})
    return tables


def run_case(bench, host_mib, limit, **options):
    """Run the case's script: its tables.

    host_mib: memory of the rig's host.
    limit: seconds after which the rig is stopped, whatever has been measured.
    options: words for the script; a list is joined by commas.
    """
    words = []
    for name, value in options.items():
        if value:
            words += [f"--{name}", ",".join(value) if isinstance(
                value, (list, tuple)) else str(value)]
    here = bench.options.host_devices
    if here:
        words += ["--iommufd"] if bench.options.iommufd else []
        words += ["--destroy-data"] if bench.options.destroy_data else []
        bench.fact("accelerator", "kvm, 1 vCPU, devices " + " ".join(here))
    else:
        bench.fact("accelerator", "kvm, 1 vCPU, in a host that TCG emulates, "
                                  f"1 CPU, {host_mib} MiB")
    result = subprocess.run(
        [os.path.join(HERE, "rig-run"), bench.name, str(host_mib), str(limit),
         " ".join(here), *words],
        stdout=subprocess.PIPE, text=True, check=False,
        env={**os.environ, "RIG_QEMU": bench.qemu, "BENCH_BACKEND":
             "iommufd" if bench.options.iommufd else "type1"})
    if result.returncode:
        raise SystemExit(result.returncode)
    folder = result.stdout.strip()
    for name, tell in (("problems", bench.problem), ("notes", bench.note)):
        with open(os.path.join(folder, name)) as lines:
            for line in lines:
                tell(line.strip())
    with open(os.path.join(folder, "facts")) as lines:
        for line in lines:
            bench.fact(*line.strip().split(": ", 1))
    if bench.problems:
        bench.step(f"the VMs' logs are in {folder}/vm")
    return read_rows(os.path.join(folder, "rows"))


def target(bench, name, wanted, found, met):
    """A row of the table of targets."""
    bench.row(f"{bench.name}-targets", target=name, wanted=wanted, found=found,
              met="yes" if met else "no")


def where(rows, **cells):
    """The rows that have these cells."""
    return [row for row in rows
            if all(row[name] == value for name, value in cells.items())]


def in_order(rows, name):
    """The values of a column, each once, as they come."""
    return list(dict.fromkeys(row[name] for row in rows))
