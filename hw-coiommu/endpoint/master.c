/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tracked devices, and their bus-master bit.
 *
 * What the fallback (fallback.c) knows of each device, and how it gets
 * at the bit: below the hook that it has put into the device's config_write.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "hw/coiommu/trace.h"
#include "hw/pci/pci_bus.h"
#include "master.h"

/**
 * CoiommuMasters - the tracked devices
 * @bus: the root bus; NULL before realize and after exit
 * @hooks: PCIDevice * -> CoiommuMaster
 */
struct CoiommuMasters {
    PCIBus *bus;
    GHashTable *hooks;
};

/* What the operator is told about a device, each once. */
typedef enum Told {
    TOLD_PINNED = 1,
    TOLD_REFUSED = 2,
    TOLD_NO_ROOM = 4,
} Told;

CoiommuMaster *coiommu_master_find(CoiommuMasters *m, PCIDevice *dev)
{
    return g_hash_table_lookup(m->hooks, dev);
}

bool coiommu_master_any(CoiommuMasters *m)
{
    return g_hash_table_size(m->hooks);
}

bool coiommu_master_is_set(PCIDevice *dev)
{
    return pci_get_word(dev->config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

static void add_device(PCIBus *bus, PCIDevice *dev, void *opaque)
{
    g_ptr_array_add(opaque, dev);
}

static void add_bus(PCIBus *bus, void *opaque)
{
    pci_for_each_device_under_bus(bus, add_device, opaque);
}

/*
 * The bus says which devices there are: one whose realize has failed may still
 * have a hook.
 */
GPtrArray *coiommu_master_devices(CoiommuMasters *m)
{
    GPtrArray *devices = g_ptr_array_new();
    guint i;

    if (!m->bus) {
        return devices;
    }
    pci_for_each_bus(m->bus, add_bus, devices);
    for (i = devices->len; i--; ) {
        if (!coiommu_master_find(m, devices->pdata[i])) {
            g_ptr_array_remove_index(devices, i);
        }
    }
    return devices;
}

unsigned coiommu_master_count(CoiommuMasters *m, DmaState state, DmaState or)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(m);
    unsigned count = 0;
    guint i;

    for (i = 0; i < devices->len; i++) {
        DmaState is = coiommu_master_find(m, devices->pdata[i])->state;

        count += is == state || is == or;
    }
    return count;
}

void coiommu_master_set(CoiommuMasters *m, PCIDevice *dev, bool on)
{
    uint32_t command = dev->config_read(dev, PCI_COMMAND, 2);

    command &= ~PCI_COMMAND_MASTER;
    command |= on ? PCI_COMMAND_MASTER : 0;
    coiommu_master_find(m, dev)->config_write(dev, PCI_COMMAND, command, 2);
}

/* ---- Hooks ---- */

void coiommu_master_hook(CoiommuMasters *m, PCIDevice *dev,
                         PCIConfigWriteFunc *config_write)
{
    CoiommuMaster *hook = g_new0(CoiommuMaster, 1);

    hook->config_write = dev->config_write;
    dev->config_write = config_write;
    g_hash_table_replace(m->hooks, dev, hook);
    trace_coiommu_master_hook(dev->name);
}

void coiommu_master_unhook(CoiommuMasters *m, PCIDevice *dev)
{
    CoiommuMaster *hook = coiommu_master_find(m, dev);

    if (hook) {
        dev->config_write = hook->config_write;
        g_hash_table_remove(m->hooks, dev);
    }
}

static gboolean is_off_bus(gpointer dev, gpointer hook, gpointer devices)
{
    return !g_ptr_array_find(devices, dev, NULL);
}

void coiommu_master_prune(CoiommuMasters *m)
{
    g_autoptr(GPtrArray) devices = g_ptr_array_new();

    pci_for_each_bus(m->bus, add_bus, devices);
    g_hash_table_foreach_remove(m->hooks, is_off_bus, devices);
}

void coiommu_master_init(CoiommuMasters *m, PCIBus *bus)
{
    m->bus = bus;
}

void coiommu_master_exit(CoiommuMasters *m)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(m);
    guint i;

    for (i = 0; i < devices->len; i++) {
        coiommu_master_unhook(m, devices->pdata[i]);
    }
    m->bus = NULL;
}

CoiommuMasters *coiommu_master_new(void)
{
    CoiommuMasters *m = g_new0(CoiommuMasters, 1);

    m->hooks = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return m;
}

void coiommu_master_free(CoiommuMasters *m)
{
    g_hash_table_destroy(m->hooks);
    g_free(m);
}

/* ---- What the operator is told ---- */

/* Has it not been said of the device yet? */
static bool tell(CoiommuMasters *m, PCIDevice *dev, Told what)
{
    CoiommuMaster *hook = coiommu_master_find(m, dev);
    bool first = !(hook->told & what);

    hook->told |= what;
    return first;
}

void coiommu_master_tell_pinned(CoiommuMasters *m, PCIDevice *dev,
                                uint64_t bytes)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));

    if (tell(m, dev, TOLD_PINNED)) {
        warn_report("coiommu: %s is used without the guest's coiommu driver, "
                    "so all guest memory (%" PRIu64 " MiB) is pinned until "
                    "the driver attaches the device. Load it before the "
                    "device's own driver; -boot strict=on keeps firmware away "
                    "from disks that it need not boot from", name,
                    bytes / MiB);
    }
}

void coiommu_master_tell_refused(CoiommuMasters *m, PCIDevice *dev)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));

    if (tell(m, dev, TOLD_REFUSED)) {
        warn_report("coiommu: %s is used without the guest's coiommu driver, "
                    "and fallback=refuse keeps it off the bus. Load the driver "
                    "before the device's own, or use fallback=pin-all", name);
    }
}

void coiommu_master_tell_no_room(CoiommuMasters *m, PCIDevice *dev,
                                 const char *limit)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));

    if (tell(m, dev, TOLD_NO_ROOM)) {
        warn_report("coiommu: %s is used without the guest's coiommu driver "
                    "and is kept off the bus, because not all guest memory "
                    "can be pinned for it: %s, or load the driver before the "
                    "device's own", name, limit);
    }
}
