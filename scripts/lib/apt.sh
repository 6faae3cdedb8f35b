# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# A private apt root below the build folder: packages and sources of suites
# that the machine itself doesn't use, downloaded and unpacked there and never
# installed.  The machine's own apt configuration stays as it is; what is taken
# from it is the mirror (sources.list, deb822 or one-line alike, through
# `apt-get indextargets`) and how to reach it (proxies).  apt checks every
# download against the archive's signing keys.
#
# To be sourced after common.sh.
#
#   COIOMMU_MIRROR  the archive to use instead of the machine's own, for
#                   example a local mirror; its address ends in "debian/"

APT_ROOT=$COIOMMU_BUILD/apt
APT_DEBS=$COIOMMU_BUILD/debs
APT_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# Suites whose binary packages are wanted, and those whose sources are.
APT_BINARY_SUITES="bookworm bookworm-backports trixie trixie-backports"
APT_SOURCE_SUITES="sid trixie"

# _apt TOOL ARGS...: apt-get or apt-cache on the private root.
_apt() {
    local tool=$1
    shift
    "$tool" -c "$APT_ROOT/apt.conf" "$@"
}

# The machine's configured repositories as "URI RELEASE" lines, of Debian's
# main component only: other vendors name their releases after Debian's as
# well.  Debian's are known by the label in their package lists; a machine
# without lists gets some, below the build folder.
_apt_machine_repos() {
    local repos pause
    repos=$(_apt_indextargets)
    if [ -z "$repos" ]; then
        mkdir -p "$APT_ROOT/machine-lists/partial"
        _apt_conf_quiet >"$APT_ROOT/machine.conf"
        local own=(-c "$APT_ROOT/machine.conf"
            -o "Dir::State::Lists=$APT_ROOT/machine-lists")
        for pause in 5 20 ''; do
            apt-get "${own[@]}" update >"$COIOMMU_LOGS/apt-machine.log" 2>&1 || true
            repos=$(_apt_indextargets "${own[@]}")
            [ -z "$repos" ] && [ -n "$pause" ] || break
            sleep "$pause"
        done
    fi
    echo "$repos"
}

_apt_indextargets() {
    # shellcheck disable=SC2016  # these are apt's variables, not ours
    apt-get "$@" indextargets \
        --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(LABEL)' \
        'Created-By: Packages' 2>/dev/null |
        awk '$1 !~ /^cdrom:/ && $3 == "main" && $4 ~ /^Debian/ { print $1, $2 }'
}

# The URI of the machine's own archive (with "-security": of its security
# archive), or nothing.
_apt_machine_uri() {
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    _apt_machine_repos | awk -v names="$codename$1 stable$1 oldstable$1" '
        BEGIN { n = split(names, name, " ") }
        { for (i = 1; i <= n; i++) if ($2 == name[i] && !found++) print $1 }'
}

# The sources.list of the private root, on stdout.
_apt_sources() {
    local uri security suite
    uri=${COIOMMU_MIRROR:-$(_apt_machine_uri "")}
    [ -n "$uri" ] || die "can't tell this machine's Debian mirror from its" \
        "apt configuration: name one in COIOMMU_MIRROR, such as" \
        "COIOMMU_MIRROR=http://MIRROR/debian/."
    uri=${uri%/}/
    security=""
    [ -n "${COIOMMU_MIRROR:-}" ] || security=$(_apt_machine_uri -security)
    security=${security:-${uri%debian/}debian-security/}
    for suite in $APT_BINARY_SUITES; do
        echo "deb [signed-by=$APT_KEYRING] $uri $suite main"
    done
    echo "deb [signed-by=$APT_KEYRING] $security bookworm-security main"
    for suite in $APT_SOURCE_SUITES; do
        echo "deb-src [signed-by=$APT_KEYRING] $uri $suite main"
    done
}

# Settings for any use of ours.  They are read after the machine's own, so
# hooks that the machine runs after an update are cleared: they aren't ours to
# run.
_apt_conf_quiet() {
    cat <<END
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
#clear Acquire::IndexTargets::deb::DEP-11;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
END
}

# The root's configuration.
_apt_conf() {
    _apt_conf_quiet
    cat <<END
Dir::Etc::SourceList "$APT_ROOT/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$APT_ROOT/lists";
Dir::Cache "$APT_ROOT/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
APT::Default-Release "";
END
}

# A list that can't be had at the moment is no error to apt-get: it is left out, and
# what it names would seem to have gone from the archive.  So all lists are asked for
# a few times, before it goes on with those that there are.
_apt_update() {
    local pause
    mkdir -p "$APT_ROOT/lists/partial" "$APT_ROOT/cache/archives/partial" \
        "$APT_DEBS"
    _apt_conf >"$APT_ROOT/apt.conf"
    for pause in 5 20; do
        _apt apt-get update --error-on=any && return 0
        echo "--- trying again in $pause s"
        sleep "$pause"
    done
    _apt apt-get update
}

_apt_root_fresh() {
    local age
    [ -f "$APT_ROOT/updated" ] || return 1
    age=$(($(date +%s) - $(stat -c %Y "$APT_ROOT/updated")))
    [ "$age" -lt 86400 ] &&
        stamp_ok "$APT_ROOT/updated" "$(_apt_root_key)"
}

_apt_root_key() {
    echo "${COIOMMU_MIRROR:-} $APT_BINARY_SUITES / $APT_SOURCE_SUITES"
}

# apt_root: make the private root, or update its lists if a day has passed.
apt_root() {
    _apt_root_fresh || locked apt _apt_root_locked
}

_apt_root_locked() {
    ! _apt_root_fresh || return 0
    [ -r "$APT_KEYRING" ] || die "$APT_KEYRING is missing: install the" \
        "package debian-archive-keyring."
    mkdir -p "$APT_ROOT"
    _apt_sources >"$APT_ROOT/sources.list"
    step apt-update _apt_update
    stamp_set "$APT_ROOT/updated" "$(_apt_root_key)"
}

# apt_fetch DIR PKG[/SUITE|=VERSION]...: download the packages into build/debs
# and unpack them into DIR.  Done once for each DIR and list of packages; no
# dependency is followed.
apt_fetch() {
    local dir=$1 stamp key
    shift
    key="$*"
    stamp=$dir/.fetched-$(printf '%s' "$key" | sha256sum | cut -c1-12)
    ! stamp_ok "$stamp" "$key" || return 0
    apt_root
    step "fetch-$(basename "$dir")" locked apt _apt_fetch_once "$dir" "$@"
}

# Another process may have done it while this one waited for the lock.
_apt_fetch_once() {
    ! stamp_ok "$stamp" "$key" || return 0
    _apt_retry _apt_fetch "$@" || return
    stamp_set "$stamp" "$key"
}

# _apt_retry CMD...: our lists may be older than the archive, and the network may
# fail: if CMD fails, update them and try again, twice.  CMD checks its commands itself.
_apt_retry() {
    local pause
    for pause in 5 20; do
        "$@" && return 0
        echo "--- trying again with fresh package lists, in $pause s"
        sleep "$pause"
        _apt apt-get update || true
    done
    "$@"
}

_apt_fetch() {
    local dir=$1 files file
    shift
    mkdir -p "$dir" "$APT_DEBS" || return
    files=$(_apt_file_names "$@") || return
    cd "$APT_DEBS" || return
    # A file that is there, and right, apt leaves alone.
    _apt apt-get download "$@" || return
    for file in $files; do
        echo "unpacking $file"
        dpkg -x "$file" "$dir" || return
    done
}

# The names of the files that `apt-get download` makes for the packages.  Asked
# from an empty folder, because it passes over those that are there already.
_apt_file_names() {
    local empty rc=0
    empty=$(mktemp -d) || return
    # Each line: 'URI' FILE SIZE HASH
    (cd "$empty" && _apt apt-get download --print-uris "$@") |
        awk '{ print $2 }' || rc=$?
    rmdir "$empty"
    return "$rc"
}

# apt_policy PKG SUITE: the newest version of the binary or source package PKG
# in SUITE, or nothing.
apt_policy() {
    apt_root
    _apt apt-cache madison "$1" | awk -F ' *[|] *' -v suite="$2" '
        { split($3, where, " "); split(where[2], s, "/") }
        s[1] == suite { print $2 }' | sort -rV | sed -n 1p
}

# apt_source_versions PKG: every version of the source package, newest first.
apt_source_versions() {
    apt_root
    _apt apt-cache madison "$1" | awk -F ' *[|] *' '
        $3 ~ / Sources$/ { print $2 }' | sort -ruV
}

# apt_source_download PKG VERSION: download a source package into build/debs.
apt_source_download() {
    apt_root
    step "source-$1" locked apt _apt_retry _apt_source_download "$@"
}

_apt_source_download() {
    mkdir -p "$APT_DEBS" || return
    cd "$APT_DEBS" || return
    _apt apt-get source --only-source --download-only "$1=$2"
}

# apt_source PKG VERSION DIR: download a source package and unpack its
# upstream part (the "orig" tarball, none of Debian's patches) as DIR, which
# must not exist.
apt_source() {
    apt_source_download "$1" "$2"
    step "unpack-$1" _apt_source_unpack "$@"
}

_apt_source_unpack() {
    local pkg=$1 dir=$3
    mkdir "$dir.new"
    tar -xf "$(apt_orig "$pkg" "$2")" -C "$dir.new" --strip-components=1
    mv "$dir.new" "$dir"
}

# apt_orig PKG VERSION: the path of a downloaded upstream tarball; false if it
# isn't there.
apt_orig() {
    local upstream=${2#*:}
    compgen -G "$APT_DEBS/$1_${upstream%-*}.orig.tar.*[!c]"
}
