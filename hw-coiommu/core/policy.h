/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When is a pinned block let go?
 *
 * The unpin thread walks the pinned blocks at each interval.  For each it asks
 * the policy two questions: is it worth a look now (coiommu_policy_due()), and,
 * after a look at the block's entries in the table, may it go
 * (coiommu_policy_judge())?  What a policy remembers of a block is its
 * CoiommuAge.  A yes is not the last word: the counts are read again as PINNED
 * is withdrawn.
 *
 *   off      nothing goes.
 *   lazy     a clock.  A block goes when it is found idle and has not been used
 *            since the look before: ACCESSED, which the host clears at each
 *            look, is its second chance.  A block that is busy and not newly
 *            used holds a mapping that stays, such as a ring: each time that
 *            it is found so it is looked at less often, down to every
 *            (1 << COIOMMU_GENERATION_MAX)th time.
 *   timeout  a block goes when it has been idle for a time.
 *
 * Without ACCESSED (the driver has not negotiated it) a block that has been
 * busy at the look before counts as used since.
 *
 * A block that no request has asked for is a guess until it is used.  A guess
 * goes when it was not used at COIOMMU_GUESS_LOOKS looks, whatever the policy.
 *
 * Pure: no clock of its own, no lock; the owner of the pin set says what guards
 * an age.
 */
#ifndef COIOMMU_POLICY_H
#define COIOMMU_POLICY_H

#define COIOMMU_GENERATION_MAX 3
#define COIOMMU_GUESS_LOOKS    4

typedef enum CoiommuPolicyKind {
    COIOMMU_POLICY_OFF,
    COIOMMU_POLICY_LAZY,
    COIOMMU_POLICY_TIMEOUT,
    COIOMMU_POLICY_COUNT,
} CoiommuPolicyKind;

/* Why a block is pinned that no request has asked for, nor used as yet. */
typedef enum CoiommuGuess {
    COIOMMU_GUESS_NONE,
    COIOMMU_GUESS_AHEAD,
    COIOMMU_GUESS_ESCAPE,
} CoiommuGuess;

/**
 * CoiommuPolicy - which policy, and what it needs to know
 * @kind: which
 * @has_accessed: the guest sets ACCESSED
 * @window_ms: timeout: for how long a block must have been idle
 * @since_ms: timeout: since when it is the policy; before, no look was made
 */
typedef struct CoiommuPolicy {
    CoiommuPolicyKind kind;
    bool has_accessed;
    int64_t window_ms;
    int64_t since_ms;
} CoiommuPolicy;

/**
 * CoiommuAge - what is remembered of a block
 * @generation: lazy: how often in a row it held nothing but old mappings
 * @skip: lazy: how many times it is still passed over
 * @looks: a guess: how many looks have found it unused
 * @long_lived: lazy: it has been told that it holds such mappings only
 * @used: it was pinned or found busy after the last look that found it idle
 * @idle: timeout: it was idle at the last look
 * @idle_since_ms: timeout: the first of these looks
 */
typedef struct CoiommuAge {
    uint8_t generation;
    uint8_t skip;
    uint8_t looks;
    bool long_lived;
    bool used;
    bool idle;
    int64_t idle_since_ms;
} CoiommuAge;

/**
 * CoiommuLook - what the table says of a block
 * @busy: a unit has a count
 * @accessed: a unit had ACCESSED; always false if not negotiated
 */
typedef struct CoiommuLook {
    bool busy;
    bool accessed;
} CoiommuLook;

/* The age of a block that has just been pinned. */
void coiommu_age_init(CoiommuAge *age);

/* To be asked once for each block at each interval. */
bool coiommu_policy_due(const CoiommuPolicy *policy, CoiommuAge *age);

/* May it go?  @now_ms is monotonic. */
bool coiommu_policy_judge(const CoiommuPolicy *policy, CoiommuAge *age,
                          CoiommuLook look, int64_t now_ms);

/* A look has found that a guess is unused.  May it go? */
bool coiommu_policy_judge_guess(CoiommuAge *age);

/*
 * Lazy: does it hold nothing but mappings that stay?  Says so once in the time
 * that it is pinned.
 */
bool coiommu_policy_take_long_lived(CoiommuAge *age);

#endif /* COIOMMU_POLICY_H */
