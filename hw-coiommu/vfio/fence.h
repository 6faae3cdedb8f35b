/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Containers whose other end is a process (vfio-user): whether it answers, and
 * how to be done with one that doesn't.
 */
#ifndef COIOMMU_FENCE_H
#define COIOMMU_FENCE_H

#include "hw/coiommu/compat.h"
#include "io/channel.h"

/* Does @ret, of a map or an unmap, say that there was no answer? */
bool coiommu_fence_is_silent(CoiommuContainer *container, int ret);

/* Is the other end known to be gone, so that nothing will be answered? */
bool coiommu_fence_is_gone(CoiommuContainer *container);

/*
 * Have the main loop call @ended, with the BQL, when the connection to the
 * other end is over; it must return G_SOURCE_REMOVE.  Returns a source that the
 * caller must remove, unless @ended has been called, or 0 if there is no
 * connection.  BQL.
 */
guint coiommu_fence_watch(CoiommuContainer *container, QIOChannelFunc ended,
                          gpointer opaque);

/*
 * Cut the devices of a container off from their other end: it can't reach guest
 * memory through QEMU, nothing that the guest does goes there any more, and
 * registers read as all ones, as of a device that has been pulled out.  BQL.
 */
void coiommu_fence_devices(CoiommuContainer *container);

#endif /* COIOMMU_FENCE_H */
