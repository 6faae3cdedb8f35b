#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A shell in a guest of the rig, joined to this terminal as the demo's --keep does
# it: for tests/system/run, whose test "keep" types at it by console.py.  Image and
# QEMU are there already; $1 is QEMU's path.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
. "$here/../../scripts/lib/common.sh"
for lib in kernels initramfs rig; do
    . "$COIOMMU_TOP/scripts/lib/$lib.sh"
done

# shellcheck disable=SC2034  # rig.sh's
RIG_QEMU=$1
job=$(rig_job keep)
cat >"$job/run" <<'END'
. /job/vm.sh
read -ra VM_QEMU <<<"$VM_QEMU_CMD"
VM_LOGS=/job/vm
# Twice, as TCG kills or stalls VMs now and then (docs/devel/rig.md).
vm_up keep 512M || { vm_kill && vm_up keep 512M; } || { echo "$VM_ERROR"; exit 1; }
vm_shell /dev/ttyS1
END
rig_run keep 2560 240 --console
