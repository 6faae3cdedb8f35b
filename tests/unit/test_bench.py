#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/bench makes of what was measured.

Its figures are those of the rows, a target that is missed is said to be missed, and
a run that failed says so.
"""

import contextlib
import glob
import io
import os
import re
import subprocess
import sys
import tempfile
import types
import unittest
import unittest.mock

sys.dont_write_bytecode = True
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path[1:1] = [os.path.join(TOP, "scripts", "bench-lib"),
                 os.path.join(TOP, "tests", "qtest"),
                 os.path.join(TOP, "tests", "lib")]

import block  # noqa: E402
import boot  # noqa: E402
import memory  # noqa: E402
import net  # noqa: E402
import paired  # noqa: E402
import rigcase  # noqa: E402
import unpin  # noqa: E402
from results import Bench, spread  # noqa: E402

MIB = 1 << 20


class Record:
    """A benchmark that only collects what it is told."""

    def __init__(self, name, devices=("x",), quick=True):
        self.name = name
        self.quick = quick
        self.qemu = "true"
        self.options = types.SimpleNamespace(
            host_devices=list(devices), peer="y", iommufd=False,
            destroy_data=False)
        self.tables = {}
        self.problems = []
        self.notes = []
        self.facts = {}
        self.problem = self.problems.append
        self.note = self.notes.append

    def step(self, text):
        pass

    def fact(self, name, value):
        self.facts[name] = value

    def row(self, table, **cells):
        self.tables.setdefault(table, []).append(cells)

    def verdicts(self):
        return {row["target"]: row["met"]
                for row in self.tables[f"{self.name}-targets"]}


def measured(case, rows, problems="", notes="", status=0):
    """The record of a whole case whose script on the host has left these lines."""
    bench = Record(case.__name__)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        for name, text in (("rows", rows), ("problems", problems),
                           ("notes", notes), ("facts", "guest: Linux 6: x\n")):
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        stack.enter_context(unittest.mock.patch.object(
            rigcase.subprocess, "run", return_value=types.SimpleNamespace(
                returncode=status, stdout=folder + "\n")))
        stack.enter_context(unittest.mock.patch.object(boot.boot_sparse, "run"))
        case.run(bench)
    return bench


def runs(env, rates, exits, requests="-", load="l"):
    """A VM's rows of a load, one for each round."""
    return [{"load": load, "env": env, "domain": "-", "round": i, "rate": rate,
             "count": 1000, "exits": 1000 * exits + 77 * i,
             "irq_exits": 77 * i, "mmio_exits": 300, "io_exits": 200,
             "cpu": 10, "us": 10**6, "requests": requests,
             "pins": requests if requests == "-" else requests + i}
            for i, rate in enumerate(rates)]


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

    def test_loads_apart(self):
        bench = Record("block")
        paired.judge(bench, self.STATIC + runs("coiommu", [98, 49, 49], 4, 0) +
                     runs("static", [10, 10, 10], 4, load="other") +
                     runs("coiommu", [5, 5, 5], 8, 900, load="other"), "io")
        met = bench.verdicts()
        self.assertEqual({met[name] for name in met if name[0] == "l"}, {"yes"})
        self.assertEqual({met[name] for name in met if name[0] == "o"}, {"no"})

    def test_table(self):
        bench = Record("block")
        paired.table(bench, self.STATIC + runs("coiommu", [90, 45, 45], 5, 1) +
                     runs("static", [1], 9, load="other"), "io")
        static, ours, other = bench.tables["block"]
        self.assertEqual((static["requests"], static["pins"]), ("", ""))
        self.assertEqual(ours["rate_of_static_median"], 0.9)
        self.assertEqual(ours["exits_of_static_median"], 1.25)
        self.assertEqual(ours["exits_per_io_median"], 5)
        self.assertEqual(ours["all_exits_per_io"], 5.077)
        self.assertEqual(ours["emulation_exits_per_io"], 0.5)
        self.assertEqual(ours["cpu_us_per_io"], 100)
        self.assertEqual(ours["cpu_percent"], 10)
        self.assertEqual((ours["requests"], ours["pins"]), (3, 6))
        self.assertEqual((ours["rounds"], ours["count"]), (3, 3000))
        self.assertEqual((other["load"], other["rate_median"]), ("other", 1))


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
        self.assertEqual(self.judge(41, 50, 40), ["no", "yes"])
        self.assertEqual(self.judge(40, 51, 40), ["yes", "no"])

    def test_loads(self):
        self.assertEqual(self.judge(40, 50, 40, (10, 50, 10)), ["yes"] * 3)
        self.assertEqual(self.judge(40, 50, 40, (10, 51, 10)),
                         ["yes", "no", "yes"])


class Whole(unittest.TestCase):
    """From the rows of the script on the host to the tables."""

    def test_boot(self):
        def starts(env, mib, *seconds):
            return "".join(f"starts env={env} mem={mib * MIB} pinned={MIB} "
                           f"ready_us={round(1e6 * second)}\n"
                           for second in seconds)

        bench = measured(
            boot, starts("static", 128, 2, 2.5, 1) + starts("static+4k", 128, 1) +
            starts("static", 256, 4, 3, 8) + starts("static", 1024, 7) +
            starts("coiommu", 256, 2, 3, 2.2) + starts("coiommu", 1024, 2.1) +
            starts("coiommu+4k", 256, 1.1) +
            starts("coiommu+block=64K", 256, 3) +
            f"guests env=static mem={256 * MIB} ready_us=1 init_us=5000000 "
            f"peak={2 * MIB} final={3 * MIB}\n")
        row = bench.tables["boot"][1]
        self.assertEqual(
            [row[name] for name in (
                "env", "memory_mib", "starts", "ready_s_median", "ready_s_min",
                "ready_s_max", "times_own", "pinned_at_ready_mib", "init_s",
                "peak_mib", "idle_mib")],
            ["static", 256, 3, 4.0, 3.0, 8.0, 2.0, 1.0, 5.0, 2.0, 3.0])
        self.assertEqual({row["env"] for row in
                          bench.tables["boot-extrapolated"]}, {"static"})
        self.assertEqual(list(bench.verdicts().values()),
                         ["no", "yes", "no", "yes", "no", "yes"])

    def test_memory(self):
        def rows(env, *pinned, mapped):
            return "".join(
                f"memory env={env} phase={phase} ms=1000 pinned={mib * MIB} "
                f"free={9 * MIB} mapped={mapped if mapped == '-' else n * MIB} "
                "pins=-\n"
                for n, (phase, mib) in enumerate(zip(
                    ("boot", "idle", "idle", "hot", "load", "load",
                     "idle-again"),
                    pinned))) + f"peaks env={env} pinned={99 * MIB}\n"

        # Of load's rows 4 and 5 MiB are mapped, and 6 pinned: 1.2 times.
        bench = measured(
            memory, rows("static", 90, 90, 90, 90, 90, 90, 90, mapped="-") +
            rows("coiommu", 1, 90, 5, 3, 2, 6, 1, mapped=0) +
            rows("coiommu+block=64K", 1, 1, 6, 4, 7, 5, 1, mapped=0))
        self.assertEqual(list(bench.verdicts().values()),
                         ["yes"] * 3 + ["no"] * 3)
        row = bench.tables["memory-summary"][1]
        self.assertEqual(
            list(row.values()),
            ["coiommu", 99.0, 5.0, 0.98, 3.0, 3.0, 6.0, 5.0, 1.0, 9])

    def test_block(self):
        cells = ("domain=- rate=50 exits=4000 irq_exits=0 mmio_exits=0 "
                 "io_exits=0 cpu=1 us=1000000 ")
        bench = measured(
            block, f"block env=static round=1 load=l ios=500 {cells}"
            "requests=- pins=-\n"
            f"block env=coiommu round=1 load=l ios=500 {cells}"
            "requests=0 pins=0\n"
            f"pins load=hot ms=1500 pinned={MIB} pins=7 requests=8\n")
        self.assertEqual(bench.tables["block"][1]["exits_per_io_median"], 8.0)
        self.assertEqual(set(bench.verdicts().values()), {"yes"})
        self.assertEqual(bench.tables["block-pins"], [
            {"load": "hot", "second": 1.5, "pins": 7, "requests": 8,
             "pinned_mib": 1.0}])

    def test_net(self):
        bench = measured(net, "".join(
            f"net env={env} round=1.{n} load={load} bytes={size} domain=- rate=50 "
            f"count=500 packets={packets} exits=4000 irq_exits=0 mmio_exits=0 "
            "io_exits=0 cpu=1 us=1000000 requests=0 pins=0\n"
            for env, packets in (("static", 100), ("coiommu", 150))
            for load, size in (("throughput", 64), ("throughput", 256))
            for n in (1, 2)))
        self.assertEqual([row["load"] for row in bench.tables["net"]],
                         ["throughput 64"] * 2 + ["throughput 256"] * 2)
        self.assertEqual(len(bench.verdicts()), 6)
        self.assertEqual(list(bench.tables["net-packets"][1].values()), [
            "throughput 64", "coiommu", 2, 0.3, 0.3, 0.3, 1.5, 1.5, 1.5])

    def test_unpin(self):
        def row(setting, ios, us=2000000, table="unpin", **counts):
            policy, ms = setting.split(":")
            return (f"{table} at_ms=7600 policy={policy} interval_ms={ms} "
                    f"pinned={counts.get('pinned', 0)} ios={ios} us={us} "
                    f"requests=0 demand_pin_requests={counts.get('pins', 0)} "
                    f"demand_pin_blocks=0 repins={counts.get('repins', 0)} "
                    "unpinned_blocks=6 unpin_races=1\n")

        bench = measured(
            unpin, row("lazy:1000", 50, table="mixing", pinned=MIB) +
            row("lazy:100", 400, pins=10, repins=2, pinned=MIB) +
            row("lazy:100", 600, pins=10, repins=4, pinned=2 * MIB) +
            row("lazy:50", 1) + row("off:1000", 450, 1000000) +
            row("off:1000", 1100))
        self.assertEqual([(row["policy"], row["interval_ms"])
                          for row in bench.tables["unpin"]],
                         [("lazy", 50), ("lazy", 100), ("off", 1000)])
        self.assertEqual(list(bench.tables["unpin"][1].values()), [
            "lazy", 100, 2, 5.0, 5.0, 5.0, 1.5, 1.0, 2.0, 3, 2, 20.0, 1.5, 1.0,
            2.0, 0.5, 0.4, 0.6])
        self.assertEqual([row["policy"] for row in
                          bench.tables["unpin-rounds"]], ["lazy"] * 3 + ["off"] * 2)
        self.assertEqual(list(bench.tables["unpin-rounds"][1].values()), [
            8, "lazy", 100, 5.0, 2.0, 3.0, 2.0, 300])
        self.assertEqual([list(row.values()) for row in
                          bench.tables["unpin-mixing"]],
                         [[8, "lazy", 1000, 0, 0, 3.0, 1.0, 25]])

    def test_trouble(self):
        bench = measured(block, "", "a fault\n", "once more\n")
        self.assertEqual(bench.problems, ["a fault"])
        self.assertEqual(bench.notes, ["once more"])
        self.assertEqual(bench.facts["guest"], "Linux 6: x")
        with self.assertRaises(SystemExit):
            measured(block, "", status=1)

    def test_lost(self):
        # All VMs have died: no figures, and no traceback instead.
        for case in (block, boot, memory, net, unpin):
            self.assertEqual(measured(case, "").tables, {})


class Host(unittest.TestCase):
    def test_fits(self):
        with unittest.mock.patch("builtins.open", unittest.mock.mock_open(
                read_data="MemFree: 1 kB\nMemAvailable: 2621440 kB\n")):
            self.assertTrue(rigcase.fits(1024))
            self.assertFalse(rigcase.fits(1025))

    def test_sizes(self):
        for devices, largest in (((), 4096), (("x",), 8192)):
            bench = Record("boot", devices, quick=False)
            with unittest.mock.patch.object(boot, "fits",
                                            lambda mib: mib <= 8192):
                self.assertEqual(boot.sizes(bench)[-1], largest)
            self.assertIn("no memory for VMs of 16384 MiB: left out",
                          bench.notes)


class Rows(unittest.TestCase):
    def test_read(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("a env=coiommu+block=64K n=3 r=1.5 m=-\nb n=1\na n=4\n")
            file.flush()
            self.assertEqual(rigcase.read_rows(file.name), {
                "a": [{"env": "coiommu+block=64K", "n": 3, "r": 1.5,
                       "m": "-"}, {"n": 4}], "b": [{"n": 1}]})
            # Each VM that should have filled it died.
            self.assertEqual(rigcase.read_rows(file.name)["c"], [])


class Command(unittest.TestCase):
    """scripts/bench itself, up to where it would build something."""

    def bench(self, *words):
        with tempfile.TemporaryDirectory() as folder:
            return subprocess.run(
                [os.path.join(TOP, "scripts", "bench"), *words], text=True,
                capture_output=True, check=False,
                env={**os.environ, "COIOMMU_BUILD": folder})

    def test_refusals(self):
        for words, said in (
                ((), "which benchmark?"),
                (("--frobnicate", "boot"), "unknown option --frobnicate"),
                (("nothing",), "there is no benchmark nothing; there are: "),
                (("boot", "net"), "one benchmark at a time: boot or net?"),
                (("--json",), "--json needs the name of a file"),
                (("--save", "/nonexistent", "boot"),
                 "there is no folder /nonexistent"),
                (("--host-device",), "--host-device needs a value"),
                (("--iommufd", "boot"), "--iommufd is for --host-device"),
                (("--host-device", "1:0", "bursts"),
                 "bursts assigns no devices"),
                (("--host-device", "0000:ff:1f.7", "boot"),
                 "there is no PCI device 0000:ff:1f.7")):
            result = self.bench(*words)
            self.assertEqual(result.returncode, 1, words)
            self.assertIn(said, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

    def names(self):
        return [line.split("\t")[0]
                for line in self.bench("--list").stdout.splitlines()]

    def test_cases(self):
        names = self.names()
        self.assertIn("dma-map", names)
        usage = self.bench("--help").stdout
        for name in names:
            self.assertIn(f"\n  {name} ", usage)
            for file in name + ".gp", name.replace("-", "_") + ".py":
                self.assertTrue(os.path.exists(os.path.join(
                    TOP, "scripts", "bench-lib", file)), file)

    def test_docs(self):
        """What the docs tell a reader to type names a benchmark."""
        pages = glob.glob(os.path.join(TOP, "docs", "**", "*.md"),
                          recursive=True)
        quoted = set()
        for path in pages + [os.path.join(TOP, "README.md")]:
            with open(path) as page:
                quoted.update(line.split()[-1] for line in re.findall(
                    r"scripts/bench ([^`#\n]+)", page.read()))
        self.assertIn("dma-map", quoted)
        self.assertEqual(quoted - {"NAME"} - set(self.names()), set())


class Report(unittest.TestCase):
    def test_spread(self):
        self.assertEqual(spread("x", [3, 1, 7, 2], 1),
                         {"x_median": 2.5, "x_min": 1, "x_max": 7})

    def test_files(self):
        """Figures of a run that went wrong are not saved."""
        with tempfile.TemporaryDirectory() as folder:
            options = types.SimpleNamespace(
                name="x", qemu="true", quick=True, command="x", json=None,
                save=folder)
            os.environ["COIOMMU_LOGS"] = folder
            bench = Bench(options)
            bench.row("x", n=1)
            for _ in range(101):
                bench.row("long", n=2)
            bench.note("once more")
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                bench.report()
            self.assertIn("\nx\nn\n1\n", said.getvalue())
            self.assertIn("101 rows: see the files", said.getvalue())
            path = os.path.join(folder, "x.csv")
            with open(path) as table:
                text = table.read()
            self.assertTrue(text.endswith("n\n1\n"))
            self.assertIn("\n# notes: once more\n", text)
            self.assertIn("\n# date: 2", text)
            os.remove(path)
            bench.problem("a fault")
            with self.assertRaises(SystemExit), \
                    contextlib.redirect_stdout(said):
                bench.report()
            self.assertIn("\nNot as it should be:\n  - a fault\n",
                          said.getvalue())
            bench.close()
            self.assertFalse(os.path.exists(path))


if __name__ == "__main__":
    unittest.main()
