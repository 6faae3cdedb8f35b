#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# dracut: put coiommu into the image, host-only or not, and load it before udev
# loads the drivers of assigned devices, because a device that has its driver
# already is not tracked.
#
# shellcheck disable=SC2154  # dracut sets kernel and initdir

# called by dracut: not for a kernel that the module was not built for
check() {
	modinfo -k "$kernel" coiommu >/dev/null 2>&1
}

# called by dracut
depends() {
	return 0
}

# called by dracut
installkernel() {
	hostonly='' instmods coiommu
}

# called by dracut: as the kernel's command line would have it
install() {
	mkdir -p "$initdir/etc/cmdline.d"
	echo 'rd.driver.pre=coiommu' >"$initdir/etc/cmdline.d/20-coiommu.conf"
}
