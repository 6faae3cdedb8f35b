# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of drivers whose children map: from a tree made here."""

import os
import sys
import tempfile
import unittest

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(TOP, "scripts", "lib"))

import dma_children  # noqa: E402 (needs the path above)

PCI = """
static struct pci_driver card_driver = { .name = "card" };
/* platform_device_alloc("other", 0) */
static int card_probe(struct pci_dev *pdev)
{
	%s
}
"""
CHILD = """
static int child_probe(struct platform_device *pdev)
{
	%s
}
static struct platform_driver child_driver = {
	.probe = child_probe,
	.driver = {
		.name = %s,
	},
};
"""
MAPS = "a = dma_map_single(to_dev(host->dev, 1),\n\t\t\t   p, size, 0);"


def rows(config="CONFIG_CARD=m\nCONFIG_CHILD=y\n", **files):
    """The table that is made of these files of drivers/card."""
    with tempfile.TemporaryDirectory() as top:
        for folder in ("drivers/card", "sound", "include"):
            os.makedirs(os.path.join(top, folder))
        files.setdefault("Makefile", "obj-$(CONFIG_CARD) += card.o\n"
                         "obj-$(CONFIG_CHILD) += child.o\n")
        for name, text in files.items():
            name = name if name == "Makefile" else name.replace("_", ".")
            with open(os.path.join(top, "drivers/card", name), "w",
                      encoding="utf-8") as file:
                file.write(text)
        path = os.path.join(top, "config")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        return list(dma_children.table(top, path))


FOUND = [("drivers/card/card", "drivers/card/child", "to_dev(host->dev, 1)")]


class Children(unittest.TestCase):
    """What is found, and what is not."""

    def test_string(self):
        self.assertEqual(rows(
            card_c=PCI % 'platform_device_alloc("child", 0);',
            child_c=CHILD % (MAPS, '"child"')), FOUND)

    def test_macro(self):
        self.assertEqual(rows(
            card_h='#define CHILD_NAME "child"\n',
            card_c=PCI % "platform_device_alloc(CHILD_NAME, 0);",
            child_c=CHILD % (MAPS, "CHILD_NAME")), FOUND)

    def test_made_by_another_module(self):
        self.assertEqual(rows(
            Makefile="obj-$(CONFIG_CARD) += card.o core.o\n"
            "obj-$(CONFIG_CHILD) += child.o\n",
            card_c=PCI % "core_add(pdev);",
            core_c='int core_add(struct pci_dev *pdev)\n{\n'
            '\tmfd_add_devices(pdev, 0, "child");\n}\n'
            "EXPORT_SYMBOL_GPL(core_add);\n",
            child_c=CHILD % (MAPS, '"child"')), FOUND)

    def test_parts_of_a_module(self):
        self.assertEqual(rows(
            Makefile="obj-$(CONFIG_CARD) += card.o\n"
            "card-y := pci.o \\\n\tmore.o\nobj-$(CONFIG_CHILD) += child.o\n",
            pci_c=PCI % "more();",
            more_c='void more(void)\n{\n\tauxiliary_device_add("child");\n}\n'
            'static char *name = "child";\n',
            child_c=CHILD % (MAPS, '"child"')), FOUND)

    def test_not_found(self):
        made = PCI % 'platform_device_alloc("child", 0);'
        child = CHILD % (MAPS, '"child"')
        for files in ({"card_c": PCI % "", "child_c": child},
                      {"card_c": made, "child_c": CHILD % ("", '"child"')},
                      {"card_c": made, "child_c": CHILD % (MAPS, '"other"')},
                      {"card_c": made, "child_c": child,
                       "config": "CONFIG_CARD=m\n"}):
            self.assertEqual(rows(**files), [])


if __name__ == "__main__":
    unittest.main()
