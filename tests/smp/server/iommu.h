/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The IOMMU of the stress device: what DMA_MAP has mapped at this moment.
 *
 * An access is checked and done under the lock under which maps come and go, so
 * an unmap returns when the access that it met is over, and none that begins
 * later gets through: as with the invalidation of a real IOMMU.
 */
#ifndef IOMMU_H
#define IOMMU_H

#include <stdbool.h>
#include <stdint.h>

/* Set up; every function below is for any thread. */
void iommu_init(void);

/*
 * Map @size bytes of the file @fd, from @offset on, at @iova.  The file is
 * guest memory, the same each time; the caller keeps @fd.  Returns 0 or a
 * negative errno: -EEXIST for a map over a map, as type1.
 */
int iommu_map(uint64_t iova, uint64_t size, int fd, uint64_t offset);

/* Remove the maps in a range.  -EINVAL if that would cut one, as type1. */
int iommu_unmap(uint64_t iova, uint64_t size);

/* Remove all. */
void iommu_unmap_all(void);

/*
 * Begin an access to @size bytes, all in one page.  Returns where they are, or
 * NULL if they are not mapped; then nothing has begun.
 */
void *iommu_begin(uint64_t iova, uint64_t size);

/* The access is over. */
void iommu_end(void);

#endif
