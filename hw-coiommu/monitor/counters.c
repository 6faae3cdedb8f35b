/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters: see counters.h.
 *
 * All are uint64 but for the histogram; a reset of the machine does not clear
 * them.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/util.h"
#include "qapi/visitor.h"
#include "counters.h"
#include "hw/coiommu/endpoint/bypass.h"
#include "hw/coiommu/endpoint/fallback.h"

/* ---- Those that are looked up ---- */

static CoiommuPinTotals totals(CoiommuState *s)
{
    return coiommu_pinset_totals(&s->domain.pins.set);
}

/* Before realize, and after exit, there is no bus to look at. */
static bool is_realized(CoiommuState *s)
{
    return DEVICE(s)->realized;
}

static uint64_t pinned_bytes(CoiommuState *s)
{
    return totals(s).bytes;
}

static uint64_t pinned_peak(CoiommuState *s)
{
    return totals(s).peak;
}

static uint64_t pinned_blocks(CoiommuState *s)
{
    return totals(s).pinned;
}

static uint64_t stuck_bytes(CoiommuState *s)
{
    return totals(s).stuck;
}

static uint64_t ahead_bytes(CoiommuState *s)
{
    return totals(s).ahead;
}

static uint64_t escape_level(CoiommuState *s)
{
    return coiommu_history_level(&s->domain.pins.history);
}

static uint64_t attached_endpoints(CoiommuState *s)
{
    return g_hash_table_size(s->attached);
}

static uint64_t containers(CoiommuState *s)
{
    return coiommu_vfio_containers(s->domain.vfio);
}

static uint64_t containers_dead(CoiommuState *s)
{
    return coiommu_containers_dead(s->domain.containers);
}

static uint64_t fallback_active(CoiommuState *s)
{
    return is_realized(s) ? coiommu_fallback_untracked(s) : 0;
}

static uint64_t fallback_waiting(CoiommuState *s)
{
    return is_realized(s) ? coiommu_fallback_waiting(s) : 0;
}

static uint64_t fallback_busy(CoiommuState *s)
{
    return coiommu_pinall_job(s->all) != COIOMMU_JOB_NONE;
}

static uint64_t fallback_missing(CoiommuState *s)
{
    return s->domain.pins.keep ? coiommu_pinall_missing(s->all) : 0;
}

static uint64_t fallback_bytes(CoiommuState *s)
{
    return s->domain.pins.keep ? totals(s).bytes : 0;
}

static uint64_t bypass_devices(CoiommuState *s)
{
    return coiommu_bypass_devices();
}

static uint64_t bypass_bytes(CoiommuState *s)
{
    return is_realized(s) ? coiommu_bypass_bytes(&s->ram) : 0;
}

/* ---- The table ---- */

const CoiommuCounter coiommu_counters[] = {
    { "pinned-bytes", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_BYTES,
      "guest RAM that coIOMMU has pinned now",
      .get = pinned_bytes },
    { "pinned-bytes-peak", COIOMMU_COUNTER_PEAK, COIOMMU_UNIT_BYTES,
      "the most that was",
      .get = pinned_peak },
    { "pinned-blocks", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NONE,
      "blocks that are pinned now",
      .get = pinned_blocks },
    { "demand-pin-requests", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "PIN requests that had to pin something",
      .stat = offsetof(CoiommuStats, demand_pin_requests) },
    { "demand-pin-blocks", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "blocks that those have pinned",
      .stat = offsetof(CoiommuStats, demand_pin_blocks) },
    { "pin-errors", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "blocks that the host, or max-pinned, refused to pin",
      .stat = offsetof(CoiommuStats, pin_errors) },
    { "pin-unasked", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "of these and of pins ahead, those that were refused because the "
      "host had refused another one just before",
      .stat = offsetof(CoiommuStats, pin_unasked) },
    { "stuck-bytes", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_BYTES,
      "of pinned-bytes, what the host refuses to unmap",
      .get = stuck_bytes },
    { "unpin-errors", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "how often it has refused that",
      .stat = offsetof(CoiommuStats, unpin_errors) },
    { "unpinned-blocks", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "blocks that have been unpinned, for whatever reason",
      .stat = offsetof(CoiommuStats, unpinned_blocks) },
    { "lazy-unpinned-blocks", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "of these, by the unpin thread",
      .stat = offsetof(CoiommuStats, lazy_unpinned_blocks) },
    { "unpin-passes", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "passes of the unpin thread",
      .stat = offsetof(CoiommuStats, unpin_passes) },
    { "unpin-races", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "blocks that came into use as they were being let go",
      .stat = offsetof(CoiommuStats, unpin_races) },
    { "unpin-pass-ns", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NS,
      "how long the last pass has taken, its waits included",
      .stat = offsetof(CoiommuStats, pass_last_ns) },
    { "mapped-bytes", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_BYTES,
      "bytes in blocks that the last full turn of the thread has found "
      "busy",
      .stat = offsetof(CoiommuStats, mapped_bytes) },
    { "mapped-bytes-peak", COIOMMU_COUNTER_PEAK, COIOMMU_UNIT_BYTES,
      "the most that was",
      .stat = offsetof(CoiommuStats, mapped_peak) },
    { "repins", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "blocks that were asked for within 10 seconds of being unpinned",
      .stat = offsetof(CoiommuStats, repins) },
    { "ahead-pins", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "blocks that have been pinned ahead",
      .stat = offsetof(CoiommuStats, ahead_pins) },
    { "ahead-used", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "of these, those that were used then",
      .stat = offsetof(CoiommuStats, ahead_used) },
    { "ahead-unused", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "of these, those that were unpinned without being used",
      .stat = offsetof(CoiommuStats, ahead_unused) },
    { "ahead-bytes", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_BYTES,
      "of these, bytes in the others: pinned, not used yet",
      .get = ahead_bytes },
    { "escape-level", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NONE,
      "how far pins are widened now",
      .get = escape_level },
    { "escape-blocks", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "blocks that were pinned because of that",
      .stat = offsetof(CoiommuStats, escape_blocks) },
    { "reclaims", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "how often a pin has found no room",
      .stat = offsetof(CoiommuStats, reclaims) },
    { "reclaimed-blocks", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "blocks that were unpinned for that",
      .stat = offsetof(CoiommuStats, reclaimed_blocks) },
    { "pressure-events", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "how often the host was short of memory",
      .stat = offsetof(CoiommuStats, pressure_events) },
    { "fallback-active", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NONE,
      "devices now that do DMA and are not attached",
      .get = fallback_active },
    { "fallback-waiting", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NONE,
      "devices now that are not attached, and wait until all is pinned "
      "for their bus-master bit, or to keep it",
      .get = fallback_waiting },
    { "fallback-missing-bytes", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_BYTES,
      "bytes that are not pinned yet of all that is to be, for them",
      .get = fallback_missing },
    { "fallback-busy", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NONE,
      "1 while that is being pinned, or unpinned afterwards",
      .get = fallback_busy },
    { "fallback-bytes", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_BYTES,
      "bytes that are pinned now because all is to be, for them, or was "
      "until a moment ago",
      .get = fallback_bytes },
    { "fallback-pins", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "how often all has been pinned",
      .stat = offsetof(CoiommuStats, fallback_pins) },
    { "fallback-pin-ns", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NS,
      "how long that has taken the last time",
      .stat = offsetof(CoiommuStats, fallback_pin_ns) },
    { "fallback-refused", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "how often a device was kept off the bus instead",
      .stat = offsetof(CoiommuStats, fallback_refused) },
    { "requests", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "doorbell writes",
      .stat = offsetof(CoiommuStats, requests) },
    { "request-errors", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "of these, how many got another status than OK or AGAIN, PROBE "
      "apart",
      .stat = offsetof(CoiommuStats, request_errors) },
    { "partial-requests", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "PIN requests that were answered before all was pinned: the driver "
      "rings again",
      .stat = offsetof(CoiommuStats, partial_requests) },
    { "request-wait-max-ns", COIOMMU_COUNTER_PEAK, COIOMMU_UNIT_NS,
      "the longest that a request has waited for a block that another "
      "thread was mapping or unmapping",
      .stat = offsetof(CoiommuStats, wait_max_ns) },
    { "attached-endpoints", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NONE,
      "devices that are attached now",
      .get = attached_endpoints },
    { "attach-refused", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "how often the guest was not let attach a device whose driver "
      "bypasses the DMA API",
      .stat = offsetof(CoiommuStats, attach_refused) },
    { "containers", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NONE,
      "VFIO containers in our address space now",
      .get = containers },
    { "containers-dead", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NONE,
      "of these, those whose server does not answer",
      .get = containers_dead },
    { "bypass-devices", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_NONE,
      "VFIO devices now that are not tracked",
      .get = bypass_devices },
    { "bypass-bytes", COIOMMU_COUNTER_INSTANT, COIOMMU_UNIT_BYTES,
      "guest RAM that VFIO maps by itself, for them; not in pinned-bytes",
      .get = bypass_bytes },
    { "dma-faults", COIOMMU_COUNTER_CUMULATIVE, COIOMMU_UNIT_NONE,
      "accesses through QEMU to memory that was not pinned",
      .stat = offsetof(CoiommuStats, dma_faults) },
    { }
};

uint64_t coiommu_counter_value(CoiommuState *s, const CoiommuCounter *counter)
{
    return counter->get ? counter->get(s) :
           stat64_get((Stat64 *)((char *)&s->stats + counter->stat));
}

/* ---- Properties ---- */

static void get_counter(Object *obj, Visitor *v, const char *name,
                        void *opaque, Error **errp)
{
    uint64_t value = coiommu_counter_value(COIOMMU(obj), opaque);

    visit_type_uint64(v, name, &value, errp);
}

static void get_pin_time(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    CoiommuState *s = COIOMMU(obj);
    g_autoptr(uint64List) list = NULL;
    unsigned i = COIOMMU_PIN_TIME_BUCKETS;

    while (i--) {
        QAPI_LIST_PREPEND(list, stat64_get(&s->stats.pin_time[i]));
    }
    visit_type_uint64List(v, name, &list, errp);
}

void coiommu_counters_class_init(ObjectClass *klass)
{
    const CoiommuCounter *counter;

    for (counter = coiommu_counters; counter->name; counter++) {
        object_class_property_add(klass, counter->name, "uint64", get_counter,
                                  NULL, NULL, (void *)counter);
        object_class_property_set_description(klass, counter->name,
                                              counter->description);
    }
    object_class_property_add(klass, "pin-time-histogram", "uint64List",
                              get_pin_time, NULL, NULL, NULL);
    object_class_property_set_description(klass, "pin-time-histogram",
        "the first number counts calls that map a block and took less than "
        "1 us, the next less than 2, 4, ...");
}
