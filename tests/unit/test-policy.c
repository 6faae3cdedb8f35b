/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When blocks are let go: the policies on scripts of looks, and the table of
 * recently unpinned blocks against a naive reference.
 */
#include "osdep.h"
#include "policy.h"
#include "recent.h"

static const CoiommuLook idle = { false, false };
static const CoiommuLook idle_used = { false, true };
static const CoiommuLook busy = { true, false };
static const CoiommuLook busy_used = { true, true };

/* One interval: 'k'ept, let 'g'o, or passed over '-'. */
static char interval(const CoiommuPolicy *policy, CoiommuAge *age,
                     CoiommuLook look, int64_t now)
{
    if (!coiommu_policy_due(policy, age)) {
        return '-';
    }
    return coiommu_policy_judge(policy, age, look, now) ? 'g' : 'k';
}

static void test_off(void)
{
    CoiommuPolicy policy = { .kind = COIOMMU_POLICY_OFF };
    CoiommuAge age;
    int i;

    coiommu_age_init(&age);
    for (i = 0; i < 100; i++) {
        g_assert_cmpint(interval(&policy, &age, idle, i), ==, '-');
        g_assert_false(coiommu_policy_judge(&policy, &age, idle, i));
    }
}

static void test_lazy(void)
{
    CoiommuPolicy policy = { .kind = COIOMMU_POLICY_LAZY,
                             .has_accessed = true };
    CoiommuAge age;

    coiommu_age_init(&age);
    /* Used before each look: stays. */
    g_assert_cmpint(interval(&policy, &age, idle_used, 0), ==, 'k');
    g_assert_cmpint(interval(&policy, &age, busy_used, 0), ==, 'k');
    g_assert_cmpint(interval(&policy, &age, idle_used, 0), ==, 'k');
    g_assert_cmpint(interval(&policy, &age, idle, 0), ==, 'g');
    /* Never used since it was pinned. */
    coiommu_age_init(&age);
    g_assert_cmpint(interval(&policy, &age, idle, 0), ==, 'g');
}

/* Without ACCESSED the second chance is an interval after the last use. */
static void test_lazy_blind(void)
{
    CoiommuPolicy policy = { .kind = COIOMMU_POLICY_LAZY };
    CoiommuAge age;
    int i;

    coiommu_age_init(&age);
    g_assert_cmpint(interval(&policy, &age, idle, 0), ==, 'k');
    for (i = 0; i < 20; i++) {
        g_assert_cmpint(interval(&policy, &age, busy, 0), ==, 'k');
    }
    g_assert_cmpint(interval(&policy, &age, idle, 0), ==, 'k');
    g_assert_cmpint(interval(&policy, &age, idle, 0), ==, 'g');
}

/* Mappings that stay are looked at less often, down to every 8th interval. */
static void test_generations(void)
{
    CoiommuPolicy policy = { .kind = COIOMMU_POLICY_LAZY,
                             .has_accessed = true };
    const char *want = "kk-k---k-------k-------k-------k";
    CoiommuAge age;
    size_t i;

    coiommu_age_init(&age);
    for (i = 0; i < strlen(want); i++) {
        CoiommuLook look = i ? busy : busy_used;

        g_assert_cmpint(interval(&policy, &age, look, 0), ==, want[i]);
    }
    /* A new mapping makes it young again. */
    while (interval(&policy, &age, busy_used, 0) == '-') {
        continue;
    }
    g_assert_cmpint(interval(&policy, &age, busy_used, 0), ==, 'k');
    g_assert_cmpint(interval(&policy, &age, idle_used, 0), ==, 'k');
    g_assert_cmpint(interval(&policy, &age, idle, 0), ==, 'g');
}

/* That a block has settled is said once, when it is old, until it is pinned. */
static void test_settled(void)
{
    CoiommuPolicy policy = { .kind = COIOMMU_POLICY_LAZY,
                             .has_accessed = true };
    const char *want = ".......s........................";
    CoiommuAge age;
    size_t i;

    coiommu_age_init(&age);
    for (i = 0; i < strlen(want); i++) {
        interval(&policy, &age, i ? busy : busy_used, 0);
        g_assert_cmpint(coiommu_policy_take_long_lived(&age) ? 's' : '.', ==,
                        want[i]);
    }
    /* Young and old again. */
    for (i = 0; i < 100; i++) {
        interval(&policy, &age, i == 10 ? busy_used : busy, 0);
        g_assert_false(coiommu_policy_take_long_lived(&age));
    }
    coiommu_age_init(&age);
    age.generation = COIOMMU_GENERATION_MAX;
    g_assert_true(coiommu_policy_take_long_lived(&age));
}

static void test_guess(void)
{
    CoiommuAge age;
    int i;

    coiommu_age_init(&age);
    for (i = 1; i < COIOMMU_GUESS_LOOKS; i++) {
        g_assert_false(coiommu_policy_judge_guess(&age));
    }
    g_assert_true(coiommu_policy_judge_guess(&age));
}

/*
 * However a block was used, when its mappings come and go at each interval it
 * is let go within three intervals after the last.
 */
static void test_three_intervals(void)
{
    unsigned script, has_accessed;

    for (script = 0; script < 1 << 12; script++) {
        for (has_accessed = 0; has_accessed < 2; has_accessed++) {
            CoiommuPolicy policy = { .kind = COIOMMU_POLICY_LAZY,
                                     .has_accessed = has_accessed };
            CoiommuAge age;
            int i, gone = 0;

            coiommu_age_init(&age);
            for (i = 0; i < 12; i++) {
                CoiommuLook look = { script >> i & 1, has_accessed };

                interval(&policy, &age, look, 0);
            }
            for (i = 0; i < 3 && !gone; i++) {
                CoiommuLook look = { false, has_accessed && !i };

                gone = interval(&policy, &age, look, 0) == 'g';
            }
            g_assert_true(gone);
        }
    }
}

/*
 * Against the definition: idle at each look for at least the window, and looked
 * at by this policy: another one has its time now and then.
 */
static void test_timeout(void)
{
    const CoiommuPolicy lazy = { .kind = COIOMMU_POLICY_LAZY,
                                 .has_accessed = true };
    int run;

    for (run = 0; run < 2000; run++) {
        CoiommuPolicy policy = { .kind = COIOMMU_POLICY_TIMEOUT,
                                 .has_accessed = true,
                                 .window_ms = g_test_rand_int_range(0, 50) };
        int64_t now = g_test_rand_int_range(0, 1000), since = -1;
        CoiommuAge age;
        int i;

        coiommu_age_init(&age);
        for (i = 0; i < 50; i++) {
            CoiommuLook look = { g_test_rand_int_range(0, 8) == 0,
                                 g_test_rand_int_range(0, 8) == 0 };
            bool go;

            if (g_test_rand_int_range(0, 16) == 0) {
                if (g_test_rand_int_range(0, 2)) {
                    interval(&lazy, &age, look, now);
                }
                now += g_test_rand_int_range(1, 100);
                policy.since_ms = now;
                since = -1;
            }
            if (look.busy) {
                since = -1;
            } else if (since < 0 || look.accessed) {
                since = now;
            }
            go = since >= 0 && now - since >= policy.window_ms;
            g_assert_cmpint(interval(&policy, &age, look, now), ==,
                            go ? 'g' : 'k');
            now += g_test_rand_int_range(0, 20);
        }
    }
}

static void test_recent(void)
{
    g_autofree CoiommuRecent *recent = g_new0(CoiommuRecent, 1);
    int64_t at[COIOMMU_RECENT_SLOTS * 2];
    uint64_t pass[COIOMMU_RECENT_SLOTS * 2];
    int64_t now = 0;
    uint64_t got;
    size_t i;
    int step;

    for (i = 0; i < G_N_ELEMENTS(at); i++) {
        at[i] = -1;
        g_assert_false(coiommu_recent_take(recent, i, 0, INT64_MAX, &got));
    }
    for (step = 0; step < 100000; step++) {
        i = g_test_rand_int_range(0, G_N_ELEMENTS(at));
        now += g_test_rand_int_range(0, 3);
        if (g_test_rand_int_range(0, 2)) {
            pass[i] = g_test_rand_int();
            coiommu_recent_note(recent, i, pass[i], now);
            at[i] = now;
            /* It has thrown out the one that shares its place. */
            at[(i + COIOMMU_RECENT_SLOTS) % G_N_ELEMENTS(at)] = -1;
        } else {
            bool want = at[i] >= 0 && now - at[i] <= 1000;

            g_assert_cmpint(coiommu_recent_has(recent, i, now, 1000), ==,
                            want);
            g_assert_cmpint(coiommu_recent_take(recent, i, now, 1000, &got),
                            ==, want);
            if (want) {
                g_assert_cmpuint(got, ==, pass[i]);
            }
            at[i] = -1;
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/policy/off", test_off);
    g_test_add_func("/policy/lazy", test_lazy);
    g_test_add_func("/policy/lazy-blind", test_lazy_blind);
    g_test_add_func("/policy/generations", test_generations);
    g_test_add_func("/policy/settled", test_settled);
    g_test_add_func("/policy/guess", test_guess);
    g_test_add_func("/policy/three-intervals", test_three_intervals);
    g_test_add_func("/policy/timeout", test_timeout);
    g_test_add_func("/policy/recent", test_recent);
    return g_test_run();
}
