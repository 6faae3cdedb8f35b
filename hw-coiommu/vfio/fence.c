/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of a container whose other end is a process.
 *
 * The kernel always answers, so this is about vfio-user only.  There QEMU waits
 * x-msg-timeout for an answer, with the BQL where a guest accesses a register,
 * and reports an error for each message that can't be sent or isn't answered: a
 * guest could stop the machine again and again, and fill the host's log.  So
 * once we know, the device gets other I/O operations, which answer by
 * themselves.
 *
 * We must know soon, even if nothing is mapped or unmapped.  So the main loop
 * watches the connection: it is over when the other end has closed it, or when
 * QEMU has shut it down to receive, as it does when it can't send or receives
 * rubbish.
 *
 * The connection is shut down.  A server that was only slow sees that its
 * client has gone, and must let go of the client's memory, as at any other
 * disconnection.
 *
 * VFIO maps memory by itself, too: ROMs, and BARs that are RAM, wherever the
 * guest puts them.  Should that fail it ends QEMU.  So the container becomes
 * one of a class of ours, in which maps succeed and nothing is sent.
 */
#include "qemu/osdep.h"
#include "fence.h"
#include "hw/pci/pci_device.h"
#include <linux/vfio.h>
#include <poll.h>

#ifdef COIOMMU_COMPAT_VFIO_USER

static VFIOUserProxy *fence_proxy(CoiommuContainer *container)
{
    VFIOUserContainer *user =
        (VFIOUserContainer *)object_dynamic_cast(OBJECT(container),
                                                 TYPE_VFIO_IOMMU_USER);

    return user ? user->proxy : NULL;
}

/* These are QEMU's for a message that wasn't answered, or couldn't be sent. */
bool coiommu_fence_is_silent(CoiommuContainer *container, int ret)
{
    return (ret == -EFAULT || ret == -EIO) && fence_proxy(container);
}

/* The proxy's own thread changes its state; we may see that a bit later. */
bool coiommu_fence_is_gone(CoiommuContainer *container)
{
    VFIOUserProxy *proxy = fence_proxy(container);

    return proxy && qatomic_read(&proxy->state) != VFIO_PROXY_CONNECTED;
}

/* The source keeps the channel, which may be gone from the proxy by then. */
guint coiommu_fence_watch(CoiommuContainer *container, QIOChannelFunc ended,
                          gpointer opaque)
{
    VFIOUserProxy *proxy = fence_proxy(container);

    return proxy ? qio_channel_add_watch(proxy->ioc, G_IO_HUP | POLLRDHUP,
                                         ended, opaque, NULL) : 0;
}

static int fenced_device_feature(VFIODevice *vbasedev,
                                 struct vfio_device_feature *feature)
{
    return -EIO;
}

static int fenced_region_info(VFIODevice *vbasedev,
                              struct vfio_region_info *info, int *fd)
{
    return -EIO;
}

static int fenced_irq_info(VFIODevice *vbasedev, struct vfio_irq_info *info)
{
    return -EIO;
}

static int fenced_set_irqs(VFIODevice *vbasedev, struct vfio_irq_set *irqs)
{
    return 0;
}

/*
 * Success: VFIO reports each read or write that fails.  It believes what it
 * reads of the configuration space, so that stays what it was, except the
 * interrupt pin.  VFIO notes as a pin what it could not read before we knew,
 * and must not enable INTx for it, as that has not been set up.
 */
static int fenced_read(VFIODevice *vbasedev, uint8_t index, off_t offset,
                       uint32_t size, void *data)
{
    PCIDevice *dev = PCI_DEVICE(vbasedev->dev);
    const off_t pin = PCI_INTERRUPT_PIN;

    if (index != VFIO_PCI_CONFIG_REGION_INDEX) {
        memset(data, 0xff, size);
    } else if (offset >= 0 && offset + size <= pci_config_size(dev)) {
        memcpy(data, dev->config + offset, size);
        if (offset <= pin && pin < offset + size) {
            ((uint8_t *)data)[pin - offset] = 0;
        }
    } else {
        memset(data, 0, size);
    }
    return size;
}

static int fenced_write(VFIODevice *vbasedev, uint8_t index, off_t offset,
                        uint32_t size, void *data, bool post)
{
    return size;
}

static VFIODeviceIOOps fenced_ops = {
    .device_feature = fenced_device_feature,
    .get_region_info = fenced_region_info,
    .get_irq_info = fenced_irq_info,
    .set_irqs = fenced_set_irqs,
    .region_read = fenced_read,
    .region_write = fenced_write,
};

static int fenced_map(const VFIOContainer *container, hwaddr iova,
                      uint64_t size, void *vaddr, bool readonly,
                      MemoryRegion *mr)
{
    return 0;
}

static int fenced_unmap(const VFIOContainer *container, hwaddr iova,
                        uint64_t size, IOMMUTLBEntry *iotlb, bool unmap_all)
{
    return 0;
}

static void fenced_class_init(ObjectClass *klass, CoiommuClassData data)
{
    VFIOIOMMUClass *vioc = VFIO_IOMMU_CLASS(klass);

    vioc->dma_map = fenced_map;
    vioc->dma_unmap = fenced_unmap;
    /* These would wait for answers. */
    vioc->listener_begin = NULL;
    vioc->listener_commit = NULL;
}

static const TypeInfo fenced_info = {
    .name = "coiommu-fenced-container",
    .parent = TYPE_VFIO_IOMMU_USER,
    .class_init = fenced_class_init,
};

/* Made when it is needed: a QEMU without vfio-user lacks the parent. */
static ObjectClass *fenced_class(void)
{
    if (!object_class_by_name(fenced_info.name)) {
        type_register_static(&fenced_info);
    }
    return object_class_by_name(fenced_info.name);
}

void coiommu_fence_devices(CoiommuContainer *container)
{
    VFIOUserProxy *proxy = fence_proxy(container);
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
        vbasedev->io_ops = &fenced_ops;
        /* vfio-user's reset is a message of its own. */
        vbasedev->reset_works = false;
    }
    if (proxy) {
        OBJECT(container)->class = fenced_class();
        qio_channel_shutdown(proxy->ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    }
}

#else

bool coiommu_fence_is_silent(CoiommuContainer *container, int ret)
{
    return false;
}

bool coiommu_fence_is_gone(CoiommuContainer *container)
{
    return false;
}

guint coiommu_fence_watch(CoiommuContainer *container, QIOChannelFunc ended,
                          gpointer opaque)
{
    return 0;
}

void coiommu_fence_devices(CoiommuContainer *container)
{
}

#endif
