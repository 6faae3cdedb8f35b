/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notes of what happens to blocks, and what is predicted from them.
 *
 * Requests and the unpin thread take notes here, under a mutex of this file.
 * predict.h makes hints of them, escape.h widens pins while there are many
 * misses, and the thread that pins ahead (policy/ahead.c) takes the hints out.
 *
 * A block that is pinned because of a hint is *speculative* until it is used:
 * until a request asks for it, or a look at the table finds a count or ACCESSED
 * in it.
 */
#ifndef COIOMMU_HISTORY_H
#define COIOMMU_HISTORY_H

#include "predict.h"
#include "stats.h"
#include "sync.h"

/**
 * CoiommuHistory - the notes
 * @stats: where they are counted
 * @lock: guards the rest
 * @kick: there may be a hint, or @stop
 * @predictor: hints
 * @escape: misses
 * @generation: of the pins that the hints are about
 * @max_bytes: the most that may be pinned ahead and not used yet
 * @hold_until_ms: nothing is pinned ahead before
 * @stop: coiommu_history_next() is to return false
 */
typedef struct CoiommuHistory {
    CoiommuStats *stats;
    QemuMutex lock;
    QemuCond kick;
    CoiommuPredictor predictor;
    CoiommuEscape escape;
    unsigned generation;
    uint64_t max_bytes;
    int64_t hold_until_ms;
    bool stop;
} CoiommuHistory;

/**
 * CoiommuHinted - blocks that are likely to be asked for soon
 * @guess: why
 * @generation: of the pins that it was predicted from
 * @max_bytes: the most that may be pinned ahead and not used yet
 * @count: how many there are, at least one
 * @blocks: the likeliest first
 */
typedef struct CoiommuHinted {
    CoiommuGuess guess;
    unsigned generation;
    uint64_t max_bytes;
    size_t count;
    uint64_t blocks[COIOMMU_HINT_BLOCKS];
} CoiommuHinted;

void coiommu_history_init(CoiommuHistory *history, CoiommuStats *stats);
void coiommu_history_destroy(CoiommuHistory *history);

/*
 * Forget what was seen: it was about pins of an earlier generation than this
 * one.
 */
void coiommu_history_reset(CoiommuHistory *history, unsigned generation);

/* The settings; @threshold is in misses per second, 0 is off for both. */
void coiommu_history_get(CoiommuHistory *history, uint64_t *max_bytes,
                         uint32_t *threshold);
void coiommu_history_set_max_bytes(CoiommuHistory *history, uint64_t max_bytes);
void coiommu_history_set_threshold(CoiommuHistory *history,
                                   uint32_t threshold);

/* The level of escape. */
unsigned coiommu_history_level(CoiommuHistory *history);

/* For the unpin thread, once for each interval: is it time for a pass? */
bool coiommu_history_pass_due(CoiommuHistory *history);

/*
 * For the thread that pins ahead: wait until there is a hint that may be
 * followed now.  Returns false when _stop() has been called; _start() takes
 * that back, before the thread is created.
 */
bool coiommu_history_next(CoiommuHistory *history, CoiommuHinted *hinted);
void coiommu_history_start(CoiommuHistory *history);
void coiommu_history_stop(CoiommuHistory *history);
bool coiommu_history_stopped(CoiommuHistory *history);

/*
 * Notes, from any thread.
 *
 *   miss      a request has had to pin something
 *   pinned    this block has been pinned for a request
 *   used      it is in use; @guess: what it was until now
 *   fixed     it holds nothing but mappings that stay
 *   unpinned  it has been let go by this pass, or 0
 *   unused    it has been unpinned; @guess: what it was
 *   no_room   a pin has not found room: nothing is pinned ahead for a while
 */
void coiommu_history_miss(CoiommuHistory *history);
void coiommu_history_pinned(CoiommuHistory *history, uint64_t block);
void coiommu_history_used(CoiommuHistory *history, CoiommuGuess guess);
void coiommu_history_fixed(CoiommuHistory *history, uint64_t block);
void coiommu_history_unpinned(CoiommuHistory *history, uint64_t block,
                              uint64_t pass);
void coiommu_history_unused(CoiommuHistory *history, uint64_t block,
                            CoiommuGuess guess);
void coiommu_history_no_room(CoiommuHistory *history);

#endif /* COIOMMU_HISTORY_H */
