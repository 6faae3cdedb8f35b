/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning and unpinning of blocks: what coiommu-pin.c offers the other files.
 */
#ifndef COIOMMU_PIN_H
#define COIOMMU_PIN_H

#include "coiommu-containers.h"
#include "core/pinset.h"

typedef struct CoiommuState CoiommuState;

/*
 * Pin the block that [gpa, gpa + size) lies in, in all containers, and publish
 * it, making room for it if there is none.  Of a block that is pinned already
 * what may be missing is mapped; if nothing is, only the units of the range are
 * published, so that costs no more than the range is long.  Returns 1 if the
 * block has been pinned, 0 if it was, or a negative errno, -EDQUOT for the
 * quota; after an error no container holds anything that it did not hold
 * before, but for what is stuck.  To be called again after -EINTR (somebody
 * wants the gate closed, before we have looked everywhere for room) and -EAGAIN
 * (it is @until, by get_clock(); some room has been made).  Inside the gate or
 * under the BQL.
 */
int coiommu_pin_block(CoiommuState *s, hwaddr gpa, uint64_t size,
                      int64_t until);

/*
 * Pin one that nobody has asked for, if it is absent, nobody is in it, and
 * there is room: see coiommu_pinset_reserve_guess() for @ahead.  Never waits
 * for a block, and never reclaims.  Returns as above; 0 also if there is
 * nothing to pin.
 */
int coiommu_pin_guess(CoiommuState *s, uint64_t block, CoiommuGuess guess,
                      uint64_t ahead);

/*
 * Pin what is missing of a block and publish it, without making room for it.
 * Returns 0 or a negative errno.  Inside the gate or under the BQL.
 */
int coiommu_pin_fill(CoiommuState *s, uint64_t block);

/*
 * Unpin a block, unless another thread is in it or waits for it, or a device is
 * attached and the table has counts in it.  Inside the gate.
 */
void coiommu_unpin_left(CoiommuState *s, uint64_t block);

/* Unmap a block that is entered, pinned, and withdrawn from the table. */
void coiommu_unpin_block(CoiommuState *s, uint64_t block);

/*
 * Unpin a block that is entered and pinned, unless the table has counts in it.
 * Returns whether it was.
 */
bool coiommu_unpin_try(CoiommuState *s, uint64_t block);

/*
 * What has been decided about pins and is not done yet is not to be done any
 * more.  BQL, gate closed, as for the following.
 */
void coiommu_pin_void(CoiommuState *s);

/* Withdraw and unmap all.  BQL, gate closed, as for the following. */
void coiommu_unpin_all(CoiommuState *s);

/* Publish what is pinned in a table that the guest has just enabled. */
void coiommu_pin_publish_all(CoiommuState *s);

/* Clear PINNED in a table that is given up, and leave pinned what is. */
void coiommu_pin_withdraw_all(CoiommuState *s);

/*
 * Map the pinned blocks in [start, last] into a container that has just been
 * added.  On failure nothing of them stays mapped in it.
 */
bool coiommu_pin_replay(CoiommuState *s, CoiommuMember *member,
                        hwaddr start, hwaddr last, Error **errp);

/* Unmap all pieces of blocks that are not the same in the next list of RAM. */
void coiommu_pin_ram_changing(CoiommuState *s, GArray *next);

/* For translate(), from any thread: is the block of this address pinned? */
bool coiommu_pin_covers(CoiommuState *s, hwaddr addr);

#endif /* COIOMMU_PIN_H */
