# SPDX-License-Identifier: GPL-2.0-or-later
"""What every benchmark shares: progress, tables, and the record of a run."""

import csv
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))

# More rows than that are for a plot.
LONG = 100


def spread(name, values, digits=1):
    """The cells for a quantity that was measured several times."""
    return {f"{name}_median": round(statistics.median(values), digits),
            f"{name}_min": round(min(values), digits),
            f"{name}_max": round(max(values), digits)}


def _output(*command):
    result = subprocess.run(command, capture_output=True, text=True,
                            check=False)
    return result.stdout.strip()


def _field(path, name):
    """The value of the first "name: value" line of a file."""
    with open(path) as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return "unknown"


class Bench:
    """One run: the options, and the tables that it fills."""

    def __init__(self, options):
        self.options = options
        self.name = options.name
        self.qemu = options.qemu
        self.quick = options.quick
        self.tables = {}
        self.problems = []
        self.facts = self._facts()
        self._started = float(os.environ.get("COIOMMU_STARTED", time.time()))
        folder = os.path.join(os.environ.get("COIOMMU_LOGS") or
                              os.path.join(TOP, "build", "logs"), "bench")
        os.makedirs(folder, exist_ok=True)
        self.log_path = os.path.join(folder, self.name + ".log")
        self.log = open(self.log_path, "w", buffering=1)

    def close(self):
        self.log.close()

    def step(self, text):
        """One line of progress."""
        print(f"[{int(time.time() - self._started):4d}s] {self.name}: {text}",
              file=sys.stderr, flush=True)

    def row(self, table, **cells):
        """Add a row; all rows of a table have the same cells."""
        self.tables.setdefault(table, []).append(cells)

    def fact(self, name, value):
        """Something of the environment that belongs into the record."""
        self.facts[name] = value

    def note(self, text):
        """Something about this run that belongs into the record."""
        self.facts.setdefault("notes", []).append(text)
        self.step(text)

    def problem(self, text):
        """Something that is not as it should be: the run has failed."""
        self.problems.append(text)
        self.step(f"not as it should be: {text}")

    # ---- the record ----

    def _facts(self):
        changed = _output("git", "-C", TOP, "status", "--porcelain", "--",
                          "hw-coiommu", "guest-driver", "qemu-patches",
                          "scripts")
        commit = _output("git", "-C", TOP, "rev-parse", "--short=12", "HEAD")
        return {
            "command": self.options.command,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime(
                "%Y-%m-%d %H:%M UTC"),
            "commit": commit + (" with changes" if changed else ""),
            "cpu": f"{os.cpu_count()} x "
                   f"{_field('/proc/cpuinfo', 'model name')}",
            "memory": _field("/proc/meminfo", "MemTotal"),
            "host": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, "
                    f"kernel {platform.release()}",
            "qemu": _output(self.qemu, "--version").split("\n")[0],
            "load average at start": " ".join(
                f"{load:.1f}" for load in os.getloadavg()),
        }

    def report(self):
        """Print the tables, and write the files that were asked for.

        Figures of a run that has failed are printed, but not written.
        """
        for name, rows in self.tables.items():
            print(f"\n{name}")
            if len(rows) > LONG:
                print(f"{len(rows)} rows: see the files of --save or --json")
            else:
                self._print(rows)
        if self.problems:
            print("\nNot as it should be:")
            for text in self.problems:
                print(f"  - {text}")
            raise SystemExit(1)
        options = self.options
        if options.json:
            with open(options.json, "w") as out:
                json.dump({"bench": self.name, "facts": self.facts,
                           "tables": self.tables}, out, indent=1)
                out.write("\n")
        if options.save:
            for name, rows in self.tables.items():
                self._csv(os.path.join(options.save, name + ".csv"), rows)

    @staticmethod
    def _print(rows):
        lines = [list(rows[0])] + [[str(cell) for cell in row.values()]
                                   for row in rows]
        widths = [max(len(line[i]) for line in lines)
                  for i in range(len(lines[0]))]
        for line in lines:
            print("  ".join(cell.rjust(width)
                            for cell, width in zip(line, widths)))

    def _csv(self, path, rows):
        with open(path, "w", newline="") as out:
            for name, value in self.facts.items():
                for text in value if isinstance(value, list) else [value]:
                    out.write(f"# {name}: {text}\n")
            writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
