/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz the pin set and the policies against naive references.
 *
 * Input: a string of PinsStep.  A step that the caller of the pin set must not
 * make (to commit what is not being mapped) does nothing.  One thread makes
 * them all, in several blocks at a time; so it never enters one twice, where it
 * would wait for itself.
 *
 * The reference of the set is an array of all blocks.  That of the policies
 * remembers every look since a block was pinned, and decides by the words of
 * policy.h; what it doesn't have is the age.
 */
#include "osdep.h"
#include "pinset.h"
#include "input.h"

#define BLOCKS 8

/* Near each other, far apart, and with the same hash. */
static const uint64_t number[BLOCKS] = {
    0, 1, 2, 1ull << 32, (1ull << 32) + 1, (1ull << 52) - 1, 0xffffffff, 512,
};

/**
 * Look - one look at a block, or an interval in which it was passed over
 */
typedef struct Look {
    CoiommuPolicyKind kind;
    bool has_accessed;
    bool passed;
    bool busy;
    bool accessed;
    int64_t at_ms;
} Look;

/**
 * Block - what the reference knows of a block
 * @in: the thread is in it
 * @state: as it should be
 * @bytes, @stuck: as they should be
 * @owed: the walk in progress must still show it
 * @looks: Look, since it was pinned
 */
typedef struct Block {
    bool in;
    CoiommuPinState state;
    uint64_t bytes;
    uint64_t stuck;
    bool owed;
    GArray *looks;
} Block;

static CoiommuPinset set;
static Block ref[BLOCKS];
static uint64_t quota, peak;
static size_t hand;
static CoiommuPolicy policy;
static int64_t now_ms;

static unsigned block_index(uint64_t block)
{
    unsigned b;

    for (b = 0; b < BLOCKS && number[b] != block; b++) {
        continue;
    }
    g_assert_cmpuint(b, <, BLOCKS);
    return b;
}

static bool is_free(const Block *r)
{
    return r->state == COIOMMU_PIN_PINNED && !r->in;
}

static void entered(Block *r)
{
    r->in = true;
    r->owed = false;
}

/* Sizes from one page to the largest. */
static uint64_t bytes_of(uint16_t arg)
{
    return arg & 0x8000 ? 1ull << (12 + arg % 41) : (arg + 1ull) << 12;
}

/* ---- The set as a whole ---- */

static void compare(void)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(&set);
    uint64_t bytes = 0, charged = 0, stuck = 0;
    size_t pinned = 0, unmapping = 0, entries = 0, i;
    bool seen[BLOCKS] = { false };
    CoiommuPin pin;

    for (i = 0; i < BLOCKS; i++) {
        const Block *r = &ref[i];

        g_assert_cmpint(coiommu_pinset_has(&set, number[i]), ==,
                        r->state == COIOMMU_PIN_PINNED);
        entries += r->in || r->state != COIOMMU_PIN_ABSENT || r->stuck;
        charged += r->bytes + r->stuck;
        bytes += r->stuck;
        stuck += r->stuck;
        unmapping += r->state == COIOMMU_PIN_UNMAPPING;
        if (r->state >= COIOMMU_PIN_PINNED) {
            pinned++;
            bytes += r->bytes;
        }
    }
    peak = MAX(peak, bytes);
    g_assert_cmpuint(totals.pinned, ==, pinned);
    g_assert_cmpuint(totals.bytes, ==, bytes);
    g_assert_cmpuint(totals.stuck, ==, stuck);
    g_assert_cmpuint(totals.peak, ==, peak);
    g_assert_cmpuint(totals.charged, ==, charged);
    g_assert_cmpuint(totals.quota, ==, quota);
    g_assert_cmpuint(coiommu_pinset_end(&set), ==, entries);
    for (i = 0; i < entries; i++) {
        unsigned b;

        g_assert_true(coiommu_pinset_get(&set, i, &pin));
        b = block_index(pin.block);
        g_assert_false(seen[b]);
        seen[b] = true;
        g_assert_cmpint(pin.state, ==, ref[b].state);
        g_assert_cmpuint(pin.bytes, ==, ref[b].bytes);
        g_assert_cmpuint(pin.stuck, ==, ref[b].stuck);
        g_assert_cmpuint(pin.next - pin.serving, ==, ref[b].in);
    }
    g_assert_false(coiommu_pinset_get(&set, entries, &pin));
    if (!unmapping) {
        g_assert_false(coiommu_pinset_wait_release(&set));
    }
}

/* ---- Steps in one block ---- */

typedef struct Answer {
    uint64_t block;
    bool answer;
    bool asked;
} Answer;

static bool filter_answer(CoiommuPin *pin, void *opaque)
{
    Answer *answer = opaque;

    g_assert_cmpuint(pin->block, ==, answer->block);
    g_assert_false(answer->asked);
    answer->asked = true;
    return answer->answer;
}

static void try_enter(Block *r, uint64_t block, uint16_t arg)
{
    Answer answer = { .block = block, .answer = arg & 2 };
    bool filtered = arg & 1;
    bool want = is_free(r) && (!filtered || answer.answer);
    CoiommuPin pin;

    g_assert_cmpint(coiommu_pinset_try_enter(&set, block,
                                             filtered ? filter_answer : NULL,
                                             &answer, &pin), ==, want);
    g_assert_cmpint(answer.asked, ==, filtered && is_free(r));
    if (want) {
        g_assert_cmpuint(pin.bytes, ==, r->bytes);
        entered(r);
    }
}

static void reserve(Block *r, uint64_t block, uint64_t bytes)
{
    uint64_t charged = 0;
    bool fits;
    unsigned b;

    for (b = 0; b < BLOCKS; b++) {
        charged += ref[b].bytes + ref[b].stuck;
    }
    fits = !quota || charged + bytes <= quota;
    g_assert_cmpint(coiommu_pinset_reserve(&set, block, bytes), ==, fits);
    if (fits) {
        r->state = COIOMMU_PIN_MAPPING;
        r->bytes = bytes;
    }
}

static void release(Block *r, uint64_t block, uint64_t stuck)
{
    coiommu_pinset_release(&set, block, stuck);
    r->state = COIOMMU_PIN_ABSENT;
    r->bytes = 0;
    r->stuck = stuck;
}

/* Go into a block that is stuck; from inside change how much that is. */
static void stuck(Block *r, uint64_t block, uint64_t bytes)
{
    if (r->in) {
        coiommu_pinset_set_stuck(&set, block, bytes);
        r->stuck = bytes;
        return;
    }
    g_assert_cmpint(coiommu_pinset_try_stuck(&set, block), ==, r->stuck != 0);
    if (r->stuck) {
        entered(r);
    }
}

/* ---- A slice of a walk that other steps come between ---- */

static void walk(size_t max)
{
    uint64_t blocks[BLOCKS];
    size_t i, found;

    if (!hand) {
        hand = coiommu_pinset_end(&set);
        for (i = 0; i < BLOCKS; i++) {
            ref[i].owed = is_free(&ref[i]);
        }
    }
    found = coiommu_pinset_walk(&set, &hand, NULL, NULL, blocks, max);
    g_assert_cmpuint(found, <=, max);
    for (i = 0; i < found; i++) {
        unsigned b = block_index(blocks[i]);
        size_t j;

        g_assert_true(is_free(&ref[b]));
        for (j = 0; j < i; j++) {
            g_assert_cmpuint(blocks[j], !=, blocks[i]);
        }
        ref[b].owed = false;
    }
    for (i = 0; i < BLOCKS && !hand; i++) {
        g_assert_false(ref[i].owed);
    }
}

/* ---- Intervals of the unpin thread ---- */

/*
 * The look before @look, or with NULL the last one, or NULL if there is none.
 * Looks of other kinds of policy tell this one nothing.
 */
static const Look *look_before(const Block *r, const Look *look)
{
    const Look *looks = (const Look *)r->looks->data;
    guint i = look ? look - looks : r->looks->len;

    while (i--) {
        if (looks[i].kind == policy.kind && !looks[i].passed) {
            return &looks[i];
        }
    }
    return NULL;
}

/* How often it has been passed over since the last look. */
static unsigned passed_since(const Block *r)
{
    guint i = r->looks->len;
    unsigned passed = 0;

    while (i--) {
        const Look *look = &g_array_index(r->looks, Look, i);

        if (look->kind == policy.kind && !look->passed) {
            break;
        }
        passed += look->kind == policy.kind;
    }
    return passed;
}

static bool is_due(const Block *r)
{
    const Look *last = look_before(r, NULL);
    unsigned old = 0;

    if (policy.kind != COIOMMU_POLICY_LAZY) {
        return policy.kind != COIOMMU_POLICY_OFF;
    }
    if (!last || !last->busy) {
        return true;
    }
    /* In a row it held nothing but old mappings: how often? */
    while (last && last->busy && last->has_accessed && !last->accessed) {
        last = look_before(r, last);
        old++;
    }
    return passed_since(r) == (1u << MIN(old, COIOMMU_GENERATION_MAX)) - 1;
}

/* The look that this is about is the last one. */
static bool may_go(const Block *r)
{
    const Look *look = look_before(r, NULL);
    const Look *before = look_before(r, look);
    int64_t since = look->at_ms;

    if (look->busy) {
        return false;
    }
    if (policy.kind == COIOMMU_POLICY_LAZY) {
        return policy.has_accessed ? !look->accessed :
                                     before && !before->busy;
    }
    /* For how long has it been idle at each look? */
    while (look && !look->busy) {
        since = look->at_ms;
        look = look->accessed ? NULL : look_before(r, look);
    }
    return now_ms - since >= policy.window_ms;
}

static bool filter_due(CoiommuPin *pin, void *opaque)
{
    bool *asked = opaque;
    unsigned b = block_index(pin->block);
    Look passed = { .kind = policy.kind, .passed = true };
    bool due = coiommu_policy_due(&policy, &pin->age);

    g_assert_true(is_free(&ref[b]));
    g_assert_false(asked[b]);
    asked[b] = true;
    g_assert_cmpint(due, ==, is_due(&ref[b]));
    if (!due) {
        g_array_append_val(ref[b].looks, passed);
    }
    return due;
}

static bool filter_judge(CoiommuPin *pin, void *opaque)
{
    const CoiommuLook *look = opaque;

    return coiommu_policy_judge(&policy, &pin->age, *look, now_ms);
}

/* @looks: two bits for each block; @race: those that may go stay after all. */
static void interval(uint16_t looks, bool race)
{
    bool asked[BLOCKS] = { false };
    uint64_t blocks[BLOCKS];
    size_t end = coiommu_pinset_end(&set), i, found;

    found = coiommu_pinset_walk(&set, &end, filter_due, asked, blocks, BLOCKS);
    g_assert_cmpuint(end, ==, 0);
    for (i = 0; i < BLOCKS; i++) {
        g_assert_cmpint(asked[i], ==, is_free(&ref[i]));
    }
    for (i = 0; i < found; i++) {
        unsigned b = block_index(blocks[i]);
        CoiommuLook look = {
            .busy = looks >> (2 * b) & 1,
            .accessed = policy.has_accessed && looks >> (2 * b + 1) & 1,
        };
        Look kept = {
            .kind = policy.kind, .has_accessed = policy.has_accessed,
            .busy = look.busy, .accessed = look.accessed, .at_ms = now_ms,
        };
        bool go;

        g_array_append_val(ref[b].looks, kept);
        go = may_go(&ref[b]);
        g_assert_cmpint(coiommu_pinset_try_enter(&set, blocks[i],
                                                 filter_judge, &look, NULL),
                        ==, go);
        if (go && !race) {
            coiommu_pinset_withdraw(&set, blocks[i]);
            ref[b].state = COIOMMU_PIN_UNMAPPING;
            release(&ref[b], blocks[i], 0);
        }
        if (go) {
            ref[b].owed = false;
            coiommu_pinset_leave(&set, blocks[i]);
        }
    }
}

/* ---- One input ---- */

static void step_in_block(const PinsStep *step)
{
    Block *r = &ref[step->block % BLOCKS];
    uint64_t block = number[step->block % BLOCKS];

    if (step->op == PINS_ENTER && !r->in) {
        g_assert_cmpint(coiommu_pinset_enter(&set, block, NULL), ==,
                        r->state == COIOMMU_PIN_PINNED);
        entered(r);
    } else if (step->op == PINS_TRY) {
        try_enter(r, block, step->arg);
    } else if (step->op == PINS_STUCK) {
        stuck(r, block, step->arg % 2 ? bytes_of(step->arg) : 0);
    } else if (!r->in) {
        return;
    } else if (step->op == PINS_LEAVE &&
               (r->state == COIOMMU_PIN_ABSENT ||
                r->state == COIOMMU_PIN_PINNED)) {
        coiommu_pinset_leave(&set, block);
        r->in = false;
    } else if (step->op == PINS_RESERVE && r->state == COIOMMU_PIN_ABSENT) {
        reserve(r, block, bytes_of(step->arg));
    } else if (step->op == PINS_COMMIT && r->state == COIOMMU_PIN_MAPPING) {
        coiommu_pinset_commit(&set, block);
        r->state = COIOMMU_PIN_PINNED;
        g_array_set_size(r->looks, 0);
    } else if (step->op == PINS_WITHDRAW && r->state == COIOMMU_PIN_PINNED) {
        coiommu_pinset_withdraw(&set, block);
        r->state = COIOMMU_PIN_UNMAPPING;
    } else if (step->op == PINS_RELEASE &&
               (r->state == COIOMMU_PIN_MAPPING ||
                r->state == COIOMMU_PIN_UNMAPPING)) {
        release(r, block, step->arg % 4 ? 0 : r->bytes / 2);
    }
}

static void step(PinsStep *step)
{
    step->op %= PINS_OPS;
    switch (step->op) {
    case PINS_QUOTA:
        quota = step->arg ? bytes_of(step->arg) : 0;
        coiommu_pinset_set_quota(&set, quota);
        break;
    case PINS_WALK:
        walk(1 + step->arg % BLOCKS);
        break;
    case PINS_POLICY:
        policy = (CoiommuPolicy) {
            .kind = step->arg % COIOMMU_POLICY_COUNT,
            .has_accessed = step->block & 1,
            .window_ms = step->arg >> 2,
        };
        break;
    case PINS_INTERVAL:
        interval(step->arg, step->block & 1);
        break;
    case PINS_CLOCK:
        now_ms += step->arg;
        break;
    default:
        step_in_block(step);
        break;
    }
    compare();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };
    PinsStep next;
    unsigned b;

    coiommu_pinset_init(&set);
    for (b = 0; b < BLOCKS; b++) {
        ref[b] = (Block) {
            .looks = g_array_new(false, false, sizeof(Look)),
        };
    }
    quota = peak = 0;
    hand = 0;
    policy = (CoiommuPolicy) { .kind = COIOMMU_POLICY_LAZY };
    now_ms = 0;

    while (in.size) {
        input_take(&in, &next, sizeof(next));
        step(&next);
    }
    for (b = 0; b < BLOCKS; b++) {
        g_array_free(ref[b].looks, true);
    }
    coiommu_pinset_destroy(&set);
    return 0;
}
