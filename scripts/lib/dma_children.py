# SPDX-License-Identifier: GPL-2.0-or-later
"""dma_children.py SOURCE CONFIG: PCI drivers with children that may map.

SOURCE is an unpacked kernel, CONFIG the configuration of the one that is built
from it.  Prints a table in Markdown: each PCI driver that makes platform or
auxiliary devices, the drivers of those that call the DMA API, and the struct
devices that they give to it.

It goes by words, and knows no C.  A module is what its Makefile says.  A module
has a child if it calls something that makes devices, be it by a function of
another module, and has the name under which the child's driver is registered,
as a string or as a macro.  So there may be a child too many, where two drivers
share a word; one too few, where a name is put together at run time.
"""

import collections
import os
import re
import sys

FOLDERS = ("drivers", "sound")
MAKE = (r"platform_device_(?:register\w*|alloc|add)|mfd_add_\w*devices"
        r"|devm_mfd_add_devices|auxiliary_device_(?:init|add|create)"
        r"|devm_auxiliary_device_create|of_platform_(?:default_)?populate"
        r"|intel_vsec_\w*register")
MAP = re.compile(
    r"\b(dmam?_(?:alloc|map|pool_create|set_mask|set_coherent|coerce)\w*"
    r"|snd_pcm_set_managed_buffer\w*|snd_pcm_lib_preallocate\w*"
    r"|usb_(?:__)?create_(?:shared_)?hcd|usb_gadget_map_request\w*)"
    r"\s*\(([^;]*)")
# Which argument of those is a struct device, where it isn't the first.
ARGUMENT = {"dma_pool_create": 1, "dmam_pool_create": 1, "usb_create_hcd": 1,
            "usb_create_shared_hcd": 1, "usb___create_hcd": 1,
            "snd_pcm_set_managed_buffer_all": 2,
            "snd_pcm_set_managed_buffer": 2,
            "snd_pcm_lib_preallocate_pages_for_all": 2,
            "snd_pcm_lib_preallocate_pages": 2}
FUNCTION = re.compile(r"^[a-z][\w \t*]*?\b(\w+)\([^;{]*\)\s*\n\{\n(.*?)^\}",
                      re.M | re.S)
EXPORT = re.compile(r"EXPORT_SYMBOL\w*\((\w+)")
DEFINE = re.compile(r'#\s*define\s+(\w+)\s+"([^"]+)"')
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
# Where a driver of such devices has its names.
BLOCK = re.compile(r"struct (platform|auxiliary)_(?:driver|device_id)\s+\w+"
                   r"(?:\[\])?\s*=\s*\{(.*?)^\};", re.M | re.S)
# A string, a macro, or some of them side by side.
NAME = re.compile(r'(?:\.name\s*=|\{)\s*((?:(?:"[^"\n]*"|[A-Z]\w+)\s*)+)[,}]')
PIECE = re.compile(r'"([^"\n]*)"|([A-Z]\w+)')


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return COMMENT.sub(" ", file.read())


def options(path):
    """The options that are set in a configuration."""
    with open(path, encoding="utf-8") as file:
        return set(re.findall(r"^(CONFIG_\w+)=[ym]$", file.read(), re.M))


def modules(top, config):
    """Each module that is built, as {its .o: the paths of its C files}."""
    found = {}
    for folder, folders, files in os.walk(top):
        folders.sort()
        if "Makefile" not in files:
            continue
        with open(os.path.join(folder, "Makefile"), encoding="utf-8") as file:
            text = file.read().replace("\\\n", " ")
        parts = collections.defaultdict(list)
        built = set()
        for name, option, value in re.findall(
                r"^\s*([\w-]+?)-(?:\$\(([^)]+)\)|y|m|objs)\s*[:+]?=\s*(.*)",
                text, re.M):
            if option and not {option} & config and name == "obj":
                continue
            objects = re.findall(r"([\w./-]+)\.o\b", value)
            if name == "obj":
                built.update(objects)
            else:
                parts[name] += objects
        for name in built:
            paths = [os.path.join(folder, part + ".c")
                     for part in parts.get(name) or [name]]
            paths = [path for path in paths if os.path.exists(path)]
            if paths:
                found[os.path.join(folder, name)] = paths
    return found


class Tree:
    """What is to be known of a source tree."""

    def __init__(self, source, config):
        self.source = source
        self.modules = {}
        for folder in FOLDERS:
            self.modules.update(modules(os.path.join(source, folder), config))
        self.text = {module: "\n".join(map(read, paths))
                     for module, paths in self.modules.items()}
        self.macros = dict(pair for text in self.headers()
                           for pair in DEFINE.findall(text))

    def headers(self):
        for top in (*FOLDERS, "include"):
            for folder, _, files in os.walk(os.path.join(self.source, top)):
                for file in files:
                    # Registers of GPUs are no names.
                    if file.endswith(".h") and "asic_reg" not in folder:
                        yield read(os.path.join(folder, file))

    def makers(self):
        """
        A pattern for calls that make children, and {function: module} of those
        that are exported by modules.
        """
        exports, before = {}, -1
        while len(exports) > before:
            before = len(exports)
            calls = re.compile(rf"\b({'|'.join((MAKE, *exports))})\s*\(")
            for module, text in self.text.items():
                exported = set(EXPORT.findall(text))
                exports.update((name, module)
                               for name, body in FUNCTION.findall(text)
                               if name in exported and calls.search(body))
        return calls, exports

    def names(self, text, macros):
        """The names of the drivers in a text: (kind, name) pairs."""
        for kind, block in BLOCK.findall(text):
            for pieces in NAME.findall(block):
                yield kind, "".join(string or macros.get(word, "")
                                    for string, word in PIECE.findall(pieces))

    def drivers(self):
        """{(kind, name): modules} of platform and auxiliary devices' drivers."""
        found = collections.defaultdict(set)
        for module, text in self.text.items():
            macros = dict(self.macros, **dict(DEFINE.findall(text)))
            for key in self.names(text, macros):
                found[key].add(module)
        return found

    def words(self, module, calls, exports):
        """The strings, and those behind macros, in what makes its children."""
        texts = [text for text in map(read, self.modules[module])
                 if calls.search(text)]
        texts += [self.text[exports[call]] for text in texts
                  for call in calls.findall(text) if call in exports]
        for text in texts:
            macros = dict(self.macros, **dict(DEFINE.findall(text)))
            yield from re.findall(r'"([^"\n]+)"', text)
            yield from (macros[word] for word in
                        re.findall(r"\b[A-Z]\w+\b", text) if word in macros)

    def children(self, module, calls, exports, drivers):
        """The modules that drive what this one makes."""
        own = os.path.basename(module).replace("-", "_")
        for word in set(self.words(module, calls, exports)):
            yield from drivers.get(("platform", word), ())
            yield from drivers.get(("auxiliary", f"{own}.{word}"), ())


def devices(text):
    """The struct devices that a driver maps with, as it writes them."""
    found = collections.Counter()
    for call, rest in MAP.findall(text):
        depth, begin, arguments = 0, 0, []
        for at, char in enumerate(rest):
            depth += (char == "(") - (char == ")")
            if depth < 0 or (char == "," and not depth):
                arguments.append(" ".join(rest[begin:at].split()))
                begin = at + 1
            if depth < 0:
                break
        index = ARGUMENT.get(call, 0)
        if index < len(arguments):
            found[arguments[index]] += 1
    return [name for name, _ in found.most_common(3)]


def table(source, config):
    """Lines: PCI driver, child's driver, what that maps with."""
    tree = Tree(source, options(config))
    calls, exports = tree.makers()
    drivers = tree.drivers()

    def relative(module):
        return os.path.relpath(module, source)
    for module in sorted(tree.modules):
        text = tree.text[module]
        if not re.search(r"\bstruct pci_driver \w+\s*=", text) or \
                not calls.search(text):
            continue
        for child in sorted(set(tree.children(module, calls, exports,
                                              drivers))):
            maps = devices(tree.text[child])
            if maps:
                yield (relative(module), "itself" if child == module
                       else relative(child), ", ".join(maps))


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: dma_children.py SOURCE CONFIG")
    print("| PCI driver | driver of the child | maps with |\n|---|---|---|")
    for row in table(*sys.argv[1:]):
        print("| {} | {} | `{}` |".format(*row))


if __name__ == "__main__":
    main()
