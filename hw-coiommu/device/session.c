/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's table: ENABLE takes it over, and it is given up again by DISABLE,
 * by a reset, or when the function goes: see session.h.
 */
#include "qemu/osdep.h"
#include "hw/coiommu/endpoint/endpoint.h"
#include "hw/coiommu/endpoint/fallback.h"
#include "session.h"

uint64_t coiommu_session_features(CoiommuState *s)
{
    return COIOMMU_F_ACCESSED | (s->doorbell_us ? COIOMMU_F_PARTIAL : 0);
}

uint32_t coiommu_session_enable(CoiommuState *s, const uint64_t *rw)
{
    uint64_t features = rw[COIOMMU_RW_DRIVER_FEATURES];
    uint64_t req_root = rw[COIOMMU_RW_REQ_ROOT];
    uint64_t req_slots = rw[COIOMMU_RW_REQ_SLOTS];
    CoiommuTable *table = &s->domain.pins.table;
    CoiommuDtt dtt;

    if (table->enabled) {
        return COIOMMU_ST_STATE;
    }
    if (features & ~coiommu_session_features(s)) {
        return COIOMMU_ST_FEATURE;
    }
    if (!coiommu_dtt_init(&dtt, rw[COIOMMU_RW_DTT_ROOT],
                          rw[COIOMMU_RW_DTT_SIZE], s->geometry.unit_shift)) {
        return COIOMMU_ST_INVALID;
    }
    if (req_slots == 0 || req_slots > COIOMMU_SLOTS_MAX ||
        req_root % sizeof(uint64_t)) {
        return COIOMMU_ST_INVALID;
    }
    if (!coiommu_ram_contains(&s->ram, dtt.root, coiommu_dtt_dir_bytes(&dtt)) ||
        !coiommu_ram_contains(&s->ram, req_root,
                              req_slots * sizeof(uint64_t))) {
        return COIOMMU_ST_RANGE;
    }
    coiommu_gate_close(&s->gate);
    table->dtt = dtt;
    table->has_accessed = features & COIOMMU_F_ACCESSED;
    table->enabled = true;
    table->generation++;
    s->req_root = req_root;
    s->req_slots = req_slots;
    s->features = features;
    coiommu_pins_renew(&s->domain.pins);
    coiommu_pins_publish_all(&s->domain.pins);
    coiommu_gate_open(&s->gate);
    return COIOMMU_ST_OK;
}

/*
 * @withdraw: the table is still this guest's, so PINNED is cleared in it.  Not
 * after a reset: its memory may be another kernel's by then.
 *
 * The table goes first, so that it is not written to by what follows.
 */
static void give_up(CoiommuState *s, bool withdraw)
{
    CoiommuPins *pins = &s->domain.pins;

    coiommu_gate_close(&s->gate);
    if (withdraw) {
        coiommu_pins_withdraw_all(pins);
    }
    pins->table.enabled = false;
    coiommu_fallback_detach_begin(s, NULL);
    coiommu_endpoint_detach_all(s);
    coiommu_fallback_detach_end(s);
    coiommu_gate_open(&s->gate);
}

void coiommu_session_disable(CoiommuState *s)
{
    give_up(s, true);
}

void coiommu_session_reset(CoiommuState *s)
{
    coiommu_gate_close(&s->gate);
    give_up(s, false);
    /* With the gate closed: a doorbell inside may still set ERROR before. */
    memset(s->rw, 0, sizeof(s->rw));
    qatomic_set(&s->error, COIOMMU_ST_OK);
    coiommu_gate_open(&s->gate);
}
