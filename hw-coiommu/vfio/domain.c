/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A domain: how the engine of pinning gets at VFIO's containers; see domain.h.
 */
#include "qemu/osdep.h"
#include "domain.h"
#include "hw/coiommu/trace.h"

static int domain_map(void *opaque, const CoiommuExtent *piece)
{
    CoiommuDomain *domain = opaque;

    return coiommu_containers_map(domain->containers, piece);
}

static void domain_unmap(void *opaque, uint64_t iova, uint64_t size)
{
    CoiommuDomain *domain = opaque;

    coiommu_containers_unmap(domain->containers, iova, size);
}

static uint64_t domain_unknown(void *opaque, uint64_t block)
{
    CoiommuDomain *domain = opaque;
    uint64_t bytes = coiommu_containers_unknown(domain->containers, block);

    if (bytes) {
        trace_coiommu_stuck(block, bytes);
        coiommu_stuck_arm(domain->stuck);
    }
    return bytes;
}

static void domain_clear(void *opaque, uint64_t block)
{
    CoiommuDomain *domain = opaque;

    coiommu_containers_clear(domain->containers, block);
}

static void domain_pinned(void *opaque)
{
    CoiommuDomain *domain = opaque;

    domain->pinned(domain->opaque);
}

static const CoiommuPinsOps domain_ops = {
    .map = domain_map,
    .unmap = domain_unmap,
    .unknown = domain_unknown,
    .clear = domain_clear,
    .pinned = domain_pinned,
};

void coiommu_domain_ram_changing(CoiommuDomain *domain, const GArray *next)
{
    coiommu_vfio_update(domain->vfio);
    /* In a transaction; what is refused must be known all the same. */
    coiommu_containers_sync_begin(domain->containers);
    coiommu_pins_ram_changing(&domain->pins, next);
    coiommu_containers_sync_end(domain->containers);
}

void coiommu_domain_start(CoiommuDomain *domain)
{
    coiommu_vfio_start(domain->vfio);
    coiommu_stuck_start(domain->stuck);
}

void coiommu_domain_stop(CoiommuDomain *domain)
{
    coiommu_vfio_stop(domain->vfio);
    coiommu_stuck_stop(domain->stuck);
}

void coiommu_domain_init(CoiommuDomain *domain, const CoiommuShared *shared,
                         IOMMUMemoryRegion *iommu)
{
    domain->pins = (CoiommuPins) {
        .ops = &domain_ops,
        .opaque = domain,
        .geometry = shared->geometry,
        .ram = shared->ram,
        .gate = shared->gate,
        .stats = shared->stats,
    };
    coiommu_pins_init(&domain->pins);
    domain->containers = coiommu_containers_new(shared->geometry,
                                                shared->stats);
    domain->vfio = coiommu_vfio_new(&domain->as, iommu, domain->containers,
                                    &domain->pins);
    domain->stuck = coiommu_stuck_new(domain->vfio, &domain->pins);
}

void coiommu_domain_destroy(CoiommuDomain *domain)
{
    coiommu_stuck_free(domain->stuck);
    coiommu_vfio_free(domain->vfio);
    coiommu_containers_free(domain->containers);
    coiommu_pins_destroy(&domain->pins);
}
