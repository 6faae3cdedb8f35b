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
 * translate() answers those who do DMA through QEMU: a vfio-user server that
 * sends messages, and emulated devices with x-track-emulated.  Their access to
 * a block that is not pinned fails, as it would in the host's IOMMU.
 */
#include "qemu/osdep.h"
#include "qemu/range.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "coiommu.h"
#include "hw/boards.h"
#include "hw/i386/pc.h"
#include "hw/pci/pci_bus.h"
#include "system/host_iommu_device.h"
#include "trace.h"

#define TYPE_COIOMMU_REGION "coiommu-iommu-memory-region"

#define PAGE_SIZE_4K        4096
#define BIOS_WINDOW         (16 * MiB)

/* ---- The IOMMU region ---- */

static IOMMUTLBEntry coiommu_translate(IOMMUMemoryRegion *iommu, hwaddr addr,
                                       IOMMUAccessFlags flag, int iommu_idx)
{
    CoiommuState *s = container_of(iommu, CoiommuState, iommu);
    bool pinned = coiommu_pin_covers(s, addr);
    hwaddr mask = (pinned ? 1ull << s->block_shift : PAGE_SIZE_4K) - 1;

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
    coiommu_vfio_replay(container_of(iommu, CoiommuState, iommu), n);
}

/* Everyone may listen: that is how VFIO registers its containers. */
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

    return coiommu_endpoint_wants(s, bus, devfn) ? &s->as
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

static void add_window(CoiommuState *s, hwaddr base, uint64_t size, bool ram)
{
    CoiommuWindow *window = &s->window[s->nr_windows];
    g_autofree char *name = g_strdup_printf("coiommu-window-%u",
                                            s->nr_windows);

    memory_region_init_alias(&window->mr, OBJECT(s), name,
                             MEMORY_REGION(&s->iommu), base, size);
    memory_region_add_subregion_overlap(&s->root, base, &window->mr, 1);
    window->base = base;
    window->size = size;
    window->ram = ram;
    s->nr_windows++;
    trace_coiommu_window(base, size, ram);
}

static void add_windows(CoiommuState *s)
{
    X86MachineState *x86ms = X86_MACHINE(current_machine);
    DeviceMemoryState *hotplug = current_machine->device_memory;
    hwaddr end = x86ms->above_4g_mem_start + x86ms->above_4g_mem_size;

    if (hotplug) {
        end = MAX(end, hotplug->base + memory_region_size(&hotplug->mr));
    }
    add_window(s, 0, x86ms->below_4g_mem_size, true);
    add_window(s, 4 * GiB - BIOS_WINDOW, BIOS_WINDOW, false);
    if (end > x86ms->above_4g_mem_start) {
        add_window(s, x86ms->above_4g_mem_start,
                   end - x86ms->above_4g_mem_start, true);
    }
}

void coiommu_as_init(CoiommuState *s)
{
    MemoryRegion *system = get_system_memory();

    memory_region_init(&s->root, OBJECT(s), "coiommu-root", UINT64_MAX);
    memory_region_init_iommu(&s->iommu, sizeof(s->iommu), TYPE_COIOMMU_REGION,
                             OBJECT(s), "coiommu-iommu", UINT64_MAX);
    memory_region_init_alias(&s->system_alias, OBJECT(s), "coiommu-system",
                             system, 0, memory_region_size(system));
    memory_region_add_subregion_overlap(&s->root, 0, &s->system_alias, 0);
    add_windows(s);
    address_space_init(&s->as, &s->root, "coiommu");
}

void coiommu_as_setup(CoiommuState *s)
{
    pci_setup_iommu(pci_get_bus(PCI_DEVICE(s)), &coiommu_iommu_ops, s);
}

void coiommu_as_exit(CoiommuState *s)
{
    PCIBus *bus = pci_get_bus(PCI_DEVICE(s));

    /* There is no call that takes back what pci_setup_iommu() did. */
    if (bus->iommu_ops == &coiommu_iommu_ops) {
        bus->iommu_ops = NULL;
        bus->iommu_opaque = NULL;
    }
    /* The containers of tracked devices listen as long as these exist. */
    if (QTAILQ_EMPTY(&s->as.listeners)) {
        address_space_destroy(&s->as);
    }
}
