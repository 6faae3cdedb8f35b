/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lazy unpinning.
 *
 * A thread looks at the pinned blocks once per interval and lets go those that
 * the policy (core/policy.h) no longer wants.  A request waits for it only if
 * it asks for the very block that is being unmapped, and a writer of the gate
 * for one block at most.  The thread must not take the BQL.  Its cost is that
 * of the walk over what is pinned; it goes in slices, so that the pin set's
 * lock and the gate are held shortly.
 *
 * When the host is short of memory there is an urgent pass at once, without the
 * policy: all that is idle goes.
 *
 * A block goes by coiommu_let_go() only.
 */
#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "hw/coiommu/core/let-go.h"
#include "hw/coiommu/core/osdep.h"
#include "hw/coiommu/trace.h"
#include "unpin.h"

/* Entries of the pin set in one slice. */
#define SLICE           64

/**
 * CoiommuUnpin - the unpin thread
 * @pins: the owner's
 * @thread: valid while @running, which the BQL guards
 * @lock: guards @settings, @stop, @urgent, @busy and @asleep
 * @kick: wakes the thread: new settings, @stop, @urgent, or no longer @asleep
 * @idle: @busy has become false
 * @urgent: make a pass at once, in which all that is idle goes
 * @asleep: nothing is pinned, the thread waits until something is
 * @interrupt: end the pass in progress soon; atomic
 */
struct CoiommuUnpin {
    CoiommuPins *pins;
    QemuThread thread;
    bool running;
    QemuMutex lock;
    QemuCond kick;
    QemuCond idle;
    CoiommuUnpinSettings settings;
    bool stop;
    bool urgent;
    bool busy;
    bool asleep;
    bool interrupt;
};

/**
 * Turn - once around the pin set, in one or more passes
 * @policy: to be asked
 * @generation: of the pins that it is about
 * @hand: where it goes on; 0: a new turn begins
 * @busy_bytes: of blocks that had a count, as far as it has come
 * @partial: it has left out blocks
 */
typedef struct Turn {
    CoiommuPolicy policy;
    unsigned generation;
    size_t hand;
    uint64_t busy_bytes;
    bool partial;
} Turn;

/* CoiommuPinFilter: is it time to look at this block? */
static bool filter_due(CoiommuPin *pin, void *opaque)
{
    Turn *turn = opaque;
    bool due = coiommu_policy_due(&turn->policy, &pin->age);

    /* It is passed over because it was busy at the look before. */
    turn->busy_bytes += due ? 0 : pin->bytes;
    return due;
}

/* ---- The thread ---- */

/*
 * Look at the next blocks, in the gate.  In an @urgent pass all that is idle
 * goes, without the policy.  Returns how many were let go.
 */
static unsigned unpin_slice(CoiommuUnpin *unpin, Turn *turn, uint64_t pass,
                            bool urgent, size_t max)
{
    CoiommuCandidate c = {
        .policy = urgent ? NULL : &turn->policy,
        .now_ms = coiommu_now_ms(),
        .pass = pass,
    };
    uint64_t blocks[SLICE];
    unsigned gone = 0;
    size_t i, found;

    found = coiommu_pinset_walk(&unpin->pins->set, &turn->hand,
                                urgent ? NULL : filter_due, turn, blocks, max);
    /* Stop if a writer waits for the gate; the next pass goes on from @hand. */
    for (i = 0; i < found && !coiommu_gate_wanted(unpin->pins->gate) &&
                !qatomic_read(&unpin->interrupt); i++) {
        c.look = coiommu_let_go_look(unpin->pins, blocks[i]);
        gone += coiommu_let_go(unpin->pins, blocks[i], &c);
        turn->busy_bytes += c.look.busy ? c.bytes : 0;
    }
    turn->partial |= i < found;
    return gone;
}

static void set_mapped_bytes(CoiommuUnpin *unpin, uint64_t bytes)
{
    stat64_set(&unpin->pins->stats->mapped_bytes, bytes);
    stat64_max(&unpin->pins->stats->mapped_peak, bytes);
}

/* What a turn has found so far was about pins that have gone since. */
static void turn_renew(CoiommuUnpin *unpin, Turn *turn)
{
    turn->generation = unpin->pins->generation;
    turn->hand = coiommu_pinset_end(&unpin->pins->set);
    turn->busy_bytes = 0;
    turn->partial = false;
}

/* Walk on from where the last pass stopped. */
static void unpin_pass(CoiommuUnpin *unpin,
                       const CoiommuUnpinSettings *settings,
                       bool urgent, Turn *turn)
{
    uint64_t pass = stat64_get(&unpin->pins->stats->unpin_passes) + 1;
    size_t left = settings->pass_blocks;
    int64_t start = get_clock();
    unsigned gone = 0;

    if (!turn->hand) {
        *turn = (Turn) {
            .generation = turn->generation,
            .hand = coiommu_pinset_end(&unpin->pins->set),
        };
    }
    turn->policy.kind = settings->policy;
    turn->policy.window_ms = settings->window_ms;
    turn->policy.since_ms = settings->since_ms;
    while (turn->hand && left && !qatomic_read(&unpin->interrupt)) {
        size_t slice = MIN(left, SLICE);

        if (!coiommu_gate_enter(unpin->pins->gate)) {
            break;
        }
        if (turn->generation != unpin->pins->generation) {
            turn_renew(unpin, turn);
        }
        if (unpin->pins->table.enabled && !unpin->pins->keep) {
            turn->policy.has_accessed = unpin->pins->table.has_accessed;
            gone += unpin_slice(unpin, turn, pass, urgent, slice);
        } else {
            turn->hand = 0;
            turn->partial = unpin->pins->keep;
        }
        coiommu_gate_leave(unpin->pins->gate);
        left -= slice;
    }
    if (!turn->hand && !turn->partial) {
        set_mapped_bytes(unpin, turn->busy_bytes);
    }
    stat64_add(&unpin->pins->stats->unpin_passes, 1);
    stat64_add(&unpin->pins->stats->lazy_unpinned_blocks, gone);
    stat64_set(&unpin->pins->stats->pass_last_ns, get_clock() - start);
    if (gone) {
        trace_coiommu_unpin_pass(gone, get_clock() - start);
    }
}

/* How long to sleep, in ms; a window is met to within half of itself. */
static int pause_ms(const CoiommuUnpinSettings *settings)
{
    uint32_t ms = settings->interval_ms;

    if (settings->policy == COIOMMU_POLICY_TIMEOUT) {
        ms = MIN(ms, MAX(settings->window_ms / 2, 1));
    }
    return ms;
}

static void *coiommu_unpin_thread(void *opaque)
{
    CoiommuUnpin *unpin = opaque;
    CoiommuUnpinSettings settings;
    Turn turn = { 0 };
    bool urgent;

    /* Marking guest memory dirty takes the RCU read lock. */
    rcu_register_thread();
    qemu_mutex_lock(&unpin->lock);
    while (!unpin->stop) {
        settings = unpin->settings;
        qatomic_set(&unpin->interrupt, false);
        /* A thread that pins from now on finds us asleep, and wakes us. */
        unpin->asleep = settings.policy != COIOMMU_POLICY_OFF &&
                          !coiommu_pinset_totals(&unpin->pins->set).pinned;
        urgent = unpin->urgent;
        unpin->urgent = false;
        if (unpin->asleep) {
            set_mapped_bytes(unpin, 0);
        }
        if (settings.policy == COIOMMU_POLICY_OFF || unpin->asleep) {
            qemu_cond_wait(&unpin->kick, &unpin->lock);
            continue;
        }
        if (!urgent && qemu_cond_timedwait(&unpin->kick, &unpin->lock,
                                          pause_ms(&settings))) {
            /* Stop, urgent, or new settings. */
            continue;
        }
        if (urgent) {
            coiommu_history_no_room(&unpin->pins->history);
        } else if (!coiommu_history_pass_due(&unpin->pins->history)) {
            continue;
        }
        unpin->busy = true;
        qemu_mutex_unlock(&unpin->lock);
        unpin_pass(unpin, &settings, urgent, &turn);
        qemu_mutex_lock(&unpin->lock);
        unpin->busy = false;
        qemu_cond_broadcast(&unpin->idle);
    }
    qemu_mutex_unlock(&unpin->lock);
    rcu_unregister_thread();
    return NULL;
}

void coiommu_unpin_get(CoiommuUnpin *unpin, CoiommuUnpinSettings *settings)
{
    QEMU_LOCK_GUARD(&unpin->lock);
    *settings = unpin->settings;
}

void coiommu_unpin_set(CoiommuUnpin *unpin,
                       const CoiommuUnpinSettings *settings)
{
    int64_t since = coiommu_now_ms();

    QEMU_LOCK_GUARD(&unpin->lock);
    if (settings->policy == unpin->settings.policy) {
        since = unpin->settings.since_ms;
    }
    unpin->settings = *settings;
    unpin->settings.since_ms = since;
    qatomic_set(&unpin->interrupt, true);
    qemu_cond_signal(&unpin->kick);
    while (unpin->busy) {
        qemu_cond_wait(&unpin->idle, &unpin->lock);
    }
}

void coiommu_unpin_wake(void *opaque)
{
    CoiommuUnpin *unpin = opaque;

    QEMU_LOCK_GUARD(&unpin->lock);
    if (unpin->asleep) {
        unpin->asleep = false;
        qemu_cond_signal(&unpin->kick);
    }
}

void coiommu_unpin_urgent(CoiommuUnpin *unpin)
{
    QEMU_LOCK_GUARD(&unpin->lock);
    unpin->urgent = true;
    qemu_cond_signal(&unpin->kick);
}

void coiommu_unpin_start(CoiommuUnpin *unpin)
{
    unpin->stop = false;
    qemu_thread_create(&unpin->thread, "coiommu-unpin", coiommu_unpin_thread,
                       unpin, QEMU_THREAD_JOINABLE);
    unpin->running = true;
}

void coiommu_unpin_stop(CoiommuUnpin *unpin)
{
    if (!unpin->running) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&unpin->lock) {
        unpin->stop = true;
        qatomic_set(&unpin->interrupt, true);
        qemu_cond_signal(&unpin->kick);
    }
    qemu_thread_join(&unpin->thread);
    unpin->running = false;
}

CoiommuUnpin *coiommu_unpin_new(CoiommuPins *pins)
{
    CoiommuUnpin *unpin = g_new0(CoiommuUnpin, 1);

    unpin->pins = pins;
    qemu_mutex_init(&unpin->lock);
    qemu_cond_init(&unpin->kick);
    qemu_cond_init(&unpin->idle);
    unpin->settings = (CoiommuUnpinSettings) {
        .policy = COIOMMU_POLICY_LAZY,
        .interval_ms = 1000,
        .window_ms = 1000,
        .pass_blocks = 65536,
    };
    return unpin;
}

void coiommu_unpin_free(CoiommuUnpin *unpin)
{
    qemu_cond_destroy(&unpin->idle);
    qemu_cond_destroy(&unpin->kick);
    qemu_mutex_destroy(&unpin->lock);
    g_free(unpin);
}
