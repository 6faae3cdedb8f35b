# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that are particular about the modules that they take."""

from guest import check


def signature(scenario):
    """A module without a signature is refused, in the words of the docs."""
    for args, words in (
            ("module.sig_enforce=1", "Loading of unsigned module is rejected"),
            ("lockdown=integrity", "unsigned module loading is restricted; "
                                   "see man kernel_lockdown.7")):
        with scenario.boot(args=args) as vm:
            vm.run("modprobe coiommu", ok=False)
            check(words in vm.output("dmesg"), "the kernel says why")
            vm.run("test -e /sys/module/coiommu", ok=False)


SCENARIOS = [signature]
