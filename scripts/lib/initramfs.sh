# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Initramfs images of busybox and a stock kernel's modules.  Sourced after
# common.sh, apt.sh and kernels.sh.  Needs depmod (package kmod), xz and zstd.
#
# Images are plain cpio archives: under TCG the guest reads an uncompressed one
# faster than it would decompress a small one.  /dev/console comes from the
# archive that every kernel has built in, so no device node is made here and
# nothing needs root.

# busybox_path: the static busybox, fetched once; its path on stdout.
busybox_path() {
    local dir=$COIOMMU_BUILD/tools/busybox

    if [ ! -x "$dir/bin/busybox" ]; then
        apt_fetch "$dir" busybox-static >&2 || return 1
        # Debian's packages move from /bin to /usr/bin.
        if [ ! -e "$dir/bin/busybox" ]; then
            mkdir -p "$dir/bin"
            ln -s ../usr/bin/busybox "$dir/bin/busybox"
        fi
    fi
    printf '%s\n' "$dir/bin/busybox"
}

# busybox_tree DIR: make DIR a root file system with busybox in it and nothing
# else; what was there is removed.  The caller adds /init.
busybox_tree() {
    local dir=$1 busybox applet

    busybox=$(busybox_path) || return 1
    rm -rf "$dir"
    mkdir -p "$dir"/{bin,dev,etc,mnt,proc,root,run,sys,tmp,usr/bin,usr/lib,lib}
    ln -s bin "$dir/sbin"
    ln -s lib "$dir/lib64"
    cp "$busybox" "$dir/bin/busybox"
    while read -r applet; do
        [ "$applet" = busybox ] || ln -sf busybox "$dir/bin/$applet"
    done < <("$busybox" --list)
    printf 'root:x:0:0::/root:/bin/sh\n' >"$dir/etc/passwd"
}

# module_path KVER NAME: the module's path below lib/modules/KVER, with what it
# depends on, one per line, dependencies after dependents as in modules.dep.
# Nothing if it is built in or absent.
module_path() {
    local dep=$COIOMMU_BUILD/kernels/$1/lib/modules/$1/modules.dep
    local pattern=${2//[-_]/[-_]}

    sed -nE "\\,(^|/)$pattern\\.ko(\\.[a-z]+)?:,{s/://;s/ +/\\n/g;p;q}" "$dep"
}

# kernel_modules_into DIR KVER MODULE...: copy modules and what they need from
# build/kernels/KVER (see kernel_fetch) into DIR/lib/modules/KVER and run
# depmod there.  Modules are stored uncompressed.  A MODULE with a slash is a file outside the kernel's tree.  A
# name that this kernel has built in, or not at all, is passed over: flavours
# differ in that, and the guest finds out by looking at /sys.
kernel_modules_into() {
    local dir=$1 kver=$2 module file
    local from=$COIOMMU_BUILD/kernels/$kver/lib/modules/$kver
    local to=$dir/lib/modules/$kver

    shift 2
    [ -f "$from/modules.dep" ] ||
        die "kernel $kver is not unpacked below $COIOMMU_BUILD/kernels"
    mkdir -p "$to"
    for module in "$@"; do
        if [[ $module == */* ]]; then
            mkdir -p "$to/updates"
            cp "$module" "$to/updates/" || return 1
            continue
        fi
        while read -r file; do
            [ -n "$file" ] || continue
            mkdir -p "$to/${file%/*}"
            case $file in
            *.xz) xz -dc "$from/$file" >"$to/${file%.xz}" ;;
            *.zst) zstd -dcq "$from/$file" >"$to/${file%.zst}" ;;
            *) cp "$from/$file" "$to/$file" ;;
            esac || return 1
        done < <(module_path "$kver" "$module")
    done
    cp "$from"/modules.{builtin,builtin.modinfo} "$to/"
    sed 's/\.\(xz\|zst\)$//' "$from/modules.order" >"$to/modules.order"
    PATH=$PATH:/usr/sbin:/sbin depmod -b "$dir" "$kver"
}

# pack_cpio DIR FILE: DIR as an uncompressed newc archive, names sorted, all
# owned by root.
pack_cpio() {
    local busybox

    busybox=$(busybox_path) || return 1
    mkdir -p "$(dirname "$2")"
    (cd "$1" && find . -mindepth 1 | LC_ALL=C sort |
        "$busybox" cpio -o -H newc -R 0:0 2>/dev/null) >"$2.tmp" &&
        mv "$2.tmp" "$2"
}

# lz4, which a machine may not have; its path on stdout.
_lz4_path() {
    apt_fetch "$COIOMMU_BUILD/tools/lz4" lz4/bookworm >&2 || return 1
    printf '%s\n' "$COIOMMU_BUILD/tools/lz4/usr/bin/lz4"
}

# programs_into TREE FILE...: copy programs into TREE/bin with the libraries
# that they are linked to.
programs_into() {
    local tree=$1 file lib
    shift
    for file in "$@"; do
        rm -f "$tree/bin/${file##*/}"
        cp -L "$file" "$tree/bin/"
        while read -r lib; do
            [ -e "$tree/lib/${lib##*/}" ] || cp -L "$lib" "$tree/lib/"
        done < <(ldd "$file" | grep -oE '/[^ ]+')
    done
}

# vmlinux_extract BZIMAGE OUT: the ELF kernel inside a bzImage, which QEMU can
# start through PVH without decompressing it in the guest.
vmlinux_extract() {
    local image=$1 out=$2 sectors offset length magic lz4
    local -a unpack

    sectors=$(od -An -tu1 -j497 -N1 "$image")
    # Boot protocol 2.08 and later: where the compressed kernel is.
    read -r offset length < <(od -An -tu4 -j584 -N8 "$image")
    offset=$((offset + (sectors + 1) * 512))
    magic=$(od -An -tx1 -j"$offset" -N4 "$image")
    case ${magic// /} in
    fd377a58) unpack=(xz -dc --single-stream) ;;
    28b52ffd) unpack=(zstd -dcq) ;;
    1f8b*) unpack=(gzip -dcq) ;;
    02214c18)
        lz4=$(_lz4_path) || return 1
        unpack=("$lz4" -dcq)
        ;;
    *) die "$image: unknown compression of the kernel (${magic# })" ;;
    esac
    # Four bytes more are the size of the unpacked kernel; gzip's own trailer has it.
    [ "${unpack[0]}" = gzip ] || length=$((length - 4))
    # head first: it ends by itself, where tail would be killed by a closed pipe.
    head -c $((offset + length)) "$image" | tail -c +$((offset + 1)) |
        "${unpack[@]}" >"$out.tmp" || return 1
    [ "$(od -An -tx1 -N4 "$out.tmp")" = " 7f 45 4c 46" ] ||
        die "$image: what is inside is not an ELF kernel"
    mv "$out.tmp" "$out"
}
