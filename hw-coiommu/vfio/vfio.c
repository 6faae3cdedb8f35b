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
 * So there is a record of our own (containers.c), that changes under
 * the BQL with the gate closed: a thread that is inside the gate, or has the
 * BQL, may use it.
 *
 * Arrival.  A container is recorded before its replay.  It may still fail to
 * come into being, so the gate stays closed from then until it is settled which
 * containers there are: by a bottom half when the realize is over, or by
 * a thread with the BQL that needs to know earlier.  Guest RAM may change in
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
#include "fence.h"
#include "hw/coiommu/trace.h"
#include "qemu/timer.h"
#include "replay.h"
#include "vfio.h"

/* How long to wait between two looks at a device that is going away, in ms. */
#define DEPARTING_WAIT_MIN    1
#define DEPARTING_WAIT_MAX    1000

/**
 * CoiommuVfio - which containers there are
 * @as, @iommu, @containers, @pins: the owner's
 * @unsettled: containers have come, and whether to stay is not settled; the
 *             gate is closed until it is.  BQL, as for the rest
 * @refresh_bh: settles that
 * @died_bh: sees to the devices of containers that have died
 * @departing: DeviceState * that are going away, with a reference
 * @departing_timer: looks whether they have gone
 * @departing_wait: the pause between two looks, in ms
 */
struct CoiommuVfio {
    AddressSpace *as;
    IOMMUMemoryRegion *iommu;
    CoiommuContainers *containers;
    CoiommuPins *pins;
    bool unsettled;
    QEMUBH *refresh_bh;
    QEMUBH *died_bh;
    GPtrArray *departing;
    QEMUTimer *departing_timer;
    unsigned departing_wait;
};

/*
 * VFIO's record of our address space, or NULL if no container uses it.
 *
 * vfio_address_space_get() makes an empty record if there is none, with a
 * reset handler that comes and goes with it, which is no thing to do during a
 * reset.  A container always listens for maps, so the flag tells beforehand.
 * There is no reference count: with a container in it the record stays, and
 * must not be put.
 */
static VFIOAddressSpace *vfio_space(CoiommuVfio *v)
{
    VFIOAddressSpace *space;

    if (!(v->iommu->iommu_notify_flags & IOMMU_NOTIFIER_MAP)) {
        return NULL;
    }
    space = coiommu_compat_space_get(v->as);
    if (QLIST_EMPTY(&space->containers)) {
        coiommu_compat_space_put(space);
        return NULL;
    }
    return space;
}

unsigned coiommu_vfio_containers(CoiommuVfio *v)
{
    coiommu_vfio_refresh(v);
    return coiommu_containers_count(v->containers);
}

uint64_t coiommu_vfio_budget(CoiommuVfio *v)
{
    coiommu_vfio_refresh(v);
    return coiommu_containers_budget(v->containers);
}

unsigned coiommu_vfio_charged(CoiommuVfio *v)
{
    unsigned charged = 0, i;

    coiommu_vfio_refresh(v);
    for (i = 0; i < coiommu_containers_count(v->containers); i++) {
        CoiommuMember *member = coiommu_containers_at(v->containers, i);

        charged += !!object_dynamic_cast(OBJECT(member->container),
                                         TYPE_VFIO_IOMMU_LEGACY);
    }
    return charged;
}

/* ---- Containers that go: under the BQL ---- */

/* Keep the device until no other reference is left. */
static void departing_add(CoiommuVfio *v, DeviceState *dev)
{
    if (g_ptr_array_find(v->departing, dev, NULL)) {
        return;
    }
    trace_coiommu_vfio_leaving(dev, OBJECT(dev)->ref);
    g_ptr_array_add(v->departing, object_ref(OBJECT(dev)));
    v->departing_wait = DEPARTING_WAIT_MIN;
    timer_mod(v->departing_timer,
              qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + v->departing_wait);
}

/* Those that VFIO no longer has are forgotten. */
static void containers_drop_unseen(CoiommuVfio *v)
{
    guint i;

    for (i = coiommu_containers_count(v->containers); i--; ) {
        CoiommuMember *member = coiommu_containers_at(v->containers, i);

        if (member->seen) {
            member->seen = false;
        } else {
            coiommu_containers_remove(v->containers, member->container);
        }
    }
}

/* Make our record VFIO's list.  The gate is closed. */
static void containers_update(CoiommuVfio *v)
{
    VFIOAddressSpace *space = vfio_space(v);
    CoiommuContainer *container;
    VFIODevice *vbasedev;

    if (space) {
        QLIST_FOREACH(container, &space->containers, next) {
            coiommu_containers_get(v->containers, container)->seen = true;
            QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
                if (!vbasedev->dev->realized) {
                    departing_add(v, vbasedev->dev);
                }
            }
        }
    }
    containers_drop_unseen(v);
    coiommu_pins_refresh_stuck(v->pins);
    coiommu_refusal_reset(&v->pins->refusal);
    trace_coiommu_vfio_containers(coiommu_containers_count(v->containers));
}

void coiommu_vfio_update(CoiommuVfio *v)
{
    if (v->unsettled) {
        containers_update(v);
    }
}

void coiommu_vfio_refresh(CoiommuVfio *v)
{
    if (!v->unsettled) {
        return;
    }
    containers_update(v);
    v->unsettled = false;
    coiommu_gate_open(v->pins->gate);
}

static void refresh_bh(void *opaque)
{
    coiommu_vfio_refresh(opaque);
}

static void departing_drop(CoiommuVfio *v, guint i)
{
    Object *obj = g_ptr_array_remove_index_fast(v->departing, i);

    coiommu_gate_close(v->pins->gate);
    object_unref(obj);
    containers_update(v);
    coiommu_gate_open(v->pins->gate);
}

/*
 * No code can get a new reference to a device that only we have one to.  One
 * that has been realized after all needs no watching.
 */
static void departing_look(void *opaque)
{
    CoiommuVfio *v = opaque;
    guint i = v->departing->len;

    while (i--) {
        DeviceState *dev = g_ptr_array_index(v->departing, i);

        if (dev->realized || OBJECT(dev)->ref == 1) {
            departing_drop(v, i);
        }
    }
    if (v->departing->len) {
        v->departing_wait = MIN(v->departing_wait * 2, DEPARTING_WAIT_MAX);
        timer_mod(v->departing_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + v->departing_wait);
    }
}

void coiommu_vfio_unrealized(CoiommuVfio *v, DeviceState *dev)
{
    VFIOAddressSpace *space = vfio_space(v);
    CoiommuContainer *container;
    VFIODevice *vbasedev;

    if (!space) {
        return;
    }
    QLIST_FOREACH(container, &space->containers, next) {
        QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
            if (vbasedev->dev == dev) {
                departing_add(v, dev);
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
    CoiommuVfio *v = opaque;
    guint i;

    coiommu_vfio_refresh(v);
    coiommu_gate_close(v->pins->gate);
    for (i = 0; i < coiommu_containers_count(v->containers); i++) {
        CoiommuMember *member = coiommu_containers_at(v->containers, i);

        if (qatomic_read(&member->dead)) {
            container_fence(member);
        }
    }
    coiommu_containers_bury(v->containers);
    coiommu_pins_refresh_stuck(v->pins);
    coiommu_gate_open(v->pins->gate);
}

/*
 * By VFIO's list: a transaction may be part of the end of a container that is
 * still in the record.
 */
void coiommu_vfio_transaction(CoiommuVfio *v)
{
    VFIOAddressSpace *space = v->unsettled ? NULL : vfio_space(v);
    CoiommuContainer *container;

    if (!space) {
        return;
    }
    QLIST_FOREACH(container, &space->containers, next) {
        CoiommuMember *member = coiommu_containers_find_dead(v->containers,
                                                             container);

        if (member) {
            container_fence(member);
        }
    }
}

void coiommu_vfio_start(CoiommuVfio *v)
{
    v->died_bh = qemu_bh_new(died_bh, v);
    coiommu_containers_watch(v->containers, v->died_bh);
    v->departing = g_ptr_array_new();
    v->departing_timer = timer_new_ms(QEMU_CLOCK_REALTIME, departing_look, v);
    v->refresh_bh = qemu_bh_new(refresh_bh, v);
}

void coiommu_vfio_stop(CoiommuVfio *v)
{
    coiommu_vfio_refresh(v);
    while (v->departing->len) {
        departing_drop(v, v->departing->len - 1);
    }
    timer_free(v->departing_timer);
    qemu_bh_delete(v->refresh_bh);
    g_clear_pointer(&v->departing, g_ptr_array_unref);
    coiommu_containers_remove_all(v->containers);
    qemu_bh_delete(v->died_bh);
}

CoiommuVfio *coiommu_vfio_new(AddressSpace *as, IOMMUMemoryRegion *iommu,
                              CoiommuContainers *containers,
                              CoiommuPins *pins)
{
    CoiommuVfio *v = g_new0(CoiommuVfio, 1);

    v->as = as;
    v->iommu = iommu;
    v->containers = containers;
    v->pins = pins;
    return v;
}

void coiommu_vfio_free(CoiommuVfio *v)
{
    g_free(v);
}

/* ---- Containers that come: under the BQL ---- */

/* The container that @n belongs to, or NULL if it is not a container's. */
static CoiommuContainer *vfio_container_of(CoiommuVfio *v, IOMMUNotifier *n)
{
    VFIOAddressSpace *space = vfio_space(v);
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
static CoiommuMember *container_arrives(CoiommuVfio *v,
                                        CoiommuContainer *container)
{
    VFIOGuestIOMMU *first = QLIST_FIRST(&container->giommu_list);

    if (!QLIST_NEXT(first, giommu_next)) {
        coiommu_containers_remove(v->containers, container);
    }
    return coiommu_containers_get(v->containers, container);
}

void coiommu_vfio_replay(CoiommuVfio *v, IOMMUNotifier *n)
{
    CoiommuContainer *container = vfio_container_of(v, n);
    Error *err = NULL;

    trace_coiommu_vfio_replay(container, n->start, n->end);
    if (!container) {
        return;
    }
    /* Closed until it is settled whether the container comes into being. */
    if (!v->unsettled) {
        coiommu_gate_close(v->pins->gate);
        v->unsettled = true;
    }
    qemu_bh_schedule(v->refresh_bh);
    if (coiommu_replay(v->pins, container_arrives(v, container), n->start,
                       n->end, &err)) {
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
