/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters: one table says what each is called, what it counts, and where it
 * is.  Properties (qom-get), query-stats (stats.c) and docs/user/counters.md
 * are made of it.  A reset clears no counter.
 *
 * tests/style/counters.py reads the table as it stands here.  So an entry must
 * be one of the three macros with literals as arguments, and each comment in
 * the table is a heading on the page.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/util.h"
#include "qapi/visitor.h"
#include "counters.h"
#include "hw/coiommu/endpoint/bypass.h"
#include "hw/coiommu/endpoint/fallback.h"

static CoiommuPinTotals totals(CoiommuState *s)
{
    return coiommu_pinset_totals(&s->domain.pins.set);
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

static uint64_t ahead_bytes(CoiommuState *s)
{
    return totals(s).ahead;
}

static uint64_t stuck_bytes(CoiommuState *s)
{
    return totals(s).stuck;
}

static uint64_t escape_level(CoiommuState *s)
{
    return coiommu_history_level(&s->domain.pins.history);
}

static uint64_t attached(CoiommuState *s)
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

/* Before realize, and after exit, there is no bus to look at. */
static bool is_realized(CoiommuState *s)
{
    return DEVICE(s)->realized;
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

#define COUNTER(name_, type_, unit_, text) \
    .name = name_, .type = STATS_TYPE_##type_, \
    .unit = COIOMMU_UNIT_##unit_, .description = text

/* A Stat64 of CoiommuStats. */
#define STAT(name_, type_, unit_, field, text) \
    { COUNTER(name_, type_, unit_, text), \
      .stat = offsetof(CoiommuStats, field) }

/* What a function above says. */
#define VALUE(name_, type_, unit_, get_, text) \
    { COUNTER(name_, type_, unit_, text), .get = get_ }

/* An array of Stat64 with COIOMMU_PIN_TIME_BUCKETS elements. */
#define HISTOGRAM(name_, unit_, field, text) \
    { COUNTER(name_, LOG2_HISTOGRAM, unit_, text), \
      .stat = offsetof(CoiommuStats, field) }

const CoiommuCounter coiommu_counters[] = {
    /* What is pinned */
    VALUE("pinned-bytes", INSTANT, BYTES, pinned_bytes,
          "Guest memory that coIOMMU has pinned"),
    VALUE("pinned-bytes-peak", PEAK, BYTES, pinned_peak,
          "The most of it so far"),
    VALUE("pinned-blocks", INSTANT, NUMBER, pinned_blocks,
          "Pin blocks that are pinned"),
    STAT("mapped-bytes", INSTANT, BYTES, mapped_bytes,
         "Bytes in blocks that were busy when the unpin thread last went "
         "around all of them; with unpin-policy=off it doesn't go around"),
    STAT("mapped-bytes-peak", PEAK, BYTES, mapped_peak,
         "The most of these so far"),
    VALUE("stuck-bytes", INSTANT, BYTES, stuck_bytes,
          "Of pinned-bytes, memory that the host refuses to unmap"),
    VALUE("attached-endpoints", INSTANT, NUMBER, attached,
          "Devices whose DMA the guest's driver tracks"),
    VALUE("containers", INSTANT, NUMBER, containers,
          "VFIO containers, or vfio-user peers, that pins go to"),
    VALUE("containers-dead", INSTANT, NUMBER, containers_dead,
          "Of these, peers that do not answer; their devices are cut off"),

    /* Requests and pins */
    STAT("requests", CUMULATIVE, NUMBER, requests,
         "Requests of the guest's driver, each an exit"),
    STAT("request-errors", CUMULATIVE, NUMBER, request_errors,
         "Of these, those that ended neither in OK nor in AGAIN; PROBE apart"),
    STAT("partial-requests", CUMULATIVE, NUMBER, partial_requests,
         "PIN requests that were answered in part, as they took longer than "
         "10 ms or another thread had to go on; the driver rings again"),
    STAT("demand-pin-requests", CUMULATIVE, NUMBER, demand_pin_requests,
         "PIN requests that had to pin at least one block"),
    STAT("demand-pin-blocks", CUMULATIVE, NUMBER, demand_pin_blocks,
         "Blocks pinned by them"),
    STAT("pin-errors", CUMULATIVE, NUMBER, pin_errors,
         "Blocks that the host, or max-pinned, refused to pin"),
    STAT("pin-unasked", CUMULATIVE, NUMBER, pin_unasked,
         "Of these, and of pins ahead, those for which the host was not "
         "asked, as it had refused another one up to 2 s before"),
    STAT("dma-faults", CUMULATIVE, NUMBER, dma_faults,
         "Accesses by emulated or vfio-user devices to memory that was not "
         "pinned"),
    STAT("request-wait-max-ns", PEAK, NS, wait_max_ns,
         "The longest that a request waited for a block that another thread "
         "was mapping or unmapping"),
    HISTOGRAM("pin-time-histogram", US, pin_time,
              "Calls that mapped a block, by the time that they took: less "
              "than 1 us, 2 us, 4 us, ..."),

    /* Unpinning */
    STAT("unpinned-blocks", CUMULATIVE, NUMBER, unpinned_blocks,
         "Blocks unpinned, for any reason"),
    STAT("lazy-unpinned-blocks", CUMULATIVE, NUMBER, lazy_unpinned_blocks,
         "Of these, by the unpin thread"),
    STAT("unpin-passes", CUMULATIVE, NUMBER, unpin_passes,
         "Passes of the unpin thread"),
    STAT("unpin-pass-ns", INSTANT, NS, pass_last_ns,
         "How long its last pass took, its waits included"),
    STAT("unpin-races", CUMULATIVE, NUMBER, unpin_races,
         "Blocks that came into use while they were being let go, and stayed"),
    STAT("unpin-errors", CUMULATIVE, NUMBER, unpin_errors,
         "How often the host refused to unmap memory"),
    STAT("repins", CUMULATIVE, NUMBER, repins,
         "Blocks asked for again within 10 seconds of being unpinned: many of "
         "them say that unpin-interval is too short"),
    STAT("reclaims", CUMULATIVE, NUMBER, reclaims,
         "How often a pin found no room"),
    STAT("reclaimed-blocks", CUMULATIVE, NUMBER, reclaimed_blocks,
         "Blocks unpinned for that"),
    STAT("pressure-events", CUMULATIVE, NUMBER, pressure_events,
         "How often the host was short of memory"),

    /* Pinning ahead */
    STAT("ahead-pins", CUMULATIVE, NUMBER, ahead_pins,
         "Blocks pinned ahead"),
    STAT("ahead-used", CUMULATIVE, NUMBER, ahead_used,
         "Of these, those that were used afterwards"),
    STAT("ahead-unused", CUMULATIVE, NUMBER, ahead_unused,
         "Of these, those unpinned unused"),
    VALUE("ahead-bytes", INSTANT, BYTES, ahead_bytes,
          "Bytes in the rest of them: pinned ahead, not used yet"),
    VALUE("escape-level", INSTANT, NUMBER, escape_level,
          "How far pins are widened: a pin of one block takes an aligned "
          "group of 2^level blocks; 0 to 6"),
    STAT("escape-blocks", CUMULATIVE, NUMBER, escape_blocks,
         "Blocks pinned because of that"),

    /* Devices that are used without the guest's driver */
    VALUE("fallback-active", INSTANT, NUMBER, fallback_active,
          "Devices that do DMA and are not attached"),
    VALUE("fallback-waiting", INSTANT, NUMBER, fallback_waiting,
          "Devices that are not attached and wait until all memory is pinned, "
          "for their bus-master bit or to keep it"),
    VALUE("fallback-missing-bytes", INSTANT, BYTES, fallback_missing,
          "Bytes that are not pinned yet of what is to be, for such devices; "
          "0 when all is, or need not be"),
    VALUE("fallback-busy", INSTANT, YES_NO, fallback_busy,
          "Whether they are being pinned, or unpinned afterwards"),
    VALUE("fallback-bytes", INSTANT, BYTES, fallback_bytes,
          "Bytes that are pinned because all is to be, for such devices, or "
          "was until a moment ago; else 0"),
    STAT("fallback-pins", CUMULATIVE, NUMBER, fallback_pins,
         "How often all memory has been pinned for them"),
    STAT("fallback-pin-ns", INSTANT, NS, fallback_pin_ns,
         "How long that took the last time"),
    STAT("fallback-refused", CUMULATIVE, NUMBER, fallback_refused,
         "How often a device was kept off the bus instead"),
    STAT("attach-refused", CUMULATIVE, NUMBER, attach_refused,
         "How often the guest was not let attach a virtio device whose driver "
         "bypasses the DMA API"),

    /* Devices that are not tracked */
    VALUE("bypass-devices", INSTANT, NUMBER, bypass_devices,
          "VFIO devices that coIOMMU does not track"),
    VALUE("bypass-bytes", INSTANT, BYTES, bypass_bytes,
          "Guest memory that VFIO itself maps and pins because of them: all, "
          "or 0; no part of pinned-bytes"),
};

const size_t coiommu_counters_count = ARRAY_SIZE(coiommu_counters);

static Stat64 *stat_of(CoiommuState *s, const CoiommuCounter *counter)
{
    return (Stat64 *)((char *)&s->stats + counter->stat);
}

uint64_t coiommu_counter_get(CoiommuState *s, const CoiommuCounter *counter)
{
    return counter->get ? counter->get(s) : stat64_get(stat_of(s, counter));
}

uint64List *coiommu_counter_list(CoiommuState *s,
                                 const CoiommuCounter *counter)
{
    const Stat64 *stats = stat_of(s, counter);
    uint64List *list = NULL;
    unsigned i = COIOMMU_PIN_TIME_BUCKETS;

    while (i--) {
        QAPI_LIST_PREPEND(list, stat64_get(&stats[i]));
    }
    return list;
}

static void get_number(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    uint64_t value = coiommu_counter_get(COIOMMU(obj), opaque);

    visit_type_uint64(v, name, &value, errp);
}

static void get_list(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    g_autoptr(uint64List) list = coiommu_counter_list(COIOMMU(obj), opaque);

    visit_type_uint64List(v, name, &list, errp);
}

void coiommu_counters_class_init(ObjectClass *klass)
{
    size_t i;

    for (i = 0; i < coiommu_counters_count; i++) {
        const CoiommuCounter *counter = &coiommu_counters[i];
        bool list = counter->type == STATS_TYPE_LOG2_HISTOGRAM;

        object_class_property_add(klass, counter->name,
                                  list ? "uint64List" : "uint64",
                                  list ? get_list : get_number, NULL, NULL,
                                  (void *)counter);
        object_class_property_set_description(klass, counter->name,
                                              counter->description);
    }
}
