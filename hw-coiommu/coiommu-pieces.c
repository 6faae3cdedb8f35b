/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pieces of a block: where holes cut it, and the end of RAM.
 */
#include "qemu/osdep.h"
#include "coiommu-pieces.h"

static hwaddr block_start(CoiommuState *s, uint64_t block)
{
    return block << s->block_shift;
}

uint64_t coiommu_pieces_bytes(CoiommuState *s, const GArray *list,
                              uint64_t block)
{
    hwaddr gpa = block_start(s, block);
    uint64_t bytes = 0;
    CoiommuExtent piece;

    while (coiommu_ram_next(list, &gpa, block_start(s, block + 1), &piece)) {
        bytes += piece.size;
    }
    return bytes;
}

void coiommu_pieces_unmap(CoiommuState *s, const GArray *list, uint64_t block,
                          hwaddr end)
{
    hwaddr gpa = block_start(s, block);
    CoiommuExtent piece;

    while (coiommu_ram_next(list, &gpa, end, &piece)) {
        coiommu_containers_unmap(s, piece.gpa, piece.size);
    }
}

/* A VFIO map, or a refusal, has taken @ns nanoseconds. */
static void count_time(CoiommuState *s, int64_t ns)
{
    uint64_t us = ns / SCALE_US;
    unsigned bucket = 64 - clz64(us);

    stat64_add(&s->stats.pin_time[MIN(bucket, COIOMMU_PIN_TIME_BUCKETS - 1)],
               1);
}

int coiommu_pieces_map(CoiommuState *s, const GArray *list, uint64_t block)
{
    hwaddr gpa = block_start(s, block);
    int64_t start = get_clock();
    CoiommuExtent piece;
    int ret = 0;

    while (coiommu_ram_next(list, &gpa, block_start(s, block + 1), &piece)) {
        ret = coiommu_containers_map(s, &piece);
        if (ret) {
            coiommu_pieces_unmap(s, list, block, piece.gpa);
            break;
        }
    }
    count_time(s, get_clock() - start);
    return ret;
}

static bool piece_equal(const CoiommuExtent *x, const CoiommuExtent *y)
{
    return x->gpa == y->gpa && x->size == y->size && x->mr == y->mr &&
           x->offset == y->offset;
}

static bool pieces_have(CoiommuState *s, const GArray *list, uint64_t block,
                        const CoiommuExtent *want)
{
    hwaddr gpa = block_start(s, block);
    CoiommuExtent piece;

    while (coiommu_ram_next(list, &gpa, block_start(s, block + 1), &piece)) {
        if (piece_equal(&piece, want)) {
            return true;
        }
    }
    return false;
}

GArray *coiommu_pieces_select(CoiommuState *s, const GArray *list,
                              const GArray *other, uint64_t block, bool in)
{
    GArray *selected = g_array_new(false, false, sizeof(CoiommuExtent));
    hwaddr gpa = block_start(s, block);
    CoiommuExtent piece;

    while (coiommu_ram_next(list, &gpa, block_start(s, block + 1), &piece)) {
        if (pieces_have(s, other, block, &piece) == in) {
            g_array_append_val(selected, piece);
        }
    }
    return selected;
}

bool coiommu_pieces_equal(CoiommuState *s, const GArray *a, const GArray *b,
                          uint64_t block)
{
    hwaddr gpa_a = block_start(s, block), gpa_b = gpa_a;
    hwaddr end = block_start(s, block + 1);
    CoiommuExtent x, y;

    for (;;) {
        bool more = coiommu_ram_next(a, &gpa_a, end, &x);

        if (more != coiommu_ram_next(b, &gpa_b, end, &y)) {
            return false;
        }
        if (!more) {
            return true;
        }
        if (!piece_equal(&x, &y)) {
            return false;
        }
    }
}
