/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning ahead, and escape: the thread.
 *
 * What happens to blocks is noted in core/history.h; this thread pins what is
 * predicted from the notes.  No request waits for it, but for the one block
 * that it is mapping if the request asks for that very block.
 *
 * Speculative blocks are pinned where there is room and no thread is in the
 * way, and go first when there is none: the thread only tries to get into a
 * block, reclaims nothing, stays below half of what the containers hold, and
 * does nothing for a while after any pin has found no room.
 *
 * The thread must not take the BQL.  It goes inside the gate for one block at a
 * time.
 */
#include "qemu/osdep.h"
#include "ahead.h"
#include "hw/coiommu/trace.h"
#include "qemu/rcu.h"

/**
 * CoiommuAhead - the thread
 * @pins, @containers, @unpin: the owner's
 * @thread: valid while @running, which the BQL guards
 */
struct CoiommuAhead {
    CoiommuPins *pins;
    CoiommuContainers *containers;
    CoiommuUnpin *unpin;
    QemuThread thread;
    bool running;
};

/* May a block be pinned that no request has asked for?  Inside the gate. */
static bool may_guess(CoiommuAhead *ahead, uint64_t block, CoiommuGuess guess)
{
    CoiommuPins *pins = ahead->pins;
    CoiommuUnpinSettings settings;

    if (!pins->table.enabled || !pins->counted) {
        return false;
    }
    /* What is past the table cannot be counted. */
    if (block > coiommu_block_at(pins->geometry, pins->table.dtt.size - 1)) {
        return false;
    }
    if (coiommu_pinset_totals(&pins->set).pinned >=
        coiommu_containers_budget(ahead->containers) / 2) {
        return false;
    }
    /* With no passes it would not be found out that a guess was wrong. */
    coiommu_unpin_get(ahead->unpin, &settings);
    return guess == COIOMMU_GUESS_ESCAPE ||
           settings.policy != COIOMMU_POLICY_OFF;
}

/* Returns false if there is no use in going on with the next block. */
static bool guess_block(CoiommuAhead *ahead, uint64_t block,
                        const CoiommuHinted *hinted)
{
    CoiommuPins *pins = ahead->pins;
    CoiommuGuess guess = hinted->guess;
    int ret = -ESTALE;

    if (!coiommu_gate_enter(pins->gate)) {
        return false;
    }
    if (pins->generation == hinted->generation) {
        ret = may_guess(ahead, block, guess) ?
              coiommu_pins_pin_guess(pins, block, guess, hinted->max_bytes) :
              0;
    }
    coiommu_gate_leave(pins->gate);
    if (ret > 0) {
        stat64_add(guess == COIOMMU_GUESS_AHEAD ?
                   &pins->stats->ahead_pins : &pins->stats->escape_blocks, 1);
    } else if (ret < 0 && ret != -EDQUOT && ret != -ESTALE) {
        coiommu_history_no_room(&pins->history);
    }
    return ret >= 0;
}

static void *coiommu_ahead_thread(void *opaque)
{
    CoiommuAhead *ahead = opaque;
    CoiommuHistory *history = &ahead->pins->history;
    CoiommuHinted hinted;
    size_t i;

    /* Marking guest memory dirty takes the RCU read lock. */
    rcu_register_thread();
    while (coiommu_history_next(history, &hinted)) {
        for (i = 0; i < hinted.count && !coiommu_history_stopped(history);
             i++) {
            if (!guess_block(ahead, hinted.blocks[i], &hinted)) {
                break;
            }
        }
        trace_coiommu_ahead(hinted.guess, hinted.blocks[0], hinted.count, i);
    }
    rcu_unregister_thread();
    return NULL;
}

void coiommu_ahead_start(CoiommuAhead *ahead)
{
    coiommu_history_start(&ahead->pins->history);
    qemu_thread_create(&ahead->thread, "coiommu-ahead", coiommu_ahead_thread,
                       ahead, QEMU_THREAD_JOINABLE);
    ahead->running = true;
}

void coiommu_ahead_stop(CoiommuAhead *ahead)
{
    if (ahead->running) {
        coiommu_history_stop(&ahead->pins->history);
        qemu_thread_join(&ahead->thread);
        ahead->running = false;
    }
}

CoiommuAhead *coiommu_ahead_new(CoiommuPins *pins,
                                CoiommuContainers *containers,
                                CoiommuUnpin *unpin)
{
    CoiommuAhead *ahead = g_new0(CoiommuAhead, 1);

    ahead->pins = pins;
    ahead->containers = containers;
    ahead->unpin = unpin;
    return ahead;
}

void coiommu_ahead_free(CoiommuAhead *ahead)
{
    g_free(ahead);
}
