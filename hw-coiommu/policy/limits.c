/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Can all guest RAM be pinned?
 *
 * Looked at before the first block is, so that a guest whose device is used
 * without the driver where that can't be has nothing pinned and unpinned for
 * nothing, each time it tries, and so that QEMU does not walk into the host's
 * OOM killer: pinning takes memory for each page of the guest, also for those
 * that it has never touched.
 *
 * What is known beforehand are limits.  They may be passed and pinning may fail
 * all the same, which is handled as it comes; what must not be is a limit that
 * refuses where pinning would have succeeded.
 */
#include "qemu/osdep.h"
#include "qemu/units.h"
#include <sys/resource.h>
#include "hw/coiommu/core/cgroup.h"
#include "limits.h"
#include "qemu/error-report.h"

#define CAP_IPC_LOCK    14

/* What QEMU takes at least of its memory cgroup beside the guest's memory. */
#define QEMU_MEMORY     (32 * MiB)

/* A number of /proc/self/status, or 0. */
static uint64_t status_field(const char *name, unsigned base)
{
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents("/proc/self/status", &text, NULL, NULL)) {
        return 0;
    }
    line = strstr(text, name);
    return line ? g_ascii_strtoull(line + strlen(name), NULL, base) : 0;
}

static char *check_quota(CoiommuPins *pins, uint64_t bytes)
{
    uint64_t quota = coiommu_pinset_totals(&pins->set).quota;

    if (!quota || bytes <= quota) {
        return NULL;
    }
    return coiommu_limits_of_error(pins, -EDQUOT);
}

/* A block that two pieces of RAM share is two mappings. */
static char *check_mappings(CoiommuDomain *domain)
{
    const GArray *ram = domain->pins.ram->extents;
    uint64_t needed = 0;
    guint i;

    for (i = 0; i < ram->len; i++) {
        const CoiommuExtent *extent = &g_array_index(ram, CoiommuExtent, i);

        needed += coiommu_blocks_of(domain->pins.geometry, extent->gpa,
                                    extent->size);
    }
    if (needed <= coiommu_containers_budget(domain->containers)) {
        return NULL;
    }
    return coiommu_limits_of_error(&domain->pins, -ENOSPC);
}

/*
 * Each container of VFIO's type1 charges what is missing to our locked memory,
 * unless we have the capability.
 */
static char *check_memlock(CoiommuDomain *domain, CoiommuPinAll *all)
{
    uint64_t needed = coiommu_pinall_missing(all) *
                      coiommu_vfio_charged(domain->vfio);
    uint64_t locked = status_field("VmLck:", 10) * KiB;
    struct rlimit limit;

    if (!needed || getrlimit(RLIMIT_MEMLOCK, &limit) ||
        limit.rlim_cur == RLIM_INFINITY ||
        status_field("CapEff:", 16) & 1 << CAP_IPC_LOCK ||
        locked + needed <= limit.rlim_cur) {
        return NULL;
    }
    return g_strdup_printf("the memlock limit is %" PRIu64 " MiB, of which "
                           "%" PRIu64 " MiB are in use. Raise it to the size "
                           "of the guest's memory",
                           (uint64_t)limit.rlim_cur / MiB, locked / MiB);
}

/* Huge pages that were set aside are not charged to a memory cgroup. */
static char *check_cgroup(const GArray *ram)
{
    uint64_t limit = coiommu_cgroup_memory_limit("/proc/self/cgroup",
                                                 "/sys/fs/cgroup");
    uint64_t bytes = 0;
    guint i;

    for (i = 0; i < ram->len; i++) {
        const CoiommuExtent *extent = &g_array_index(ram, CoiommuExtent, i);

        if (qemu_ram_pagesize(extent->mr->ram_block) ==
            qemu_real_host_page_size()) {
            bytes += extent->size;
        }
    }
    if (!bytes || bytes + QEMU_MEMORY <= limit) {
        return NULL;
    }
    return g_strdup_printf("the memory cgroup's limit is %" PRIu64 " MiB. "
                           "Raise it, or set max-pinned or fallback=refuse",
                           limit / MiB);
}

char *coiommu_limits_check(CoiommuDomain *domain, CoiommuPinAll *all)
{
    CoiommuPins *pins = &domain->pins;
    char *why;

    /* What the host says is locked must be what we say is pinned. */
    coiommu_gate_close(pins->gate);
    why = check_quota(pins, coiommu_pinall_bytes(all));
    if (!why) {
        why = check_mappings(domain);
    }
    if (!why) {
        why = check_memlock(domain, all);
    }
    if (!why) {
        why = check_cgroup(pins->ram->extents);
    }
    coiommu_gate_open(pins->gate);
    return why;
}

char *coiommu_limits_of_error(CoiommuPins *pins, int error)
{
    switch (error) {
    case -EDQUOT:
        return g_strdup_printf("max-pinned is %" PRIu64 " MiB. Raise it",
                               coiommu_pinset_totals(&pins->set).quota / MiB);
    case -ENOMEM:
        return g_strdup("the host has no more memory, or the memlock limit is "
                        "reached. Raise that to the size of the guest's "
                        "memory");
    case -ENOSPC:
        return g_strdup("the host's IOMMU holds no more mappings. Raise "
                        "dma_entry_limit of vfio_iommu_type1, or give coiommu "
                        "a larger block");
    default:
        return g_strdup(strerror(-error));
    }
}

void coiommu_limits_report(uint64_t gpa, int error)
{
    if (error == -EDQUOT) {
        warn_report_once("coiommu: max-pinned does not allow to pin guest "
                         "memory at 0x%" PRIx64 ", and all that is "
                         "pinned is in use; the guest's DMA mapping fails. "
                         "Raise max-pinned", gpa);
        return;
    }
    warn_report_once("coiommu: pinning guest memory at 0x%" PRIx64
                     " failed: %s; the guest's DMA mapping fails. Raise the "
                     "memlock limit or the number of DMA mappings if they "
                     "are the reason", gpa, strerror(-error));
}
