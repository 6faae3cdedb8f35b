#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the measurements on a host with VFIO share, the demo's (rows.sh) and the
# benchmarks': the options that both take, where results go, and the devices.
# To be sourced after vm.sh and host.sh by a script that is then started with
#
#   --out FOLDER      where results go; its vm/ has the VMs' logs
#   --devices LIST    PCI functions to be assigned
#   --sizes LIST      memory of the VMs, such as 512M,4G
#   --peer ADDRESS    the other end of network traffic
#   --iommufd         assign by iommufd, not VFIO's own containers
#   --destroy-data    what is on the disk may be overwritten
#   --repeat          VMs that die get a second chance: for an emulated host
#
# Environment: VM_QEMU_CMD (words), VM_KERNEL, VM_INITRD as vm.sh wants them.

out='' devices='' sizes='' peer='' destroy=no repeat=no vfio=vfio-pci

# measure_option OPTION [VALUE]: one of these options; WORDS is how many words it took.
measure_option() {
    WORDS=1
    case $1 in
    --iommufd) vfio="vfio-pci,iommufd=iommufd0" ;;
    --destroy-data) destroy=yes ;;
    --repeat) repeat=yes ;;
    --out) out=$2 WORDS=2 ;;
    --devices) devices=${2//,/ } WORDS=2 ;;
    --sizes) sizes=${2//,/ } WORDS=2 ;;
    --peer) peer=$2 WORDS=2 ;;
    *) echo "${0##*/}: unknown option $1" >&2; exit 2 ;;
    esac
}

# After the options: QEMU's leading arguments, and the folder for the VMs' logs.
measure_begin() {
    read -ra VM_QEMU <<<"$VM_QEMU_CMD"
    [ "$vfio" = vfio-pci ] || VM_QEMU+=(-object "iommufd,id=iommufd0")
    VM_LOGS=$out/vm
    mkdir -p "$VM_LOGS"
}

# Lines for the user, among the log's.
tell() {
    echo "@say $*"
}

# What is not as it should be: a line in OUT/problems.
problem() {
    echo "problem: $*"
    echo "$*" >>"$out/problems"
}

# 128M and the like, in bytes.
bytes() {
    case $1 in
    *M) echo $((${1%M} << 20)) ;;
    *G) echo $((${1%G} << 30)) ;;
    *) echo "$1" ;;
    esac
}

# Add the devices to QEMU's arguments in ARGS, as dev0 and so on.
assign_devices() {
    local bdf n=0
    for bdf in $devices; do
        ARGS+=(-device "$vfio,host=$(host_bdf "$bdf"),id=dev$n")
        n=$((n + 1))
    done
}
