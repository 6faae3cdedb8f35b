/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pin set: see pinset.h.
 */
#include "osdep.h"
#include "pinset.h"

/*
 * Block numbers are 52 bits at most, so on a 64-bit host both they and the
 * array indices are kept in the hash's pointers themselves.
 */
G_STATIC_ASSERT(sizeof(gsize) == sizeof(uint64_t));

static guint pinset_hash(gconstpointer key)
{
    uint64_t block = GPOINTER_TO_SIZE(key);

    return block ^ (block >> 32);
}

void coiommu_pinset_init(CoiommuPinset *set)
{
    *set = (CoiommuPinset) {
        .pins = g_array_new(false, false, sizeof(CoiommuPin)),
        .index = g_hash_table_new(pinset_hash, g_direct_equal),
    };
    qemu_mutex_init(&set->lock);
    qemu_cond_init(&set->turn);
}

void coiommu_pinset_destroy(CoiommuPinset *set)
{
    qemu_cond_destroy(&set->turn);
    qemu_mutex_destroy(&set->lock);
    g_array_free(set->pins, true);
    g_hash_table_destroy(set->index);
    set->pins = NULL;
    set->index = NULL;
}

/* ---- With the lock held ---- */

static CoiommuPin *pin_at(CoiommuPinset *set, size_t i)
{
    return &g_array_index(set->pins, CoiommuPin, i);
}

/* Valid until the lock is dropped. */
static CoiommuPin *pin_find(CoiommuPinset *set, uint64_t block)
{
    gpointer value;

    if (!g_hash_table_lookup_extended(set->index, GSIZE_TO_POINTER(block),
                                      NULL, &value)) {
        return NULL;
    }
    return pin_at(set, GPOINTER_TO_SIZE(value));
}

static CoiommuPin *pin_add(CoiommuPinset *set, uint64_t block)
{
    CoiommuPin pin = { .block = block };

    g_hash_table_insert(set->index, GSIZE_TO_POINTER(block),
                        GSIZE_TO_POINTER(set->pins->len));
    g_array_append_val(set->pins, pin);
    return pin_at(set, set->pins->len - 1);
}

static void pin_remove(CoiommuPinset *set, CoiommuPin *pin)
{
    size_t i = pin - pin_at(set, 0);
    size_t last = set->pins->len - 1;

    g_hash_table_remove(set->index, GSIZE_TO_POINTER(pin->block));
    if (i != last) {
        g_hash_table_insert(set->index,
                            GSIZE_TO_POINTER(pin_at(set, last)->block),
                            GSIZE_TO_POINTER(i));
    }
    g_array_remove_index_fast(set->pins, i);
}

/* Is there room for that much more?  The quota may be less than @charged. */
static bool quota_allows(CoiommuPinset *set, uint64_t bytes)
{
    return !set->quota || (set->charged <= set->quota &&
                           bytes <= set->quota - set->charged);
}

static bool pin_is_free(const CoiommuPin *pin)
{
    return pin->state == COIOMMU_PIN_PINNED && pin->next == pin->serving;
}

/* Bytes of the block that are pinned ahead. */
static uint64_t pin_ahead(const CoiommuPin *pin)
{
    return pin->guess == COIOMMU_GUESS_AHEAD ? pin->bytes : 0;
}

/* Stuck bytes count like those that are pinned. */
static void pin_set_stuck(CoiommuPinset *set, CoiommuPin *pin, uint64_t stuck)
{
    uint64_t more = stuck - pin->stuck;

    pin->stuck = stuck;
    set->stuck += more;
    set->bytes += more;
    set->charged += more;
    set->peak = MAX(set->peak, set->bytes);
}

/* A guess no more; returns what it was. */
static CoiommuGuess pin_clear_guess(CoiommuPinset *set, CoiommuPin *pin)
{
    CoiommuGuess guess = pin->guess;

    if (guess) {
        set->guesses--;
        set->ahead -= pin_ahead(pin);
        pin->guess = COIOMMU_GUESS_NONE;
    }
    return guess;
}

/* ---- The set as a whole ---- */

CoiommuPinTotals coiommu_pinset_totals(CoiommuPinset *set)
{
    CoiommuPinTotals totals;

    qemu_mutex_lock(&set->lock);
    totals = (CoiommuPinTotals) {
        .pinned = set->pinned,
        .bytes = set->bytes,
        .stuck = set->stuck,
        .peak = set->peak,
        .charged = set->charged,
        .quota = set->quota,
        .guesses = set->guesses,
        .ahead = set->ahead,
    };
    qemu_mutex_unlock(&set->lock);
    return totals;
}

void coiommu_pinset_set_quota(CoiommuPinset *set, uint64_t quota)
{
    qemu_mutex_lock(&set->lock);
    set->quota = quota;
    qemu_mutex_unlock(&set->lock);
}

bool coiommu_pinset_has(CoiommuPinset *set, uint64_t block)
{
    CoiommuPin *pin;
    bool has;

    qemu_mutex_lock(&set->lock);
    pin = pin_find(set, block);
    has = pin && pin->state == COIOMMU_PIN_PINNED;
    qemu_mutex_unlock(&set->lock);
    return has;
}

bool coiommu_pinset_get(CoiommuPinset *set, size_t i, CoiommuPin *pin)
{
    bool has;

    qemu_mutex_lock(&set->lock);
    has = i < set->pins->len;
    if (has) {
        *pin = *pin_at(set, i);
    }
    qemu_mutex_unlock(&set->lock);
    return has;
}

/* ---- Entering and leaving a block ---- */

bool coiommu_pinset_enter(CoiommuPinset *set, uint64_t block, CoiommuPin *copy)
{
    CoiommuPin *pin;
    uint32_t ticket;
    bool pinned;

    qemu_mutex_lock(&set->lock);
    pin = pin_find(set, block);
    if (!pin) {
        pin = pin_add(set, block);
    }
    ticket = pin->next++;
    while (pin->serving != ticket) {
        qemu_cond_wait(&set->turn, &set->lock);
        /* Our ticket keeps the entry, but it may have moved. */
        pin = pin_find(set, block);
    }
    pinned = pin->state == COIOMMU_PIN_PINNED;
    if (copy) {
        *copy = *pin;
    }
    qemu_mutex_unlock(&set->lock);
    return pinned;
}

bool coiommu_pinset_try_enter(CoiommuPinset *set, uint64_t block,
                              CoiommuPinFilter *filter, void *opaque,
                              CoiommuPin *copy)
{
    CoiommuPin *pin;
    bool in;

    qemu_mutex_lock(&set->lock);
    pin = pin_find(set, block);
    in = pin && pin_is_free(pin) && (!filter || filter(pin, opaque));
    if (in) {
        pin->next++;
    }
    if (in && copy) {
        *copy = *pin;
    }
    qemu_mutex_unlock(&set->lock);
    return in;
}

bool coiommu_pinset_try_add(CoiommuPinset *set, uint64_t block)
{
    bool in;

    qemu_mutex_lock(&set->lock);
    /* Where there is an entry it isn't absent, or not free, or stuck. */
    in = !pin_find(set, block);
    if (in) {
        pin_add(set, block)->next++;
    }
    qemu_mutex_unlock(&set->lock);
    return in;
}

bool coiommu_pinset_try_stuck(CoiommuPinset *set, uint64_t block)
{
    CoiommuPin *pin;
    bool in;

    qemu_mutex_lock(&set->lock);
    pin = pin_find(set, block);
    in = pin && pin->stuck && pin->next == pin->serving;
    if (in) {
        pin->next++;
    }
    qemu_mutex_unlock(&set->lock);
    return in;
}

void coiommu_pinset_leave(CoiommuPinset *set, uint64_t block)
{
    CoiommuPin *pin;

    qemu_mutex_lock(&set->lock);
    pin = pin_find(set, block);
    pin->serving++;
    if (pin->serving != pin->next) {
        qemu_cond_broadcast(&set->turn);
    } else if (pin->state == COIOMMU_PIN_ABSENT && !pin->stuck) {
        pin_remove(set, pin);
    }
    qemu_mutex_unlock(&set->lock);
}

bool coiommu_pinset_wait_release(CoiommuPinset *set)
{
    bool waits;

    qemu_mutex_lock(&set->lock);
    waits = set->unmapping != 0;
    if (waits) {
        uint64_t released = set->released;

        while (set->released == released) {
            qemu_cond_wait(&set->turn, &set->lock);
        }
    }
    qemu_mutex_unlock(&set->lock);
    return waits;
}

/* ---- The states of a block ---- */

bool coiommu_pinset_reserve(CoiommuPinset *set, uint64_t block,
                            uint64_t bytes)
{
    return coiommu_pinset_reserve_guess(set, block, bytes, COIOMMU_GUESS_NONE,
                                        0);
}

bool coiommu_pinset_reserve_guess(CoiommuPinset *set, uint64_t block,
                                  uint64_t bytes, CoiommuGuess guess,
                                  uint64_t ahead)
{
    CoiommuPin *pin;
    bool fits;

    qemu_mutex_lock(&set->lock);
    fits = quota_allows(set, bytes);
    if (guess == COIOMMU_GUESS_AHEAD) {
        fits = fits && set->ahead <= ahead && bytes <= ahead - set->ahead;
    }
    if (fits) {
        pin = pin_find(set, block);
        pin->state = COIOMMU_PIN_MAPPING;
        pin->bytes = bytes;
        pin->guess = guess;
        set->charged += bytes;
        set->guesses += guess != COIOMMU_GUESS_NONE;
        set->ahead += pin_ahead(pin);
    }
    qemu_mutex_unlock(&set->lock);
    return fits;
}

void coiommu_pinset_commit(CoiommuPinset *set, uint64_t block)
{
    CoiommuPin *pin;

    qemu_mutex_lock(&set->lock);
    pin = pin_find(set, block);
    pin->state = COIOMMU_PIN_PINNED;
    coiommu_age_init(&pin->age);
    set->pinned++;
    set->bytes += pin->bytes;
    set->peak = MAX(set->peak, set->bytes);
    qemu_mutex_unlock(&set->lock);
}

CoiommuGuess coiommu_pinset_used(CoiommuPinset *set, uint64_t block)
{
    CoiommuGuess guess = COIOMMU_GUESS_NONE;
    CoiommuPin *pin;

    qemu_mutex_lock(&set->lock);
    pin = pin_find(set, block);
    if (pin && pin->state == COIOMMU_PIN_PINNED) {
        guess = pin_clear_guess(set, pin);
    }
    qemu_mutex_unlock(&set->lock);
    return guess;
}

CoiommuGuess coiommu_pinset_withdraw(CoiommuPinset *set, uint64_t block)
{
    CoiommuGuess guess;
    CoiommuPin *pin;

    qemu_mutex_lock(&set->lock);
    pin = pin_find(set, block);
    pin->state = COIOMMU_PIN_UNMAPPING;
    guess = pin->guess;
    set->unmapping++;
    qemu_mutex_unlock(&set->lock);
    return guess;
}

void coiommu_pinset_release(CoiommuPinset *set, uint64_t block, uint64_t stuck)
{
    CoiommuPin *pin;

    qemu_mutex_lock(&set->lock);
    pin = pin_find(set, block);
    if (pin->state == COIOMMU_PIN_UNMAPPING) {
        set->pinned--;
        set->bytes -= pin->bytes;
        set->unmapping--;
        set->released++;
        qemu_cond_broadcast(&set->turn);
    }
    set->charged -= pin->bytes;
    pin_clear_guess(set, pin);
    pin->bytes = 0;
    pin->part = NULL;
    pin->state = COIOMMU_PIN_ABSENT;
    pin_set_stuck(set, pin, stuck);
    qemu_mutex_unlock(&set->lock);
}

void coiommu_pinset_set_stuck(CoiommuPinset *set, uint64_t block,
                              uint64_t stuck)
{
    qemu_mutex_lock(&set->lock);
    pin_set_stuck(set, pin_find(set, block), stuck);
    qemu_mutex_unlock(&set->lock);
}

bool coiommu_pinset_set_part(CoiommuPinset *set, uint64_t block, void *part,
                             uint64_t bytes)
{
    CoiommuPin *pin;
    bool fits;

    qemu_mutex_lock(&set->lock);
    pin = pin_find(set, block);
    fits = bytes <= pin->bytes || quota_allows(set, bytes - pin->bytes);
    if (fits) {
        set->charged += bytes - pin->bytes;
        set->bytes += bytes - pin->bytes;
        set->peak = MAX(set->peak, set->bytes);
        set->ahead -= pin_ahead(pin);
        pin->bytes = bytes;
        set->ahead += pin_ahead(pin);
        pin->part = part;
    }
    qemu_mutex_unlock(&set->lock);
    return fits;
}

/* ---- Walking ---- */

size_t coiommu_pinset_end(CoiommuPinset *set)
{
    size_t end;

    qemu_mutex_lock(&set->lock);
    end = set->pins->len;
    qemu_mutex_unlock(&set->lock);
    return end;
}

size_t coiommu_pinset_walk(CoiommuPinset *set, size_t *hand,
                           CoiommuPinFilter *filter, void *opaque,
                           uint64_t *blocks, size_t max)
{
    size_t found = 0, looked;

    qemu_mutex_lock(&set->lock);
    /* The set may have shrunk since the last slice. */
    *hand = MIN(*hand, set->pins->len);
    for (looked = 0; looked < max && *hand; looked++) {
        CoiommuPin *pin = pin_at(set, --*hand);

        if (pin_is_free(pin) && (!filter || filter(pin, opaque))) {
            blocks[found++] = pin->block;
        }
    }
    qemu_mutex_unlock(&set->lock);
    return found;
}
