/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine of pinning with real threads: guests map and unmap, requests pin,
 * a thread unpins, another pins ahead, a third closes the gate and changes
 * things.  The host refuses maps and unmaps now and then.
 *
 * What locks guard is kept in plain variables (engine.h), so that the thread
 * sanitizer finds each access that they don't order; without it, the assertions
 * find wrong results.
 */
#include "osdep.h"
#include "demand.h"
#include "engine.h"
#include "let-go.h"

#define GUESTS          3
#define QUOTA_BLOCKS    6
#define AHEAD_BLOCKS    2
#define SECONDS         2
#define PATIENCE        60

typedef struct Device {
    Engine *e;
    pthread_mutex_t bql;
    /* Read with the big lock or in the gate, written with both. */
    int state;
    bool stop;
    unsigned pinned, let_go, refused, closes, locked, ahead;
} Device;

static bool stopping(Device *d)
{
    return __atomic_load_n(&d->stop, __ATOMIC_RELAXED);
}

static void count(unsigned *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static void bql_lock(Device *d)
{
    pthread_mutex_lock(&d->bql);
    coiommu_standalone_bql = true;
}

static void bql_unlock(Device *d)
{
    coiommu_standalone_bql = false;
    pthread_mutex_unlock(&d->bql);
}

/* ---- The host, which refuses one of so many ---- */

static unsigned host_calls;

static bool one_of(unsigned many)
{
    return __atomic_fetch_add(&host_calls, 1, __ATOMIC_RELAXED) % many == 0;
}

/* Now for the one reason, now for the other. */
static int map_error(void)
{
    return one_of(101) ? -EIO : one_of(211) ? -ENOMEM : 0;
}

static bool refuse_unmap(void)
{
    return one_of(37);
}

/* ---- The device ---- */

/* Pin the blocks from *@first on.  Returns what became of the last one. */
static int serve(Device *d, uint64_t *first, uint64_t last)
{
    int before = d->state, ret = 0;

    for (; *first <= last && ret >= 0; *first += ret >= 0) {
        ret = coiommu_demand_pin(&d->e->pins, *first * BLOCK, BLOCK,
                                 INT64_MAX);
        if (ret > 0) {
            count(&d->pinned);
        }
    }
    g_assert_cmpint(d->state, ==, before);
    return ret;
}

static int serve_locked(Device *d, uint64_t *first, uint64_t last)
{
    int ret;

    count(&d->locked);
    bql_lock(d);
    ret = serve(d, first, last);
    bql_unlock(d);
    return ret;
}

static bool request(Device *d, uint64_t first, uint64_t last)
{
    int ret;

    do {
        if (coiommu_gate_enter(&d->e->gate)) {
            ret = serve(d, &first, last);
            coiommu_gate_leave(&d->e->gate);
        } else {
            ret = serve_locked(d, &first, last);
        }
        /* A writer waits: let it in. */
    } while (ret == -EINTR);
    return ret >= 0;
}

static void unpin_some(Device *d)
{
    CoiommuPins *pins = &d->e->pins;
    size_t hand = coiommu_pinset_end(&pins->set);
    uint64_t blocks[2];
    size_t i, found;

    while (hand) {
        found = coiommu_pinset_walk(&pins->set, &hand, NULL, NULL, blocks, 2);
        for (i = 0; i < found; i++) {
            CoiommuCandidate c = {
                .look = coiommu_let_go_look(pins, blocks[i]),
            };

            /* A guest may count between the look and the rest. */
            g_thread_yield();
            if (coiommu_let_go(pins, blocks[i], &c)) {
                count(&d->let_go);
            }
        }
    }
}

static void *unpin_thread(void *opaque)
{
    Device *d = opaque;

    while (!stopping(d)) {
        if (coiommu_gate_enter(&d->e->gate)) {
            int before = d->state;

            unpin_some(d);
            g_assert_cmpint(d->state, ==, before);
            coiommu_gate_leave(&d->e->gate);
        }
    }
    return NULL;
}

static void *ahead_thread(void *opaque)
{
    Device *d = opaque;
    CoiommuPins *pins = &d->e->pins;
    unsigned i;

    for (i = 0; !stopping(d); i++) {
        if (coiommu_gate_enter(&d->e->gate)) {
            int before = d->state;

            if (coiommu_pins_pin_guess(pins, i * 5 % BLOCKS,
                                       COIOMMU_GUESS_AHEAD,
                                       AHEAD_BLOCKS * BLOCK) > 0) {
                count(&d->ahead);
            }
            g_assert_cmpint(d->state, ==, before);
            coiommu_gate_leave(&d->e->gate);
        }
        g_assert_cmpuint(coiommu_pinset_totals(&pins->set).ahead, <=,
                         AHEAD_BLOCKS * BLOCK);
    }
    return NULL;
}

/* With the gate closed no thread is in any block. */
static void change_things(Device *d)
{
    CoiommuPins *pins = &d->e->pins;

    coiommu_gate_close(&d->e->gate);
    d->state++;
    engine_check(d->e);
    coiommu_gate_close(&d->e->gate);
    d->state++;
    if (d->closes % 64 == 0) {
        coiommu_pins_withdraw_all(pins);
        coiommu_pins_publish_all(pins);
    }
    coiommu_gate_open(&d->e->gate);
    coiommu_refusal_reset(&pins->refusal);
    d->state++;
    d->closes++;
    coiommu_gate_open(&d->e->gate);
}

static void *control_thread(void *opaque)
{
    Device *d = opaque;
    size_t hand = 0;

    while (!stopping(d)) {
        bql_lock(d);
        change_things(d);
        coiommu_pins_retry_stuck(&d->e->pins, &hand, 2);
        bql_unlock(d);
        g_usleep(200);
    }
    return NULL;
}

/* ---- A guest ---- */

typedef struct Guest {
    Device *d;
    uint32_t seed;
} Guest;

static void put(Engine *e, unsigned first, unsigned last)
{
    for (; first <= last; first++) {
        __atomic_fetch_sub(&e->leaf[first], GUINT32_TO_LE(1),
                           __ATOMIC_RELEASE);
    }
}

static void map_unmap(Device *d, unsigned first, unsigned last)
{
    Engine *e = d->e;
    bool pinned = true;
    unsigned unit;

    for (unit = first; unit <= last; unit++) {
        pinned &= !!(__atomic_fetch_add(&e->leaf[unit], GUINT32_TO_LE(1),
                                        __ATOMIC_SEQ_CST) &
                     GUINT32_TO_LE(COIOMMU_DTT_PINNED));
    }
    if (!pinned && !request(d, first / BLOCK_UNITS, last / BLOCK_UNITS)) {
        count(&d->refused);
        /* After a refusal there is a pause, in which the host isn't asked. */
        g_usleep(100);
    } else {
        /* The DMA. */
        for (unit = first; unit <= last; unit++) {
            g_assert_cmpuint(e->host[unit / BLOCK_UNITS].mapped, ==, BLOCK);
        }
    }
    put(e, first, last);
}

static void *guest_thread(void *opaque)
{
    Guest *guest = opaque;

    while (!stopping(guest->d)) {
        unsigned first, last;

        guest->seed = guest->seed * 1664525 + 1013904223;
        first = (guest->seed >> 16) % (BLOCKS * BLOCK_UNITS);
        last = MIN(first + (guest->seed >> 24) % 5, BLOCKS * BLOCK_UNITS - 1);
        map_unmap(guest->d, first, last);
    }
    return NULL;
}

/* Has each of the device's own threads done something? */
static bool all_busy(Device *d)
{
    unsigned closes;

    bql_lock(d);
    closes = d->closes;
    bql_unlock(d);
    return closes && __atomic_load_n(&d->let_go, __ATOMIC_RELAXED) &&
           __atomic_load_n(&d->ahead, __ATOMIC_RELAXED) &&
           __atomic_load_n(&d->refused, __ATOMIC_RELAXED) &&
           stat64_get(&d->e->stats.unpin_races);
}

static void run_threads(Device *d)
{
    pthread_t guests[GUESTS], unpinner, ahead, control;
    Guest state[GUESTS];
    unsigned i;

    for (i = 0; i < GUESTS; i++) {
        state[i] = (Guest) { d, i + 1 };
        pthread_create(&guests[i], NULL, guest_thread, &state[i]);
    }
    pthread_create(&unpinner, NULL, unpin_thread, d);
    pthread_create(&ahead, NULL, ahead_thread, d);
    pthread_create(&control, NULL, control_thread, d);
    /* A machine that is busy with other things takes longer. */
    for (i = 0; i < PATIENCE && (i < SECONDS || !all_busy(d)); i++) {
        g_usleep(G_USEC_PER_SEC);
    }
    __atomic_store_n(&d->stop, true, __ATOMIC_RELAXED);
    for (i = 0; i < GUESTS; i++) {
        pthread_join(guests[i], NULL);
    }
    pthread_join(unpinner, NULL);
    pthread_join(ahead, NULL);
    pthread_join(control, NULL);
}

static void test_threads(void)
{
    Device d = { .e = engine_new() };
    Engine *e = d.e;
    CoiommuPinTotals totals;
    unsigned i;

    pthread_mutex_init(&d.bql, NULL);
    coiommu_pinset_set_quota(&e->pins.set, QUOTA_BLOCKS * BLOCK);
    e->map_error = map_error;
    e->refuse_unmap = refuse_unmap;
    run_threads(&d);
    g_test_message("%u pinned, %u let go, %u races, %u refused, %u closes, "
                   "%u requests with the big lock, %u ahead, %u calls of the "
                   "host", d.pinned, d.let_go,
                   (unsigned)stat64_get(&e->stats.unpin_races), d.refused,
                   d.closes, d.locked, d.ahead, host_calls);
    g_assert_cmpuint(d.let_go, >, 0);
    g_assert_cmpuint(d.refused, >, 0);
    g_assert_cmpuint(d.ahead, >, 0);
    g_assert_cmpuint(d.closes, >, 0);
    engine_check(e);
    totals = coiommu_pinset_totals(&e->pins.set);
    g_assert_cmpuint(totals.peak, <=, QUOTA_BLOCKS * BLOCK);
    g_assert_cmpuint(d.pinned + d.ahead -
                     stat64_get(&e->stats.unpinned_blocks), ==, totals.pinned);
    g_assert_cmpuint(totals.ahead, ==, totals.guesses * BLOCK);
    g_assert_cmpuint(stat64_get(&e->stats.ahead_pins) + d.ahead -
                     stat64_get(&e->stats.ahead_used) -
                     stat64_get(&e->stats.ahead_unused), ==, totals.guesses);
    for (i = 0; i < BLOCKS * BLOCK_UNITS; i++) {
        bool pinned = coiommu_pinset_has(&e->pins.set, i / BLOCK_UNITS);

        g_assert_cmpuint(GUINT32_FROM_LE(e->leaf[i]), ==,
                         pinned ? COIOMMU_DTT_PINNED : 0);
    }
    engine_free(e);
    pthread_mutex_destroy(&d.bql);
}

/* ---- Turns ---- */

typedef struct Turns {
    CoiommuPinset pins;
    unsigned order[GUESTS];
    unsigned served;
} Turns;

typedef struct Waiter {
    Turns *turns;
    unsigned number;
} Waiter;

static void *waiter_thread(void *opaque)
{
    Waiter *waiter = opaque;
    Turns *turns = waiter->turns;

    coiommu_pinset_enter(&turns->pins, 1, NULL);
    turns->order[turns->served++] = waiter->number;
    coiommu_pinset_leave(&turns->pins, 1);
    return NULL;
}

/* Who asked first comes in first, and nobody gets in by trying meanwhile. */
static void test_turns(void)
{
    Turns turns = { 0 };
    pthread_t threads[GUESTS];
    Waiter waiters[GUESTS];
    CoiommuPin pin;
    unsigned i;

    coiommu_pinset_init(&turns.pins);
    coiommu_pinset_enter(&turns.pins, 1, NULL);
    coiommu_pinset_reserve(&turns.pins, 1, 4096);
    coiommu_pinset_commit(&turns.pins, 1);
    for (i = 0; i < GUESTS; i++) {
        waiters[i] = (Waiter) { &turns, i };
        pthread_create(&threads[i], NULL, waiter_thread, &waiters[i]);
        do {
            g_usleep(1000);
            g_assert_true(coiommu_pinset_get(&turns.pins, 0, &pin));
        } while (pin.next != i + 2);
    }
    coiommu_pinset_leave(&turns.pins, 1);
    /* Whoever is in now: trying succeeds only when all have been. */
    while (!coiommu_pinset_try_enter(&turns.pins, 1, NULL, NULL, NULL)) {
        g_usleep(10);
    }
    g_assert_cmpuint(turns.served, ==, GUESTS);
    coiommu_pinset_leave(&turns.pins, 1);
    for (i = 0; i < GUESTS; i++) {
        pthread_join(threads[i], NULL);
        g_assert_cmpuint(turns.order[i], ==, i);
    }
    coiommu_pinset_destroy(&turns.pins);
}

typedef struct Unmap {
    CoiommuPinset *pins;
    unsigned ms;
} Unmap;

/* An unmap that takes its time. */
static void *releasing_thread(void *opaque)
{
    Unmap *unmap = opaque;

    g_usleep(unmap->ms * 1000);
    coiommu_pinset_release(unmap->pins, 1, 0);
    coiommu_pinset_leave(unmap->pins, 1);
    return NULL;
}

/* Returns whether there was still something to wait for. */
static bool wait_release(unsigned ms)
{
    CoiommuPinset pins;
    Unmap unmap = { &pins, ms };
    pthread_t thread;
    bool waited;

    coiommu_pinset_init(&pins);
    coiommu_pinset_set_quota(&pins, 4096);
    coiommu_pinset_enter(&pins, 1, NULL);
    coiommu_pinset_reserve(&pins, 1, 4096);
    coiommu_pinset_commit(&pins, 1);
    coiommu_pinset_withdraw(&pins, 1);
    coiommu_pinset_enter(&pins, 2, NULL);
    g_assert_false(coiommu_pinset_reserve(&pins, 2, 4096));
    pthread_create(&thread, NULL, releasing_thread, &unmap);
    waited = coiommu_pinset_wait_release(&pins);
    g_assert_true(coiommu_pinset_reserve(&pins, 2, 4096));
    pthread_join(thread, NULL);
    coiommu_pinset_release(&pins, 2, 0);
    coiommu_pinset_leave(&pins, 2);
    g_assert_cmpuint(coiommu_pinset_end(&pins), ==, 0);
    coiommu_pinset_destroy(&pins);
    return waited;
}

/*
 * Who waits for room is woken by an unmap that ends.  On a machine that is busy
 * it may have ended before: then with one that takes longer.
 */
static void test_wait_release(void)
{
    unsigned ms = 20;

    while (!wait_release(ms)) {
        ms *= 2;
        g_assert_cmpuint(ms, <, 20000);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/threads/stress", test_threads);
    g_test_add_func("/threads/turns", test_turns);
    g_test_add_func("/threads/wait-release", test_wait_release);
    return g_test_run();
}
