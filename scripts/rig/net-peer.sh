#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The other end of the guest's bulk transfers, on L0.  slirp (guestfwd) starts
# one for each TCP connection that the guest makes and joins stdin and stdout
# to it.  Where the guest has a tap to L1, nc does so there.
#
#   sink    take 8 MiB and answer with their checksum
#   source  send a checksum, a newline, and 16 MiB of fresh data
#   echo    take 128 KiB and send them back
set -eu
case $1 in
sink)
    head -c $((8 << 20)) | sha256sum | cut -c1-64 | tr -d '\n'
    ;;
source)
    data=$(mktemp)
    trap 'rm -f "$data"' EXIT
    head -c $((16 << 20)) /dev/urandom >"$data"
    sha256sum <"$data" | cut -c1-64
    cat "$data"
    ;;
echo)
    data=$(mktemp)
    trap 'rm -f "$data"' EXIT
    head -c $((128 << 10)) >"$data"
    cat "$data"
    ;;
esac
