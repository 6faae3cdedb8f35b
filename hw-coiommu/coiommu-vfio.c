/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls into VFIO containers.
 *
 * VFIO's own path from an IOMMU to a container, the IOMMU notifier, swallows
 * errors and takes only sizes that are powers of two.  So pins go to the
 * containers directly, and the notifier only tells that there is a container
 * to bring up to date (replay).
 *
 * VFIO's list of containers is guarded by the BQL, which pinning does without.
 * So we have an array of our own, @containers, that changes under the BQL with
 * the gate closed: who is inside the gate, or has the BQL, may use it.
 *
 * Arrival.  At replay a container may still fail to come into being.  The gate
 * stays closed from then until it is settled which containers there are: by a
 * bottom half when the realize is over, or by whoever has the BQL and needs to
 * know earlier.
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

int coiommu_vfio_map_one(CoiommuContainer *container,
                         const CoiommuExtent *piece)
{
    int ret = coiommu_compat_map(container, piece->gpa, piece->size,
                                 piece->hva, piece->mr);

    trace_coiommu_vfio_map(container, piece->gpa, piece->size, piece->hva,
                           ret);
    return ret;
}

int coiommu_vfio_unmap_one(CoiommuContainer *container, hwaddr iova,
                           uint64_t size)
{
    int ret = coiommu_compat_unmap(container, iova, size);

    trace_coiommu_vfio_unmap(container, iova, size, ret);
    if (ret) {
        warn_report_once("coiommu: unmapping 0x%" HWADDR_PRIx " failed: %s; "
                         "the device that uses it may still reach it",
                         iova, strerror(-ret));
    }
    return ret;
}

int coiommu_vfio_map(CoiommuState *s, const CoiommuExtent *piece)
{
    unsigned i;
    int ret;

    for (i = 0; i < s->containers->len; i++) {
        ret = coiommu_vfio_map_one(g_ptr_array_index(s->containers, i), piece);
        if (ret) {
            while (i--) {
                coiommu_vfio_unmap_one(g_ptr_array_index(s->containers, i),
                                       piece->gpa, piece->size);
            }
            return ret;
        }
    }
    return 0;
}

void coiommu_vfio_unmap(CoiommuState *s, hwaddr iova, uint64_t size)
{
    unsigned i;

    for (i = 0; i < s->containers->len; i++) {
        coiommu_vfio_unmap_one(g_ptr_array_index(s->containers, i), iova,
                               size);
    }
}

unsigned coiommu_vfio_containers(CoiommuState *s)
{
    coiommu_vfio_settle(s);
    /* The counter can be read before realize. */
    return s->containers ? s->containers->len : 0;
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

    if (!s->containers->len) {
        return COIOMMU_DEFAULT_BUDGET;
    }
    for (i = 0; i < s->containers->len; i++) {
        CoiommuContainer *container = g_ptr_array_index(s->containers, i);

        /* 0 is "no limit": iommufd. */
        if (container->dma_max_mappings) {
            budget = MIN(budget, container->dma_max_mappings);
        }
    }
    return budget;
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

/* Make our array VFIO's list.  The gate is closed. */
static void containers_update(CoiommuState *s)
{
    VFIOAddressSpace *space = vfio_space(s);
    CoiommuContainer *container;
    VFIODevice *vbasedev;

    g_ptr_array_set_size(s->containers, 0);
    if (space) {
        QLIST_FOREACH(container, &space->containers, next) {
            g_ptr_array_add(s->containers, container);
            QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
                if (!vbasedev->dev->realized) {
                    leaving_add(s, vbasedev->dev);
                }
            }
        }
    }
    trace_coiommu_vfio_containers(s->containers->len);
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

void coiommu_vfio_init(CoiommuState *s)
{
    s->containers = g_ptr_array_new();
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
    g_clear_pointer(&s->containers, g_ptr_array_unref);
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

/* Bring a new container up to date, or say why it can't be had. */
static bool container_fill(CoiommuState *s, CoiommuContainer *container,
                           IOMMUNotifier *n, Error **errp)
{
    bool ok;

    /* This replay is of what a machine did, from a log. */
    if (replay_mode != REPLAY_MODE_NONE) {
        error_setg(errp, "coiommu does not support record/replay with "
                   "assigned devices: remove them, or rr from -icount");
        return false;
    }
    coiommu_compat_sync_begin(container);
    ok = coiommu_pin_replay(s, container, n->start, n->end, errp);
    coiommu_compat_sync_end(container);
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
    if (container_fill(s, container, n, &err)) {
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
