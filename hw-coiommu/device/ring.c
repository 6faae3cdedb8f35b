/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Request pages in guest memory: see ring.h.
 */
#include "qemu/osdep.h"
#include "ring.h"

/* Where the request page of a slot is, by the guest's directory of them. */
static uint32_t request_gpa(CoiommuState *s, uint32_t slot, hwaddr *gpa)
{
    uint64_t *entry;

    if (!s->domain.pins.table.enabled) {
        return COIOMMU_ST_STATE;
    }
    if (slot >= s->req_slots) {
        return COIOMMU_ST_INVALID;
    }
    /* ENABLE saw RAM here, but RAM can be unplugged. */
    entry = coiommu_ram_ptr(&s->ram, s->req_root + slot * sizeof(*entry),
                            sizeof(*entry));
    if (!entry) {
        return COIOMMU_ST_RANGE;
    }
    /* Once: the guest may change it. */
    *gpa = le64_to_cpu(qatomic_read(entry));
    return *gpa % COIOMMU_REQ_PAGE_SIZE ? COIOMMU_ST_INVALID : COIOMMU_ST_OK;
}

uint32_t coiommu_ring_find(CoiommuState *s, uint32_t slot, CoiommuRing *ring,
                           void **page)
{
    uint32_t status = request_gpa(s, slot, &ring->gpa);

    if (status) {
        return status;
    }
    ring->slot = slot;
    ring->table = s->domain.pins.table.generation;
    ring->pins = s->domain.pins.generation;
    *page = coiommu_ram_ptr(&s->ram, ring->gpa, COIOMMU_REQ_PAGE_SIZE);
    return *page ? COIOMMU_ST_OK : COIOMMU_ST_RANGE;
}

bool coiommu_ring_is_stale(CoiommuState *s, const CoiommuRing *ring)
{
    hwaddr gpa;

    return s->domain.pins.table.generation != ring->table ||
           request_gpa(s, ring->slot, &gpa) || gpa != ring->gpa ||
           !coiommu_ram_ptr(&s->ram, gpa, COIOMMU_REQ_PAGE_SIZE);
}

void coiommu_ring_answer(CoiommuState *s, const CoiommuRing *ring,
                         uint32_t status)
{
    struct coiommu_request *page;
    CoiommuExtent piece;

    /* Looked up anew: guest RAM may have changed while it was served. */
    if (!coiommu_ram_resolve(&s->ram, ring->gpa, COIOMMU_REQ_PAGE_SIZE,
                             &piece)) {
        return;
    }
    page = (struct coiommu_request *)piece.hva;
    qatomic_set(&page->done, cpu_to_le32(ring->done));
    /* Release: a driver that sees the status sees done and PINNED as well. */
    qatomic_store_release(&page->status, cpu_to_le32(status));
    s->ram.set_dirty(&piece);
}
