/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pause after the host has refused pin-all: see pause.h.
 */
#include "qemu/osdep.h"
#include "hw/coiommu/core/osdep.h"
#include "pause.h"

/* After this many doublings the pause after a refusal grows no more. */
#define PAUSE_DOUBLINGS 6

void coiommu_pause_begin(CoiommuPause *pause, const char *why,
                         int64_t shortest_ms)
{
    int64_t longest = shortest_ms << PAUSE_DOUBLINGS;

    pause->ms = MIN(MAX(pause->ms * 2, shortest_ms), longest);
    pause->end_ms = coiommu_now_ms() + pause->ms;
    g_free(pause->why);
    pause->why = g_strdup(why);
}

bool coiommu_pause_is_on(const CoiommuPause *pause)
{
    return coiommu_now_ms() < pause->end_ms;
}

void coiommu_pause_forgive(CoiommuPause *pause)
{
    if (!coiommu_pause_is_on(pause)) {
        g_clear_pointer(&pause->why, g_free);
    }
}

void coiommu_pause_clear(CoiommuPause *pause)
{
    pause->ms = 0;
    pause->end_ms = 0;
    g_clear_pointer(&pause->why, g_free);
}
