/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The migration blocker.
 *
 * A machine with a tracked device can be neither migrated nor saved: QEMU does
 * not know what the device writes, and the other machine has not pinned what it
 * uses.  While there is one a blocker says so.  What is carried without one is
 * in device/vmstate.c.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "blocker.h"
#include "fallback.h"
#include "migration/blocker.h"

static bool block(CoiommuState *s, Error **errp)
{
    error_setg(&s->migration_blocker, "coiommu does not support migration and "
               "snapshots with an assigned device yet: unplug it first");
    return migrate_add_blocker(&s->migration_blocker, errp) == 0;
}

/* With -only-migratable there is nothing that we could be used for. */
bool coiommu_blocker_check(CoiommuState *s, Error **errp)
{
    if (!block(s, errp)) {
        return false;
    }
    migrate_del_blocker(&s->migration_blocker);
    return true;
}

void coiommu_blocker_update(CoiommuState *s)
{
    Error *err = NULL;

    if (!coiommu_fallback_any(s)) {
        migrate_del_blocker(&s->migration_blocker);
    } else if (!s->migration_blocker && !block(s, &err)) {
        /* QEMU plugs no device in during a migration. */
        error_report_err(err);
    }
}

void coiommu_blocker_exit(CoiommuState *s)
{
    migrate_del_blocker(&s->migration_blocker);
}
