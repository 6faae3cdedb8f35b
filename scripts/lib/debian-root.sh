# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Whole Debian systems in a folder, packages installed and configured, to try
# what an administrator does without touching the machine.  Sourced after
# common.sh and apt.sh.  Needs root, and mmdebstrap (package group "package").

# debian_root_make DIR SUITES PACKAGE...: a minimal system with the packages in
# DIR, from SUITES (the first one, and those that add to it, as one word).  Done
# once for each DIR and list; checks each command itself.
debian_root_make() {
    local dir=$1 suites=$2 key="${*:2}" sources pause

    shift 2
    ! stamp_ok "$dir.made" "$key" || return 0
    [ "$(id -u)" -eq 0 ] || die "making a Debian system needs root (chroot)"
    apt_root || return 1
    rm -rf "$dir" "$dir.made"
    mkdir -p "${dir%/*}"
    sources=$(grep -E "^deb .* (${suites// /|}) " "$APT_ROOT/sources.list") ||
        return 1
    # How the machine reaches its mirror; mmdebstrap reads nothing of it.
    apt-config dump | sed -n '/^Acquire::[^ ]*[Pp]roxy/p' >"$dir.apt.conf"
    # The network may fail.
    for pause in 5 20 ''; do
        ! _debian_root_bootstrap "$dir" "${suites%% *}" "$sources" "$@" || break
        [ -n "$pause" ] || return 1
        echo "--- trying again in $pause s"
        sleep "$pause"
    done
    mv "$dir.new" "$dir" || return 1
    stamp_set "$dir.made" "$key"
}

# _debian_root_bootstrap DIR SUITE SOURCES PACKAGE...: the system, as DIR.new.
_debian_root_bootstrap() {
    local dir=$1 suite=$2 sources=$3

    shift 3
    rm -rf "$dir.new"
    # Files 3 to 9 are closed because mmdebstrap gives one of its own to a shell
    # that knows single digits only.  INITRD=No: a kernel that is installed
    # makes no initramfs.
    INITRD=No mmdebstrap --mode=root --format=directory --variant=apt \
        --aptopt="$dir.apt.conf" --aptopt='Acquire::Retries "3"' \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt=force-unsafe-io --include="$*" \
        "$suite" "$dir.new" - <<<"$sources" \
        3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
}

# debian_root_run DIR CMD...: run a command in the system in DIR.  Whatever it
# starts and mounts is gone when it ends.
debian_root_run() {
    # shellcheck disable=SC2016  # the inner shell expands it
    unshare --mount --pid --fork --kill-child --propagation private -- sh -ec '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        exec chroot "$root" /usr/bin/env -i HOME=/root LC_ALL=C \
            PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ' sh "$@"
}
