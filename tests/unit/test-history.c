/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notes of what happens to blocks: which become hints, and what the thread that
 * pins ahead is given.
 */
#include "osdep.h"
#include "history.h"

static CoiommuStats stats;

static void setup(CoiommuHistory *history)
{
    memset(&stats, 0, sizeof(stats));
    coiommu_history_init(history, &stats);
    coiommu_history_start(history);
}

/* One of two blocks that have been let go together comes back. */
static void returns(CoiommuHistory *history, uint64_t block)
{
    coiommu_history_unpinned(history, block, 7);
    coiommu_history_unpinned(history, block + 1, 7);
    coiommu_history_pinned(history, block);
}

static unsigned hints(CoiommuHistory *history)
{
    unsigned count;

    qemu_mutex_lock(&history->lock);
    count = history->predictor.hints;
    qemu_mutex_unlock(&history->lock);
    return count;
}

/* A hint comes with the generation and the limit that it was noted under. */
static void test_next(void)
{
    CoiommuHistory history;
    CoiommuHinted hinted;

    setup(&history);
    coiommu_history_reset(&history, 5);
    coiommu_history_set_max_bytes(&history, 3 * MiB);
    returns(&history, 1);
    g_assert_cmpuint(stat64_get(&stats.repins), ==, 1);
    g_assert_true(coiommu_history_next(&history, &hinted));
    g_assert_cmpuint(hinted.count, ==, 1);
    g_assert_cmpuint(hinted.blocks[0], ==, 2);
    g_assert_cmpint(hinted.guess, ==, COIOMMU_GUESS_AHEAD);
    g_assert_cmpuint(hinted.generation, ==, 5);
    g_assert_cmpuint(hinted.max_bytes, ==, 3 * MiB);
    coiommu_history_fixed(&history, 8);
    g_assert_true(coiommu_history_next(&history, &hinted));
    g_assert_cmpuint(hinted.blocks[0], ==, 9);
    coiommu_history_destroy(&history);
}

/* What was seen of earlier pins, or with ahead=0, leaves no hint. */
static void test_no_hints(void)
{
    CoiommuHistory history;

    setup(&history);
    returns(&history, 1);
    coiommu_history_fixed(&history, 8);
    g_assert_cmpuint(hints(&history), ==, 2);
    coiommu_history_reset(&history, 1);
    g_assert_cmpuint(hints(&history), ==, 0);
    coiommu_history_pinned(&history, 2);
    g_assert_cmpuint(stat64_get(&stats.repins), ==, 1);
    coiommu_history_set_max_bytes(&history, 0);
    returns(&history, 1);
    coiommu_history_fixed(&history, 8);
    g_assert_cmpuint(hints(&history), ==, 0);
    g_assert_cmpuint(stat64_get(&stats.repins), ==, 2);
    coiommu_history_destroy(&history);
}

static void *next_thread(void *opaque)
{
    CoiommuHinted hinted;

    return GINT_TO_POINTER(coiommu_history_next(opaque, &hinted));
}

/*
 * After a lack of room hints are lost, and the thread waits for others, until
 * it is to stop.
 */
static void test_no_room(void)
{
    CoiommuHistory history;
    pthread_t thread;
    void *taken;

    setup(&history);
    returns(&history, 1);
    coiommu_history_no_room(&history);
    history.hold_until_ms += 3600 * 1000;
    pthread_create(&thread, NULL, next_thread, &history);
    while (hints(&history)) {
        g_usleep(1000);
    }
    g_assert_false(coiommu_history_stopped(&history));
    coiommu_history_stop(&history);
    pthread_join(thread, &taken);
    g_assert_false(GPOINTER_TO_INT(taken));
    g_assert_true(coiommu_history_stopped(&history));
    coiommu_history_destroy(&history);
}

/* Of speculative blocks, those that were pinned ahead are counted. */
static void test_counters(void)
{
    CoiommuHistory history;

    setup(&history);
    coiommu_history_used(&history, COIOMMU_GUESS_NONE);
    coiommu_history_used(&history, COIOMMU_GUESS_ESCAPE);
    g_assert_cmpuint(stat64_get(&stats.ahead_used), ==, 0);
    coiommu_history_used(&history, COIOMMU_GUESS_AHEAD);
    g_assert_cmpuint(stat64_get(&stats.ahead_used), ==, 1);
    coiommu_history_unused(&history, 4, COIOMMU_GUESS_NONE);
    coiommu_history_unused(&history, 4, COIOMMU_GUESS_ESCAPE);
    g_assert_cmpuint(stat64_get(&stats.ahead_unused), ==, 0);
    coiommu_history_unused(&history, 4, COIOMMU_GUESS_AHEAD);
    g_assert_cmpuint(stat64_get(&stats.ahead_unused), ==, 1);
    coiommu_history_destroy(&history);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/history/next", test_next);
    g_test_add_func("/history/no-hints", test_no_hints);
    g_test_add_func("/history/no-room", test_no_room);
    g_test_add_func("/history/counters", test_counters);
    return g_test_run();
}
