/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pieces of a block: what coiommu-pieces.c offers the other files.
 *
 * A piece is what is mapped at once: contiguous guest RAM within one block.
 * Which pieces a block has is computed from a list of extents, the current list
 * of RAM or another one.
 */
#ifndef COIOMMU_PIECES_H
#define COIOMMU_PIECES_H

#include "coiommu.h"

/* How many bytes of a block are in the list? */
uint64_t coiommu_pieces_bytes(CoiommuState *s, const GArray *list,
                              uint64_t block);

/*
 * Map all pieces of a block in all containers, or none.  Returns 0, or a
 * negative errno.  In the gate or under the BQL, with the block entered.
 */
int coiommu_pieces_map(CoiommuState *s, const GArray *list, uint64_t block);

/* Unmap those that lie below @end.  As above. */
void coiommu_pieces_unmap(CoiommuState *s, const GArray *list, uint64_t block,
                          hwaddr end);

/*
 * A new list of those pieces of a block in @list that are in @other, or of
 * those that aren't, without references to their memory regions.
 */
GArray *coiommu_pieces_select(CoiommuState *s, const GArray *list,
                              const GArray *other, uint64_t block, bool in);

/* Have both lists the same pieces of a block? */
bool coiommu_pieces_equal(CoiommuState *s, const GArray *a, const GArray *b,
                          uint64_t block);

#endif /* COIOMMU_PIECES_H */
