# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The guest that benchmarks boot: a stock kernel, our driver, the load
# generators fio and sockperf from this machine, and the /init of tests/guest.
#
# To be sourced after common.sh and packages.sh.
. "$COIOMMU_TOP/scripts/lib/apt.sh"
. "$COIOMMU_TOP/scripts/lib/kernels.sh"
. "$COIOMMU_TOP/scripts/lib/initramfs.sh"

# bench_image: make the guest's vmlinux and initrd; their folder in BENCH_IMAGE.
bench_image() {
    local kver module key

    need_packages guest
    kver=$(kernel_default)
    kernel_fetch "$kver"
    module=$(guest_module "$kver")
    BENCH_IMAGE=$COIOMMU_BUILD/bench/$kver
    key=$(checksum "$module" "$COIOMMU_TOP/tests/guest/init" "$(command -v fio)" \
        "$(command -v sockperf)" "$COIOMMU_TOP/scripts/lib/initramfs.sh" \
        "${BASH_SOURCE[0]}")
    ! stamp_ok "$BENCH_IMAGE/made" "$key" || return 0
    step bench-image _bench_image "$kver" "$module"
    stamp_set "$BENCH_IMAGE/made" "$key"
}

_bench_image() {
    local tree=$BENCH_IMAGE/tree

    busybox_tree "$tree"
    install -m 755 "$COIOMMU_TOP/tests/guest/init" "$tree/init"
    programs_into "$tree" "$(command -v fio)" "$(command -v sockperf)"
    # Most of the size is libraries of I/O engines that aren't used here.
    strip --strip-unneeded "$tree"/lib/*.so* "$tree/bin/fio"
    kernel_modules_into "$tree" "$1" nvme e1000e igb "$2"
    pack_cpio "$tree" "$BENCH_IMAGE/initrd"
    vmlinux_extract "$(kernel_image "$1")" "$BENCH_IMAGE/vmlinux"
    rm -r "$tree"
}
