/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzzer's bytes mean.  The targets take them apart by this, and
 * seeds.c puts them together.
 *
 * Numbers are taken off the front, little-endian; past the end there are only
 * zeroes, so that every string of bytes is a valid input.
 */
#ifndef COIOMMU_FUZZ_INPUT_H
#define COIOMMU_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/**
 * Input - what is left of the bytes
 */
typedef struct Input {
    const uint8_t *data;
    size_t size;
} Input;

/* Copy the next @size bytes to @to. */
static inline void input_take(Input *in, void *to, size_t size)
{
    size_t some = in->size < size ? in->size : size;

    memset(to, 0, size);
    if (some) {
        memcpy(to, in->data, some);
        in->data += some;
        in->size -= some;
    }
}

/**
 * Scribble - a write of the guest's that the device doesn't expect
 * @delay: after so many accesses of the device to guest memory
 * @kind: SCRIBBLE_*
 * @where: which 8 bytes; the target says how they are counted
 * @value: what to write there, depending on the kind
 */
typedef struct __attribute__((packed)) Scribble {
    uint8_t delay;
    uint8_t kind;
    uint16_t where;
    uint64_t value;
} Scribble;

/* The 8 bytes that the device is about to look at, not those at @where. */
#define SCRIBBLE_HERE       0x80
/* In @value is not an address, but the number of a page of guest RAM. */
#define SCRIBBLE_LEAF       0x01

/* An input begins with their number, a byte, modulo the following. */
#define SCRIBBLES_MAX       32

/**
 * TableStep - the target "table": what is done next
 * @op: TABLE_*
 * @page: if below TABLE_PAGES: in which page of guest RAM
 * @shift: TABLE_ENABLE: size of units; TABLE_PLUG: what is there, in bits;
 *         walks: bit 0, more than one leaf; bit 1, TABLE_BUSY looks for
 *         ACCESSED as well
 * @gpa: where, if @page doesn't say; else, where in the page
 * @size: how many bytes; TABLE_ENABLE: how many are tracked
 *
 * TABLE_WRITE is followed by a Scribble, which happens at once.
 */
typedef struct __attribute__((packed)) TableStep {
    uint8_t op;
    uint8_t page;
    uint16_t shift;
    uint64_t gpa;
    uint64_t size;
} TableStep;

/* Pages of guest RAM, in ascending order, when all of it is plugged in. */
#define TABLE_PAGES 25

enum {
    TABLE_WRITE,
    TABLE_ENABLE,
    TABLE_PUBLISH,
    TABLE_WITHDRAW,
    TABLE_BUSY,
    TABLE_ACCESSED,
    TABLE_PLUG,
    TABLE_LOOKUP,
    TABLE_OPS,
};

/**
 * PinsStep - the target "pins": what is done next
 * @op: PINS_*
 * @block: which block
 * @arg: depends on @op
 */
typedef struct __attribute__((packed)) PinsStep {
    uint8_t op;
    uint8_t block;
    uint16_t arg;
} PinsStep;

enum {
    PINS_ENTER,
    PINS_TRY,
    PINS_LEAVE,
    PINS_RESERVE,
    PINS_COMMIT,
    PINS_WITHDRAW,
    PINS_RELEASE,
    PINS_QUOTA,
    PINS_WALK,
    PINS_POLICY,
    PINS_INTERVAL,
    PINS_CLOCK,
    PINS_STUCK,
    PINS_OPS,
};

#endif /* COIOMMU_FUZZ_INPUT_H */
