# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Packages from the machine's own release: the only thing that the scripts
# change on the system itself.  Everything from elsewhere is unpacked below the
# build folder (apt.sh).  To be sourced after common.sh.

# The groups:
#   qemu   compilers and libraries for QEMU, and the firmware it loads
#   guest  building the guest's module against any Debian kernel's headers
#   rig    making images for the nested machines, and driving them
#   fio    what a test's guest runs in the rig
#   kernel building a kernel from source
#   tests  what the tests want on top
#   fuzz   clang's fuzzer, for the pure logic
#   boot   a disk to boot from, and UEFI firmware to do that
#   bench  load generators
#   plot   what draws the benchmarks' pictures
#   package  making Debian systems, to install the guest driver in them
declare -A PACKAGES=(
    [qemu]="build-essential pkg-config ninja-build python3-venv git patch
        xz-utils perl libglib2.0-dev zlib1g-dev libpixman-1-dev libslirp-dev
        libfdt-dev libcap-ng-dev libattr1-dev seabios qemu-system-data
        ipxe-qemu"
    [guest]="build-essential git perl xz-utils zstd kmod bc libelf1 libssl3"
    [rig]="build-essential cpio xz-utils zstd kmod e2fsprogs python3"
    [fio]="fio"
    [kernel]="build-essential bc bison flex libelf-dev kmod xz-utils"
    [tests]="python3 git perl sparse shellcheck pkg-config libglib2.0-dev
        ninja-build meson spin ccache python3-pytest python3-pytest-xdist"
    [fuzz]="build-essential pkg-config libglib2.0-dev clang libclang-rt-14-dev"
    [boot]="syslinux syslinux-common mtools ovmf"
    [bench]="fio sockperf"
    [plot]="gnuplot-nox"
    [package]="mmdebstrap cpio git"
)

# need_packages GROUP...: make sure that the packages of the groups above are
# installed.  Says what it installs; without root's rights it says what to
# install and ends the script.
need_packages() {
    local group list missing
    list=""
    for group in "$@"; do
        [ -n "${PACKAGES[$group]:-}" ] ||
            die "need_packages: there is no group '$group'."
        list+=" ${PACKAGES[$group]}"
    done
    # shellcheck disable=SC2086  # a list of words
    missing=$(_packages_missing $list)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        die "these packages are missing: $missing; run this script as root," \
            "or have root do: apt-get install --no-install-recommends $missing"
    fi
    say "installing from this machine's own release: $missing"
    # shellcheck disable=SC2086
    step "packages-$(printf '%s-' "$@" | sed 's/-$//')" \
        locked packages _packages_install $missing
}

# Those of the named packages that aren't installed, on one line.
_packages_missing() {
    local p missing=()
    local -A have=()
    while read -r p; do
        have[$p]=1
    done < <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' |
             sed -n 's/^ii *//p')
    for p in "$@"; do
        if [ -z "${have[$p]:-}" ]; then
            have[$p]=1
            missing+=("$p")
        fi
    done
    echo "${missing[*]}"
}

_packages_install() {
    local options=(-y --no-install-recommends -o DPkg::Lock::Timeout=300) pause
    export DEBIAN_FRONTEND=noninteractive
    # A fresh machine may have no package lists, or lists so old that they name
    # files the mirror no longer has, and the network may fail: update and try again.
    for pause in 0 20; do
        apt-get install "${options[@]}" "$@" && return 0
        echo "--- trying again with fresh package lists, in $pause s"
        sleep "$pause"
        apt-get update || true
    done
    apt-get install "${options[@]}" "$@"
}
