# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Debian's stock kernels: their headers to build the module against, their
# images and modules to boot.  Sourced after common.sh, apt.sh, packages.sh.
#
# A kernel is named by its release, KVER, as `uname -r` prints it.  Everything
# of it lands in build/kernels/KVER.  Kernels of Debian 12 (6.x) are built for
# with this machine's gcc-12.  Those of Debian 13 (7.x) need gcc-14 and tools
# that are linked to its libc: they are built for in a small unpacked root of
# that release, build/chroot/trixie, in a mount namespace of its own, so that
# nothing stays mounted.
#
# A release that ends in -coiommu-NAME is a kernel of our own, which
# kernel-source.sh has put there complete.
#
# Functions check each command by themselves: they are called in conditions and
# in command substitutions, where `set -e` does not reach.

# The series that are supported: the version that was tried, the suite, and
# what names of newer versions in that suite look like.  When a version has
# gone from the archive the newest of its series takes its place.
KERNEL_SERIES="6.1 6.12 7.2 7.3"
declare -A KERNEL_TRIED=(
    [6.1]=6.1.0-56 [6.12]=6.12.117+deb12
    [7.2]=7.2.12+deb13 [7.3]=7.3.4+deb13
)
declare -A KERNEL_SUITE=(
    [6.1]=bookworm-security [6.12]=bookworm-security
    [7.2]=trixie-backports [7.3]=trixie-backports
)
declare -A KERNEL_NAMES=(
    [6.1]='6\.1\.0-[0-9]+' [6.12]='6\.12\.[0-9]+\+deb12(\.[0-9]+)?'
    [7.2]='7\.2\.[0-9]+\+deb13(\.[0-9]+)?'
    [7.3]='7\.3\.[0-9]+\+deb13(\.[0-9]+)?'
)
KERNEL_FLAVOURS="amd64 cloud-amd64"
KERNEL_CHROOT=$COIOMMU_BUILD/chroot/trixie

# kernel_find SERIES FLAVOUR: the KVER to use, on stdout.
kernel_find() {
    local series=$1 flavour=$2 suite=${KERNEL_SUITE[$1]:-} tried kver

    [ -n "$suite" ] ||
        die "kernel series '$series' is not supported, only: $KERNEL_SERIES"
    tried=${KERNEL_TRIED[$series]}-$flavour
    if [ -n "$(apt_policy "linux-headers-$tried" "$suite")" ]; then
        printf '%s\n' "$tried"
        return
    fi
    while read -r kver; do
        [ -n "$(apt_policy "linux-headers-$kver" "$suite")" ] || continue
        say "kernel $tried has gone from the archive, taking $kver"
        printf '%s\n' "$kver"
        return
    done < <(_apt apt-cache pkgnames "linux-headers-$series." |
        sed -nE "s/^linux-headers-(${KERNEL_NAMES[$series]}-$flavour)\$/\\1/p" |
        sort -rV)
    die "the archive has no headers of a $series kernel ($flavour)"
}

# kernel_default: the KVER of the guests that the demo boots.
kernel_default() {
    kernel_find 6.12 amd64
}

# kernel_list: all KVERs that the module is built for, one per line.
kernel_list() {
    local series flavour

    for series in $KERNEL_SERIES; do
        for flavour in $KERNEL_FLAVOURS; do
            kernel_find "$series" "$flavour"
        done
    done
}

# kernel_dir KVER
kernel_dir() {
    printf '%s\n' "$COIOMMU_BUILD/kernels/$1"
}

_kernel_own() {
    [[ $1 == *-coiommu-* ]] && [ -d "$(kernel_dir "$1")" ]
}

_kernel_suite() {
    local series

    for series in $KERNEL_SERIES; do
        if [[ $1 =~ ^${KERNEL_NAMES[$series]}-(cloud-)?amd64$ ]]; then
            printf '%s\n' "${KERNEL_SUITE[$series]}"
            return
        fi
    done
    die "'$1' is not the release of a supported Debian kernel;" \
        "scripts/guest-build --list shows them"
}

# kernel_check KVER: end the script with a sentence if KVER is none of ours.
kernel_check() {
    _kernel_own "$1" || _kernel_suite "$1" >/dev/null
}

# Debian 13 has /lib as a link: packages unpack below usr/lib.
_kernel_unpack_root() {
    [ -e "$1/lib" ] && return
    mkdir -p "$1/usr/lib"
    ln -s usr/lib "$1/lib"
}

# kernel_headers KVER: headers and build tools, in build/kernels/KVER; the
# folder to give as KDIR on stdout.
kernel_headers() {
    locked "kernel-$1" _kernel_headers "$1"
}

_kernel_headers() {
    local kver=$1 dir suite base kbuild makefile

    dir=$(kernel_dir "$kver")
    if _kernel_own "$kver"; then
        printf '%s\n' "$dir/usr/src/linux-headers-$kver"
        return
    fi
    suite=$(_kernel_suite "$kver") || return 1
    base=${kver%-amd64}
    base=${base%-cloud}
    kbuild=linux-kbuild-$base
    [[ $base == 6.1.0-* ]] && kbuild=linux-kbuild-6.1
    _kernel_unpack_root "$dir"
    apt_fetch "$dir" "linux-headers-$kver/$suite" \
        "linux-headers-$base-common/$suite" "$kbuild/$suite" || return 1
    # The packages' Makefile names its neighbours by absolute paths.
    makefile=$dir/usr/src/linux-headers-$kver/Makefile
    if grep -q '[= ]/usr/src/' "$makefile"; then
        {
            # shellcheck disable=SC2016  # make expands it
            echo 'debian_src := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))..)'
            # shellcheck disable=SC2016
            sed 's,/usr/src/,$(debian_src)/,' "$makefile"
        } >"$makefile.new"
        mv "$makefile.new" "$makefile" || return 1
    fi
    printf '%s\n' "${makefile%/Makefile}"
}

# kernel_fetch KVER: the kernel image and its modules, with depmod's files, in
# build/kernels/KVER.
kernel_fetch() {
    locked "kernel-$1" _kernel_fetch "$1"
}

_kernel_fetch() {
    local kver=$1 dir suite image packages=()

    ! _kernel_own "$kver" || return 0
    dir=$(kernel_dir "$kver")
    suite=$(_kernel_suite "$kver") || return 1
    case $kver in
    6.*)
        packages=("linux-image-$kver/$suite")
        ;;
    *)
        # The signed image comes later than the one it is made of.
        image=linux-binary-$kver
        [ -n "$(apt_policy "$image" "$suite")" ] ||
            image=linux-binary-unsigned-$kver
        # linux-base has the lists of what is built in.
        packages=("$image/$suite" "linux-modules-$kver/$suite"
            "linux-base-$kver/$suite")
        ;;
    esac
    _kernel_unpack_root "$dir"
    apt_fetch "$dir" "${packages[@]}" || return 1
    [ -f "$dir/lib/modules/$kver/modules.builtin" ] || {
        echo "the packages of $kver have no modules.builtin" >&2
        return 1
    }
    [ -f "$dir/lib/modules/$kver/modules.dep" ] ||
        PATH=$PATH:/usr/sbin:/sbin depmod -b "$dir" "$kver"
}

# kernel_image KVER: the path of the fetched bzImage.
kernel_image() {
    local dir file

    dir=$(kernel_dir "$1")
    for file in "$dir/boot/vmlinuz-$1" "$dir/lib/modules/$1"/vmlinuz{,.unsigned}; do
        if [ -f "$file" ]; then
            printf '%s\n' "$file"
            return
        fi
    done
    die "kernel $1 has no image below $dir"
}

# pahole, which the kernels' build runs on each module, and which a machine
# may not have; its path on stdout.
_kernel_pahole() {
    local dir=$COIOMMU_BUILD/tools/pahole new

    apt_fetch "$dir" pahole/bookworm libbpf1/bookworm libdw1/bookworm \
        libelf1/bookworm || return 1
    new=$(mktemp "$dir/run.XXXXXX") || return 1
    cat >"$new" <<END
#!/bin/sh
LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu exec $dir/usr/bin/pahole "\$@"
END
    chmod +x "$new"
    mv "$new" "$dir/run"
    printf '%s\n' "$dir/run"
}

# Unpack what a module for Debian 13's kernels is built with.  apt works out
# what depends on what, for a root in which nothing is installed yet.
_kernel_chroot_make() {
    local root=$KERNEL_CHROOT name packages=()

    while read -r name; do
        name=${name//%3a/:}
        packages+=("$(sed -E 's/^([^_]+)_([^_]+)_.*/\1=\2/' <<<"$name")")
    done < <(_apt apt-get -qq -y --no-install-recommends \
        -o Dir::State::status=/dev/null -o APT::Default-Release=trixie \
        -o Debug::NoLocking=1 install --print-uris \
        base-files gcc-14 make bash dash coreutils sed grep mawk \
        findutils perl-base pahole kmod xz-utils sparse |
        awk '{ print $2 }')
    [ "${#packages[@]}" -gt 0 ] || return 1
    mkdir -p "$root"/{usr/bin,usr/sbin,usr/lib,usr/lib64,proc,dev,tmp}
    for name in bin sbin lib lib64; do
        [ -e "$root/$name" ] || ln -s "usr/$name" "$root/$name"
    done
    apt_fetch "$root" "${packages[@]}" || return 1
    [ -e "$root/usr/bin/awk" ] || ln -s mawk "$root/usr/bin/awk"
    [ -e "$root/usr/bin/sh" ] || ln -s dash "$root/usr/bin/sh"
    mkdir -p "$root$COIOMMU_BUILD"
}

# Run a command in the Debian 13 root, with the build folder at its own path.
# The mounts are gone when the command ends.
_kernel_chroot_run() {
    [ "$(id -u)" -eq 0 ] ||
        die "building for kernels of Debian 13 needs root (chroot)"
    # shellcheck disable=SC2016  # the inner shell expands it
    unshare --mount --propagation private -- sh -ec '
        root=$1 build=$2
        shift 2
        mount -t proc proc "$root/proc"
        mount --bind /dev "$root/dev"
        mount --rbind "$build" "$root$build"
        exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/usr/sbin \
            DEB_BUILD_ARCH=amd64 LC_ALL=C "$@"
    ' sh "$KERNEL_CHROOT" "$COIOMMU_BUILD" "$@"
}

# module_build KVER SRC [MAKE-ARGUMENT...]: build the module in the folder SRC,
# which must be below the build folder, against the headers of KVER.
module_build() {
    local kver=$1 src=$2 kdir pahole

    shift 2
    kdir=$(kernel_headers "$kver") || return 1
    case $kver in
    6.*)
        pahole=$(_kernel_pahole) || return 1
        make -C "$kdir" M="$src" PAHOLE="$pahole" "$@" modules
        ;;
    *)
        locked chroot _kernel_chroot_make || return 1
        _kernel_chroot_run make -C "$kdir" M="$src" "$@" modules
        ;;
    esac
}

# module_sources DIR: a copy of the driver and the ABI header in DIR, laid out
# as in the checkout, so that a build leaves nothing in the checkout.
module_sources() {
    rm -rf "$1"
    mkdir -p "$1/hw-coiommu"
    cp -r "$COIOMMU_TOP/guest-driver" "$1/guest-driver" &&
    cp -r "$COIOMMU_TOP/hw-coiommu/include" "$1/hw-coiommu/include"
}

# guest_module KVER: build coiommu.ko for KVER unless it is built from these
# very sources already; its path on stdout.
guest_module() {
    locked "module-$1" _guest_module "$1"
}

_guest_module() {
    local kver=$1 dir=$COIOMMU_BUILD/modules/$1 key

    key=$(cd "$COIOMMU_TOP" &&
        checksum guest-driver/{Kbuild,dkms.conf,*.c,*.h,compat/*.h} \
            hw-coiommu/include/*.h)
    if ! stamp_ok "$dir/built" "$key" || [ ! -f "$dir/coiommu.ko" ]; then
        module_sources "$dir/src" || return 1
        step "module-$kver" module_build "$kver" "$dir/src/guest-driver" ||
            return 1
        cp "$dir/src/guest-driver/coiommu.ko" "$dir/coiommu.ko" || return 1
        stamp_set "$dir/built" "$key"
    fi
    printf '%s\n' "$dir/coiommu.ko"
}

# kernel_checkpatch: the kernel's own checkpatch.pl, from the source of the
# 6.12 series; its path on stdout.
kernel_checkpatch() {
    local dir=$COIOMMU_BUILD/tools/checkpatch tree=usr/src/linux-source-6.12

    if [ ! -x "$dir/checkpatch.pl" ]; then
        apt_fetch "$dir" "linux-source-6.12/${KERNEL_SUITE[6.12]}" ||
            return 1
        tar -C "$dir" -xJf "$dir/$tree.tar.xz" --strip-components=2 \
            "${tree##*/}/scripts/checkpatch.pl" \
            "${tree##*/}/scripts/spelling.txt" \
            "${tree##*/}/scripts/const_structs.checkpatch" || return 1
        rm "$dir/$tree.tar.xz"
    fi
    printf '%s\n' "$dir/checkpatch.pl"
}
