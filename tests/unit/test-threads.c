/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device's locking with real threads, on the code that runs in QEMU: gate,
 * pin set, table, policy.  Guests map and unmap, requests pin, a thread
 * unpins, another pins ahead, somebody closes the gate and changes things.
 *
 * What the locks are to guard is kept in plain variables, so that the thread
 * sanitizer finds each access that they don't order; without it, the
 * assertions find wrong results.
 */
#include "osdep.h"
#include "dtt.h"
#include "gate.h"
#include "pinset.h"
#include "../include/coiommu_abi.h"

#define BLOCKS          8
#define BLOCK_UNITS     4
#define BLOCK_BYTES     65536
#define GUESTS          3
#define QUOTA_BLOCKS    6
#define AHEAD_BLOCKS    2
#define SECONDS         2
#define PATIENCE        60

typedef struct Device {
    pthread_mutex_t bql;
    CoiommuGate gate;
    CoiommuPinset pins;
    uint32_t leaf[COIOMMU_DTT_LEAF_ENTRIES];
    /* Guarded by the block, and read by guests that rely on it. */
    int mapped[BLOCKS];
    /* Read with the big lock or in the gate, written with both. */
    int state;
    bool stop;
    unsigned pins_done, unpins_done, races, refused, closes, locked;
    unsigned ahead, used, unused;
} Device;

static bool stopping(Device *d)
{
    return __atomic_load_n(&d->stop, __ATOMIC_RELAXED);
}

static void count(unsigned *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* ---- The device ---- */

/*
 * In the block.  The device has a full barrier before it looks at the counts;
 * the thread sanitizer knows none.  With count and PINNED in one word there is
 * nothing for it to order (tests/model/README.md).
 */
static bool unpin_try(Device *d, uint64_t block)
{
    unsigned slot = block * BLOCK_UNITS;

    coiommu_dtt_withdraw(d->leaf, slot, BLOCK_UNITS);
    if (coiommu_dtt_busy(d->leaf, slot, BLOCK_UNITS)) {
        coiommu_dtt_publish(d->leaf, slot, BLOCK_UNITS);
        count(&d->races);
        return false;
    }
    if (coiommu_pinset_withdraw(&d->pins, block)) {
        count(&d->unused);
    }
    g_assert_cmpint(d->mapped[block], ==, 1);
    d->mapped[block] = 0;
    coiommu_pinset_release(&d->pins, block, 0);
    count(&d->unpins_done);
    return true;
}

static void note_used(Device *d, uint64_t block)
{
    if (coiommu_pinset_used(&d->pins, block)) {
        count(&d->used);
    }
}

/* Let go of up to @max idle blocks; returns how many. */
static unsigned unpin_some(Device *d, unsigned max)
{
    size_t hand = coiommu_pinset_end(&d->pins);
    uint64_t blocks[2];
    unsigned gone = 0;
    size_t i, found;

    while (hand && gone < max) {
        found = coiommu_pinset_walk(&d->pins, &hand, NULL, NULL, blocks, 2);
        for (i = 0; i < found && gone < max; i++) {
            if (coiommu_dtt_busy(d->leaf, blocks[i] * BLOCK_UNITS,
                                 BLOCK_UNITS)) {
                note_used(d, blocks[i]);
                continue;
            }
            if (!coiommu_pinset_try_enter(&d->pins, blocks[i], NULL, NULL)) {
                continue;
            }
            gone += unpin_try(d, blocks[i]);
            coiommu_pinset_leave(&d->pins, blocks[i]);
        }
    }
    return gone;
}

static bool pin_attempt(Device *d, uint64_t block)
{
    bool pinned = coiommu_pinset_enter(&d->pins, block);

    g_assert_cmpint(d->mapped[block], ==, pinned);
    if (pinned) {
        note_used(d, block);
    }
    if (!pinned && coiommu_pinset_reserve(&d->pins, block, BLOCK_BYTES)) {
        d->mapped[block] = 1;
        coiommu_pinset_commit(&d->pins, block);
        count(&d->pins_done);
        pinned = true;
    }
    if (pinned) {
        coiommu_dtt_publish(d->leaf, block * BLOCK_UNITS, BLOCK_UNITS);
    }
    coiommu_pinset_leave(&d->pins, block);
    return pinned;
}

static bool serve(Device *d, uint64_t first, uint64_t last)
{
    int before = d->state;
    bool ok = true;
    uint64_t block;

    for (block = first; block <= last && ok; block++) {
        int attempt;

        ok = pin_attempt(d, block);
        for (attempt = 0; !ok && attempt < 8; attempt++) {
            if (!unpin_some(d, 1) && !coiommu_pinset_wait_release(&d->pins)) {
                break;
            }
            ok = pin_attempt(d, block);
        }
    }
    g_assert_cmpint(d->state, ==, before);
    return ok;
}

static bool request(Device *d, uint64_t first, uint64_t last)
{
    bool ok;

    if (coiommu_gate_enter(&d->gate)) {
        ok = serve(d, first, last);
        coiommu_gate_leave(&d->gate);
    } else {
        count(&d->locked);
        pthread_mutex_lock(&d->bql);
        ok = serve(d, first, last);
        pthread_mutex_unlock(&d->bql);
    }
    return ok;
}

static void *unpin_thread(void *opaque)
{
    Device *d = opaque;

    while (!stopping(d)) {
        if (coiommu_gate_enter(&d->gate)) {
            int before = d->state;

            unpin_some(d, BLOCKS);
            g_assert_cmpint(d->state, ==, before);
            coiommu_gate_leave(&d->gate);
        }
    }
    return NULL;
}

static void pin_guess(Device *d, uint64_t block)
{
    if (!coiommu_pinset_try_add(&d->pins, block)) {
        return;
    }
    g_assert_cmpint(d->mapped[block], ==, 0);
    if (coiommu_pinset_reserve_guess(&d->pins, block, BLOCK_BYTES,
                                     COIOMMU_GUESS_AHEAD,
                                     AHEAD_BLOCKS * BLOCK_BYTES)) {
        d->mapped[block] = 1;
        coiommu_pinset_commit(&d->pins, block);
        count(&d->pins_done);
        count(&d->ahead);
        coiommu_dtt_publish(d->leaf, block * BLOCK_UNITS, BLOCK_UNITS);
    }
    coiommu_pinset_leave(&d->pins, block);
}

static void *ahead_thread(void *opaque)
{
    Device *d = opaque;
    unsigned i;

    for (i = 0; !stopping(d); i++) {
        if (coiommu_gate_enter(&d->gate)) {
            int before = d->state;

            pin_guess(d, i * 5 % BLOCKS);
            g_assert_cmpint(d->state, ==, before);
            coiommu_gate_leave(&d->gate);
        }
        g_assert_cmpuint(coiommu_pinset_totals(&d->pins).ahead, <=,
                         AHEAD_BLOCKS * BLOCK_BYTES);
    }
    return NULL;
}

static void *control_thread(void *opaque)
{
    Device *d = opaque;

    while (!stopping(d)) {
        pthread_mutex_lock(&d->bql);
        coiommu_gate_close(&d->gate);
        d->state++;
        coiommu_gate_close(&d->gate);
        d->state++;
        coiommu_gate_open(&d->gate);
        d->state++;
        coiommu_gate_open(&d->gate);
        d->closes++;
        pthread_mutex_unlock(&d->bql);
        g_usleep(200);
    }
    return NULL;
}

/* ---- A guest ---- */

typedef struct Guest {
    Device *d;
    uint32_t seed;
} Guest;

static void put(Device *d, unsigned first, unsigned last)
{
    for (; first <= last; first++) {
        __atomic_fetch_sub(&d->leaf[first], GUINT32_TO_LE(1),
                           __ATOMIC_RELEASE);
    }
}

static void map_unmap(Device *d, unsigned first, unsigned last)
{
    bool pinned = true;
    unsigned unit;

    for (unit = first; unit <= last; unit++) {
        pinned &= !!(__atomic_fetch_add(&d->leaf[unit], GUINT32_TO_LE(1),
                                        __ATOMIC_SEQ_CST) &
                     GUINT32_TO_LE(COIOMMU_DTT_PINNED));
    }
    if (!pinned && !request(d, first / BLOCK_UNITS, last / BLOCK_UNITS)) {
        count(&d->refused);
    } else {
        /* The DMA. */
        for (unit = first; unit <= last; unit++) {
            g_assert_cmpint(d->mapped[unit / BLOCK_UNITS], ==, 1);
        }
    }
    put(d, first, last);
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

/* Has each of our own threads done something? */
static bool all_busy(Device *d)
{
    unsigned closes;

    pthread_mutex_lock(&d->bql);
    closes = d->closes;
    pthread_mutex_unlock(&d->bql);
    return closes && __atomic_load_n(&d->unpins_done, __ATOMIC_RELAXED) &&
           __atomic_load_n(&d->ahead, __ATOMIC_RELAXED);
}

static void test_threads(void)
{
    g_autofree Device *d = g_new0(Device, 1);
    pthread_t guests[GUESTS], unpinner, ahead, control;
    Guest state[GUESTS];
    CoiommuPinTotals totals;
    unsigned i;

    pthread_mutex_init(&d->bql, NULL);
    coiommu_gate_init(&d->gate);
    coiommu_pinset_init(&d->pins);
    coiommu_pinset_set_quota(&d->pins, QUOTA_BLOCKS * BLOCK_BYTES);
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

    g_test_message("%u pins, %u unpins, %u races, %u refused, %u closes, "
                   "%u requests with the big lock; %u ahead, %u used, "
                   "%u unused", d->pins_done, d->unpins_done, d->races,
                   d->refused, d->closes, d->locked, d->ahead, d->used,
                   d->unused);
    totals = coiommu_pinset_totals(&d->pins);
    g_assert_cmpuint(d->pins_done - d->unpins_done, ==, totals.pinned);
    g_assert_cmpuint(totals.pinned, ==, coiommu_pinset_end(&d->pins));
    g_assert_cmpuint(totals.charged, ==, totals.pinned * BLOCK_BYTES);
    g_assert_cmpuint(totals.peak, <=, QUOTA_BLOCKS * BLOCK_BYTES);
    g_assert_cmpuint(d->ahead - d->used - d->unused, ==, totals.guesses);
    g_assert_cmpuint(totals.ahead, ==, totals.guesses * BLOCK_BYTES);
    g_assert_cmpuint(d->unpins_done, >, 0);
    g_assert_cmpuint(d->ahead, >, 0);
    g_assert_cmpuint(d->closes, >, 0);
    for (i = 0; i < BLOCKS * BLOCK_UNITS; i++) {
        bool pinned = coiommu_pinset_has(&d->pins, i / BLOCK_UNITS);

        g_assert_cmpuint(GUINT32_FROM_LE(d->leaf[i]), ==,
                         pinned ? COIOMMU_DTT_PINNED : 0);
        g_assert_cmpint(d->mapped[i / BLOCK_UNITS], ==, pinned);
    }
    coiommu_pinset_destroy(&d->pins);
    coiommu_gate_destroy(&d->gate);
    pthread_mutex_destroy(&d->bql);
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

    coiommu_pinset_enter(&turns->pins, 1);
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
    coiommu_pinset_enter(&turns.pins, 1);
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
    while (!coiommu_pinset_try_enter(&turns.pins, 1, NULL, NULL)) {
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
    coiommu_pinset_enter(&pins, 1);
    coiommu_pinset_reserve(&pins, 1, 4096);
    coiommu_pinset_commit(&pins, 1);
    coiommu_pinset_withdraw(&pins, 1);
    coiommu_pinset_enter(&pins, 2);
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
