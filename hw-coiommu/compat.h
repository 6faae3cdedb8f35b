/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What differs between the supported versions of QEMU, 10.0 and 10.2.
 *
 * Nothing else in the device asks for a version.
 */
#ifndef COIOMMU_COMPAT_H
#define COIOMMU_COMPAT_H

#if QEMU_VERSION_MAJOR == 10 && QEMU_VERSION_MINOR == 0

#include "exec/memory.h"
#include "exec/address-spaces.h"
#include "hw/vfio/vfio-common.h"
#include "qemu/main-loop.h"

typedef VFIOContainerBase CoiommuContainer;
typedef void *CoiommuClassData;

static inline VFIOAddressSpace *coiommu_compat_space_get(AddressSpace *as)
{
    return vfio_get_address_space(as);
}

static inline void coiommu_compat_space_put(VFIOAddressSpace *space)
{
    vfio_put_address_space(space);
}

static inline int coiommu_compat_map(CoiommuContainer *container, hwaddr iova,
                                     uint64_t size, void *hva,
                                     MemoryRegion *mr)
{
    return vfio_container_dma_map(container, iova, size, hva, false);
}

static inline int coiommu_compat_unmap(CoiommuContainer *container,
                                       hwaddr iova, uint64_t size)
{
    return vfio_container_dma_unmap(container, iova, size, NULL);
}

/* 10.0 takes the BQL for every access to a region. */
static inline void coiommu_compat_lockless(MemoryRegion *mr)
{
}

/* No container of 10.0 defers its calls to the end of a memory transaction. */
static inline void coiommu_compat_sync_begin(CoiommuContainer *container)
{
}

static inline void coiommu_compat_sync_end(CoiommuContainer *container)
{
}

#elif QEMU_VERSION_MAJOR == 10 && QEMU_VERSION_MINOR == 2

#include "system/memory.h"
#include "system/address-spaces.h"
#include "hw/vfio/vfio-container.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio-user/container.h"
#include "qemu/main-loop.h"

/* There are containers whose other end is a process. */
#define COIOMMU_COMPAT_VFIO_USER

typedef VFIOContainer CoiommuContainer;
typedef const void *CoiommuClassData;

static inline VFIOAddressSpace *coiommu_compat_space_get(AddressSpace *as)
{
    return vfio_address_space_get(as);
}

static inline void coiommu_compat_space_put(VFIOAddressSpace *space)
{
    vfio_address_space_put(space);
}

static inline int coiommu_compat_map(CoiommuContainer *container, hwaddr iova,
                                     uint64_t size, void *hva,
                                     MemoryRegion *mr)
{
    return vfio_container_dma_map(container, iova, size, hva, false, mr);
}

static inline int coiommu_compat_unmap(CoiommuContainer *container,
                                       hwaddr iova, uint64_t size)
{
    return vfio_container_dma_unmap(container, iova, size, NULL, false);
}

/* Let accesses to a region come without the BQL, from several threads. */
static inline void coiommu_compat_lockless(MemoryRegion *mr)
{
    memory_region_enable_lockless_io(mr);
}

/*
 * Within a memory transaction a vfio-user container sends its messages without
 * waiting, and their errors are lost.  Ending the container's transaction, and
 * beginning another one afterwards, makes the calls in between synchronous.
 */
static inline void coiommu_compat_sync_begin(CoiommuContainer *container)
{
    VFIOIOMMUClass *vioc = VFIO_IOMMU_GET_CLASS(container);

    if (vioc->listener_commit) {
        vioc->listener_commit(container);
    }
}

static inline void coiommu_compat_sync_end(CoiommuContainer *container)
{
    VFIOIOMMUClass *vioc = VFIO_IOMMU_GET_CLASS(container);

    if (vioc->listener_begin) {
        vioc->listener_begin(container);
    }
}

#else
#error "coIOMMU supports QEMU 10.0 and 10.2"
#endif

#endif /* COIOMMU_COMPAT_H */
