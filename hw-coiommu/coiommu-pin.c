/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning and unpinning of blocks.
 *
 * A block is the unit that is mapped and unmapped: aligned, of fixed size, and
 * never split, because VFIO cannot take a part out of a mapping.  It is mapped
 * piece by piece where a hole or the end of RAM cuts it: block 0, for one, is
 * in two pieces around the legacy hole.
 *
 * Order of things, so that the table never promises what is not so:
 *   pin:   map in all containers, then enter in the pin set, then publish;
 *   unpin: withdraw, then remove from the pin set, then unmap.
 *
 * The pieces of a block are computed from the list of RAM at pin and again at
 * unpin.  They agree until RAM changes in the block.  Then pieces that go are
 * unmapped, and as the others must stay mapped, for a device may be using them,
 * the block is pinned in part from then on: the pin set has a list of what is
 * mapped.  The next request for the block maps what is missing.
 *
 * Pinning and unpinning one block runs in the gate or under the BQL, and with
 * the block entered in the pin set: no lock is held during a call to VFIO.
 * What is about all blocks runs under the BQL with the gate closed, so that
 * nobody else is in any block.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "coiommu.h"
#include "coiommu-pieces.h"
#include "trace.h"

/* How often a pin is tried that finds no room; see room_bytes(). */
#define ROOM_ATTEMPTS 12

static hwaddr block_start(CoiommuState *s, uint64_t block)
{
    return block << s->block_shift;
}

static hwaddr block_end(CoiommuState *s, uint64_t block)
{
    return (block + 1) << s->block_shift;
}

/* ---- One block ---- */

/*
 * The list to look up what is mapped of a pinned block.  For who is in it, or
 * has the gate closed.  No references: whatever is in it is also in the list
 * of RAM.
 */
static const GArray *block_mapped(CoiommuState *s, uint64_t block)
{
    return coiommu_pinset_part(&s->pins, block) ?: s->ram.extents;
}

/* Without a table there is nothing to publish in, nor to withdraw from. */
static void block_publish(CoiommuState *s, uint64_t block)
{
    const GArray *part = coiommu_pinset_part(&s->pins, block);
    const GArray *list = part ?: s->ram.extents;
    hwaddr gpa = block_start(s, block);
    CoiommuExtent piece;

    if (!s->enabled) {
        return;
    }
    while (coiommu_ram_next(list, &gpa, block_end(s, block), &piece)) {
        hwaddr start = piece.gpa, end = piece.gpa + piece.size;

        if (part) {
            /* The rest of a unit may be in a piece that is not mapped. */
            start = ROUND_UP(start, 1ull << s->unit_shift);
            end = ROUND_DOWN(end, 1ull << s->unit_shift);
        }
        if (start < end) {
            coiommu_table_publish(s, start, end - start);
        }
    }
}

static void block_withdraw(CoiommuState *s, uint64_t block)
{
    if (s->enabled) {
        coiommu_table_withdraw(s, block_start(s, block),
                               1ull << s->block_shift);
    }
}

static int64_t now_ms(void)
{
    return get_clock() / SCALE_MS;
}

/*
 * May the host be asked for what is not mapped of a block that is entered?  If
 * it has refused lately, what it has said may be the answer.
 */
static int ask_host(CoiommuState *s, uint64_t block)
{
    const GArray *part = coiommu_pinset_part(&s->pins, block);
    uint64_t total;
    int ret;

    /* Nearly always there is no refusal to go by. */
    if (!coiommu_refusal_check(&s->refusal, block, UINT64_MAX, now_ms())) {
        return 0;
    }
    total = coiommu_pinset_totals(&s->pins).charged +
            coiommu_pieces_bytes(s, s->ram.extents, block) -
            (part ? coiommu_pieces_bytes(s, part, block) : 0);
    ret = coiommu_refusal_check(&s->refusal, block, total, now_ms());
    if (ret) {
        stat64_add(&s->stats.pin_unasked, 1);
        trace_coiommu_pin_unasked(block, total, ret);
    }
    return ret;
}

/* It has been asked for @bytes of it, which are charged, and has refused. */
static void note_refusal(CoiommuState *s, uint64_t block, uint64_t bytes,
                         int ret)
{
    uint64_t total = coiommu_pinset_totals(&s->pins).charged;

    coiommu_refusal_note(&s->refusal, ret, block, total - bytes, bytes,
                         now_ms());
}

/*
 * It has pinned what it was asked for.  What others are asking for at this
 * moment is charged as well, but may be refused.
 */
static void note_success(CoiommuState *s)
{
    coiommu_refusal_success(&s->refusal,
                            coiommu_pinset_totals(&s->pins).bytes);
}

/*
 * Map a block that is entered and absent, and put it into the pin set.  See
 * coiommu_pinset_reserve_guess() for the last two.
 */
static int block_pin(CoiommuState *s, uint64_t block, CoiommuGuess guess,
                     uint64_t ahead)
{
    uint64_t bytes = coiommu_pieces_bytes(s, s->ram.extents, block);
    int ret = -EDQUOT;

    if (coiommu_pinset_reserve_guess(&s->pins, block, bytes, guess, ahead)) {
        ret = coiommu_pieces_map(s, s->ram.extents, block);
        if (ret) {
            /* After such a guess there are none for a while anyway. */
            if (guess == COIOMMU_GUESS_NONE) {
                note_refusal(s, block, bytes, ret);
            }
            coiommu_pinset_release(&s->pins, block,
                                   coiommu_stuck_bytes(s, block));
        } else {
            coiommu_pinset_commit(&s->pins, block);
            note_success(s);
            coiommu_unpin_wake(s);
        }
    }
    trace_coiommu_pin(block, block_start(s, block), bytes, ret);
    return ret;
}

/* Map what is missing of a block that is entered, and pinned in part. */
static int block_complete(CoiommuState *s, uint64_t block, GArray *part)
{
    g_autoptr(GArray) missing = coiommu_pieces_select(s, s->ram.extents, part,
                                                      block, false);
    uint64_t bytes = coiommu_pieces_bytes(s, part, block);
    uint64_t more = coiommu_pieces_bytes(s, missing, block);
    int ret = -EDQUOT;

    if (coiommu_pinset_set_part(&s->pins, block, part, bytes + more)) {
        ret = coiommu_pieces_map(s, missing, block);
        if (ret) {
            note_refusal(s, block, more, ret);
        } else {
            note_success(s);
        }
        coiommu_pinset_set_part(&s->pins, block, ret ? part : NULL,
                                ret ? bytes : bytes + more);
    }
    if (!ret) {
        g_array_unref(part);
    }
    trace_coiommu_pin_complete(block, block_start(s, block), more, ret);
    return ret;
}

/*
 * Map whatever is not mapped of a block that is entered, and publish it.
 * @pinned: it is pinned already, as a whole or in part.
 */
static int block_fill(CoiommuState *s, uint64_t block, bool pinned)
{
    GArray *part = coiommu_pinset_part(&s->pins, block);
    bool stuck = coiommu_stuck_clear(s, block);
    int ret = 0;

    if (!pinned) {
        ret = block_pin(s, block, COIOMMU_GUESS_NONE, 0);
    } else if (part) {
        ret = block_complete(s, block, part);
    }
    if (stuck || ret) {
        coiommu_stuck_update(s, block);
    }
    if (!ret) {
        block_publish(s, block);
    }
    return ret;
}

/* Has something to be mapped for that? */
static bool block_lacks(CoiommuState *s, uint64_t block, bool pinned)
{
    return !pinned || coiommu_pinset_part(&s->pins, block);
}

/* As coiommu_pin_block(), without making room. */
static int pin_attempt(CoiommuState *s, hwaddr gpa, uint64_t size)
{
    uint64_t block = gpa >> s->block_shift;
    int64_t start = get_clock();
    bool pinned = coiommu_pinset_enter(&s->pins, block);
    int ret = 0;

    stat64_max(&s->stats.wait_max_ns, get_clock() - start);
    if (block_lacks(s, block, pinned)) {
        ret = ask_host(s, block) ?: block_fill(s, block, pinned);
    } else {
        /* The leaf of these units may have come after the block was pinned. */
        coiommu_table_publish(s, gpa, size);
    }
    if (pinned) {
        coiommu_ahead_used(s, block);
    } else if (!ret) {
        coiommu_ahead_pinned(s, block);
    }
    coiommu_pinset_leave(&s->pins, block);
    return ret ? ret : !pinned;
}

static bool is_lack_of_room(int ret)
{
    return ret == -EDQUOT || ret == -ENOSPC || ret == -ENOMEM;
}

static void report_failure(CoiommuState *s, uint64_t block, int ret)
{
    stat64_add(&s->stats.pin_errors, 1);
    if (ret == -EDQUOT) {
        warn_report_once("coiommu: max-pinned does not allow to pin guest "
                         "memory at 0x%" HWADDR_PRIx ", and all that is "
                         "pinned is in use; the guest's DMA mapping fails. "
                         "Raise max-pinned", block_start(s, block));
        return;
    }
    warn_report_once("coiommu: pinning guest memory at 0x%" HWADDR_PRIx
                     " failed: %s; the guest's DMA mapping fails. Raise the "
                     "memlock limit or the number of DMA mappings if they "
                     "are the reason", block_start(s, block), strerror(-ret));
}

/*
 * How much to free for a block that has found no room @attempt times before.
 * The quota says how much it lacks.  The host does not, and may log each
 * refusal, so each time it is four times as much: the last attempts let go of
 * all that is idle.
 */
static uint64_t room_bytes(CoiommuState *s, unsigned attempt)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(&s->pins);
    uint64_t block = 1ull << s->block_shift;
    uint64_t lack = 0;

    if (totals.quota && totals.charged + block > totals.quota) {
        lack = totals.charged + block - totals.quota;
    }
    return MAX(lack, block << 2 * attempt);
}

int coiommu_pin_block(CoiommuState *s, hwaddr gpa, uint64_t size,
                      int64_t until)
{
    unsigned attempt;
    int ret;

    for (attempt = 0; ; attempt++) {
        ret = pin_attempt(s, gpa, size);
        if (!is_lack_of_room(ret) || attempt == ROOM_ATTEMPTS) {
            break;
        }
        if (!coiommu_unpin_reclaim(s, room_bytes(s, attempt), until)) {
            if (coiommu_waited_for(s)) {
                return -EINTR;
            }
            break;
        }
        if (get_clock() >= until) {
            return -EAGAIN;
        }
    }
    if (ret < 0) {
        report_failure(s, gpa >> s->block_shift, ret);
    }
    return ret;
}

int coiommu_pin_guess(CoiommuState *s, uint64_t block, CoiommuGuess guess,
                      uint64_t ahead)
{
    uint64_t size = 1ull << s->block_shift;
    int ret;

    if (!coiommu_pieces_bytes(s, s->ram.extents, block) ||
        !coiommu_pinset_try_add(&s->pins, block)) {
        return 0;
    }
    /* What is left of an earlier use is not a use of this pin. */
    if (s->features & COIOMMU_F_ACCESSED) {
        coiommu_table_take_accessed(s, block_start(s, block), size);
    }
    ret = ask_host(s, block);
    if (!ret) {
        ret = block_pin(s, block, guess, ahead);
    }
    if (!ret) {
        block_publish(s, block);
    }
    coiommu_pinset_leave(&s->pins, block);
    return ret ? ret : 1;
}

void coiommu_unpin_block(CoiommuState *s, uint64_t block)
{
    g_autoptr(GArray) part = coiommu_pinset_part(&s->pins, block);
    CoiommuGuess guess = coiommu_pinset_withdraw(&s->pins, block);

    coiommu_pieces_unmap(s, part ?: s->ram.extents, block,
                         block_end(s, block));
    coiommu_pinset_release(&s->pins, block, coiommu_stuck_bytes(s, block));
    coiommu_ahead_unused(s, block, guess);
    stat64_add(&s->stats.unpinned_blocks, 1);
    trace_coiommu_unpin(block, block_start(s, block));
}

bool coiommu_unpin_try(CoiommuState *s, uint64_t block)
{
    block_withdraw(s, block);
    /*
     * The other half of the guest's barrier between its count and its look at
     * PINNED: one of the two sees what the other did.
     */
    smp_mb();
    if (coiommu_table_busy(s, block_start(s, block), 1ull << s->block_shift)) {
        block_publish(s, block);
        trace_coiommu_unpin_race(block, block_start(s, block));
        return false;
    }
    coiommu_unpin_block(s, block);
    return true;
}

/* ---- For pin-all ---- */

int coiommu_pin_fill(CoiommuState *s, uint64_t block)
{
    bool pinned = coiommu_pinset_enter(&s->pins, block);
    int ret = 0;

    /* What is pinned has been published: no walk over its entries. */
    if (block_lacks(s, block, pinned)) {
        ret = block_fill(s, block, pinned);
    }
    coiommu_pinset_leave(&s->pins, block);
    return ret;
}

void coiommu_unpin_left(CoiommuState *s, uint64_t block)
{
    if (!coiommu_pinset_try_enter(&s->pins, block, NULL, NULL)) {
        return;
    }
    if (g_hash_table_size(s->attached)) {
        coiommu_unpin_try(s, block);
    } else {
        block_withdraw(s, block);
        coiommu_unpin_block(s, block);
    }
    coiommu_pinset_leave(&s->pins, block);
}

/* ---- All blocks: BQL held, gate closed ---- */

/* Unpin one, with nobody about. */
static void unpin_alone(CoiommuState *s, uint64_t block)
{
    coiommu_pinset_enter(&s->pins, block);
    block_withdraw(s, block);
    coiommu_unpin_block(s, block);
    coiommu_pinset_leave(&s->pins, block);
}

void coiommu_pin_void(CoiommuState *s)
{
    s->pins_generation++;
    coiommu_ahead_reset(s);
}

void coiommu_unpin_all(CoiommuState *s)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(&s->pins);
    size_t i = coiommu_pinset_end(&s->pins);
    CoiommuPin pin;

    trace_coiommu_unpin_all(totals.pinned, totals.bytes);
    coiommu_pin_void(s);
    while (i-- && coiommu_pinset_get(&s->pins, i, &pin)) {
        if (pin.state == COIOMMU_PIN_PINNED) {
            unpin_alone(s, pin.block);
        }
    }
}

void coiommu_pin_publish_all(CoiommuState *s)
{
    CoiommuPin pin;
    size_t i;

    for (i = 0; coiommu_pinset_get(&s->pins, i, &pin); i++) {
        if (pin.state == COIOMMU_PIN_PINNED) {
            block_publish(s, pin.block);
        }
    }
}

void coiommu_pin_withdraw_all(CoiommuState *s)
{
    CoiommuPin pin;
    size_t i;

    for (i = 0; coiommu_pinset_get(&s->pins, i, &pin); i++) {
        if (pin.state == COIOMMU_PIN_PINNED) {
            block_withdraw(s, pin.block);
        }
    }
}

/* ---- Replay into a new container ---- */

/* Take the pieces of a block that lie below @end out of one container. */
static void replay_undo(CoiommuState *s, CoiommuMember *member,
                        uint64_t block, hwaddr end)
{
    const GArray *mapped = block_mapped(s, block);
    hwaddr gpa = block_start(s, block);
    CoiommuExtent piece;

    while (coiommu_ram_next(mapped, &gpa, end, &piece)) {
        coiommu_containers_unmap_in(s, member, piece.gpa, piece.size);
    }
}

/* Map what is mapped of a block into one container, or nothing. */
static int replay_block(CoiommuState *s, CoiommuMember *member,
                        uint64_t block)
{
    const GArray *mapped = block_mapped(s, block);
    hwaddr gpa = block_start(s, block);
    CoiommuExtent piece;
    int ret;

    while (coiommu_ram_next(mapped, &gpa, block_end(s, block), &piece)) {
        ret = coiommu_containers_map_in(s, member, &piece);
        if (ret) {
            replay_undo(s, member, block, piece.gpa);
            return ret;
        }
    }
    return 0;
}

static void replay_error(CoiommuState *s, CoiommuMember *member,
                         int ret, Error **errp)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(&s->pins);

    if (ret == -ENOSPC) {
        error_setg(errp, "coiommu: the device's IOMMU can hold %u mappings, "
                   "and the %zu blocks that are pinned for other devices need "
                   "more: plug it in when less is pinned, or start with a "
                   "larger block", member->container->dma_max_mappings,
                   totals.pinned);
        return;
    }
    error_setg_errno(errp, -ret, "coiommu: cannot map the %" PRIu64 " bytes "
                     "that are pinned for other devices", totals.bytes);
}

bool coiommu_pin_replay(CoiommuState *s, CoiommuMember *member,
                        hwaddr start, hwaddr last, Error **errp)
{
    CoiommuPin pin;
    int ret = 0;
    size_t i;

    for (i = 0; coiommu_pinset_get(&s->pins, i, &pin); i++) {
        hwaddr gpa = block_start(s, pin.block);

        if (pin.state != COIOMMU_PIN_PINNED || gpa < start || gpa > last) {
            continue;
        }
        ret = replay_block(s, member, pin.block);
        if (ret) {
            replay_error(s, member, ret, errp);
            break;
        }
    }
    if (!ret) {
        return true;
    }
    stat64_add(&s->stats.pin_errors, 1);
    while (i-- && coiommu_pinset_get(&s->pins, i, &pin)) {
        hwaddr gpa = block_start(s, pin.block);

        if (pin.state == COIOMMU_PIN_PINNED && gpa >= start && gpa <= last) {
            replay_undo(s, member, pin.block, block_end(s, pin.block));
        }
    }
    return false;
}

/* ---- Changes of guest RAM ---- */

/*
 * Keep of a block what is in the next list as well.  A piece that is cut goes
 * as a whole: a mapping can't be split.
 */
static void block_keep(CoiommuState *s, uint64_t block, const GArray *next)
{
    const GArray *mapped = block_mapped(s, block);
    GArray *keep = coiommu_pieces_select(s, mapped, next, block, true);
    g_autoptr(GArray) gone = coiommu_pieces_select(s, mapped, next, block,
                                                   false);
    g_autoptr(GArray) old = NULL;

    trace_coiommu_unpin_ram_gone(block, block_start(s, block),
                                 coiommu_pieces_bytes(s, gone, block));
    coiommu_pinset_enter(&s->pins, block);
    block_withdraw(s, block);
    coiommu_pieces_unmap(s, gone, block, block_end(s, block));
    old = coiommu_pinset_part(&s->pins, block);
    coiommu_pinset_set_part(&s->pins, block, keep,
                            coiommu_pieces_bytes(s, keep, block));
    if (!keep->len) {
        coiommu_unpin_block(s, block);
    } else {
        coiommu_stuck_update(s, block);
        block_publish(s, block);
    }
    coiommu_pinset_leave(&s->pins, block);
}

void coiommu_pin_ram_changing(CoiommuState *s, GArray *next)
{
    size_t i = coiommu_pinset_end(&s->pins);
    CoiommuPin pin;

    coiommu_vfio_update(s);
    /* We are in a transaction, and want to know what is refused. */
    coiommu_containers_sync_begin(s);
    while (i-- && coiommu_pinset_get(&s->pins, i, &pin)) {
        if (pin.state != COIOMMU_PIN_PINNED) {
            continue;
        }
        if (!coiommu_pieces_equal(s, block_mapped(s, pin.block), next,
                                  pin.block)) {
            block_keep(s, pin.block, next);
        } else if (pin.part) {
            /* What was missing is no longer there. */
            coiommu_pinset_set_part(&s->pins, pin.block, NULL, pin.bytes);
            g_array_unref(pin.part);
        }
    }
    coiommu_containers_sync_end(s);
}

/*
 * What is missing of a block that is pinned in part counts as pinned here: who
 * asks can't go inside the gate, where the list of pieces is.
 */
bool coiommu_pin_covers(CoiommuState *s, hwaddr addr)
{
    return coiommu_pinset_has(&s->pins, addr >> s->block_shift);
}
