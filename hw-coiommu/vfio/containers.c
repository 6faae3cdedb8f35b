/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The record of containers, and of what is mapped in which.
 *
 * All calls that map or unmap go through here.  For each container and piece of
 * a block there are these states:
 *
 *   mapped   the container has said so
 *   absent   it has said that it is unmapped, or was never asked to map it
 *   unknown  it has refused to unmap it, or has refused to map it in a way that
 *            leaves open what became of it, or did not answer
 *   dead     the container doesn't answer: nothing counts there any more
 *
 * What is mapped is the pin set's (core/pinset.h), and is the same in all
 * containers.  What is unknown is kept here, by block, in a list of (container,
 * IOVA, size); all else is absent.
 *
 * A map that fails is followed by an unmap in the same container, whatever the
 * error: it may be mapped after all.  An unmap of what isn't there is harmless:
 * type1 and iommufd say yes, others may say ENOENT.
 *
 * What is unknown never overlaps what is mapped in the same container: no
 * container maps over a map, so a map that succeeds proves that nothing was
 * there.  So unmapping what is unknown can't hit what is in use.
 *
 * A container that lets one call and the next one go unanswered is dead.  It
 * takes down its own device only: a map passes over it, and its devices are cut
 * off (fence.c).  A call takes as long as QEMU waits (x-msg-timeout),
 * so the one that finds out may take twice that.  The end of a connection is
 * seen by the main loop, and needs no call.
 *
 * The caller must have entered the block, so only one thread at a time deals
 * with what is unknown of it; the lock guards the hash.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "hw/coiommu/trace.h"
#include "containers.h"
#include "fence.h"

/**
 * CoiommuContainers - the record
 * @geometry, @stats: the owner's
 * @died: a container has died; BQL, but to schedule it
 * @members: CoiommuMember *; changes under the BQL with the gate closed
 * @lock: guards the rest; innermost
 * @unknown: block -> GArray of what may be mapped of it
 * @blocks: how many blocks that are; also read without the lock
 */
struct CoiommuContainers {
    const CoiommuGeometry *geometry;
    CoiommuStats *stats;
    QEMUBH *died;
    GPtrArray *members;
    QemuMutex lock;
    GHashTable *unknown;
    unsigned blocks;
};

/**
 * Unknown - what may be mapped
 * @member: where
 */
typedef struct Unknown {
    CoiommuMember *member;
    hwaddr iova;
    uint64_t size;
} Unknown;

static gpointer block_key(uint64_t block)
{
    return GSIZE_TO_POINTER(block);
}

static bool is_dead(CoiommuMember *member)
{
    return qatomic_read(&member->dead);
}

static CoiommuMember *member_at(const CoiommuContainers *c, guint i)
{
    return g_ptr_array_index(c->members, i);
}

/* ---- What is unknown ---- */

/* With the lock held, as the next one. */
static GArray *unknown_find(CoiommuContainers *c, uint64_t block)
{
    return g_hash_table_lookup(c->unknown, block_key(block));
}

static void unknown_count(CoiommuContainers *c)
{
    qatomic_set(&c->blocks,
                g_hash_table_size(c->unknown));
}

static void unknown_add(CoiommuContainers *c, CoiommuMember *member,
                        hwaddr iova, uint64_t size)
{
    Unknown new = { .member = member, .iova = iova, .size = size };
    uint64_t block = coiommu_block_at(c->geometry, iova);
    GArray *list;
    guint i;

    QEMU_LOCK_GUARD(&c->lock);
    list = unknown_find(c, block);
    if (!list) {
        list = g_array_new(false, false, sizeof(Unknown));
        g_hash_table_insert(c->unknown, block_key(block), list);
        unknown_count(c);
    }
    for (i = 0; i < list->len; i++) {
        Unknown *old = &g_array_index(list, Unknown, i);

        if (old->member == member && old->iova == iova && old->size == size) {
            return;
        }
    }
    g_array_append_val(list, new);
}

static bool is_within(const Unknown *entry, hwaddr iova, uint64_t size)
{
    return entry->iova >= iova && entry->iova + entry->size <= iova + size;
}

static bool overlaps(const Unknown *entry, hwaddr iova, uint64_t size)
{
    return entry->iova < iova + size && iova < entry->iova + entry->size;
}

/*
 * Nothing that lies in [iova, iova + size) is unknown in this container any
 * more.
 */
static void unknown_drop(CoiommuContainers *c, CoiommuMember *member,
                         hwaddr iova, uint64_t size)
{
    uint64_t block = coiommu_block_at(c->geometry, iova);
    GArray *list;
    guint i;

    if (!qatomic_read(&c->blocks)) {
        return;
    }
    QEMU_LOCK_GUARD(&c->lock);
    list = unknown_find(c, block);
    for (i = list ? list->len : 0; i--; ) {
        Unknown *old = &g_array_index(list, Unknown, i);

        if (old->member == member && is_within(old, iova, size)) {
            g_array_remove_index_fast(list, i);
        }
    }
    if (list && !list->len) {
        g_hash_table_remove(c->unknown, block_key(block));
        unknown_count(c);
    }
}

/* A list of what is unknown of the block now, or NULL. */
static GArray *unknown_copy(CoiommuContainers *c, uint64_t block)
{
    GArray *list;

    if (!qatomic_read(&c->blocks)) {
        return NULL;
    }
    QEMU_LOCK_GUARD(&c->lock);
    list = unknown_find(c, block);
    return list ? g_array_copy(list) : NULL;
}

/*
 * May the piece be mapped, though something is unknown?  If that is the same
 * piece the container decides; it may have refused to unmap what it hasn't got.
 * A part of something else can neither be mapped, nor unmapped again.
 */
static bool unknown_allows(CoiommuContainers *c, CoiommuMember *member,
                           const CoiommuExtent *piece)
{
    uint64_t block = coiommu_block_at(c->geometry, piece->gpa);
    g_autoptr(GArray) list = unknown_copy(c, block);
    guint i;

    for (i = 0; list && i < list->len; i++) {
        Unknown *entry = &g_array_index(list, Unknown, i);

        if (entry->member == member &&
            overlaps(entry, piece->gpa, piece->size) &&
            !is_within(entry, piece->gpa, piece->size)) {
            return false;
        }
    }
    return true;
}

/* Is the same range unknown in an entry before @i? */
static bool unknown_counted(GArray *list, guint i)
{
    Unknown *entry = &g_array_index(list, Unknown, i);

    while (i--) {
        Unknown *other = &g_array_index(list, Unknown, i);

        if (other->iova == entry->iova && other->size == entry->size &&
            !is_dead(other->member)) {
            return true;
        }
    }
    return false;
}

uint64_t coiommu_containers_unknown(CoiommuContainers *c, uint64_t block)
{
    g_autoptr(GArray) list = unknown_copy(c, block);
    uint64_t bytes = 0;
    guint i;

    for (i = 0; list && i < list->len; i++) {
        Unknown *entry = &g_array_index(list, Unknown, i);

        if (!is_dead(entry->member) && !unknown_counted(list, i)) {
            bytes += entry->size;
        }
    }
    return bytes;
}

static gboolean list_purge(gpointer key, gpointer value, gpointer opaque)
{
    GArray *list = value;
    guint i;

    for (i = list->len; i--; ) {
        if (g_array_index(list, Unknown, i).member == opaque) {
            g_array_remove_index_fast(list, i);
        }
    }
    return !list->len;
}

static void unknown_purge(CoiommuContainers *c, CoiommuMember *member)
{
    QEMU_LOCK_GUARD(&c->lock);
    g_hash_table_foreach_remove(c->unknown, list_purge, member);
    unknown_count(c);
}

/* ---- One container ---- */

static void member_die(CoiommuMember *member)
{
    if (!qatomic_xchg(&member->dead, true)) {
        trace_coiommu_container_dead(member->container);
        qemu_bh_schedule(member->record->died);
    }
}

/* In the main loop, with the BQL. */
static gboolean member_ended(QIOChannel *ioc, GIOCondition condition,
                             gpointer opaque)
{
    CoiommuMember *member = opaque;

    member->watch = 0;
    member_die(member);
    return G_SOURCE_REMOVE;
}

static CoiommuMember *member_new(CoiommuContainers *c,
                                 CoiommuContainer *container)
{
    CoiommuMember *member = g_new0(CoiommuMember, 1);

    member->record = c;
    member->container = container;
    member->watch = coiommu_fence_watch(container, member_ended, member);
    return member;
}

static void member_free(gpointer opaque)
{
    CoiommuMember *member = opaque;

    if (member->watch) {
        g_source_remove(member->watch);
    }
    g_free(member);
}

static int member_unmap_once(CoiommuMember *member, hwaddr iova, uint64_t size)
{
    int ret = coiommu_compat_unmap(member->container, iova, size);

    trace_coiommu_vfio_unmap(member->container, iova, size, ret);
    /* It was not there: as good. */
    return ret == -ENOENT ? 0 : ret;
}

/*
 * Unmap, and take down what came of it.  A call that is not answered is made
 * again, up to @tries in all.
 */
static void member_unmap(CoiommuMember *member, hwaddr iova, uint64_t size,
                         unsigned tries)
{
    CoiommuContainers *c = member->record;
    bool silent;
    int ret;

    do {
        ret = member_unmap_once(member, iova, size);
        silent = coiommu_fence_is_silent(member->container, ret);
    } while (silent && --tries && !coiommu_fence_is_gone(member->container));
    if (silent) {
        member_die(member);
    } else if (ret) {
        stat64_add(&c->stats->unpin_errors, 1);
        unknown_add(c, member, iova, size);
        warn_report_once("coiommu: unmapping 0x%" HWADDR_PRIx " failed: %s; "
                         "it counts as pinned, and is tried again. Until then "
                         "the device may still reach it", iova,
                         strerror(-ret));
    } else {
        unknown_drop(c, member, iova, size);
    }
}

/*
 * A server can answer whatever it likes.  Above us these would be a success,
 * requests to come back, and the quota.
 */
static int map_error(int ret)
{
    return ret > 0 || ret == -EAGAIN || ret == -EINTR || ret == -EDQUOT ?
           -EIO : ret;
}

static int member_map(CoiommuMember *member, const CoiommuExtent *piece)
{
    CoiommuContainers *c = member->record;
    int ret;

    if (!unknown_allows(c, member, piece)) {
        return -EBUSY;
    }
    ret = coiommu_compat_map(member->container, piece->gpa, piece->size,
                             piece->hva, piece->mr);
    trace_coiommu_vfio_map(member->container, piece->gpa, piece->size,
                           piece->hva, ret);
    if (!ret) {
        unknown_drop(c, member, piece->gpa, piece->size);
    } else if (coiommu_fence_is_gone(member->container)) {
        member_die(member);
    } else {
        bool silent = coiommu_fence_is_silent(member->container, ret);

        member_unmap(member, piece->gpa, piece->size, silent ? 1 : 2);
    }
    return map_error(ret);
}

int coiommu_containers_map_in(CoiommuMember *member,
                              const CoiommuExtent *piece)
{
    return is_dead(member) ? -EIO : member_map(member, piece);
}

void coiommu_containers_unmap_in(CoiommuMember *member, hwaddr iova,
                                 uint64_t size)
{
    if (!is_dead(member)) {
        member_unmap(member, iova, size, 2);
    }
}

/* ---- All containers ---- */

int coiommu_containers_map(CoiommuContainers *c, const CoiommuExtent *piece)
{
    guint i;
    int ret;

    for (i = 0; i < c->members->len; i++) {
        CoiommuMember *member = member_at(c, i);

        if (is_dead(member)) {
            continue;
        }
        ret = member_map(member, piece);
        if (ret && !is_dead(member)) {
            while (i--) {
                coiommu_containers_unmap_in(member_at(c, i), piece->gpa,
                                            piece->size);
            }
            return ret;
        }
    }
    return 0;
}

void coiommu_containers_unmap(CoiommuContainers *c, hwaddr iova, uint64_t size)
{
    guint i;

    for (i = 0; i < c->members->len; i++) {
        coiommu_containers_unmap_in(member_at(c, i), iova, size);
    }
}

uint64_t coiommu_containers_clear(CoiommuContainers *c, uint64_t block)
{
    g_autoptr(GArray) list = unknown_copy(c, block);
    guint i;

    for (i = 0; list && i < list->len; i++) {
        Unknown *entry = &g_array_index(list, Unknown, i);

        coiommu_containers_unmap_in(entry->member, entry->iova,
                                    entry->size);
    }
    return coiommu_containers_unknown(c, block);
}

/* ---- Which there are: under the BQL ---- */

static guint member_index(CoiommuContainers *c, CoiommuContainer *container)
{
    guint i;

    for (i = 0; i < c->members->len; i++) {
        if (member_at(c, i)->container == container) {
            break;
        }
    }
    return i;
}

CoiommuMember *coiommu_containers_get(CoiommuContainers *c,
                                      CoiommuContainer *container)
{
    guint i = member_index(c, container);

    if (i == c->members->len) {
        g_ptr_array_add(c->members, member_new(c, container));
    }
    return member_at(c, i);
}

CoiommuMember *coiommu_containers_find_dead(CoiommuContainers *c,
                                            CoiommuContainer *container)
{
    guint i = member_index(c, container);

    if (i == c->members->len) {
        return NULL;
    }
    if (coiommu_fence_is_gone(container)) {
        member_die(member_at(c, i));
    }
    return is_dead(member_at(c, i)) ? member_at(c, i) : NULL;
}

void coiommu_containers_remove(CoiommuContainers *c,
                               CoiommuContainer *container)
{
    guint i = member_index(c, container);

    if (i < c->members->len) {
        unknown_purge(c, member_at(c, i));
        g_ptr_array_remove_index(c->members, i);
    }
}

void coiommu_containers_remove_all(CoiommuContainers *c)
{
    while (c->members->len) {
        coiommu_containers_remove(c, member_at(c, 0)->container);
    }
}

unsigned coiommu_containers_bury(CoiommuContainers *c)
{
    unsigned dead = 0;
    guint i;

    for (i = 0; i < c->members->len; i++) {
        if (is_dead(member_at(c, i))) {
            unknown_purge(c, member_at(c, i));
            dead++;
        }
    }
    return dead;
}

unsigned coiommu_containers_dead(CoiommuContainers *c)
{
    unsigned dead = 0;
    guint i;

    for (i = 0; i < c->members->len; i++) {
        dead += is_dead(member_at(c, i));
    }
    return dead;
}

void coiommu_containers_sync_begin(CoiommuContainers *c)
{
    guint i;

    for (i = 0; i < c->members->len; i++) {
        coiommu_compat_sync_begin(member_at(c, i)->container);
    }
}

void coiommu_containers_sync_end(CoiommuContainers *c)
{
    guint i;

    for (i = 0; i < c->members->len; i++) {
        coiommu_compat_sync_end(member_at(c, i)->container);
    }
}

static void list_free(gpointer list)
{
    g_array_unref(list);
}

uint64_t coiommu_containers_budget(CoiommuContainers *c)
{
    uint64_t budget = UINT64_MAX;
    guint i;

    if (!c->members->len) {
        return COIOMMU_DEFAULT_BUDGET;
    }
    for (i = 0; i < c->members->len; i++) {
        uint64_t mappings = member_at(c, i)->container->dma_max_mappings;

        /* 0 is "no limit": iommufd. */
        if (mappings) {
            budget = MIN(budget, mappings);
        }
    }
    return budget;
}

unsigned coiommu_containers_count(const CoiommuContainers *c)
{
    return c->members->len;
}

CoiommuMember *coiommu_containers_at(const CoiommuContainers *c, unsigned i)
{
    return member_at(c, i);
}

void coiommu_containers_watch(CoiommuContainers *c, QEMUBH *died)
{
    c->died = died;
}

CoiommuContainers *coiommu_containers_new(const CoiommuGeometry *geometry,
                                          CoiommuStats *stats)
{
    CoiommuContainers *c = g_new0(CoiommuContainers, 1);

    c->geometry = geometry;
    c->stats = stats;
    c->members = g_ptr_array_new_with_free_func(member_free);
    c->unknown = g_hash_table_new_full(NULL, NULL, NULL, list_free);
    qemu_mutex_init(&c->lock);
    return c;
}

void coiommu_containers_free(CoiommuContainers *c)
{
    qemu_mutex_destroy(&c->lock);
    g_hash_table_destroy(c->unknown);
    g_ptr_array_unref(c->members);
    g_free(c);
}
