/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way out of a storm of misses: see escape.h.
 */
#include "osdep.h"
#include "escape.h"

/* After so many windows without a miss nothing is left of what was before. */
#define WINDOWS_TO_REST \
    (COIOMMU_ESCAPE_LEVEL_MAX * COIOMMU_ESCAPE_CALM_WINDOWS)

void coiommu_escape_reset(CoiommuEscape *escape, uint32_t threshold)
{
    *escape = (CoiommuEscape) { .threshold = threshold };
}

/* The window in progress is over. */
static void window_over(CoiommuEscape *escape)
{
    /* Both in misses per 1000 s, so that nothing is rounded. */
    uint64_t rate = escape->misses * (1000 * 1000 / COIOMMU_ESCAPE_WINDOW_MS);
    uint64_t threshold = escape->threshold * 1000ull;

    escape->misses = 0;
    if (rate > threshold) {
        escape->calm = 0;
        escape->hot = MIN(escape->hot + 1, COIOMMU_ESCAPE_HOT_WINDOWS);
        if (escape->hot == COIOMMU_ESCAPE_HOT_WINDOWS) {
            escape->level = MIN(escape->level + 1, COIOMMU_ESCAPE_LEVEL_MAX);
        }
        return;
    }
    escape->hot = 0;
    escape->calm = rate <= threshold / 2 ? escape->calm + 1 : 0;
    if (escape->calm == COIOMMU_ESCAPE_CALM_WINDOWS) {
        escape->calm = 0;
        escape->level -= escape->level != 0;
    }
}

static void advance(CoiommuEscape *escape, int64_t now_ms)
{
    int64_t window = now_ms / COIOMMU_ESCAPE_WINDOW_MS;
    int64_t over = window - escape->window;
    int i;

    if (over <= 0) {
        return;
    }
    for (i = 0; i < MIN(over, WINDOWS_TO_REST + 1); i++) {
        window_over(escape);
    }
    escape->window = window;
}

void coiommu_escape_miss(CoiommuEscape *escape, int64_t now_ms)
{
    if (escape->threshold) {
        advance(escape, now_ms);
        escape->misses++;
    }
}

unsigned coiommu_escape_level(CoiommuEscape *escape, int64_t now_ms)
{
    if (escape->threshold) {
        advance(escape, now_ms);
    }
    return escape->level;
}

bool coiommu_escape_pass_due(CoiommuEscape *escape, int64_t now_ms)
{
    unsigned level = coiommu_escape_level(escape, now_ms);
    unsigned stretch = 1u << MIN(level, COIOMMU_ESCAPE_STRETCH_MAX);

    if (++escape->left_out < stretch) {
        return false;
    }
    escape->left_out = 0;
    return true;
}

size_t coiommu_escape_group(uint64_t block, unsigned level, uint64_t *blocks)
{
    uint64_t size = 1ull << level;
    uint64_t first = block & -size;
    size_t i;

    for (i = 0; i + 1 < size; i++) {
        blocks[i] = first + (block - first + 1 + i) % size;
    }
    return size - 1;
}
