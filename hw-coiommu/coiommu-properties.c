/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters, and settings that can be changed while the machine runs.
 *
 * Settings, on the command line and by qom-set:
 *   unpin-policy     off, lazy or timeout: see core/policy.h
 *   unpin-interval   ms from one pass of the unpin thread to the next
 *   unpin-window     ms for which the policy timeout keeps an idle block
 *   unpin-pass       the most blocks that one pass looks at
 *   max-pinned       the most bytes that may be pinned, 0 for no limit
 *   ahead            the most bytes that pins ahead may hold which nobody has
 *                    used yet, 0 to pin nothing ahead
 *   escape-threshold misses per second from which on pins are widened, 0 for
 *                    never
 *   fallback         pin-all or refuse: see coiommu-fallback.c
 *
 * Counters, by qom-get, all uint64 but for the histogram; a reset does not
 * clear them:
 *   pinned-bytes          guest RAM that coIOMMU has pinned now
 *   pinned-bytes-peak     the most that was
 *   pinned-blocks         blocks that are pinned now
 *   demand-pin-requests   PIN requests that had to pin something
 *   demand-pin-blocks     blocks that those have pinned
 *   pin-errors            blocks that the host, or max-pinned, refused to pin
 *   pin-unasked           of these and of pins ahead, those that were refused
 *                         because the host had refused another one just before
 *   stuck-bytes           of pinned-bytes, what the host refuses to unmap
 *   unpin-errors          how often it has refused that
 *   unpinned-blocks       blocks that have been unpinned, for whatever reason
 *   lazy-unpinned-blocks  of these, by the unpin thread
 *   unpin-passes          passes of the unpin thread
 *   unpin-races           blocks that came into use as they were being let go
 *   unpin-pass-ns         how long the last pass has taken, its waits included
 *   mapped-bytes          bytes in blocks that the last full turn of the thread
 *                         has found busy
 *   mapped-bytes-peak     the most that was
 *   repins                blocks that were asked for within 10 seconds of being
 *                         unpinned
 *   ahead-pins            blocks that have been pinned ahead
 *   ahead-used            of these, those that were used then
 *   ahead-unused          of these, those that were unpinned without being used
 *   ahead-bytes           of these, bytes in the others: pinned, not used yet
 *   escape-level          how far pins are widened now
 *   escape-blocks         blocks that were pinned because of that
 *   reclaims              how often a pin has found no room
 *   reclaimed-blocks      blocks that were unpinned for that
 *   pressure-events       how often the host was short of memory
 *   fallback-active       devices now that do DMA and are not attached
 *   fallback-waiting      devices now that are not attached, and wait until all
 *                         is pinned for their bus-master bit, or to keep it
 *   fallback-missing-bytes  bytes that are not pinned yet of all that is to be,
 *                         for them
 *   fallback-busy         1 while that is being pinned, or unpinned afterwards
 *   fallback-bytes        bytes that are pinned now because all is to be, for
 *                         them, or was until a moment ago
 *   fallback-pins         how often all has been pinned
 *   fallback-pin-ns       how long that has taken the last time
 *   fallback-refused      how often a device was kept off the bus instead
 *   requests              doorbell writes
 *   request-errors        of these, how many got another status than OK or
 *                         AGAIN, PROBE apart
 *   partial-requests      PIN requests that were answered before all was
 *                         pinned: the driver rings again
 *   request-wait-max-ns   the longest that a request has waited for a block
 *                         that another thread was mapping or unmapping
 *   attached-endpoints    devices that are attached now
 *   attach-refused        how often the guest was not let attach a device whose
 *                         driver bypasses the DMA API
 *   containers            VFIO containers in our address space now
 *   containers-dead       of these, those whose server does not answer
 *   bypass-devices        VFIO devices now that are not tracked
 *   bypass-bytes          guest RAM that VFIO maps by itself, for them; not in
 *                         pinned-bytes
 *   dma-faults            accesses through QEMU to memory that was not pinned
 *   pin-time-histogram    list: the first number counts calls that map a block
 *                         and took less than 1 us, the next less than 2, 4, ...
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/util.h"
#include "qapi/visitor.h"
#include "coiommu.h"

#define INTERVAL_MAX_MS (3600 * 1000)

/* ---- Settings ---- */

bool coiommu_check_quota(CoiommuState *s, uint64_t quota, Error **errp)
{
    if (quota && quota >> s->block_shift < 2) {
        error_setg(errp, "coiommu: max-pinned must be 0 or at least two pin "
                   "blocks (%" PRIu64 " bytes)",
                   UINT64_C(2) << s->block_shift);
        return false;
    }
    return true;
}

static const QEnumLookup policy_lookup = {
    .array = (const char *const[]) {
        [COIOMMU_POLICY_OFF] = "off",
        [COIOMMU_POLICY_LAZY] = "lazy",
        [COIOMMU_POLICY_TIMEOUT] = "timeout",
    },
    .size = COIOMMU_POLICY_COUNT,
};

static int get_policy(Object *obj, Error **errp)
{
    CoiommuUnpinSettings settings;

    coiommu_unpin_get(COIOMMU(obj), &settings);
    return settings.policy;
}

static void set_policy(Object *obj, int value, Error **errp)
{
    CoiommuUnpinSettings settings;

    coiommu_unpin_get(COIOMMU(obj), &settings);
    settings.policy = value;
    coiommu_unpin_set(COIOMMU(obj), &settings);
}

static const QEnumLookup fallback_lookup = {
    .array = (const char *const[]) {
        [false] = "pin-all",
        [true] = "refuse",
    },
    .size = 2,
};

static int get_fallback(Object *obj, Error **errp)
{
    return COIOMMU(obj)->fallback.refuse;
}

/* It counts when a device comes to do DMA, not for those that do. */
static void set_fallback(Object *obj, int value, Error **errp)
{
    COIOMMU(obj)->fallback.refuse = value;
}

/**
 * Setting - one that is a number
 * @name: of the property
 * @description: for its help
 * @offset: of the uint32_t in CoiommuUnpinSettings
 * @min, @max: what it may be
 */
typedef struct Setting {
    const char *name;
    const char *description;
    size_t offset;
    uint32_t min;
    uint32_t max;
} Setting;

static const Setting number_settings[] = {
    { "unpin-interval", "Milliseconds between passes of the unpin thread",
      offsetof(CoiommuUnpinSettings, interval_ms), 1, INTERVAL_MAX_MS },
    { "unpin-window",
      "Milliseconds that unpin-policy=timeout keeps an idle block",
      offsetof(CoiommuUnpinSettings, window_ms), 0, INTERVAL_MAX_MS },
    { "unpin-pass", "The most blocks that one pass looks at",
      offsetof(CoiommuUnpinSettings, pass_blocks), 1, UINT32_MAX },
};

static uint32_t *setting_in(CoiommuUnpinSettings *settings,
                            const Setting *setting)
{
    return (uint32_t *)((char *)settings + setting->offset);
}

static void get_setting(Object *obj, Visitor *v, const char *name,
                        void *opaque, Error **errp)
{
    CoiommuUnpinSettings settings;

    coiommu_unpin_get(COIOMMU(obj), &settings);
    visit_type_uint32(v, name, setting_in(&settings, opaque), errp);
}

static void set_setting(Object *obj, Visitor *v, const char *name,
                        void *opaque, Error **errp)
{
    const Setting *setting = opaque;
    CoiommuUnpinSettings settings;
    uint32_t value;

    if (!visit_type_uint32(v, name, &value, errp)) {
        return;
    }
    if (value < setting->min || value > setting->max) {
        error_setg(errp, "coiommu: %s must be from %" PRIu32 " to %" PRIu32,
                   name, setting->min, setting->max);
        return;
    }
    coiommu_unpin_get(COIOMMU(obj), &settings);
    *setting_in(&settings, setting) = value;
    coiommu_unpin_set(COIOMMU(obj), &settings);
}

static void get_max_pinned(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    uint64_t quota = coiommu_pinset_totals(&COIOMMU(obj)->pins).quota;

    visit_type_size(v, name, &quota, errp);
}

static void set_max_pinned(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    CoiommuState *s = COIOMMU(obj);
    uint64_t quota;

    if (!visit_type_size(v, name, &quota, errp)) {
        return;
    }
    /* Before realize the block size is not known; realize checks. */
    if (DEVICE(s)->realized && !coiommu_check_quota(s, quota, errp)) {
        return;
    }
    coiommu_pinset_set_quota(&s->pins, quota);
    /* The operator may have changed a limit of the host's along with it. */
    coiommu_refusal_reset(&s->refusal);
    if (DEVICE(s)->realized) {
        coiommu_fallback_retry(s);
    }
}

static void get_ahead(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    uint32_t threshold;
    uint64_t ahead;

    coiommu_ahead_get(COIOMMU(obj), &ahead, &threshold);
    visit_type_size(v, name, &ahead, errp);
}

static void set_ahead(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    uint64_t ahead;

    if (visit_type_size(v, name, &ahead, errp)) {
        coiommu_ahead_set_max_bytes(COIOMMU(obj), ahead);
    }
}

static void get_threshold(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    uint32_t threshold;
    uint64_t ahead;

    coiommu_ahead_get(COIOMMU(obj), &ahead, &threshold);
    visit_type_uint32(v, name, &threshold, errp);
}

static void set_threshold(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    uint32_t threshold;

    if (visit_type_uint32(v, name, &threshold, errp)) {
        coiommu_ahead_set_threshold(COIOMMU(obj), threshold);
    }
}

void coiommu_properties_class_init(ObjectClass *klass)
{
    size_t i;

    object_class_property_add_enum(klass, "unpin-policy",
                                   "CoiommuUnpinPolicy", &policy_lookup,
                                   get_policy, set_policy);
    object_class_property_set_description(klass, "unpin-policy",
        "When idle memory is unpinned: off, lazy, timeout");
    object_class_property_add_enum(klass, "fallback", "CoiommuFallbackKind",
                                   &fallback_lookup, get_fallback,
                                   set_fallback);
    object_class_property_set_description(klass, "fallback",
        "What to do for a device that is used without the guest's driver: "
        "pin-all, refuse");
    for (i = 0; i < ARRAY_SIZE(number_settings); i++) {
        const Setting *setting = &number_settings[i];

        object_class_property_add(klass, setting->name, "uint32", get_setting,
                                  set_setting, NULL, (void *)setting);
        object_class_property_set_description(klass, setting->name,
                                              setting->description);
    }
    object_class_property_add(klass, "max-pinned", "size", get_max_pinned,
                              set_max_pinned, NULL, NULL);
    object_class_property_set_description(klass, "max-pinned",
        "The most guest memory that may be pinned (0: no limit)");
    object_class_property_add(klass, "ahead", "size", get_ahead, set_ahead,
                              NULL, NULL);
    object_class_property_set_description(klass, "ahead",
        "The most that is pinned ahead and not used yet (0: nothing)");
    object_class_property_add(klass, "escape-threshold", "uint32",
                              get_threshold, set_threshold, NULL, NULL);
    object_class_property_set_description(klass, "escape-threshold",
        "Misses per second from which on pins are widened (0: never)");
}

/* ---- Counters ---- */

static void visit_counter(Visitor *v, const char *name, uint64_t value,
                          Error **errp)
{
    visit_type_uint64(v, name, &value, errp);
}

static void get_pinned_bytes(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    visit_counter(v, name, coiommu_pinset_totals(&COIOMMU(obj)->pins).bytes,
                  errp);
}

static void get_pinned_peak(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    visit_counter(v, name, coiommu_pinset_totals(&COIOMMU(obj)->pins).peak,
                  errp);
}

static void get_pinned_blocks(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    visit_counter(v, name, coiommu_pinset_totals(&COIOMMU(obj)->pins).pinned,
                  errp);
}

static void get_ahead_bytes(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    visit_counter(v, name, coiommu_pinset_totals(&COIOMMU(obj)->pins).ahead,
                  errp);
}

static void get_escape_level(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    visit_counter(v, name, coiommu_ahead_level(COIOMMU(obj)), errp);
}

static void get_attached(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    visit_counter(v, name, g_hash_table_size(COIOMMU(obj)->attached), errp);
}

static void get_containers(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    visit_counter(v, name, coiommu_vfio_containers(COIOMMU(obj)), errp);
}

static void get_dead(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    visit_counter(v, name, coiommu_containers_dead(COIOMMU(obj)), errp);
}

static void get_stuck_bytes(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    visit_counter(v, name, coiommu_pinset_totals(&COIOMMU(obj)->pins).stuck,
                  errp);
}

static void get_untracked(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    /* Until realize there is no bus to look at. */
    visit_counter(v, name, DEVICE(obj)->realized ?
                  coiommu_fallback_untracked(COIOMMU(obj)) : 0, errp);
}

static void get_waiting(Object *obj, Visitor *v, const char *name,
                        void *opaque, Error **errp)
{
    visit_counter(v, name, DEVICE(obj)->realized ?
                  coiommu_fallback_waiting(COIOMMU(obj)) : 0, errp);
}

static void get_busy(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    visit_counter(v, name,
                  coiommu_pinall_job(COIOMMU(obj)) != COIOMMU_JOB_NONE, errp);
}

static void get_missing_bytes(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    CoiommuState *s = COIOMMU(obj);

    visit_counter(v, name, s->pin_all ? coiommu_pinall_missing(s) : 0, errp);
}

static void get_fallback_bytes(Object *obj, Visitor *v, const char *name,
                               void *opaque, Error **errp)
{
    CoiommuState *s = COIOMMU(obj);

    visit_counter(v, name, s->pin_all ? coiommu_pinset_totals(&s->pins).bytes :
                  0, errp);
}

static void get_bypass_devices(Object *obj, Visitor *v, const char *name,
                               void *opaque, Error **errp)
{
    visit_counter(v, name, coiommu_bypass_devices(), errp);
}

static void get_bypass_bytes(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    visit_counter(v, name, DEVICE(obj)->realized ?
                  coiommu_bypass_bytes(COIOMMU(obj)) : 0, errp);
}

static void get_stat(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    visit_counter(v, name, stat64_get(opaque), errp);
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

static void add_stat(CoiommuState *s, const char *name, Stat64 *stat)
{
    object_property_add(OBJECT(s), name, "uint64", get_stat, NULL, NULL, stat);
}

static void add_getter(CoiommuState *s, const char *name,
                       ObjectPropertyAccessor *get)
{
    object_property_add(OBJECT(s), name, "uint64", get, NULL, NULL, NULL);
}

void coiommu_properties_init(CoiommuState *s)
{
    add_getter(s, "pinned-bytes", get_pinned_bytes);
    add_getter(s, "pinned-bytes-peak", get_pinned_peak);
    add_getter(s, "pinned-blocks", get_pinned_blocks);
    add_getter(s, "ahead-bytes", get_ahead_bytes);
    add_getter(s, "escape-level", get_escape_level);
    add_getter(s, "attached-endpoints", get_attached);
    add_getter(s, "containers", get_containers);
    add_getter(s, "containers-dead", get_dead);
    add_getter(s, "stuck-bytes", get_stuck_bytes);
    add_stat(s, "demand-pin-requests", &s->stats.demand_pin_requests);
    add_stat(s, "demand-pin-blocks", &s->stats.demand_pin_blocks);
    add_stat(s, "pin-errors", &s->stats.pin_errors);
    add_stat(s, "pin-unasked", &s->stats.pin_unasked);
    add_stat(s, "unpin-errors", &s->stats.unpin_errors);
    add_stat(s, "unpinned-blocks", &s->stats.unpinned_blocks);
    add_stat(s, "lazy-unpinned-blocks", &s->stats.lazy_unpinned_blocks);
    add_stat(s, "unpin-passes", &s->stats.unpin_passes);
    add_stat(s, "unpin-races", &s->stats.unpin_races);
    add_stat(s, "unpin-pass-ns", &s->stats.pass_last_ns);
    add_stat(s, "mapped-bytes", &s->stats.mapped_bytes);
    add_stat(s, "mapped-bytes-peak", &s->stats.mapped_peak);
    add_stat(s, "repins", &s->stats.repins);
    add_stat(s, "ahead-pins", &s->stats.ahead_pins);
    add_stat(s, "ahead-used", &s->stats.ahead_used);
    add_stat(s, "ahead-unused", &s->stats.ahead_unused);
    add_stat(s, "escape-blocks", &s->stats.escape_blocks);
    add_stat(s, "reclaims", &s->stats.reclaims);
    add_stat(s, "reclaimed-blocks", &s->stats.reclaimed_blocks);
    add_stat(s, "pressure-events", &s->stats.pressure_events);
    add_getter(s, "fallback-active", get_untracked);
    add_getter(s, "fallback-waiting", get_waiting);
    add_getter(s, "fallback-busy", get_busy);
    add_getter(s, "fallback-missing-bytes", get_missing_bytes);
    add_getter(s, "fallback-bytes", get_fallback_bytes);
    add_stat(s, "fallback-pins", &s->stats.fallback_pins);
    add_stat(s, "fallback-pin-ns", &s->stats.fallback_pin_ns);
    add_stat(s, "fallback-refused", &s->stats.fallback_refused);
    add_stat(s, "requests", &s->stats.requests);
    add_stat(s, "request-errors", &s->stats.request_errors);
    add_stat(s, "partial-requests", &s->stats.partial_requests);
    add_stat(s, "request-wait-max-ns", &s->stats.wait_max_ns);
    add_getter(s, "bypass-devices", get_bypass_devices);
    add_getter(s, "bypass-bytes", get_bypass_bytes);
    add_stat(s, "attach-refused", &s->stats.attach_refused);
    add_stat(s, "dma-faults", &s->stats.dma_faults);
    object_property_add(OBJECT(s), "pin-time-histogram", "uint64List",
                        get_pin_time, NULL, NULL, NULL);
}
