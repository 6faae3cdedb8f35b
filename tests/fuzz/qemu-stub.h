/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As much of QEMU as coiommu.h, coiommu-table.c and coiommu-ram.c need to be
 * built without it: names for what they only point to, and memory regions and
 * listeners that the target plays itself.  The build (run) puts it in place of
 * each of QEMU's headers.
 */
#ifndef COIOMMU_FUZZ_QEMU_STUB_H
#define COIOMMU_FUZZ_QEMU_STUB_H

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <glib.h>

/* coiommu-compat.h is about VFIO. */
#define COIOMMU_COMPAT_H

typedef uint64_t hwaddr;

#define container_of(ptr, type, member) \
    ((type *)((char *)(ptr) - offsetof(type, member)))
#define OBJECT_DECLARE_SIMPLE_TYPE(Type, NAME) typedef struct Type Type;

#include "core/sync.h"

/* ---- Only pointed to, or only there ---- */

#define STUB(name) typedef struct name { int unused; } name
STUB(AddressSpace);
STUB(CoiommuContainer);
STUB(DeviceListener);
STUB(DeviceState);
STUB(Error);
STUB(IOMMUMemoryRegion);
STUB(IOMMUNotifier);
STUB(MemoryRegionOps);
STUB(Notifier);
STUB(Object);
STUB(ObjectClass);
STUB(PCIBus);
STUB(PCIDevice);
STUB(QEMUBH);
STUB(QEMUTimer);
STUB(QemuThread);
STUB(RAMBlock);
STUB(Stat64);
STUB(VMChangeStateEntry);
STUB(VMStateDescription);
#undef STUB

/* ---- Memory regions and those who listen to their changes ---- */

typedef uint64_t Int128;

#define int128_get64(value) (value)

/**
 * MemoryRegion - a part of the machine's memory
 * @ram, @rom, @device, @discards: what the functions below answer
 * @host: its memory
 * @ram_block: how QEMU keeps it
 * @size: bytes
 * @refs: how many references there are
 */
typedef struct MemoryRegion {
    bool ram;
    bool rom;
    bool device;
    bool discards;
    uint8_t *host;
    RAMBlock *ram_block;
    uint64_t size;
    unsigned refs;
} MemoryRegion;

typedef struct MemoryRegionSection {
    MemoryRegion *mr;
    hwaddr offset_within_address_space;
    hwaddr offset_within_region;
    Int128 size;
    bool readonly;
} MemoryRegionSection;

typedef struct MemoryListener MemoryListener;
struct MemoryListener {
    const char *name;
    unsigned priority;
    void (*begin)(MemoryListener *listener);
    void (*commit)(MemoryListener *listener);
    void (*region_add)(MemoryListener *listener, MemoryRegionSection *section);
    void (*region_nop)(MemoryListener *listener, MemoryRegionSection *section);
};

static inline bool memory_region_is_ram(MemoryRegion *mr)
{
    return mr->ram;
}

static inline bool memory_region_is_rom(MemoryRegion *mr)
{
    return mr->rom;
}

static inline bool memory_region_is_romd(MemoryRegion *mr)
{
    return false;
}

static inline bool memory_region_is_ram_device(MemoryRegion *mr)
{
    return mr->device;
}

static inline bool memory_region_has_ram_discard_manager(MemoryRegion *mr)
{
    return mr->discards;
}

static inline void *memory_region_get_ram_ptr(MemoryRegion *mr)
{
    return mr->host;
}

static inline size_t qemu_ram_pagesize(RAMBlock *block)
{
    return 4096;
}

static inline const char *memory_region_name(const MemoryRegion *mr)
{
    return "";
}

static inline void memory_region_ref(MemoryRegion *mr)
{
    mr->refs++;
}

static inline void memory_region_unref(MemoryRegion *mr)
{
    g_assert_cmpuint(mr->refs, >, 0);
    mr->refs--;
}

static inline void memory_region_set_dirty(MemoryRegion *mr, hwaddr offset,
                                           hwaddr size)
{
    g_assert_cmpuint(mr->refs, >, 0);
    g_assert_cmpuint(offset, <=, mr->size);
    g_assert_cmpuint(size, <=, mr->size - offset);
}

static inline bool bql_locked(void)
{
    return false;
}

extern AddressSpace address_space_memory;

/* The target hears of them, and calls what they contain. */
void memory_listener_register(MemoryListener *listener, AddressSpace *as);
void memory_listener_unregister(MemoryListener *listener);

#endif /* COIOMMU_FUZZ_QEMU_STUB_H */
