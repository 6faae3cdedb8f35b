#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How scripts/bench judges: figures that miss a target must be said to miss it."""

import os
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path[1:1] = [os.path.join(TOP, "scripts", "bench-lib"),
                 os.path.join(TOP, "tests", "qtest")]

import boot  # noqa: E402
import memory  # noqa: E402
import paired  # noqa: E402
import rigcase  # noqa: E402
from results import Bench  # noqa: E402

MIB = 1 << 20


class Record:
    """A benchmark that only collects rows."""

    def __init__(self, name):
        self.name = name
        self.tables = {}

    def row(self, table, **cells):
        self.tables.setdefault(table, []).append(cells)

    def verdicts(self):
        return {row["target"]: row["met"]
                for row in self.tables[f"{self.name}-targets"]}


def runs(env, rates, exits, requests="-"):
    return [{"load": "l", "env": env, "domain": "-", "round": i, "rate": rate,
             "count": 1000, "exits": 1000 * exits + 77 * i,
             "irq_exits": 77 * i, "mmio_exits": 0, "io_exits": 0, "cpu": 10, "us": 10**6, "requests": requests,
             "pins": requests} for i, rate in enumerate(rates)]


class Paired(unittest.TestCase):
    # A machine that becomes half as fast after the first round.
    STATIC = runs("static", [100, 50, 50], 4)

    def judge(self, ours, *others):
        rows = self.STATIC + ours + sum(others, [])
        bench = Record("block")
        paired.judge(bench, rows, "io")
        return bench.verdicts()

    def test_good(self):
        verdicts = self.judge(runs("coiommu", [98, 49, 49], 4, 0))
        self.assertEqual(set(verdicts.values()), {"yes"})
        self.assertEqual(len(verdicts), 3)

    def test_only_pairs_count(self):
        # On its own it looks as fast as static; pair by pair it isn't.
        verdicts = self.judge(runs("coiommu", [50, 45, 45], 4, 0))
        self.assertEqual(verdicts["l: rate, of static's"], "no")

    def test_exits(self):
        verdicts = self.judge(runs("coiommu", [98, 49, 49], 4.1, 0))
        self.assertEqual(verdicts["l: exits per io, of static's"], "no")
        name = "l: exits for coIOMMU's requests, of static's"
        for requests, met in ((40, "yes"), (41, "no")):
            self.assertEqual(self.judge(
                runs("coiommu", [98, 49, 49], 4, requests))[name], met)

    def test_viommu(self):
        name = "l: rate, of intel-iommu's"
        slow = runs("intel-iommu", [40, 20, 20], 9)
        self.assertEqual(
            self.judge(runs("coiommu", [98, 49, 49], 4, 0), slow)[name], "yes")
        self.assertEqual(
            self.judge(runs("coiommu", [70, 35, 35], 4, 0), slow)[name], "no")
        fast = runs("intel-iommu", [60, 30, 30], 9)
        self.assertNotIn(
            name, self.judge(runs("coiommu", [98, 49, 49], 4, 0), fast))

    def test_table(self):
        bench = Record("block")
        paired.table(bench, self.STATIC + runs("coiommu", [90, 45, 45], 5, 1),
                     "io")
        ours = bench.tables["block"][1]
        self.assertEqual(ours["rate_of_static_median"], 0.9)
        self.assertEqual(ours["exits_of_static_median"], 1.25)
        self.assertEqual(ours["exits_per_io_median"], 5)
        self.assertEqual(ours["cpu_us_per_io"], 100)
        self.assertEqual(ours["requests"], 3)


class Boot(unittest.TestCase):
    def judge(self, points, env="coiommu"):
        bench = Record("boot")
        boot.judge(bench, {
            "static": {128: [1.0, 0.9, 9.0]}, "static+4k": {128: [2.0]},
            env: {mib: [seconds] for mib, seconds in points.items()}})
        return list(bench.verdicts().values())

    def test_judge(self):
        self.assertEqual(self.judge({256: 1.02, 8192: 1.04}), ["yes", "yes"])
        self.assertEqual(self.judge({256: 1.02, 8192: 1.06}), ["no", "yes"])
        self.assertEqual(self.judge({256: 0.9, 8192: 1.0}), ["yes", "no"])

    def test_judge_pages(self):
        self.assertEqual(self.judge({256: 2.02, 8192: 2.04}, "coiommu+4k"),
                         ["yes", "yes"])

    def test_line(self):
        bench = Record("boot")
        boot.extrapolate(bench, {"static": {128: [9.0], 1024: [1.5, 7.0],
                                            2048: [8.0, 2.5]}})
        far = bench.tables["boot-extrapolated"][-1]
        self.assertEqual((far["gib"], far["ready_s"]), (128, 128.5))


class Memory(unittest.TestCase):
    def judge(self, idle, busy, mapped, hot=()):
        def row(phase, pinned):
            return {"env": "coiommu", "phase": phase, "pinned": pinned * MIB,
                    "mapped": mapped * MIB, "free": 0}

        bench = Record("memory")
        memory.summary(bench, {
            "memory": [row("boot", 90), row("idle", 90), row("idle", idle),
                       *(row("hot", pinned) for pinned in hot),
                       row("load", 10), row("load", busy), row("load", 10),
                       row("idle-again", 10)],
            "peaks": [{"env": "coiommu", "pinned": 90 * MIB}]},
            "coiommu", 4096)
        return list(bench.verdicts().values())

    def test_judge(self):
        self.assertEqual(self.judge(40, 50, 40), ["yes", "yes"])
        self.assertEqual(self.judge(42, 50, 40), ["no", "yes"])
        self.assertEqual(self.judge(40, 51, 40), ["yes", "no"])

    def test_loads(self):
        self.assertEqual(self.judge(40, 50, 40, (10, 50, 10)), ["yes"] * 3)
        self.assertEqual(self.judge(40, 50, 40, (10, 51, 10)),
                         ["yes", "no", "yes"])


class Rows(unittest.TestCase):
    def test_read(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("a env=coiommu+block=64K n=3 r=1.5 m=-\nb n=1\na n=4\n")
            file.flush()
            self.assertEqual(rigcase.read_rows(file.name), {
                "a": [{"env": "coiommu+block=64K", "n": 3, "r": 1.5,
                       "m": "-"}, {"n": 4}], "b": [{"n": 1}]})


class Failed(unittest.TestCase):
    """Figures of a run that went wrong are not saved."""

    def test_report(self):
        with tempfile.TemporaryDirectory() as folder:
            options = types.SimpleNamespace(
                name="x", qemu="true", quick=True, command="x", json=None,
                save=folder)
            os.environ["COIOMMU_LOGS"] = folder
            bench = Bench(options)
            bench.row("x", n=1)
            bench.report()
            path = os.path.join(folder, "x.csv")
            with open(path) as table:
                self.assertTrue(table.read().endswith("n\n1\n"))
            os.remove(path)
            bench.problem("a fault")
            with self.assertRaises(SystemExit):
                bench.report()
            bench.close()
            self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    unittest.main()
