/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pause after the host has refused pin-all.
 *
 * The host has refused something that no limit told of.  A guest that tries
 * again and again must not have it pin and unpin gigabytes each time: for a
 * pause, which doubles with each refusal, the answer is the same.  BQL.
 */
#ifndef COIOMMU_PAUSE_H
#define COIOMMU_PAUSE_H

/**
 * CoiommuPause - the pause
 * @ms: how long the last one was
 * @end_ms: when it ends, by coiommu_now_ms()
 * @why: what the refusal was, for the operator; NULL if there was none since
 */
typedef struct CoiommuPause {
    int64_t ms;
    int64_t end_ms;
    char *why;
} CoiommuPause;

/* A refusal: begin one, at least @shortest_ms long. */
void coiommu_pause_begin(CoiommuPause *pause, const char *why,
                         int64_t shortest_ms);

bool coiommu_pause_is_on(const CoiommuPause *pause);

/* What was refused may be asked for again, once the pause is over. */
void coiommu_pause_forgive(CoiommuPause *pause);

/* Forget all refusals. */
void coiommu_pause_clear(CoiommuPause *pause);

#endif /* COIOMMU_PAUSE_H */
