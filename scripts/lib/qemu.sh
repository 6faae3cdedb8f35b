# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What qemu-prepare, qemu-refresh, qemu-build and the tests of the patches
# share.  To be sourced after common.sh and apt.sh.
#
# A *series* is a folder of qemu-patches, named after the QEMU release that it
# is for (10.2, 10.0).  In it are
#   series      the names of the operators' patches, in the order in which they apply
#   series-rig  the same of those for the rig and the tests, which come on top
#   *.patch     as `git format-patch` writes them; the rig's are in rig/
#   archive     the version of Debian's source package that is built by default
#
# Beside the series, devices.mak lists the devices to build, and
# repacked/SERIES.patch lets QEMU build from a distribution's source without
# binary blobs: it is applied on unpacking, to such a source only.
#
# A prepared tree is build/qemu/TREE/src, where TREE is SERIES, or SERIES-rig if
# it has the rig's patches as well; next to it is patches.git, a git repository
# of the tree (not inside it: QEMU's configure behaves differently in a git
# checkout).  Its tag "upstream" is the unpatched source; each patch is one
# commit on top, and the tag "operators" is the last of the operators'.

QEMU_PATCHES=$COIOMMU_TOP/qemu-patches
# shellcheck disable=SC2034  # used by the scripts
QEMU_DEFAULT_SERIES=10.2

# The series there are, newest first.
qemu_series_list() {
    local s
    for s in "$QEMU_PATCHES"/*/series; do
        basename "$(dirname "$s")"
    done | sort -rV
}

# qemu_series_of VERSION: the series for a QEMU version such as 10.2.2, or
# 1:10.2.2+ds-1; false if there is none.
qemu_series_of() {
    local version=${1#*:} s
    for s in $(qemu_series_list); do
        case $version in
        "$s" | "$s".*) echo "$s"; return 0 ;;
        esac
    done
    return 1
}

# qemu_require_series S: end the script if there is no series S.
qemu_require_series() {
    [ -f "$QEMU_PATCHES/$1/series" ] ||
        die "there are no patches for QEMU $1; the supported series are:" \
            "$(qemu_series_list | paste -sd ' ')."
    [ -f "$QEMU_PATCHES/repacked/$1.patch" ] ||
        die "there is no qemu-patches/repacked/$1.patch."
}

# qemu_patch_names TREE: the names of its patches, in order.
qemu_patch_names() {
    local folder=$QEMU_PATCHES/${1%-rig} lists=(series)
    [ "$1" = "${1%-rig}" ] || lists+=(series-rig)
    (cd "$folder" && sed 's/#.*//; /^[[:space:]]*$/d' "${lists[@]}")
}

qemu_dir() {
    echo "$COIOMMU_BUILD/qemu/$1"
}

# qemu_git DIR ARGS...: git on the repository of the prepared tree DIR/src,
# whatever the user's own git configuration says.
qemu_git() {
    local dir=$1
    shift
    env -u GIT_DIR -u GIT_WORK_TREE -u GIT_INDEX_FILE \
        GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
        GIT_AUTHOR_NAME=coIOMMU GIT_AUTHOR_EMAIL=coiommu@localhost \
        GIT_COMMITTER_NAME=coIOMMU GIT_COMMITTER_EMAIL=coiommu@localhost \
        git --git-dir="$dir/patches.git" --work-tree="$dir/src" \
        -C "$dir/src" "$@"
}

# qemu_import DIR: make DIR/patches.git with the files of DIR/src as its first
# commit.  hw/coiommu is a link to the checkout, not a part of the tree.
qemu_import() {
    local dir=$1
    rm -rf "$dir/patches.git"
    git init -q --bare "$dir/patches.git"
    git --git-dir="$dir/patches.git" config core.bare false
    git --git-dir="$dir/patches.git" config core.worktree "$dir/src"
    git --git-dir="$dir/patches.git" config gc.auto 0
    printf '%s\n' /hw/coiommu /configs/devices/x86_64-softmmu/coiommu.mak \
        >"$dir/patches.git/info/exclude"
    qemu_git "$dir" add -A -f -- . ':!hw/coiommu'
    qemu_git "$dir" commit -q -m "QEMU $(cat "$dir/src/VERSION")"
    qemu_git "$dir" tag upstream
}

# qemu_apply DIR TREE [COUNT]: put DIR/src to the unpatched state and apply
# the tree's patches (only the first COUNT).  git accepts a patch only where
# all of its context is found unchanged: there is no fuzz.  Nothing made by
# hand is lost: changes that aren't committed are refused, and the branch
# "previous" keeps the commits that were there.
qemu_apply() {
    local dir=$1 tree=$2 count=${3:-999} name
    if [ -d "$dir/patches.git/rebase-apply" ]; then
        qemu_git "$dir" am -q --abort
    fi
    [ -z "$(qemu_git "$dir" status --porcelain)" ] ||
        die "$dir/src has changes that aren't committed: commit them there" \
            "and run qemu-refresh, or discard them with: git" \
            "--git-dir=$dir/patches.git reset --hard"
    qemu_git "$dir" branch -q -f previous HEAD
    qemu_git "$dir" reset -q --hard upstream
    for name in $(qemu_patch_names "$tree" | head -n "$count"); do
        echo "applying $name"
        qemu_git "$dir" am -q --keep-cr --no-3way \
            --committer-date-is-author-date "$QEMU_PATCHES/${tree%-rig}/$name"
        [[ $name = rig/* ]] || qemu_git "$dir" tag -f operators
    done
}

# qemu_export DIR OUT [rig]: write the commits since "upstream" as a series to OUT, or
# those since "operators" as the rig's.
qemu_export() {
    local dir=$1 out=$2 base=upstream folder=. list=series
    [ -z "${3:-}" ] || base=operators folder=rig list=series-rig
    mkdir -p "$out/$folder"
    qemu_git "$dir" format-patch -q --zero-commit -N --no-signature \
        --abbrev=12 --no-renames -o "$out/$folder" "$base..HEAD"
    (cd "$out" && find "$folder" -name '*.patch' | sed 's|^\./||' | sort) >"$out/$list"
}

# --- Building ---------------------------------------------------------------

# A *variant* of the build has a folder and options of configure of its own:
#   obj            what operators run
#   obj-sanitize   for the level qtest-asan: see sanitizing-cc
declare -A QEMU_VARIANTS=(
    [obj]=""
    [obj-sanitize]="--cc=$COIOMMU_TOP/scripts/lib/sanitizing-cc
        --extra-ldflags=-fsanitize=address,undefined"
)

# The options of configure, but for the list of devices.
QEMU_CONFIGURE=(
    --target-list=x86_64-softmmu
    --without-default-features --without-default-devices
    --enable-system --enable-kvm --enable-tcg --enable-slirp
    --enable-virtfs --enable-attr --enable-cap-ng
    --enable-vhost-kernel --enable-vhost-net
    --disable-docs --disable-install-blobs --disable-werror
    --disable-debug-info --disable-download
)

# Where QEMU finds firmware: Debian's folders.
QEMU_FIRMWARE="/usr/share/qemu /usr/share/seabios /usr/lib/ipxe/qemu"

# qemu_tools: a private Python environment with a meson that is new enough for
# QEMU, which Debian 12's isn't.  A virtual environment and not PYTHONPATH: so
# it is found also when somebody runs ninja by hand.
qemu_tools() {
    local tools=$COIOMMU_BUILD/tools site
    apt_fetch "$tools" meson/bookworm-backports \
        python3-pycotap/bookworm-backports
    stamp_ok "$tools/venv/made" "$tools" && return
    step qemu-tools /usr/bin/python3 -m venv --clear --without-pip \
        --system-site-packages "$tools/venv"
    site=$(echo "$tools"/venv/lib/python3*/site-packages)
    ln -s "$tools"/usr/lib/python3/dist-packages/* "$site/"
    stamp_set "$tools/venv/made" "$tools"
}

# qemu_devices SRC: the list of devices for the tree SRC, on stdout: of ours,
# what the tree has.  (10.0 has no vfio-user; an unpatched tree, no coIOMMU.)
qemu_devices() {
    local src=$1 without=(-e '^#' -e '^$')
    [ -d "$src/hw/vfio-user" ] || without+=(-e CONFIG_VFIO_USER=)
    grep -q '^source coiommu/' "$src/hw/Kconfig" || without+=(-e CONFIG_COIOMMU=)
    grep -v "${without[@]}" "$QEMU_PATCHES/devices.mak"
}

# qemu_configure SRC OBJ [OPTION...]: configure OBJ for the tree SRC.
qemu_configure() {
    local src=$1 obj=$2 folder
    shift 2
    qemu_devices "$src" >"$src/configs/devices/x86_64-softmmu/coiommu.mak"
    mkdir -p "$obj"
    cd "$obj" || return
    "$src/configure" --python="$COIOMMU_BUILD/tools/venv/bin/python3" \
        "${QEMU_CONFIGURE[@]}" --with-devices-x86_64=coiommu \
        --firmwarepath="${QEMU_FIRMWARE// /:}" "$@"
    # Run from its build folder, QEMU looks for the firmware below qemu-bundle.
    for folder in $QEMU_FIRMWARE; do
        mkdir -p "qemu-bundle${folder%/*}"
        ln -sfn "$folder" "qemu-bundle$folder"
    done
}

# qemu_ccache: compile by way of ccache if it is there, as where tests have run, which
# build QEMU after each patch.  A user who does so anyway has a cache.
qemu_ccache() {
    [ -d /usr/lib/ccache ] && [[ $(command -v cc) != */ccache/* ]] || return 0
    export PATH=/usr/lib/ccache:$PATH CCACHE_DIR=$COIOMMU_BUILD/ccache \
        CCACHE_BASEDIR=$COIOMMU_BUILD
}

# qemu_make DIR [VARIANT]: configure (when something that matters to it has
# changed) and build DIR/src in DIR/VARIANT.
qemu_make() {
    local dir=$1 variant=${2:-obj} name key configured options
    # configure runs small programs; what they leak is no concern of ours.
    export ASAN_OPTIONS=detect_leaks=0
    qemu_ccache
    name=qemu-$(basename "$dir")${variant#obj}
    configured=$dir/configured${variant#obj}
    read -r -a options -d '' <<<"${QEMU_VARIANTS[$variant]}" || true
    key=$({
        cat "$dir/unpacked"
        qemu_devices "$dir/src"
        echo "${QEMU_CONFIGURE[*]} $QEMU_FIRMWARE${options[*]/#/ }"
        declare -f qemu_configure
    } | sha256sum | cut -c1-32)
    if ! stamp_ok "$configured" "$key" ||
        [ ! -f "$dir/$variant/build.ninja" ]; then
        step "$name-configure" \
            qemu_configure "$dir/src" "$dir/$variant" "${options[@]}"
        stamp_set "$configured" "$key"
    fi
    step "$name-build" ninja -C "$dir/$variant" qemu-system-x86_64
}
