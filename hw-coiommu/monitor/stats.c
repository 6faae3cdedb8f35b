/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The counters in QEMU's statistics: query-stats and query-stats-schemas of
 * QMP, "info stats vm" of the human monitor.  The provider is "coiommu", the
 * target the VM.
 */
#include "qemu/osdep.h"
#include "qapi/util.h"
#include "system/stats.h"
#include "counters.h"

static StatsValue *value_of(CoiommuState *s, const CoiommuCounter *counter)
{
    StatsValue *value = g_new0(StatsValue, 1);

    if (counter->type == STATS_TYPE_LOG2_HISTOGRAM) {
        value->type = QTYPE_QLIST;
        value->u.list = coiommu_counter_list(s, counter);
    } else if (counter->unit == COIOMMU_UNIT_YES_NO) {
        value->type = QTYPE_QBOOL;
        value->u.boolean = coiommu_counter_get(s, counter);
    } else {
        value->type = QTYPE_QNUM;
        value->u.scalar = coiommu_counter_get(s, counter);
    }
    return value;
}

/* StatRetrieveFunc.  BQL. */
static void get_stats(StatsResultList **result, StatsTarget target,
                      strList *names, strList *targets, Error **errp)
{
    Object *obj = object_resolve_path_type("", TYPE_COIOMMU, NULL);
    g_autofree char *path = NULL;
    StatsList *list = NULL;
    size_t i = coiommu_counters_count;

    if (target != STATS_TARGET_VM || !obj || !DEVICE(obj)->realized) {
        return;
    }
    while (i--) {
        const CoiommuCounter *counter = &coiommu_counters[i];

        if (apply_str_list_filter(counter->name, names)) {
            Stats *stats = g_new0(Stats, 1);

            stats->name = g_strdup(counter->name);
            stats->value = value_of(COIOMMU(obj), counter);
            QAPI_LIST_PREPEND(list, stats);
        }
    }
    if (list) {
        path = object_get_canonical_path(obj);
        add_stats_entry(result, STATS_PROVIDER_COIOMMU, path, list);
    }
}

static void set_unit(StatsSchemaValue *schema, CoiommuUnit unit)
{
    static const struct {
        bool has_unit;
        StatsUnit unit;
        int16_t exponent;
    } units[] = {
        [COIOMMU_UNIT_NUMBER] = { false },
        [COIOMMU_UNIT_BYTES] = { true, STATS_UNIT_BYTES },
        [COIOMMU_UNIT_NS] = { true, STATS_UNIT_SECONDS, -9 },
        [COIOMMU_UNIT_US] = { true, STATS_UNIT_SECONDS, -6 },
        [COIOMMU_UNIT_YES_NO] = { true, STATS_UNIT_BOOLEAN },
    };

    schema->has_unit = units[unit].has_unit;
    schema->unit = units[unit].unit;
    schema->exponent = units[unit].exponent;
    schema->has_base = schema->exponent;
    schema->base = schema->exponent ? 10 : 0;
}

/* SchemaRetrieveFunc */
static void get_schemas(StatsSchemaList **result, Error **errp)
{
    StatsSchemaValueList *list = NULL;
    size_t i = coiommu_counters_count;

    while (i--) {
        const CoiommuCounter *counter = &coiommu_counters[i];
        StatsSchemaValue *schema = g_new0(StatsSchemaValue, 1);

        schema->name = g_strdup(counter->name);
        schema->type = counter->type;
        set_unit(schema, counter->unit);
        QAPI_LIST_PREPEND(list, schema);
    }
    add_stats_schema(result, STATS_PROVIDER_COIOMMU, STATS_TARGET_VM, list);
}

void coiommu_stats_init(void)
{
    add_stats_callbacks(STATS_PROVIDER_COIOMMU, get_stats, get_schemas);
}
