# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The guests of scripts/bench dma-map: each stock kernel with our driver, the
# module that times the DMA API, and the /init of tests/guest.
#
# To be sourced after common.sh and packages.sh.
. "$COIOMMU_TOP/scripts/lib/apt.sh"
. "$COIOMMU_TOP/scripts/lib/kernels.sh"
. "$COIOMMU_TOP/scripts/lib/initramfs.sh"

_dma_map_source=$COIOMMU_TOP/scripts/bench-lib/dma_map

# dma_map_images KVER...: make the kernels' images; the folder that holds a
# folder for each is in BENCH_IMAGE.
dma_map_images() {
    local kver

    need_packages guest
    BENCH_IMAGE=$COIOMMU_BUILD/bench/dma-map
    mkdir -p "$BENCH_IMAGE"
    for kver in "$@"; do
        kernel_fetch "$kver"
        guest_module "$kver" >/dev/null
        step "dma-map-image-$kver" _dma_map_image "$kver" "$BENCH_IMAGE/$kver"
    done
}

# Nothing if nothing has changed.
_dma_map_image() {
    local kver=$1 dir=$2 module key

    module=$(guest_module "$kver")
    key=$(checksum "$module" "$COIOMMU_TOP/tests/guest/init" \
        "$_dma_map_source"/* "$COIOMMU_TOP/scripts/lib/initramfs.sh" \
        "${BASH_SOURCE[0]}")
    ! stamp_ok "$dir/made" "$key" || return 0
    mkdir -p "$dir/module"
    cp "$_dma_map_source"/* "$dir/module/"
    module_build "$kver" "$dir/module"
    busybox_tree "$dir/tree"
    install -m 755 "$COIOMMU_TOP/tests/guest/init" "$dir/tree/init"
    kernel_modules_into "$dir/tree" "$kver" virtio_pci virtio_iommu "$module" \
        "$dir/module/dma_bench.ko"
    pack_cpio "$dir/tree" "$dir/initrd"
    vmlinux_extract "$(kernel_image "$kver")" "$dir/vmlinux"
    rm -r "$dir/tree"
    stamp_set "$dir/made" "$key"
}
