/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Predictions: see predict.h.
 */
#include "osdep.h"
#include "predict.h"

static CoiommuHint *hint_at(CoiommuPredictor *predictor, unsigned i)
{
    return &predictor->hint[(predictor->first + i) % COIOMMU_HINTS];
}

static bool hint_equal(const CoiommuHint *a, const CoiommuHint *b)
{
    unsigned shift = a->kind == COIOMMU_HINT_WIDEN ? a->detail : 0;

    return a->kind == b->kind && a->detail == b->detail &&
           a->block >> shift == b->block >> shift;
}

static void hint_add(CoiommuPredictor *predictor, CoiommuHint hint)
{
    unsigned i;

    for (i = 0; i < predictor->hints; i++) {
        if (hint_equal(hint_at(predictor, i), &hint)) {
            return;
        }
    }
    if (predictor->hints < COIOMMU_HINTS) {
        *hint_at(predictor, predictor->hints++) = hint;
    }
}

void coiommu_predict_unpinned(CoiommuPredictor *predictor, uint64_t block,
                              uint64_t pass, int64_t now_ms)
{
    coiommu_recent_note(&predictor->unpinned, block, pass, now_ms);
}

void coiommu_predict_wrong(CoiommuPredictor *predictor, uint64_t block,
                           int64_t now_ms)
{
    coiommu_recent_note(&predictor->wrong, block, 0, now_ms);
}

bool coiommu_predict_pinned(CoiommuPredictor *predictor, uint64_t block,
                            unsigned level, int64_t now_ms)
{
    uint64_t pass;
    bool returned;

    /* Late, but not wrong. */
    coiommu_recent_take(&predictor->wrong, block, now_ms, 0, &pass);
    returned = coiommu_recent_take(&predictor->unpinned, block, now_ms,
                                   COIOMMU_RETURN_MS, &pass);
    if (returned && pass) {
        hint_add(predictor, (CoiommuHint) {
            COIOMMU_HINT_RETURNED, block, pass,
        });
    }
    if (level) {
        hint_add(predictor, (CoiommuHint) {
            COIOMMU_HINT_WIDEN, block, level,
        });
    }
    return returned;
}

void coiommu_predict_fixed(CoiommuPredictor *predictor, uint64_t block)
{
    hint_add(predictor, (CoiommuHint) { COIOMMU_HINT_FIXED, block, 0 });
}

/* The blocks that a hint stands for. */
static size_t hint_blocks(CoiommuPredictor *predictor, const CoiommuHint *hint,
                          int64_t now_ms, uint64_t *blocks)
{
    switch (hint->kind) {
    case COIOMMU_HINT_RETURNED:
        return coiommu_recent_take_pass(&predictor->unpinned, hint->detail,
                                        hint->block, now_ms, COIOMMU_RETURN_MS,
                                        blocks, COIOMMU_COMPANIONS);
    case COIOMMU_HINT_FIXED:
        blocks[0] = hint->block + 1;
        return 1;
    default:
        return coiommu_escape_group(hint->block, hint->detail, blocks);
    }
}

/* Drop those of which it was wrong to think so lately. */
static size_t drop_wrong(CoiommuPredictor *predictor, int64_t now_ms,
                         uint64_t *blocks, size_t count)
{
    size_t i, kept = 0;

    for (i = 0; i < count; i++) {
        if (!coiommu_recent_has(&predictor->wrong, blocks[i], now_ms,
                                COIOMMU_WRONG_MS)) {
            blocks[kept++] = blocks[i];
        }
    }
    return kept;
}

size_t coiommu_predict_take(CoiommuPredictor *predictor, int64_t now_ms,
                            CoiommuGuess *guess, uint64_t *blocks)
{
    size_t count = 0;

    while (!count && predictor->hints) {
        CoiommuHint hint = *hint_at(predictor, 0);

        predictor->first = (predictor->first + 1) % COIOMMU_HINTS;
        predictor->hints--;
        *guess = hint.kind == COIOMMU_HINT_WIDEN ? COIOMMU_GUESS_ESCAPE :
                                                   COIOMMU_GUESS_AHEAD;
        count = hint_blocks(predictor, &hint, now_ms, blocks);
        count = drop_wrong(predictor, now_ms, blocks, count);
    }
    return count;
}
