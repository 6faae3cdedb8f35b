/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refusals by the host, and when it is asked again.
 *
 * A host that refuses to pin because of a limit refuses the next pin as well,
 * and may print a line for each: type1 does at the memlock limit.  A guest can
 * ask as often as it likes.  So after a refusal requests for new blocks get the
 * same answer, and the host is not asked, for a pause that doubles with each
 * refusal that follows.
 *
 * A lack of room (ENOMEM, ENOSPC) is about a sum: the host refused when so
 * many bytes were pinned.  Below that it may be asked at any time, so whatever
 * is unpinned makes room at once, and a reclaim is worth its while.  When a pin
 * succeeds with which as much is pinned as was refused, all is forgotten.
 *
 * Any other error may be about one block.  So only blocks that were refused
 * wait, however often they are asked for, and the first few refusals in a
 * row bring no pause.  When more blocks are refused than are remembered all
 * blocks wait.  A success proves nothing here, so these are forgotten only by
 * time.
 */
#ifndef COIOMMU_REFUSAL_H
#define COIOMMU_REFUSAL_H

#include "sync.h"

/* The first and the longest pause, in ms. */
#define COIOMMU_REFUSAL_PAUSE_MIN   10
#define COIOMMU_REFUSAL_PAUSE_MAX   2000

/* After that many ms without a refusal the next one is a first one. */
#define COIOMMU_REFUSAL_FORGET      10000

/* So many errors that are not a lack of room bring no pause. */
#define COIOMMU_REFUSAL_FREE        4

/* So many blocks are remembered that were refused for another reason. */
#define COIOMMU_REFUSAL_BLOCKS      8

/**
 * CoiommuRefusal - what the host has refused
 * @lock: guards the rest; innermost
 * @error: the last refusal, a negative errno; 0: there is none to go by
 * @ceiling: for a lack of room: bytes that were pinned then
 * @refused: and that would have been pinned
 * @blocks: for other errors: which blocks, in this row
 * @count: how many these are, one more than fit if there were more
 * @strikes: how many refusals in a row, not counting those within a pause
 * @until_ms: end of the pause
 * @last_ms: when it was refused
 */
typedef struct CoiommuRefusal {
    QemuMutex lock;
    int error;
    uint64_t ceiling;
    uint64_t refused;
    uint64_t blocks[COIOMMU_REFUSAL_BLOCKS];
    unsigned count;
    unsigned strikes;
    int64_t until_ms;
    int64_t last_ms;
} CoiommuRefusal;

void coiommu_refusal_init(CoiommuRefusal *refusal);
void coiommu_refusal_destroy(CoiommuRefusal *refusal);

bool coiommu_refusal_is_lack_of_room(int error);

/*
 * May the host be asked for a block, with which @total bytes would be pinned?
 * Returns 0, or the negative errno that is the answer.
 */
int coiommu_refusal_check(CoiommuRefusal *refusal, uint64_t block,
                          uint64_t total, int64_t now_ms);

/* It has refused @bytes of one with @error, while @pinned were pinned. */
void coiommu_refusal_note(CoiommuRefusal *refusal, int error, uint64_t block,
                          uint64_t pinned, uint64_t bytes, int64_t now_ms);

/* It has pinned one, with which @total bytes are pinned. */
void coiommu_refusal_success(CoiommuRefusal *refusal, uint64_t total);

/* Something has changed, and may have changed the host's mind. */
void coiommu_refusal_reset(CoiommuRefusal *refusal);

#endif /* COIOMMU_REFUSAL_H */
