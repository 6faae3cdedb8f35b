# SPDX-License-Identifier: GPL-2.0-or-later
"""Does any file call one that stands above it, or in a circle?

A floor is a set of files; a file may call only its own floor and those below,
and no files may call each other in a circle.  The device's floors are its
folders (hw-coiommu/coiommu.h), the driver's are in guest-driver/floors.txt.

    floors.py headers DEVICE        no header is included from above
    floors.py device DEVICE OBJECTS symbols of the objects that QEMU's build made
    floors.py driver DRIVER OBJECTS symbols of the objects of the kernel's build

prints what is wrong, and fails if anything is; else counts.
"""
import glob
import os
import re
import subprocess
import sys

# From the ground up.
FOLDERS = ("include", "core", "vfio", "machine", "policy", "endpoint",
           "monitor", "device")
# Headers beside the folders, and the lowest floor that may include them.
ROOT_HEADERS = {"trace.h": "core", "compat.h": "vfio", "coiommu.h": "endpoint"}


def header_floor(header):
    if "/" in header:
        return FOLDERS.index(header.split("/")[0])
    return FOLDERS.index(ROOT_HEADERS[header])


def check_headers(device):
    bad = []
    for path in glob.glob(f"{device}/*/*.[ch]"):
        name = os.path.relpath(path, device)
        folder = os.path.dirname(name)
        for header in re.findall(r'^#include "([^"]*)"', open(path).read(),
                                 re.M):
            if header.startswith("hw/coiommu/"):
                header = header[len("hw/coiommu/"):]
            else:
                header = os.path.normpath(os.path.join(folder, header))
                if not os.path.exists(os.path.join(device, header)):
                    continue
            if header_floor(header) > FOLDERS.index(folder):
                bad.append(f"{name} includes {header}, which is above it")
    return bad, []


def symbols(path):
    """What an object defines for others, and what it wants of them."""
    defined, wanted = set(), set()
    out = subprocess.run(["nm", path], check=True, capture_output=True,
                         text=True).stdout
    for line in out.splitlines():
        kind, symbol = line.split()[-2:]
        (wanted if kind == "U" else defined if kind in "TDRBV" else set()
         ).add(symbol)
    return defined, wanted


def call_graph(objects):
    """{file: {file that it calls: one of the symbols}}."""
    tables = {name: symbols(path) for name, path in objects.items()}
    owner = {symbol: name for name, (defined, _) in tables.items()
             for symbol in defined}
    return {name: {owner[symbol]: symbol for symbol in sorted(wanted)
                   if owner.get(symbol, name) != name}
            for name, (_, wanted) in tables.items()}


def circles(graph):
    """Sets of files that call each other, however indirectly."""
    def reach(start):
        seen, todo = set(), [start]
        while todo:
            for callee in graph[todo.pop()]:
                if callee not in seen:
                    seen.add(callee)
                    todo.append(callee)
        return seen

    reached = {name: reach(name) for name in graph}
    return {frozenset({name} | {other for other in reached[name]
                                if name in reached[other]})
            for name in graph if name in reached[name]}


def check_objects(objects, floor_of):
    graph = call_graph(objects)
    bad = [f"{name} calls {symbol}() of {callee}, which is above it"
           for name, callees in sorted(graph.items())
           for callee, symbol in sorted(callees.items())
           if floor_of(callee) > floor_of(name)]
    bad += ["a circle: " + ", ".join(sorted(circle))
            for circle in sorted(circles(graph), key=sorted)]
    calls = sum(len(callees) for callees in graph.values())
    return bad, [f"{len(graph)} objects, {calls} pairs of which one calls the "
                 "other, none upwards, no circle"]


def check_device(device, folder):
    objects = {}
    for source in glob.glob(f"{device}/*/*.c"):
        name = os.path.relpath(source, device)
        flat = "hw_coiommu_" + name.replace("/", "_") + ".o"
        found = glob.glob(f"{folder}/**/{flat}", recursive=True)
        if found:
            objects[name] = found[0]
        elif "stub" not in name:
            return [f"there is no {flat} below {folder}"], []
    return check_objects(objects,
                         lambda name: FOLDERS.index(os.path.dirname(name)))


def check_driver(driver, folder):
    lines = [line.split() for line in open(f"{driver}/floors.txt")
             if line.strip() and not line.startswith("#")]
    floor = {name: i for i, names in enumerate(lines) for name in names}
    sources = {os.path.basename(path)[:-2]
               for path in glob.glob(f"{driver}/*.c")
               if not path.endswith(".mod.c")}
    if sources != set(floor):
        return ["floors.txt and the sources differ: " +
                " ".join(sorted(sources ^ set(floor)))], []
    return check_objects({name: f"{folder}/{name}.o" for name in floor},
                         floor.get)


def main(kind, *arguments):
    check = {"headers": check_headers, "device": check_device,
             "driver": check_driver}[kind]
    bad, good = check(*arguments)
    print("\n".join(bad or good))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
