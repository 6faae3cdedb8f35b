/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The record of containers: what coiommu-containers.c offers the other files.
 */
#ifndef COIOMMU_CONTAINERS_H
#define COIOMMU_CONTAINERS_H

#include "coiommu-compat.h"
#include "coiommu-ram.h"
#include "qemu/thread.h"

typedef struct CoiommuState CoiommuState;

/**
 * CoiommuMember - one container
 * @state: whose record it is in
 * @container: VFIO's, without a reference
 * @watch: the main loop's source that waits for the end of its connection, or
 *         0; BQL
 * @dead: its other end doesn't answer, and it isn't called any more; never
 *        becomes alive again; atomic
 * @fenced: its devices have been cut off; BQL
 * @seen: for the time of an update; BQL
 */
typedef struct CoiommuMember {
    CoiommuState *state;
    CoiommuContainer *container;
    guint watch;
    bool dead;
    bool fenced;
    bool seen;
} CoiommuMember;

/**
 * CoiommuContainers - the record
 * @members: CoiommuMember *; changes under the BQL with the gate closed
 * @lock: guards the rest; innermost
 * @unknown: block -> GArray of what may be mapped of it; see the .c file
 * @blocks: how many blocks that are; also read without the lock
 */
typedef struct CoiommuContainers {
    GPtrArray *members;
    QemuMutex lock;
    GHashTable *unknown;
    unsigned blocks;
} CoiommuContainers;

void coiommu_containers_init(CoiommuState *s);
void coiommu_containers_destroy(CoiommuState *s);

/*
 * Map a piece of a block at IOVA = GPA in all containers that are alive.
 * Returns 0, or the negative errno of the first that has refused; then it is
 * mapped in none, or unknown where that has been refused as well.  In the gate
 * or under the BQL, with the block entered, as for the next three.
 */
int coiommu_containers_map(CoiommuState *s, const CoiommuExtent *piece);

/* Unmap such a piece.  Where that is refused it is unknown afterwards. */
void coiommu_containers_unmap(CoiommuState *s, hwaddr iova, uint64_t size);

/* How many bytes of the block are unknown in one container or more? */
uint64_t coiommu_containers_unknown(CoiommuState *s, uint64_t block);

/* Try again to unmap those.  Returns how many are left. */
uint64_t coiommu_containers_clear(CoiommuState *s, uint64_t block);

/* Map and unmap in one container, for a replay.  BQL, gate closed. */
int coiommu_containers_map_in(CoiommuState *s, CoiommuMember *member,
                              const CoiommuExtent *piece);
void coiommu_containers_unmap_in(CoiommuState *s, CoiommuMember *member,
                                 hwaddr iova, uint64_t size);

/*
 * The member for a container, made if there is none.  BQL, gate closed, as for
 * the next ones.
 */
CoiommuMember *coiommu_containers_get(CoiommuState *s,
                                      CoiommuContainer *container);

/* Forget a container, and what is unknown in it. */
void coiommu_containers_remove(CoiommuState *s, CoiommuContainer *container);

/*
 * The member for a container that is dead, or whose server has gone since it
 * was called the last time; else NULL.
 */
CoiommuMember *coiommu_containers_find_dead(CoiommuState *s,
                                            CoiommuContainer *container);

/* Nothing is unknown in a container that is dead.  Returns how many are. */
unsigned coiommu_containers_bury(CoiommuState *s);

/*
 * Between these, in a memory transaction, containers tell what became of a
 * call: see coiommu_compat_sync_begin().
 */
void coiommu_containers_sync_begin(CoiommuState *s);
void coiommu_containers_sync_end(CoiommuState *s);

/* How many are dead?  BQL or inside the gate. */
unsigned coiommu_containers_dead(CoiommuState *s);

#endif /* COIOMMU_CONTAINERS_H */
