/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO's containers: which there are, as they come and go and die.
 *
 * VFIO's own path from an IOMMU to a container, the IOMMU notifier, swallows
 * errors and takes only sizes that are powers of two.  So pins go to the
 * containers directly, and the notifier only tells that there is a container
 * to bring up to date (replay).
 *
 * VFIO's list of containers is guarded by the BQL, which pinning does without.
 * So there is a record of our own (coiommu-containers.c), that changes under
 * the BQL with the gate closed: who is inside the gate, or has the BQL, may use
 * it.
 *
 * Arrival.  A container is recorded before its replay.  It may still fail to
 * come into being, so the gate stays closed from then until it is settled which
 * containers there are: by a bottom half when the realize is over, or by
 * whoever has the BQL and needs to know earlier.  Guest RAM may change in
 * between: that makes the record what VFIO's list is at that moment, so that
 * memory which goes is unmapped from the new container as well.
 *
 * Death.  A thread inside the gate, or the main loop, finds that a container is
 * dead.  What is to be done about its device takes the BQL and a closed gate: a
 * bottom half does it.
 *
 * Departure.  VFIO takes a container down, without a word, when the object of
 * its last device is finalized, some time after its unrealize.  So at
 * unrealize (or, if realize has failed, when we meet the device in a
 * container's list) we take a reference to the device, wait until it is the
 * last one, and give it up with the gate closed: if a container goes, it goes
 * there and then.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "coiommu.h"
#include "coiommu-fence.h"
#include "qemu/timer.h"
#include "system/replay.h"
#include "trace.h"

/* How long to wait between two looks at a device that is going away, in ms. */
#define LEAVING_WAIT_MIN    1
#define LEAVING_WAIT_MAX    1000

/*
 * VFIO's record of our address space, or NULL if no container uses it.
 *
 * vfio_address_space_get() makes an empty record if there is none, with a
 * reset handler that comes and goes with it, which is no thing to do during a
 * reset.  A container always listens for maps, so the flag tells beforehand.
 * There is no reference count: with a container in it the record stays, and
 * must not be put.
 */
static VFIOAddressSpace *vfio_space(CoiommuState *s)
{
    VFIOAddressSpace *space;

    if (!(s->iommu.iommu_notify_flags & IOMMU_NOTIFIER_MAP)) {
        return NULL;
    }
    space = coiommu_compat_space_get(&s->as);
    if (QLIST_EMPTY(&space->containers)) {
        coiommu_compat_space_put(space);
        return NULL;
    }
    return space;
}

unsigned coiommu_vfio_containers(CoiommuState *s)
{
    coiommu_vfio_settle(s);
    /* The counter can be read before realize. */
    return s->containers.members ? s->containers.members->len : 0;
}

uint64_t coiommu_vfio_budget(CoiommuState *s)
{
    coiommu_vfio_settle(s);
    return coiommu_vfio_budget_inside(s);
}

uint64_t coiommu_vfio_budget_inside(CoiommuState *s)
{
    uint64_t budget = UINT64_MAX;
    unsigned i;

    if (!s->containers.members->len) {
        return COIOMMU_DEFAULT_BUDGET;
    }
    for (i = 0; i < s->containers.members->len; i++) {
        CoiommuMember *member = g_ptr_array_index(s->containers.members, i);

        /* 0 is "no limit": iommufd. */
        if (member->container->dma_max_mappings) {
            budget = MIN(budget, member->container->dma_max_mappings);
        }
    }
    return budget;
}

unsigned coiommu_vfio_charged(CoiommuState *s)
{
    unsigned charged = 0, i;

    coiommu_vfio_settle(s);
    for (i = 0; i < s->containers.members->len; i++) {
        CoiommuMember *member = g_ptr_array_index(s->containers.members, i);

        charged += !!object_dynamic_cast(OBJECT(member->container),
                                         TYPE_VFIO_IOMMU_LEGACY);
    }
    return charged;
}

/* ---- Containers that go: under the BQL ---- */

/* Keep the device until nobody else does. */
static void leaving_add(CoiommuState *s, DeviceState *dev)
{
    if (g_ptr_array_find(s->leaving, dev, NULL)) {
        return;
    }
    trace_coiommu_vfio_leaving(dev, OBJECT(dev)->ref);
    g_ptr_array_add(s->leaving, object_ref(OBJECT(dev)));
    s->leaving_wait = LEAVING_WAIT_MIN;
    timer_mod(s->leaving_timer,
              qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + s->leaving_wait);
}

/* Those that VFIO no longer has are forgotten. */
static void containers_drop_unseen(CoiommuState *s)
{
    guint i;

    for (i = s->containers.members->len; i--; ) {
        CoiommuMember *member = g_ptr_array_index(s->containers.members, i);

        if (member->seen) {
            member->seen = false;
        } else {
            coiommu_containers_remove(s, member->container);
        }
    }
}

/* Make our record VFIO's list.  The gate is closed. */
static void containers_update(CoiommuState *s)
{
    VFIOAddressSpace *space = vfio_space(s);
    CoiommuContainer *container;
    VFIODevice *vbasedev;

    if (space) {
        QLIST_FOREACH(container, &space->containers, next) {
            coiommu_containers_get(s, container)->seen = true;
            QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
                if (!vbasedev->dev->realized) {
                    leaving_add(s, vbasedev->dev);
                }
            }
        }
    }
    containers_drop_unseen(s);
    coiommu_stuck_refresh(s);
    coiommu_refusal_reset(&s->refusal);
    trace_coiommu_vfio_containers(s->containers.members->len);
}

void coiommu_vfio_update(CoiommuState *s)
{
    if (s->unsettled) {
        containers_update(s);
    }
}

void coiommu_vfio_settle(CoiommuState *s)
{
    if (!s->unsettled) {
        return;
    }
    containers_update(s);
    s->unsettled = false;
    coiommu_gate_open(&s->gate);
}

static void settle_bh(void *opaque)
{
    coiommu_vfio_settle(opaque);
}

static void leaving_drop(CoiommuState *s, guint i)
{
    Object *obj = g_ptr_array_remove_index_fast(s->leaving, i);

    coiommu_gate_close(&s->gate);
    object_unref(obj);
    containers_update(s);
    coiommu_gate_open(&s->gate);
}

/*
 * Nobody can get a new reference to a device that only we have one to.  One
 * that has been realized after all needs no watching.
 */
static void leaving_look(void *opaque)
{
    CoiommuState *s = opaque;
    guint i = s->leaving->len;

    while (i--) {
        DeviceState *dev = g_ptr_array_index(s->leaving, i);

        if (dev->realized || OBJECT(dev)->ref == 1) {
            leaving_drop(s, i);
        }
    }
    if (s->leaving->len) {
        s->leaving_wait = MIN(s->leaving_wait * 2, LEAVING_WAIT_MAX);
        timer_mod(s->leaving_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + s->leaving_wait);
    }
}

void coiommu_vfio_unrealized(CoiommuState *s, DeviceState *dev)
{
    VFIOAddressSpace *space = vfio_space(s);
    CoiommuContainer *container;
    VFIODevice *vbasedev;

    if (!space) {
        return;
    }
    QLIST_FOREACH(container, &space->containers, next) {
        QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
            if (vbasedev->dev == dev) {
                leaving_add(s, dev);
            }
        }
    }
}

/* ---- Containers that die ---- */

/* Cut its devices off, and tell of each.  Once. */
static void container_fence(CoiommuMember *member)
{
    VFIODevice *vbasedev;

    if (member->fenced) {
        return;
    }
    member->fenced = true;
    QLIST_FOREACH(vbasedev, &member->container->device_list, container_next) {
        g_autofree char *name = qdev_get_human_name(vbasedev->dev);

        warn_report("coiommu: the server of %s does not answer, so the device "
                    "is cut off, and works no more; other devices go on. "
                    "Unplug it, and plug it in again when the server is well",
                    name);
    }
    coiommu_fence_devices(member->container);
}

static void died_bh(void *opaque)
{
    CoiommuState *s = opaque;
    guint i;

    coiommu_vfio_settle(s);
    coiommu_gate_close(&s->gate);
    for (i = 0; i < s->containers.members->len; i++) {
        CoiommuMember *member = g_ptr_array_index(s->containers.members, i);

        if (qatomic_read(&member->dead)) {
            container_fence(member);
        }
    }
    coiommu_containers_bury(s);
    coiommu_stuck_refresh(s);
    coiommu_gate_open(&s->gate);
}

/*
 * By VFIO's list: a transaction may be part of the end of a container that is
 * still in the record.
 */
void coiommu_vfio_transaction(CoiommuState *s)
{
    VFIOAddressSpace *space = s->unsettled ? NULL : vfio_space(s);
    CoiommuContainer *container;

    if (!space) {
        return;
    }
    QLIST_FOREACH(container, &space->containers, next) {
        CoiommuMember *member = coiommu_containers_find_dead(s, container);

        if (member) {
            container_fence(member);
        }
    }
}

void coiommu_vfio_died(CoiommuState *s)
{
    qemu_bh_schedule(s->died_bh);
}

void coiommu_vfio_init(CoiommuState *s)
{
    coiommu_containers_init(s);
    s->died_bh = qemu_bh_new(died_bh, s);
    s->leaving = g_ptr_array_new();
    s->leaving_timer = timer_new_ms(QEMU_CLOCK_REALTIME, leaving_look, s);
    s->settle_bh = qemu_bh_new(settle_bh, s);
}

void coiommu_vfio_exit(CoiommuState *s)
{
    coiommu_vfio_settle(s);
    while (s->leaving->len) {
        leaving_drop(s, s->leaving->len - 1);
    }
    timer_free(s->leaving_timer);
    qemu_bh_delete(s->settle_bh);
    g_clear_pointer(&s->leaving, g_ptr_array_unref);
    qemu_bh_delete(s->died_bh);
    coiommu_containers_destroy(s);
}

/* ---- Containers that come: under the BQL ---- */

/* The container that @n belongs to, or NULL if it is not a container's. */
static CoiommuContainer *vfio_container_of(CoiommuState *s, IOMMUNotifier *n)
{
    VFIOAddressSpace *space = vfio_space(s);
    CoiommuContainer *container;
    VFIOGuestIOMMU *giommu;

    if (!space) {
        return NULL;
    }
    QLIST_FOREACH(container, &space->containers, next) {
        QLIST_FOREACH(giommu, &container->giommu_list, giommu_next) {
            if (&giommu->n == n) {
                return container;
            }
        }
    }
    return NULL;
}

/*
 * A container asks for a replay for each window.  At the first one it is new,
 * even if it lies where another one has been that we still know.
 */
static CoiommuMember *container_arrives(CoiommuState *s,
                                        CoiommuContainer *container)
{
    VFIOGuestIOMMU *first = QLIST_FIRST(&container->giommu_list);

    if (!QLIST_NEXT(first, giommu_next)) {
        coiommu_containers_remove(s, container);
    }
    return coiommu_containers_get(s, container);
}

/* Bring a new container up to date, or say why it can't be had. */
static bool container_fill(CoiommuState *s, CoiommuMember *member,
                           IOMMUNotifier *n, Error **errp)
{
    bool ok;

    /* This replay is of what a machine did, from a log. */
    if (replay_mode != REPLAY_MODE_NONE) {
        error_setg(errp, "coiommu does not support record/replay with "
                   "assigned devices: remove them, or rr from -icount");
        return false;
    }
    coiommu_compat_sync_begin(member->container);
    ok = coiommu_pin_replay(s, member, n->start, n->end, errp);
    coiommu_compat_sync_end(member->container);
    return ok;
}

void coiommu_vfio_replay(CoiommuState *s, IOMMUNotifier *n)
{
    CoiommuContainer *container = vfio_container_of(s, n);
    Error *err = NULL;

    trace_coiommu_vfio_replay(container, n->start, n->end);
    if (!container || s->unrealized) {
        return;
    }
    /* Closed until it is settled whether the container comes into being. */
    if (!s->unsettled) {
        coiommu_gate_close(&s->gate);
        s->unsettled = true;
    }
    qemu_bh_schedule(s->settle_bh);
    if (container_fill(s, container_arrives(s, container), n, &err)) {
        return;
    }
    /*
     * The container is being set up: its error, if it has none yet, fails the
     * device's realize.  Our windows never change, so a container that works
     * already gets no replay.
     */
    if (!container->initialized && !container->error) {
        error_propagate(&container->error, err);
    } else {
        error_report_err(err);
    }
}
