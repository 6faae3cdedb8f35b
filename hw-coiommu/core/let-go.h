/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking at a pinned block, and letting it go: for the unpin thread, and for
 * reclaim.
 *
 * What the policy decides on is a hint: the counts are read again as PINNED is
 * withdrawn.
 */
#ifndef COIOMMU_LET_GO_H
#define COIOMMU_LET_GO_H

#include "pins.h"

/**
 * CoiommuCandidate - a block that has been looked at
 * @policy: to be asked; NULL: any that is idle may go
 * @look: what the table said
 * @now_ms: when
 * @pass: number of the pass, 0 for reclaim
 * @bytes: result: RAM of the block, 0 if it was not asked about
 */
typedef struct CoiommuCandidate {
    const CoiommuPolicy *policy;
    CoiommuLook look;
    int64_t now_ms;
    uint64_t pass;
    uint64_t bytes;
} CoiommuCandidate;

/* What does the table say of the block?  Inside the gate or under the BQL. */
CoiommuLook coiommu_let_go_look(CoiommuPins *pins, uint64_t block);

/*
 * Unpin the block if the candidate's policy and its counts allow it.  Returns
 * whether it was.  Inside the gate or under the BQL, with no block entered;
 * never waits for a block.
 */
bool coiommu_let_go(CoiommuPins *pins, uint64_t block,
                    CoiommuCandidate *candidate);

#endif /* COIOMMU_LET_GO_H */
