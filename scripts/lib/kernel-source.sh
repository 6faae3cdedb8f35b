# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Kernels of our own, for what no stock kernel can do: built from Debian's
# linux-source, small, so that two CPUs need minutes and not hours.  Sourced
# after common.sh, packages.sh, apt.sh and kernels.sh.
#
# A kernel is tinyconfig, with kernel-source.config on top (what any machine of
# the rig needs), with the caller's fragments on top of that.  What is later wins.
# What is named *.patch is no fragment but a change of the source.
# It is laid out in build/kernels/KVER as if it had come in Debian's packages, so
# that whatever takes the release of a stock kernel takes that of one of these:
# rig_guest_image, rig_l1_image, kernel_modules_into, and guest_module, which
# builds the driver against it.
#
# The source and the objects are gigabytes: they go when the kernel is built.
#
# Functions check each command by themselves, as those of kernels.sh.

KERNEL_SOURCE_SERIES=6.12
KERNEL_SOURCE_LIB=$COIOMMU_TOP/scripts/lib/kernel-source

# kernel_from_source NAME FRAGMENT...: build the kernel NAME (a word of small
# letters) unless it has been built from this source and these fragments already;
# its release, which ends in -coiommu-NAME, on stdout.
kernel_from_source() {
    local name=$1 dir=$COIOMMU_BUILD/kernel-source/$1
    shift
    need_packages kernel
    locked "kernel-source-$name" _kernel_source "$name" "$dir" "$@" >&2 || return
    cat "$dir/release"
}

_kernel_source() {
    local name=$1 dir=$2 package=linux-source-$KERNEL_SOURCE_SERIES key suite
    shift 2
    suite=${KERNEL_SUITE[$KERNEL_SOURCE_SERIES]}
    key="$(apt_policy "$package" "$suite") $(checksum "$KERNEL_SOURCE_LIB.sh" \
        "$KERNEL_SOURCE_LIB.config" "$@")"
    if stamp_ok "$dir/built" "$key" && [ -d "$(kernel_dir "$(cat "$dir/release")")" ]; then
        return 0
    fi
    rm -rf "$dir"
    mkdir -p "$dir/src"
    apt_fetch "$dir/package" "$package/$suite" || return
    step "kernel-$name-unpack" tar -C "$dir/src" --strip-components=1 \
        -xJf "$dir/package/usr/src/$package.tar.xz" || return
    step "kernel-$name-patch" _kernel_source_patch "$dir/src" "$@" || return
    step "kernel-$name-config" _kernel_source_config "$name" "$dir/src" "$@" || return
    step "kernel-$name-build" \
        make -C "$dir/src" -j"$(nproc)" bzImage modules || return
    step "kernel-$name-install" _kernel_source_install "$dir" || return
    rm -rf "$dir/package" "$dir/src"
    stamp_set "$dir/built" "$key"
}

_kernel_source_patch() {
    local src=$1 file
    shift
    for file in "$@"; do
        [[ $file != *.patch ]] || patch -d "$src" -p1 <"$file" || return
    done
}

_kernel_source_config() {
    local name=$1 src=$2 asked=$2/asked.config file
    shift 2
    cp "$KERNEL_SOURCE_LIB.config" "$asked" || return
    for file in "$@"; do
        [[ $file == *.patch ]] || cat "$file" >>"$asked" || return
    done
    echo "CONFIG_LOCALVERSION=\"-coiommu-$name\"" >>"$asked"
    make -C "$src" tinyconfig || return
    cat "$asked" >>"$src/.config"
    make -C "$src" olddefconfig || return
    _kernel_source_config_check "$asked" "$src/.config"
}

# An option that isn't as it was asked for, because something that it depends on
# is missing or another release has renamed it, ends the build: the kernel would
# fail later, and not say why.
_kernel_source_config_check() {
    awk '
        /^CONFIG_[A-Z0-9_a-z]+=/ {
            name = substr($0, 1, index($0, "=") - 1)
            value = substr($0, index($0, "=") + 1)
        }
        /^# CONFIG_[A-Z0-9_a-z]+ is not set$/ { name = $2; value = "n" }
        name == "" { next }
        FNR == NR { asked[name] = value }
        FNR != NR { is[name] = value }
        { name = "" }
        END {
            for (name in asked)
                if (asked[name] != (name in is ? is[name] : "n")) {
                    printf "%s is %s, not %s\n", name,
                        name in is ? is[name] : "n", asked[name]
                    bad = 1
                }
            exit bad
        }' "$1" "$2"
}

# As the packages linux-image and linux-headers would have it.  Modules that were
# built against another kernel of this name are good for nothing.
_kernel_source_install() {
    local dir=$1 src=$1/src kver to
    kver=$(make -s -C "$src" kernelrelease) || return
    to=$(kernel_dir "$kver")
    rm -rf "$to" "$COIOMMU_BUILD/modules/$kver"
    mkdir -p "$to/boot"
    cp "$src/arch/x86/boot/bzImage" "$to/boot/vmlinuz-$kver" || return
    cp "$src/.config" "$to/boot/config-$kver" || return
    PATH=$PATH:/usr/sbin:/sbin make -C "$src" INSTALL_MOD_PATH="$to" \
        INSTALL_MOD_STRIP=1 modules_install || return
    rm -f "$to/lib/modules/$kver/build"
    # What a module is built with: see kernel_headers.
    # shellcheck disable=SC2016  # make expands it
    make -C "$src" run-command KBUILD_RUN_COMMAND='$(srctree)/scripts/package/install-extmod-build '"$to/usr/src/linux-headers-$kver" || return
    echo "$kver" >"$dir/release"
}
