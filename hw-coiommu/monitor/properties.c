/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The version, and settings that can be changed while the machine runs, on the
 * command line and by qom-set:
 *   unpin-policy     off, lazy or timeout: see core/policy.h
 *   unpin-interval   ms from one pass of the unpin thread to the next
 *   unpin-window     ms for which the policy timeout keeps an idle block
 *   unpin-pass       the most blocks that one pass looks at
 *   max-pinned       the most bytes that may be pinned, 0 for no limit
 *   ahead            the most bytes that may be pinned ahead and not used yet,
 *                    0 to pin nothing ahead
 *   escape-threshold misses per second from which on pins are widened, 0 for
 *                    never
 *   fallback         pin-all or refuse: see endpoint/fallback.c
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/util.h"
#include "qapi/visitor.h"
#include "counters.h"
#include "hw/coiommu/endpoint/fallback.h"
#include "hw/coiommu/include/coiommu_version.h"
#include "properties.h"

#define INTERVAL_MAX_MS (3600 * 1000)

/* ---- Settings ---- */

bool coiommu_check_quota(CoiommuState *s, uint64_t quota, Error **errp)
{
    if (quota && coiommu_block_at(&s->geometry, quota) < 2) {
        error_setg(errp, "coiommu: max-pinned must be 0 or at least two pin "
                   "blocks (%" PRIu64 " bytes)",
                   2 * coiommu_block_size(&s->geometry));
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

    coiommu_unpin_get(COIOMMU(obj)->unpin, &settings);
    return settings.policy;
}

static void set_policy(Object *obj, int value, Error **errp)
{
    CoiommuUnpinSettings settings;

    coiommu_unpin_get(COIOMMU(obj)->unpin, &settings);
    settings.policy = value;
    coiommu_unpin_set(COIOMMU(obj)->unpin, &settings);
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
    return coiommu_fallback_get_refuse(COIOMMU(obj));
}

/* It counts when a device comes to do DMA, not for those that do. */
static void set_fallback(Object *obj, int value, Error **errp)
{
    coiommu_fallback_set_refuse(COIOMMU(obj), value);
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

    coiommu_unpin_get(COIOMMU(obj)->unpin, &settings);
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
    coiommu_unpin_get(COIOMMU(obj)->unpin, &settings);
    *setting_in(&settings, setting) = value;
    coiommu_unpin_set(COIOMMU(obj)->unpin, &settings);
}

static void get_max_pinned(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    CoiommuPinset *set = &COIOMMU(obj)->domain.pins.set;
    uint64_t quota = coiommu_pinset_totals(set).quota;

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
    coiommu_pinset_set_quota(&s->domain.pins.set, quota);
    /* The operator may have changed a limit of the host's along with it. */
    coiommu_refusal_reset(&s->domain.pins.refusal);
    if (DEVICE(s)->realized) {
        coiommu_fallback_retry(s);
    }
}

static CoiommuHistory *history_of(Object *obj)
{
    return &COIOMMU(obj)->domain.pins.history;
}

static void get_ahead(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    uint32_t threshold;
    uint64_t ahead;

    coiommu_history_get(history_of(obj), &ahead, &threshold);
    visit_type_size(v, name, &ahead, errp);
}

static void set_ahead(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    uint64_t ahead;

    if (visit_type_size(v, name, &ahead, errp)) {
        coiommu_history_set_max_bytes(history_of(obj), ahead);
    }
}

static void get_threshold(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    uint32_t threshold;
    uint64_t ahead;

    coiommu_history_get(history_of(obj), &ahead, &threshold);
    visit_type_uint32(v, name, &threshold, errp);
}

static void set_threshold(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    uint32_t threshold;

    if (visit_type_uint32(v, name, &threshold, errp)) {
        coiommu_history_set_threshold(history_of(obj), threshold);
    }
}

static char *get_version(Object *obj, Error **errp)
{
    return g_strdup(COIOMMU_RELEASE);
}

void coiommu_properties_class_init(ObjectClass *klass)
{
    size_t i;

    object_class_property_add_str(klass, "version", get_version, NULL);
    object_class_property_set_description(klass, "version",
        "Version of the device");
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
    coiommu_counters_class_init(klass);
    coiommu_stats_init();
}
