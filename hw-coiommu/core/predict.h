/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which blocks will be asked for soon?
 *
 * What is seen of blocks leaves hints in a queue; the thread that pins ahead
 * takes them out, as lists of blocks:
 *
 *   a block comes back   It was unpinned a short time ago and has been asked
 *                        for again.  Its companions, which were unpinned in
 *                        the same pass and have not come back yet, will: those
 *                        with the nearest numbers, a few for each return.
 *   a block is fixed     It holds nothing but mappings that stay (policy.h):
 *                        rings and other coherent memory, of which drivers
 *                        tend to allocate more next to it.  So the next block.
 *   escape               Any pin, while there are many misses (escape.h): the
 *                        group around the block.
 *
 * A block that was pinned ahead and not used is left alone for a minute,
 * unless a request asks for it, and it is not noted as unpinned: a prediction
 * that was wrong does not cause the next one.
 *
 * Pure: no clock of its own, no lock.
 */
#ifndef COIOMMU_PREDICT_H
#define COIOMMU_PREDICT_H

#include "escape.h"
#include "policy.h"
#include "recent.h"

/* A block that is pinned again so soon has been let go too early. */
#define COIOMMU_RETURN_MS       10000

/* For how long a wrong prediction is remembered. */
#define COIOMMU_WRONG_MS        60000

/* How many companions one return brings back. */
#define COIOMMU_COMPANIONS      8

/* What more hints there are is lost. */
#define COIOMMU_HINTS           64

/* The most blocks that a hint can stand for. */
#define COIOMMU_HINT_BLOCKS     (1u << COIOMMU_ESCAPE_LEVEL_MAX)

typedef enum CoiommuHintKind {
    COIOMMU_HINT_RETURNED,
    COIOMMU_HINT_FIXED,
    COIOMMU_HINT_WIDEN,
} CoiommuHintKind;

/**
 * CoiommuHint - something that was seen
 * @kind: what
 * @block: of which block; of WIDEN, two in the same group are one hint
 * @detail: RETURNED: its pass; WIDEN: the level; else 0
 */
typedef struct CoiommuHint {
    CoiommuHintKind kind;
    uint64_t block;
    uint64_t detail;
} CoiommuHint;

/**
 * CoiommuPredictor - what predictions are made from; all zeroes is empty
 * @unpinned: blocks that were let go lately
 * @wrong: blocks that were pinned ahead in vain
 * @hint: a ring; the oldest is at @first
 * @hints: how many there are
 */
typedef struct CoiommuPredictor {
    CoiommuRecent unpinned;
    CoiommuRecent wrong;
    CoiommuHint hint[COIOMMU_HINTS];
    unsigned first;
    unsigned hints;
} CoiommuPredictor;

/*
 * The block has been unpinned by pass number @pass.  0 is none: the block has
 * no companions.
 */
void coiommu_predict_unpinned(CoiommuPredictor *predictor, uint64_t block,
                              uint64_t pass, int64_t now_ms);

/* It had been pinned ahead, and was not used. */
void coiommu_predict_wrong(CoiommuPredictor *predictor, uint64_t block,
                           int64_t now_ms);

/*
 * A request has asked for the block and it has been pinned, at this level of
 * escape.  Returns whether it was unpinned a short time ago.
 */
bool coiommu_predict_pinned(CoiommuPredictor *predictor, uint64_t block,
                            unsigned level, int64_t now_ms);

/* The block holds nothing but mappings that stay. */
void coiommu_predict_fixed(CoiommuPredictor *predictor, uint64_t block);

/*
 * Take the oldest hint that has blocks to pin ahead: up to COIOMMU_HINT_BLOCKS
 * go into @blocks, the likeliest first, and why into @guess.  Some may be
 * pinned, or not exist.  Returns how many; 0 when no hint is left.
 */
size_t coiommu_predict_take(CoiommuPredictor *predictor, int64_t now_ms,
                            CoiommuGuess *guess, uint64_t *blocks);

#endif /* COIOMMU_PREDICT_H */
