/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lazy unpinning, and reclaim.
 *
 * A thread looks at the pinned blocks once per interval and lets go those that
 * the policy (core/policy.h) no longer wants.  Nobody waits for it but a
 * request for the very block that is being unmapped, and who closes the gate,
 * for one block at most.  It never takes the BQL.  Its cost is that of the
 * walk over what is pinned; it goes in slices, so that the pin set's lock and
 * the gate are held shortly.
 *
 * When the host is short of memory there is a pass at once, without the policy:
 * whatever is idle goes.
 *
 * Reclaim does the same at once, in the thread of a request that finds no
 * room: any idle block will do, those not used lately first.
 *
 * A block goes by coiommu_unpin_try() only.  What the policy decides on is a
 * hint: the counts are read again when PINNED has been withdrawn.
 */
#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "coiommu.h"
#include "trace.h"

/* Entries of the pin set in one slice. */
#define SLICE           64

/* How many blocks a reclaim frees at most. */
#define RECLAIM_BATCH   16

/* A block that is pinned again so soon has been let go too early. */
#define REPIN_WINDOW_MS 10000

/**
 * Candidate - a block that has been looked at
 * @policy: to be asked; NULL: any that is idle
 * @look: what the table said
 * @now_ms: when
 */
typedef struct Candidate {
    const CoiommuPolicy *policy;
    CoiommuLook look;
    int64_t now_ms;
} Candidate;

static int64_t now_ms(void)
{
    return get_clock() / SCALE_MS;
}

/* What does the table say of the block?  In the gate or under the BQL. */
static CoiommuLook block_look(CoiommuState *s, uint64_t block)
{
    hwaddr gpa = block << s->block_shift;
    uint64_t size = 1ull << s->block_shift;

    return (CoiommuLook) {
        .busy = coiommu_table_busy(s, gpa, size),
        .accessed = s->features & COIOMMU_F_ACCESSED &&
                    coiommu_table_take_accessed(s, gpa, size),
    };
}

/* CoiommuPinFilter: is it time to look at this block? */
static bool filter_due(CoiommuPin *pin, void *opaque)
{
    return coiommu_policy_due(opaque, &pin->age);
}

/* CoiommuPinFilter: may this block go, after a look at it? */
static bool filter_judge(CoiommuPin *pin, void *opaque)
{
    const Candidate *c = opaque;

    if (!c->policy) {
        return !c->look.busy;
    }
    return coiommu_policy_judge(c->policy, &pin->age, c->look, c->now_ms);
}

/* Unpin the block if the candidate's policy and its counts allow it. */
static bool block_let_go(CoiommuState *s, uint64_t block, Candidate *c)
{
    bool gone;

    if (!coiommu_pinset_try_enter(&s->pins, block, filter_judge, c)) {
        return false;
    }
    gone = coiommu_unpin_try(s, block);
    coiommu_pinset_leave(&s->pins, block);
    if (!gone) {
        stat64_add(&s->stats.unpin_races, 1);
        return false;
    }
    WITH_QEMU_LOCK_GUARD(&s->unpin.lock) {
        coiommu_recent_note(&s->unpin.recent, block, c->now_ms);
    }
    return true;
}

void coiommu_unpin_pinned(CoiommuState *s, uint64_t block)
{
    bool recent;

    WITH_QEMU_LOCK_GUARD(&s->unpin.lock) {
        recent = coiommu_recent_take(&s->unpin.recent, block, now_ms(),
                                     REPIN_WINDOW_MS);
        if (s->unpin.asleep) {
            s->unpin.asleep = false;
            qemu_cond_signal(&s->unpin.kick);
        }
    }
    if (recent) {
        stat64_add(&s->stats.repins, 1);
    }
}

/* ---- Reclaim ---- */

/*
 * One turn around the pin set from where the last reclaim stopped.  @spare:
 * leave blocks that were used lately.  Returns how many blocks are free now.
 */
static unsigned reclaim_turn(CoiommuState *s, bool spare)
{
    size_t left = coiommu_pinset_end(&s->pins);
    /* A hint: reclaims at the same time may well start at the same place. */
    size_t hand = qatomic_read(&s->unpin.hand);
    Candidate c = { .now_ms = now_ms() };
    uint64_t blocks[SLICE];
    unsigned freed = 0;

    while (left && freed < RECLAIM_BATCH && !coiommu_waited_for(s)) {
        size_t slice = MIN(left, SLICE);
        size_t i, found;

        if (!hand) {
            hand = coiommu_pinset_end(&s->pins);
        }
        found = coiommu_pinset_walk(&s->pins, &hand, NULL, NULL, blocks,
                                    slice);
        left -= slice;
        for (i = 0; i < found && freed < RECLAIM_BATCH &&
                    !coiommu_waited_for(s); i++) {
            c.look = block_look(s, blocks[i]);
            if (!(spare && c.look.accessed)) {
                freed += block_let_go(s, blocks[i], &c);
            }
        }
    }
    qatomic_set(&s->unpin.hand, hand);
    return freed;
}

bool coiommu_unpin_reclaim(CoiommuState *s)
{
    unsigned freed = reclaim_turn(s, true);

    if (!freed) {
        freed = reclaim_turn(s, false);
    }
    stat64_add(&s->stats.reclaims, 1);
    stat64_add(&s->stats.reclaimed_blocks, freed);
    trace_coiommu_reclaim(freed);
    /* What the unpin thread is about to free is as good. */
    return freed || coiommu_pinset_wait_release(&s->pins);
}

/* ---- The thread ---- */

/*
 * Look at the next blocks, in the gate.  Without a @policy whatever is idle
 * goes.  Returns how many were let go.
 */
static unsigned unpin_slice(CoiommuState *s, const CoiommuPolicy *policy,
                            size_t *hand, size_t max)
{
    Candidate c = { .policy = policy, .now_ms = now_ms() };
    uint64_t blocks[SLICE];
    unsigned gone = 0;
    size_t i, found;

    found = coiommu_pinset_walk(&s->pins, hand, policy ? filter_due : NULL,
                                (void *)policy, blocks, max);
    /* Who waits for us comes first; the rest is for the next pass. */
    for (i = 0; i < found && !coiommu_gate_wanted(&s->gate) &&
                !qatomic_read(&s->unpin.interrupt); i++) {
        c.look = block_look(s, blocks[i]);
        gone += block_let_go(s, blocks[i], &c);
    }
    return gone;
}

/* Walk on from *@hand; at 0 a new turn begins. */
static void unpin_pass(CoiommuState *s, const CoiommuUnpinSettings *settings,
                       bool hurry, size_t *hand)
{
    CoiommuPolicy policy = {
        .kind = settings->policy,
        .window_ms = settings->window_ms,
    };
    size_t left = settings->pass_blocks;
    int64_t start = get_clock();
    unsigned gone = 0;

    if (!*hand) {
        *hand = coiommu_pinset_end(&s->pins);
    }
    while (*hand && left && !qatomic_read(&s->unpin.interrupt)) {
        size_t slice = MIN(left, SLICE);

        if (!coiommu_gate_enter(&s->gate)) {
            break;
        }
        if (s->enabled) {
            policy.has_accessed = s->features & COIOMMU_F_ACCESSED;
            gone += unpin_slice(s, hurry ? NULL : &policy, hand, slice);
        } else {
            *hand = 0;
        }
        coiommu_gate_leave(&s->gate);
        left -= slice;
    }
    stat64_add(&s->stats.unpin_passes, 1);
    stat64_add(&s->stats.lazy_unpinned_blocks, gone);
    stat64_set(&s->stats.pass_last_ns, get_clock() - start);
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
    CoiommuState *s = opaque;
    CoiommuUnpinSettings settings;
    size_t hand = 0;
    bool hurry;

    /* Marking guest memory dirty takes the RCU read lock. */
    rcu_register_thread();
    qemu_mutex_lock(&s->unpin.lock);
    while (!s->unpin.stop) {
        settings = s->unpin.settings;
        qatomic_set(&s->unpin.interrupt, false);
        /* Whatever is pinned from now on finds us asleep, and wakes us. */
        s->unpin.asleep = settings.policy != COIOMMU_POLICY_OFF &&
                          !coiommu_pinset_totals(&s->pins).pinned;
        hurry = s->unpin.hurry;
        s->unpin.hurry = false;
        if (settings.policy == COIOMMU_POLICY_OFF || s->unpin.asleep) {
            qemu_cond_wait(&s->unpin.kick, &s->unpin.lock);
            continue;
        }
        if (!hurry && qemu_cond_timedwait(&s->unpin.kick, &s->unpin.lock,
                                          pause_ms(&settings))) {
            /* Stop, hurry, or new settings. */
            continue;
        }
        s->unpin.busy = true;
        qemu_mutex_unlock(&s->unpin.lock);
        unpin_pass(s, &settings, hurry, &hand);
        qemu_mutex_lock(&s->unpin.lock);
        s->unpin.busy = false;
        qemu_cond_broadcast(&s->unpin.idle);
    }
    qemu_mutex_unlock(&s->unpin.lock);
    rcu_unregister_thread();
    return NULL;
}

void coiommu_unpin_get(CoiommuState *s, CoiommuUnpinSettings *settings)
{
    QEMU_LOCK_GUARD(&s->unpin.lock);
    *settings = s->unpin.settings;
}

void coiommu_unpin_set(CoiommuState *s, const CoiommuUnpinSettings *settings)
{
    QEMU_LOCK_GUARD(&s->unpin.lock);
    s->unpin.settings = *settings;
    qatomic_set(&s->unpin.interrupt, true);
    qemu_cond_signal(&s->unpin.kick);
    while (s->unpin.busy) {
        qemu_cond_wait(&s->unpin.idle, &s->unpin.lock);
    }
}

void coiommu_unpin_hurry(CoiommuState *s)
{
    QEMU_LOCK_GUARD(&s->unpin.lock);
    s->unpin.hurry = true;
    qemu_cond_signal(&s->unpin.kick);
}

void coiommu_unpin_start(CoiommuState *s)
{
    s->unpin.stop = false;
    qemu_thread_create(&s->unpin.thread, "coiommu-unpin", coiommu_unpin_thread,
                       s, QEMU_THREAD_JOINABLE);
    s->unpin.running = true;
}

void coiommu_unpin_stop(CoiommuState *s)
{
    if (!s->unpin.running) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&s->unpin.lock) {
        s->unpin.stop = true;
        qatomic_set(&s->unpin.interrupt, true);
        qemu_cond_signal(&s->unpin.kick);
    }
    qemu_thread_join(&s->unpin.thread);
    s->unpin.running = false;
}

void coiommu_unpin_init(CoiommuState *s)
{
    qemu_mutex_init(&s->unpin.lock);
    qemu_cond_init(&s->unpin.kick);
    qemu_cond_init(&s->unpin.idle);
    s->unpin.settings = (CoiommuUnpinSettings) {
        .policy = COIOMMU_POLICY_LAZY,
        .interval_ms = 1000,
        .window_ms = 1000,
        .pass_blocks = 65536,
    };
}

void coiommu_unpin_destroy(CoiommuState *s)
{
    qemu_cond_destroy(&s->unpin.idle);
    qemu_cond_destroy(&s->unpin.kick);
    qemu_mutex_destroy(&s->unpin.lock);
}
