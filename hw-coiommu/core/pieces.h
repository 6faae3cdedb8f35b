/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pieces of a block.
 *
 * A piece is what is mapped at once: contiguous guest RAM within one block.
 * Which pieces a block has follows from a list of extents, the current list of
 * RAM or another one: a hole cuts a block, or the end of RAM.
 */
#ifndef COIOMMU_PIECES_H
#define COIOMMU_PIECES_H

#include "geometry.h"
#include "ram.h"

/* How many bytes of a block are in the list? */
uint64_t coiommu_pieces_bytes(const CoiommuGeometry *geometry,
                              const GArray *list, uint64_t block);

/* A new list of all of them, without references to their memory regions. */
GArray *coiommu_pieces_list(const CoiommuGeometry *geometry,
                            const GArray *list, uint64_t block);

/*
 * A new list of those pieces of a block in @list that are in @other, or of
 * those that aren't, as above.
 */
GArray *coiommu_pieces_select(const CoiommuGeometry *geometry,
                              const GArray *list, const GArray *other,
                              uint64_t block, bool in);

/* Have both lists the same pieces of a block? */
bool coiommu_pieces_equal(const CoiommuGeometry *geometry, const GArray *a,
                          const GArray *b, uint64_t block);

#endif /* COIOMMU_PIECES_H */
