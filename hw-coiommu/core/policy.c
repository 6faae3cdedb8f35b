/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Policies of unpinning: see policy.h.
 */
#include "osdep.h"
#include "policy.h"

void coiommu_age_init(CoiommuAge *age)
{
    *age = (CoiommuAge) { .used = true };
}

bool coiommu_policy_due(const CoiommuPolicy *policy, CoiommuAge *age)
{
    if (policy->kind == COIOMMU_POLICY_OFF) {
        return false;
    }
    if (policy->kind == COIOMMU_POLICY_LAZY && age->skip) {
        age->skip--;
        return false;
    }
    return true;
}

static bool judge_lazy(const CoiommuPolicy *policy, CoiommuAge *age,
                       CoiommuLook look)
{
    bool used;

    if (look.busy) {
        bool stays = policy->has_accessed && !look.accessed;

        age->generation = stays ? MIN(age->generation + 1,
                                      COIOMMU_GENERATION_MAX) : 0;
        age->skip = (1u << age->generation) - 1;
        age->used = true;
        return false;
    }
    used = policy->has_accessed ? look.accessed : age->used;
    age->generation = 0;
    age->used = false;
    return !used;
}

static bool judge_timeout(const CoiommuPolicy *policy, CoiommuAge *age,
                          CoiommuLook look, int64_t now_ms)
{
    bool known = age->idle && age->idle_since_ms >= policy->since_ms;

    if (look.busy) {
        age->idle = false;
        return false;
    }
    if (!known || look.accessed) {
        age->idle = true;
        age->idle_since_ms = now_ms;
    }
    return now_ms - age->idle_since_ms >= policy->window_ms;
}

bool coiommu_policy_judge(const CoiommuPolicy *policy, CoiommuAge *age,
                          CoiommuLook look, int64_t now_ms)
{
    switch (policy->kind) {
    case COIOMMU_POLICY_LAZY:
        return judge_lazy(policy, age, look);
    case COIOMMU_POLICY_TIMEOUT:
        return judge_timeout(policy, age, look, now_ms);
    default:
        return false;
    }
}

bool coiommu_policy_judge_guess(CoiommuAge *age)
{
    return ++age->looks >= COIOMMU_GUESS_LOOKS;
}

bool coiommu_policy_take_long_lived(CoiommuAge *age)
{
    bool long_lived = !age->long_lived &&
                   age->generation == COIOMMU_GENERATION_MAX;

    age->long_lived |= long_lived;
    return long_lived;
}
