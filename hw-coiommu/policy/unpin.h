/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The thread that lets go of idle blocks.
 */
#ifndef COIOMMU_UNPIN_H
#define COIOMMU_UNPIN_H

#include "hw/coiommu/core/pins.h"

typedef struct CoiommuUnpin CoiommuUnpin;

/**
 * CoiommuUnpinSettings - what the operator can change at run time
 * @policy: when blocks are let go
 * @interval_ms: from the end of a pass to the next one, at least 1
 * @window_ms: for the policy timeout
 * @pass_blocks: the most blocks that one pass looks at, at least 1
 * @since_ms: when @policy was chosen; not for the operator
 */
typedef struct CoiommuUnpinSettings {
    CoiommuPolicyKind policy;
    uint32_t interval_ms;
    uint32_t window_ms;
    uint32_t pass_blocks;
    int64_t since_ms;
} CoiommuUnpinSettings;

/* @pins must outlive it. */
CoiommuUnpin *coiommu_unpin_new(CoiommuPins *pins);
void coiommu_unpin_free(CoiommuUnpin *unpin);

/* Start and stop the thread.  BQL.  Stopping twice does nothing. */
void coiommu_unpin_start(CoiommuUnpin *unpin);
void coiommu_unpin_stop(CoiommuUnpin *unpin);

/* From any thread. */
void coiommu_unpin_get(CoiommuUnpin *unpin, CoiommuUnpinSettings *settings);

/* When this returns, no block is let go by earlier settings any more.  BQL. */
void coiommu_unpin_set(CoiommuUnpin *unpin,
                       const CoiommuUnpinSettings *settings);

/* Let go of all that is idle at once, unless the policy is off. */
void coiommu_unpin_urgent(CoiommuUnpin *unpin);

/*
 * A block has just been pinned: there is something to do for the thread.
 * @unpin: CoiommuUnpin.  From any thread that pins.
 */
void coiommu_unpin_wake(void *unpin);

#endif /* COIOMMU_UNPIN_H */
