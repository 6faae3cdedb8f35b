/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking at a pinned block, and letting it go: see let-go.h.
 */
#include "osdep.h"
#include "let-go.h"

/**
 * Judgement - what the pin set is asked about a candidate, with its lock held
 * @candidate: which
 * @guess: result: whether the block is a guess
 * @fixed: result: whether it has become one with nothing but mappings that stay
 */
typedef struct Judgement {
    CoiommuCandidate *candidate;
    CoiommuGuess guess;
    bool fixed;
} Judgement;

CoiommuLook coiommu_let_go_look(CoiommuPins *pins, uint64_t block)
{
    return coiommu_table_look(&pins->table,
                              coiommu_block_start(pins->geometry, block),
                              coiommu_block_size(pins->geometry));
}

static bool is_used(CoiommuLook look)
{
    return look.busy || look.accessed;
}

/* CoiommuPinFilter: may this block go, after a look at it? */
static bool filter_judge(CoiommuPin *pin, void *opaque)
{
    Judgement *judgement = opaque;
    CoiommuCandidate *c = judgement->candidate;
    bool go;

    c->bytes = pin->bytes;
    judgement->guess = pin->guess;
    if (!c->policy) {
        return !c->look.busy;
    }
    if (pin->guess && !is_used(c->look)) {
        return coiommu_policy_judge_guess(&pin->age);
    }
    go = coiommu_policy_judge(c->policy, &pin->age, c->look, c->now_ms);
    judgement->fixed = coiommu_policy_take_long_lived(&pin->age);
    return go;
}

/* Take notes of what the look has found. */
static void note_look(CoiommuPins *pins, uint64_t block, Judgement *judgement)
{
    if (judgement->guess && is_used(judgement->candidate->look)) {
        coiommu_history_used(&pins->history,
                             coiommu_pinset_used(&pins->set, block));
        judgement->guess = COIOMMU_GUESS_NONE;
    }
    if (judgement->fixed) {
        coiommu_history_fixed(&pins->history, block);
    }
}

bool coiommu_let_go(CoiommuPins *pins, uint64_t block,
                    CoiommuCandidate *candidate)
{
    Judgement judgement = { .candidate = candidate };
    CoiommuPin pin;
    bool in, gone;

    coiommu_assert_reader(pins->gate);
    candidate->bytes = 0;
    in = coiommu_pinset_try_enter(&pins->set, block, filter_judge, &judgement,
                                  &pin);
    note_look(pins, block, &judgement);
    if (!in) {
        return false;
    }
    gone = coiommu_pins_unpin_try(pins, &pin);
    if (!gone) {
        stat64_add(&pins->stats->unpin_races, 1);
    } else if (!judgement.guess) {
        /* Before another thread can pin it again. */
        coiommu_history_unpinned(&pins->history, block, candidate->pass);
    }
    coiommu_pinset_leave(&pins->set, block);
    return gone;
}
