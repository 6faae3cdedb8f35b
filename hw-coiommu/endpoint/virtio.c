/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio devices whose driver bypasses the guest's DMA API.
 *
 * A virtio device that doesn't offer VIRTIO_F_ACCESS_PLATFORM is given guest
 * physical addresses by its driver, which then does not call the DMA API.  That
 * is right for a device which is part of the hypervisor.  One that is assigned,
 * as a SmartNIC's function or what another QEMU emulates, does DMA through the
 * host's IOMMU all the same, and no driver counts it.
 *
 * Whether the feature is offered is read when the device is realized, before a
 * driver can have begun with it, the way that a driver would: select the second
 * 32 feature bits in the common configuration and read them.  That structure
 * lies in a BAR, which has no address yet.  But each virtio 1 device has a
 * window in the configuration space for drivers that can't use a BAR
 * (VIRTIO_PCI_CAP_PCI_CFG), and that needs nothing.  A device without it, or
 * without a common configuration (legacy), counts as one that doesn't offer the
 * feature: then all memory is pinned for it, and its data are right.
 */
#include "qemu/osdep.h"
#include "hw/coiommu/trace.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_pci.h"
#include "virtio.h"

/* The PCI devices of virtio, transitional ones included. */
#define VIRTIO_DEVICE_FIRST 0x1000
#define VIRTIO_DEVICE_LAST  0x107f

/* Where VIRTIO_F_ACCESS_PLATFORM is. */
#define FEATURES_SELECT     (VIRTIO_F_ACCESS_PLATFORM / 32)
#define FEATURE_BIT         (1u << (VIRTIO_F_ACCESS_PLATFORM % 32))

/* More capabilities than fit are a loop. */
#define CAPABILITIES_MAX    64

static uint32_t config_read(PCIDevice *dev, uint32_t addr, int len)
{
    return dev->config_read(dev, addr, len);
}

static void config_write(PCIDevice *dev, uint32_t addr, uint32_t val, int len)
{
    dev->config_write(dev, addr, val, len);
}

/* The capability of virtio with this type, or 0. */
static uint8_t capability_find(PCIDevice *dev, uint8_t type)
{
    uint8_t pos = config_read(dev, PCI_CAPABILITY_LIST, 1) & ~3;
    unsigned i;

    for (i = 0; pos && i < CAPABILITIES_MAX; i++) {
        if (config_read(dev, pos, 1) == PCI_CAP_ID_VNDR &&
            config_read(dev, pos + VIRTIO_PCI_CAP_CFG_TYPE, 1) == type) {
            return pos;
        }
        pos = config_read(dev, pos + PCI_CAP_LIST_NEXT, 1) & ~3;
    }
    return 0;
}

/* Have the window show 4 bytes of a BAR. */
static void window_aim(PCIDevice *dev, uint8_t window, uint8_t bar,
                       uint32_t offset, uint32_t length)
{
    config_write(dev, window + VIRTIO_PCI_CAP_BAR, bar, 1);
    config_write(dev, window + VIRTIO_PCI_CAP_OFFSET, offset, 4);
    config_write(dev, window + VIRTIO_PCI_CAP_LENGTH, length, 4);
}

static bool is_virtio(PCIDevice *dev)
{
    uint16_t device = config_read(dev, PCI_DEVICE_ID, 2);

    return config_read(dev, PCI_VENDOR_ID, 2) ==
               PCI_VENDOR_ID_REDHAT_QUMRANET &&
           device >= VIRTIO_DEVICE_FIRST && device <= VIRTIO_DEVICE_LAST;
}

/* The second 32 bits of the features that the device offers. */
static uint32_t features_read(PCIDevice *dev, uint8_t common, uint8_t window)
{
    uint8_t data = window + sizeof(struct virtio_pci_cap);
    uint8_t bar = config_read(dev, common + VIRTIO_PCI_CAP_BAR, 1);
    uint32_t base = config_read(dev, common + VIRTIO_PCI_CAP_OFFSET, 4);
    uint32_t features;

    window_aim(dev, window, bar, base + VIRTIO_PCI_COMMON_DFSELECT, 4);
    config_write(dev, data, FEATURES_SELECT, 4);
    window_aim(dev, window, bar, base + VIRTIO_PCI_COMMON_DF, 4);
    features = config_read(dev, data, 4);
    window_aim(dev, window, bar, base + VIRTIO_PCI_COMMON_DFSELECT, 4);
    config_write(dev, data, 0, 4);
    window_aim(dev, window, 0, 0, 0);
    return features;
}

bool coiommu_virtio_untrackable(PCIDevice *dev)
{
    uint8_t common, window;
    uint32_t features = 0;

    if (!is_virtio(dev)) {
        return false;
    }
    common = capability_find(dev, VIRTIO_PCI_CAP_COMMON_CFG);
    window = capability_find(dev, VIRTIO_PCI_CAP_PCI_CFG);
    if (common && window) {
        features = features_read(dev, common, window);
    }
    trace_coiommu_virtio_features(dev->name, common, window, features);
    /* All ones: there is nothing behind the window. */
    return features == UINT32_MAX || !(features & FEATURE_BIT);
}
