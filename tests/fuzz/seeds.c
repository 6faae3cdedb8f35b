/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Write the inputs that fuzzing begins with: usage "seeds TARGET FOLDER".
 *
 * They are what a driver that keeps the protocol would do, in the numbers of
 * the ABI header; the fuzzer makes worse ones from them.
 */
#include <stdio.h>
#include <stdlib.h>
#include "input.h"
#include "../../hw-coiommu/include/coiommu_abi.h"

static const char *folder;
static FILE *seed;
static unsigned seeds;

static void put(const void *from, size_t size)
{
    if (fwrite(from, 1, size, seed) != size) {
        perror("fwrite");
        exit(1);
    }
}

static void put_byte(uint8_t byte)
{
    put(&byte, 1);
}

static void seed_open(void)
{
    char name[4096];

    snprintf(name, sizeof(name), "%s/seed-%02u", folder, seeds++);
    seed = fopen(name, "wb");
    if (!seed) {
        perror(name);
        exit(1);
    }
}

static void seed_close(void)
{
    if (fclose(seed)) {
        perror("fclose");
        exit(1);
    }
}

/* ---- request ---- */

/*
 * A request of @count ranges, of which the input holds @given and the target
 * repeats the last; it may change in the word of its first range.
 */
static void request(uint32_t opcode, uint32_t count, uint32_t given,
                    bool changes)
{
    struct coiommu_request page = {
        .opcode = opcode,
        .count = count,
        .status = COIOMMU_ST_PENDING,
        .endpoint = opcode == COIOMMU_OP_PIN ? 0 : COIOMMU_ENDPOINT(0, 1, 8),
    };
    Scribble scribble = { .delay = 3, .kind = SCRIBBLE_HERE,
                          .value = COIOMMU_REQ_MAX_PAGES };
    uint32_t i;

    for (i = 0; i < given; i++) {
        page.range[i].gfn = 0x100000 + i * 512;
        page.range[i].npages = 1 + i % (COIOMMU_REQ_MAX_PAGES /
                                        COIOMMU_REQ_MAX_RANGES);
    }
    seed_open();
    put_byte(changes);
    if (changes) {
        put(&scribble, sizeof(scribble));
    }
    put(&page, offsetof(struct coiommu_request, range) +
               given * sizeof(page.range[0]));
    seed_close();
}

static void seeds_request(void)
{
    request(COIOMMU_OP_PROBE, 0, 0, false);
    request(COIOMMU_OP_ATTACH, 0, 0, false);
    request(COIOMMU_OP_DETACH, 0, 0, false);
    request(COIOMMU_OP_PIN, 1, 1, false);
    request(COIOMMU_OP_PIN, 2, 2, true);
    request(COIOMMU_OP_PIN, COIOMMU_REQ_MAX_RANGES, 1, false);
    request(COIOMMU_OP_PIN, COIOMMU_REQ_MAX_RANGES, COIOMMU_REQ_MAX_RANGES,
            false);
}

/* ---- pins ---- */

static void pins_step(uint8_t op, uint8_t block, uint16_t arg)
{
    PinsStep step = { .op = op, .block = block, .arg = arg };

    put(&step, sizeof(step));
}

static void pins_pin(uint8_t block)
{
    pins_step(PINS_ENTER, block, 0);
    pins_step(PINS_RESERVE, block, 511);
    pins_step(PINS_COMMIT, block, 0);
    pins_step(PINS_LEAVE, block, 0);
}

static void pins_unpin(uint8_t block)
{
    pins_step(PINS_TRY, block, 0);
    pins_step(PINS_WITHDRAW, block, 0);
    pins_step(PINS_RELEASE, block, 0);
    pins_step(PINS_LEAVE, block, 0);
}

static void seeds_pins(void)
{
    uint8_t block, kind;

    /* Pinned up to the quota, shown, unpinned. */
    seed_open();
    pins_step(PINS_QUOTA, 0, 6 * 512 - 1);
    for (block = 0; block < 8; block++) {
        pins_pin(block);
    }
    pins_step(PINS_WALK, 0, 2);
    for (block = 0; block < 8; block++) {
        pins_unpin(block);
    }
    pins_step(PINS_WALK, 0, 7);
    seed_close();

    /* Each policy, over blocks that are busy, used, and idle. */
    for (kind = 0; kind < 6; kind++) {
        seed_open();
        pins_step(PINS_POLICY, kind & 1, kind / 2 + (20 << 2));
        for (block = 0; block < 4; block++) {
            pins_pin(block);
        }
        for (block = 0; block < 12; block++) {
            pins_step(PINS_INTERVAL, block & 1, 0x1b);
            pins_step(PINS_CLOCK, 0, 5);
        }
        seed_close();
    }
}

/* ---- table ---- */

static void table_step(uint8_t op, uint8_t page, uint16_t shift, uint64_t gpa,
                       uint64_t size)
{
    TableStep step = { .op = op, .page = page, .shift = shift, .gpa = gpa,
                       .size = size };

    put(&step, sizeof(step));
}

/* The guest writes 8 bytes: word @word of its page @page. */
static void table_write(unsigned page, unsigned word, uint8_t kind,
                        uint64_t value)
{
    Scribble scribble = {
        .kind = kind,
        .where = page * (COIOMMU_DTT_PAGE_SIZE / 8) + word,
        .value = value,
    };

    table_step(TABLE_WRITE, 0, 0, 0, 0);
    put(&scribble, sizeof(scribble));
}

/*
 * A table for the memory below 4 MiB or above 4 GiB, with a count in it, and
 * all that the device does to one block; it may change meanwhile.
 */
static void table(unsigned unit_shift, bool high, bool changes, bool unplug)
{
    const uint8_t directory = 8, leaf = 12, page = high ? 21 : 4;
    uint64_t gpa = high ? 4ull << 30 : 1ull << 20;
    uint64_t unit = gpa >> unit_shift;
    Scribble scribble = { .delay = 2, .kind = SCRIBBLE_HERE | SCRIBBLE_LEAF,
                          .value = 24 << 12 | COIOMMU_DTT_DIR_PRESENT };
    uint8_t op;

    seed_open();
    put_byte(changes);
    if (changes) {
        put(&scribble, sizeof(scribble));
    }
    table_write(directory, unit / COIOMMU_DTT_LEAF_ENTRIES, SCRIBBLE_LEAF,
                leaf << 12 | COIOMMU_DTT_DIR_PRESENT);
    table_write(leaf, unit % COIOMMU_DTT_LEAF_ENTRIES / 2, 0,
                COIOMMU_DTT_ACCESSED | 1);
    table_step(TABLE_ENABLE, directory, unit_shift - COIOMMU_UNIT_SHIFT_MIN, 0,
               (4ull << 30) + (1 << 20));
    for (op = TABLE_PUBLISH; op <= TABLE_ACCESSED; op++) {
        table_step(op, page, 0, 0, (2u << unit_shift) - 1);
        if (unplug) {
            table_step(TABLE_PLUG, 0, ~(1u << op), 0, 0);
        }
    }
    table_step(TABLE_LOOKUP, page, 0, 0, COIOMMU_DTT_PAGE_SIZE);
    seed_close();
}

static void seeds_table(void)
{
    table(COIOMMU_UNIT_SHIFT_DEFAULT, false, false, false);
    table(COIOMMU_UNIT_SHIFT_DEFAULT, true, true, false);
    table(COIOMMU_UNIT_SHIFT_MIN, false, true, true);
    table(COIOMMU_UNIT_SHIFT_MAX, true, false, true);
}

static const struct {
    const char *name;
    void (*seeds)(void);
} targets[] = {
    { "request", seeds_request },
    { "pins", seeds_pins },
    { "table", seeds_table },
};

int main(int argc, char **argv)
{
    unsigned i;

    for (i = 0; argc == 3 && i < sizeof(targets) / sizeof(targets[0]); i++) {
        if (!strcmp(argv[1], targets[i].name)) {
            folder = argv[2];
            targets[i].seeds();
            return 0;
        }
    }
    fprintf(stderr, "usage: seeds TARGET FOLDER\n");
    return 1;
}
