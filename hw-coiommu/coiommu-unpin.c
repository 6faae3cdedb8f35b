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
#include "qemu/units.h"
#include "coiommu.h"
#include "trace.h"

/* Entries of the pin set in one slice. */
#define SLICE           64

/*
 * A reclaim frees so much, if it finds as much of the kind that it takes: the
 * next pins would find no room either.
 */
#define SPARE_BLOCKS    16
#define SPARE_BYTES     (32 * MiB)

/**
 * Candidate - a block that has been looked at
 * @policy: to be asked; NULL: any that is idle
 * @look: what the table said
 * @now_ms: when
 * @pass: number of the pass, 0 for reclaim
 * @bytes: what came of it: RAM of the block, 0 if it was not asked about
 * @guess: whether it is a guess
 * @settled: whether it has become one with nothing but mappings that stay
 */
typedef struct Candidate {
    const CoiommuPolicy *policy;
    CoiommuLook look;
    int64_t now_ms;
    uint64_t pass;
    uint64_t bytes;
    CoiommuGuess guess;
    bool settled;
} Candidate;

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

static bool is_used(CoiommuLook look)
{
    return look.busy || look.accessed;
}

/* CoiommuPinFilter: is it time to look at this block? */
static bool filter_due(CoiommuPin *pin, void *opaque)
{
    Turn *turn = opaque;
    bool due = coiommu_policy_due(&turn->policy, &pin->age);

    /* It is passed over because it was busy at the look before. */
    turn->busy_bytes += due ? 0 : pin->bytes;
    return due;
}

/* CoiommuPinFilter: is it a guess? */
static bool filter_guess(CoiommuPin *pin, void *opaque)
{
    return pin->guess != COIOMMU_GUESS_NONE;
}

/* CoiommuPinFilter: may this block go, after a look at it? */
static bool filter_judge(CoiommuPin *pin, void *opaque)
{
    Candidate *c = opaque;
    bool go;

    c->bytes = pin->bytes;
    c->guess = pin->guess;
    if (!c->policy) {
        return !c->look.busy;
    }
    if (pin->guess && !is_used(c->look)) {
        return coiommu_policy_judge_guess(&pin->age);
    }
    go = coiommu_policy_judge(c->policy, &pin->age, c->look, c->now_ms);
    c->settled = coiommu_policy_take_settled(&pin->age);
    return go;
}

/* Unpin the block if the candidate's policy and its counts allow it. */
static bool block_let_go(CoiommuState *s, uint64_t block, Candidate *c)
{
    bool in, gone;

    c->bytes = 0;
    c->guess = COIOMMU_GUESS_NONE;
    c->settled = false;
    in = coiommu_pinset_try_enter(&s->pins, block, filter_judge, c);
    if (c->guess && is_used(c->look)) {
        coiommu_ahead_used(s, block);
        c->guess = COIOMMU_GUESS_NONE;
    }
    if (c->settled) {
        coiommu_ahead_settled(s, block);
    }
    if (!in) {
        return false;
    }
    gone = coiommu_unpin_try(s, block);
    if (!gone) {
        stat64_add(&s->stats.unpin_races, 1);
    } else if (!c->guess) {
        /* Before anyone can pin it again. */
        coiommu_ahead_unpinned(s, block, c->pass);
    }
    coiommu_pinset_leave(&s->pins, block);
    return gone;
}

void coiommu_unpin_wake(CoiommuState *s)
{
    QEMU_LOCK_GUARD(&s->unpin.lock);
    if (s->unpin.asleep) {
        s->unpin.asleep = false;
        qemu_cond_signal(&s->unpin.kick);
    }
}

/* ---- Reclaim ---- */

/**
 * Reclaim - the search for room
 * @bytes: how much is wanted
 * @until: when to end it, by get_clock(), if something has been freed
 * @freed: bytes that have been
 * @blocks: in how many blocks
 */
typedef struct Reclaim {
    uint64_t bytes;
    int64_t until;
    uint64_t freed;
    unsigned blocks;
} Reclaim;

/* Looked at before each block. */
static bool reclaim_over(CoiommuState *s, const Reclaim *r)
{
    return r->freed >= r->bytes || coiommu_waited_for(s) ||
           (r->freed && get_clock() >= r->until);
}

/* Let the block go if it is idle; @spare: and has not been used lately. */
static void reclaim_block(CoiommuState *s, Reclaim *r, uint64_t block,
                          bool spare)
{
    Candidate c = { .now_ms = now_ms(), .look = block_look(s, block) };

    if (spare && c.look.accessed) {
        /* The look has taken what would have told so later. */
        coiommu_ahead_used(s, block);
    } else if (block_let_go(s, block, &c)) {
        r->freed += c.bytes;
        r->blocks++;
    }
}

/*
 * One turn around the pin set from where the last reclaim stopped.  @filter:
 * which blocks; @spare: leave those that were used lately.
 */
static void reclaim_turn(CoiommuState *s, Reclaim *r, CoiommuPinFilter *filter,
                         bool spare)
{
    size_t left = coiommu_pinset_end(&s->pins);
    /* A hint: reclaims at the same time may well start at the same place. */
    size_t hand = qatomic_read(&s->unpin.hand);
    uint64_t blocks[SLICE];

    while (left && !reclaim_over(s, r)) {
        size_t slice = MIN(left, SLICE);
        size_t i, found;

        if (!hand) {
            hand = coiommu_pinset_end(&s->pins);
        }
        found = coiommu_pinset_walk(&s->pins, &hand, filter, NULL, blocks,
                                    slice);
        left -= slice;
        for (i = 0; i < found && !reclaim_over(s, r); i++) {
            reclaim_block(s, r, blocks[i], spare);
        }
    }
    qatomic_set(&s->unpin.hand, hand);
}

bool coiommu_unpin_reclaim(CoiommuState *s, uint64_t bytes, int64_t until)
{
    uint64_t block = 1ull << s->block_shift;
    uint64_t spare = MIN(SPARE_BLOCKS * block, SPARE_BYTES);
    Reclaim r = { .bytes = MAX(bytes, spare), .until = until };

    if (s->pin_all) {
        return false;
    }
    coiommu_ahead_no_room(s);
    if (coiommu_pinset_totals(&s->pins).guesses) {
        reclaim_turn(s, &r, filter_guess, true);
    }
    if (r.freed < bytes) {
        reclaim_turn(s, &r, NULL, true);
    }
    if (r.freed < bytes) {
        reclaim_turn(s, &r, NULL, false);
    }
    stat64_add(&s->stats.reclaims, 1);
    stat64_add(&s->stats.reclaimed_blocks, r.blocks);
    trace_coiommu_reclaim(r.blocks, r.freed, bytes);
    /* What the unpin thread is about to free is as good. */
    return r.blocks || coiommu_pinset_wait_release(&s->pins);
}

/* ---- The thread ---- */

/*
 * Look at the next blocks, in the gate.  In a @hurry whatever is idle goes,
 * without the policy.  Returns how many were let go.
 */
static unsigned unpin_slice(CoiommuState *s, Turn *turn, uint64_t pass,
                            bool hurry, size_t max)
{
    Candidate c = {
        .policy = hurry ? NULL : &turn->policy,
        .now_ms = now_ms(),
        .pass = pass,
    };
    uint64_t blocks[SLICE];
    unsigned gone = 0;
    size_t i, found;

    found = coiommu_pinset_walk(&s->pins, &turn->hand,
                                hurry ? NULL : filter_due, turn, blocks, max);
    /* Who waits for us comes first; the rest is for the next pass. */
    for (i = 0; i < found && !coiommu_gate_wanted(&s->gate) &&
                !qatomic_read(&s->unpin.interrupt); i++) {
        c.look = block_look(s, blocks[i]);
        gone += block_let_go(s, blocks[i], &c);
        turn->busy_bytes += c.look.busy ? c.bytes : 0;
    }
    turn->partial |= i < found;
    return gone;
}

static void set_mapped_bytes(CoiommuState *s, uint64_t bytes)
{
    stat64_set(&s->stats.mapped_bytes, bytes);
    stat64_max(&s->stats.mapped_peak, bytes);
}

/* What a turn has found so far was about pins that have gone since. */
static void turn_renew(CoiommuState *s, Turn *turn)
{
    turn->generation = s->pins_generation;
    turn->hand = coiommu_pinset_end(&s->pins);
    turn->busy_bytes = 0;
    turn->partial = false;
}

/* Walk on from where the last pass stopped. */
static void unpin_pass(CoiommuState *s, const CoiommuUnpinSettings *settings,
                       bool hurry, Turn *turn)
{
    uint64_t pass = stat64_get(&s->stats.unpin_passes) + 1;
    size_t left = settings->pass_blocks;
    int64_t start = get_clock();
    unsigned gone = 0;

    if (!turn->hand) {
        *turn = (Turn) {
            .generation = turn->generation,
            .hand = coiommu_pinset_end(&s->pins),
        };
    }
    turn->policy.kind = settings->policy;
    turn->policy.window_ms = settings->window_ms;
    turn->policy.since_ms = settings->since_ms;
    while (turn->hand && left && !qatomic_read(&s->unpin.interrupt)) {
        size_t slice = MIN(left, SLICE);

        if (!coiommu_gate_enter(&s->gate)) {
            break;
        }
        if (turn->generation != s->pins_generation) {
            turn_renew(s, turn);
        }
        if (s->enabled && !s->pin_all) {
            turn->policy.has_accessed = s->features & COIOMMU_F_ACCESSED;
            gone += unpin_slice(s, turn, pass, hurry, slice);
        } else {
            turn->hand = 0;
            turn->partial = s->pin_all;
        }
        coiommu_gate_leave(&s->gate);
        left -= slice;
    }
    if (!turn->hand && !turn->partial) {
        set_mapped_bytes(s, turn->busy_bytes);
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
    Turn turn = { 0 };
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
        if (s->unpin.asleep) {
            set_mapped_bytes(s, 0);
        }
        if (settings.policy == COIOMMU_POLICY_OFF || s->unpin.asleep) {
            qemu_cond_wait(&s->unpin.kick, &s->unpin.lock);
            continue;
        }
        if (!hurry && qemu_cond_timedwait(&s->unpin.kick, &s->unpin.lock,
                                          pause_ms(&settings))) {
            /* Stop, hurry, or new settings. */
            continue;
        }
        if (hurry) {
            coiommu_ahead_no_room(s);
        } else if (!coiommu_ahead_pass_due(s)) {
            continue;
        }
        s->unpin.busy = true;
        qemu_mutex_unlock(&s->unpin.lock);
        unpin_pass(s, &settings, hurry, &turn);
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
    int64_t since = now_ms();

    QEMU_LOCK_GUARD(&s->unpin.lock);
    if (settings->policy == s->unpin.settings.policy) {
        since = s->unpin.settings.since_ms;
    }
    s->unpin.settings = *settings;
    s->unpin.settings.since_ms = since;
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
