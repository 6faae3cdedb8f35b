/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The record of containers, and of what is mapped in which.
 */
#ifndef COIOMMU_CONTAINERS_H
#define COIOMMU_CONTAINERS_H

#include "hw/coiommu/compat.h"
#include "hw/coiommu/core/geometry.h"
#include "hw/coiommu/core/ram.h"
#include "hw/coiommu/core/stats.h"

typedef struct CoiommuContainers CoiommuContainers;

/**
 * CoiommuMember - one container
 * @record: which it is in
 * @container: VFIO's, without a reference
 * @watch: the main loop's source that waits for the end of its connection, or
 *         0; BQL
 * @dead: its other end doesn't answer, and it isn't called any more; never
 *        becomes alive again; atomic
 * @fenced: its devices have been cut off; BQL
 * @seen: for the time of an update; BQL
 */
typedef struct CoiommuMember {
    CoiommuContainers *record;
    CoiommuContainer *container;
    guint watch;
    bool dead;
    bool fenced;
    bool seen;
} CoiommuMember;

/*
 * Make a record for pins of this geometry.  Errors are counted in @stats; both
 * must outlive it.
 */
CoiommuContainers *coiommu_containers_new(const CoiommuGeometry *geometry,
                                          CoiommuStats *stats);
void coiommu_containers_free(CoiommuContainers *containers);

/* Have @died scheduled when a container has died.  BQL. */
void coiommu_containers_watch(CoiommuContainers *containers, QEMUBH *died);

/*
 * How many there are, and each of them.  BQL or inside the gate: they change
 * under the BQL with the gate closed.
 */
unsigned coiommu_containers_count(const CoiommuContainers *containers);
CoiommuMember *coiommu_containers_at(const CoiommuContainers *containers,
                                     unsigned i);

/*
 * Map a piece of a block at IOVA = GPA in all containers that are alive.
 * Returns 0, or the negative errno of the first that has refused; then it is
 * mapped in none, or unknown where that has been refused as well.  In the gate
 * or under the BQL, with the block entered, as for the next three.
 */
int coiommu_containers_map(CoiommuContainers *containers,
                           const CoiommuExtent *piece);

/* Unmap such a piece.  Where that is refused it is unknown afterwards. */
void coiommu_containers_unmap(CoiommuContainers *containers, hwaddr iova,
                              uint64_t size);

/* How many bytes of the block are unknown in one container or more? */
uint64_t coiommu_containers_unknown(CoiommuContainers *containers,
                                    uint64_t block);

/* Try again to unmap those.  Returns how many are left. */
uint64_t coiommu_containers_clear(CoiommuContainers *containers,
                                  uint64_t block);

/* Map and unmap in one container, for a replay.  BQL, gate closed. */
int coiommu_containers_map_in(CoiommuMember *member,
                              const CoiommuExtent *piece);
void coiommu_containers_unmap_in(CoiommuMember *member, hwaddr iova,
                                 uint64_t size);

/*
 * The member for a container, made if there is none.  BQL, gate closed, as for
 * the next ones.
 */
CoiommuMember *coiommu_containers_get(CoiommuContainers *containers,
                                      CoiommuContainer *container);

/* Forget a container, and what is unknown in it. */
void coiommu_containers_remove(CoiommuContainers *containers,
                               CoiommuContainer *container);

/* Forget all of them. */
void coiommu_containers_remove_all(CoiommuContainers *containers);

/*
 * The member for a container that is dead, or whose server has gone since it
 * was called the last time; else NULL.
 */
CoiommuMember *coiommu_containers_find_dead(CoiommuContainers *containers,
                                            CoiommuContainer *container);

/* Nothing is unknown in a container that is dead.  Returns how many are. */
unsigned coiommu_containers_bury(CoiommuContainers *containers);

/*
 * Between these, in a memory transaction, containers tell what became of a
 * call: see coiommu_compat_sync_begin().
 */
void coiommu_containers_sync_begin(CoiommuContainers *containers);
void coiommu_containers_sync_end(CoiommuContainers *containers);

/* How many are dead?  BQL or inside the gate. */
unsigned coiommu_containers_dead(CoiommuContainers *containers);

/*
 * The fewest mappings that any of them can hold; type1's default if there is
 * none.  BQL or inside the gate.
 */
uint64_t coiommu_containers_budget(CoiommuContainers *containers);

#endif /* COIOMMU_CONTAINERS_H */
