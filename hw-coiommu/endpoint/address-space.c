/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The address space that assigned devices live in.
 *
 * All tracked devices share one.  It is the system's memory, with windows of
 * an IOMMU region laid over guest RAM:
 *
 *   priority 0   alias of system memory: BARs and the MSI doorbell are where
 *                they are without us, and VFIO treats them as ever
 *   priority 1   windows: RAM below 4 GiB; RAM above it, with the room for
 *                hotplug; and the last 16 MiB below 4 GiB, where the BIOS is
 *
 * VFIO maps RAM that it sees, and for an IOMMU region only listens.  So it
 * maps nothing of the guest's RAM by itself, whatever the chipset does to
 * shadow RAM or ROM below a window.
 *
 * translate() answers devices that do DMA through QEMU: a vfio-user server that
 * sends messages, and emulated devices with x-track-emulated.  Their access to
 * a block that is not pinned fails, as it would in the host's IOMMU.
 */
#include "qemu/osdep.h"
#include "qemu/range.h"
#include "qapi/error.h"
#include "address-space.h"
#include "endpoint.h"
#include "hw/coiommu/machine/pc.h"
#include "hw/coiommu/trace.h"
#include "hw/pci/pci_bus.h"
#include "system/host_iommu_device.h"

#define TYPE_COIOMMU_REGION "coiommu-iommu-memory-region"

#define PAGE_SIZE_4K        4096

/**
 * CoiommuSpace - what the address space is made of
 * @s: the device, whose domain has the address space
 * @root: all of it
 * @system_alias: system memory in it
 * @iommu: what containers listen to
 * @window: aliases of that, one for each of the machine's windows
 */
struct CoiommuSpace {
    CoiommuState *s;
    MemoryRegion root;
    MemoryRegion system_alias;
    IOMMUMemoryRegion iommu;
    MemoryRegion window[COIOMMU_WINDOWS_MAX];
};

static CoiommuState *state_of(IOMMUMemoryRegion *iommu)
{
    return container_of(iommu, CoiommuSpace, iommu)->s;
}

/* ---- The IOMMU region ---- */

static IOMMUTLBEntry coiommu_translate(IOMMUMemoryRegion *iommu, hwaddr addr,
                                       IOMMUAccessFlags flag, int iommu_idx)
{
    CoiommuState *s = state_of(iommu);
    bool pinned = coiommu_pins_covers(&s->domain.pins, addr);
    hwaddr mask = (pinned ? coiommu_block_size(&s->geometry) :
                            PAGE_SIZE_4K) - 1;

    if (!pinned && flag != IOMMU_NONE) {
        stat64_add(&s->stats.dma_faults, 1);
        trace_coiommu_dma_fault(addr, flag);
    }
    return (IOMMUTLBEntry) {
        .target_as = &address_space_memory,
        .iova = addr & ~mask,
        .translated_addr = addr & ~mask,
        .addr_mask = mask,
        .perm = pinned ? IOMMU_RW : IOMMU_NONE,
    };
}

static void coiommu_replay(IOMMUMemoryRegion *iommu, IOMMUNotifier *n)
{
    CoiommuState *s = state_of(iommu);

    if (!s->unrealized) {
        coiommu_vfio_replay(s->domain.vfio, n);
    }
}

/* Any notifier may listen: that is how VFIO registers its containers. */
static int coiommu_notify_flag_changed(IOMMUMemoryRegion *iommu,
                                       IOMMUNotifierFlag old,
                                       IOMMUNotifierFlag new, Error **errp)
{
    trace_coiommu_listeners(old, new);
    return 0;
}

static void coiommu_region_class_init(ObjectClass *klass,
                                      CoiommuClassData data)
{
    IOMMUMemoryRegionClass *imrc = IOMMU_MEMORY_REGION_CLASS(klass);

    imrc->translate = coiommu_translate;
    imrc->replay = coiommu_replay;
    imrc->notify_flag_changed = coiommu_notify_flag_changed;
}

static const TypeInfo coiommu_region_info = {
    .name = TYPE_COIOMMU_REGION,
    .parent = TYPE_IOMMU_MEMORY_REGION,
    .class_init = coiommu_region_class_init,
};

static void coiommu_region_register(void)
{
    type_register_static(&coiommu_region_info);
}

type_init(coiommu_region_register)

/* ---- What the PCI bus asks ---- */

static AddressSpace *coiommu_get_address_space(PCIBus *bus, void *opaque,
                                               int devfn)
{
    CoiommuState *s = opaque;

    return coiommu_endpoint_wants(s, bus, devfn) ? &s->domain.as
                                                 : &address_space_memory;
}

/* Is all guest RAM in what the host's IOMMU can translate? */
static bool check_iova_ranges(CoiommuState *s, GList *ranges, Error **errp)
{
    CoiommuExtent piece;
    hwaddr gpa = 0;

    while (coiommu_ram_next(s->ram.extents, &gpa, UINT64_MAX, &piece)) {
        GList *l;
        Range ram;

        range_set_bounds(&ram, piece.gpa, piece.gpa + piece.size - 1);
        for (l = ranges; l; l = l->next) {
            if (range_contains_range(l->data, &ram)) {
                break;
            }
        }
        if (!l) {
            error_setg(errp, "coiommu: the host's IOMMU cannot map the guest "
                       "RAM from 0x%" PRIx64 " to 0x%" PRIx64,
                       range_lob(&ram), range_upb(&ram));
            return false;
        }
    }
    return true;
}

static bool coiommu_set_iommu_device(PCIBus *bus, void *opaque, int devfn,
                                     HostIOMMUDevice *hiod, Error **errp)
{
    CoiommuState *s = opaque;
    HostIOMMUDeviceClass *hiodc = HOST_IOMMU_DEVICE_GET_CLASS(hiod);
    GList *ranges;
    bool ok = true;

    if (hiodc->get_page_size_mask) {
        uint64_t sizes = hiodc->get_page_size_mask(hiod);

        if (!(sizes & MAKE_64BIT_MASK(0, COIOMMU_UNIT_SHIFT_MIN + 1))) {
            error_setg(errp, "coiommu: the host's IOMMU has no pages of 4 KiB "
                       "(it has 0x%" PRIx64 ")", sizes);
            return false;
        }
    }
    if (hiodc->get_iova_ranges) {
        ranges = hiodc->get_iova_ranges(hiod);
        /* Old kernels do not tell. */
        if (ranges) {
            ok = check_iova_ranges(s, ranges, errp);
            g_list_free_full(ranges, g_free);
        }
    }
    return ok;
}

static void coiommu_unset_iommu_device(PCIBus *bus, void *opaque, int devfn)
{
    trace_coiommu_unset_iommu_device(pci_bus_num(bus), devfn);
}

static const PCIIOMMUOps coiommu_iommu_ops = {
    .get_address_space = coiommu_get_address_space,
    .set_iommu_device = coiommu_set_iommu_device,
    .unset_iommu_device = coiommu_unset_iommu_device,
};

/* ---- Windows ---- */

static void add_windows(CoiommuSpace *space)
{
    CoiommuWindow windows[COIOMMU_WINDOWS_MAX];
    unsigned count = coiommu_machine_windows(windows), i;

    for (i = 0; i < count; i++) {
        CoiommuWindow *window = &windows[i];
        g_autofree char *name = g_strdup_printf("coiommu-window-%u", i);

        memory_region_init_alias(&space->window[i], OBJECT(space->s), name,
                                 MEMORY_REGION(&space->iommu), window->base,
                                 window->size);
        memory_region_add_subregion_overlap(&space->root, window->base,
                                            &space->window[i], 1);
        trace_coiommu_window(window->base, window->size, window->ram);
    }
}

IOMMUMemoryRegion *coiommu_space_iommu(CoiommuSpace *space)
{
    return &space->iommu;
}

void coiommu_space_instance_init(CoiommuState *s)
{
    s->space = g_new0(CoiommuSpace, 1);
    s->space->s = s;
}

void coiommu_space_instance_finalize(CoiommuState *s)
{
    g_free(s->space);
}

void coiommu_space_init(CoiommuState *s)
{
    MemoryRegion *system = get_system_memory();
    CoiommuSpace *space = s->space;
    Object *owner = OBJECT(s);

    memory_region_init(&space->root, owner, "coiommu-root", UINT64_MAX);
    memory_region_init_iommu(&space->iommu, sizeof(space->iommu),
                             TYPE_COIOMMU_REGION, owner, "coiommu-iommu",
                             UINT64_MAX);
    memory_region_init_alias(&space->system_alias, owner, "coiommu-system",
                             system, 0, memory_region_size(system));
    memory_region_add_subregion_overlap(&space->root, 0, &space->system_alias,
                                        0);
    add_windows(space);
    address_space_init(&s->domain.as, &space->root, "coiommu");
}

void coiommu_space_setup(CoiommuState *s)
{
    pci_setup_iommu(pci_get_bus(PCI_DEVICE(s)), &coiommu_iommu_ops, s);
}

void coiommu_space_exit(CoiommuState *s)
{
    PCIBus *bus = pci_get_bus(PCI_DEVICE(s));

    /* There is no call that takes back what pci_setup_iommu() did. */
    if (bus->iommu_ops == &coiommu_iommu_ops) {
        bus->iommu_ops = NULL;
        bus->iommu_opaque = NULL;
    }
    /* The containers of tracked devices listen as long as these exist. */
    if (QTAILQ_EMPTY(&s->domain.as.listeners)) {
        address_space_destroy(&s->domain.as);
    }
}
