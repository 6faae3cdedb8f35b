/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host is short of memory: let go of idle blocks at once.
 *
 * The kernel's pressure stall information (PSI) tells when tasks wait for
 * memory.  A trigger that is written to its file makes the file poll as urgent,
 * once per window as long as that lasts.  For each such event the unpin thread
 * makes one pass at once, in which all that is idle goes.
 *
 * The main loop polls, so there is no thread to stop.  Where there is no PSI,
 * or no leave to set a trigger (on older kernels it takes a privilege), nothing
 * is watched.
 */
#include "qemu/osdep.h"
#include <glib-unix.h>
#include "hw/coiommu/trace.h"
#include "pressure.h"

/*
 * Some task has waited for memory for 150 ms in 2 s.  Without privileges the
 * kernel takes windows that are a multiple of 2 s only.
 */
static const char trigger[] = "some 150000 2000000";

/**
 * CoiommuPressure - the watch; BQL
 * @unpin, @events: the owner's
 * @fd: the file that is polled
 * @source: its source in the main loop, 0 when the file has gone
 */
struct CoiommuPressure {
    CoiommuUnpin *unpin;
    Stat64 *events;
    int fd;
    guint source;
};

static gboolean pressure_event(gint fd, GIOCondition condition,
                               gpointer opaque)
{
    CoiommuPressure *p = opaque;
    char byte;

    /* The file has gone, with its cgroup. */
    if (condition & (G_IO_ERR | G_IO_HUP)) {
        trace_coiommu_pressure_lost(condition);
        p->source = 0;
        return G_SOURCE_REMOVE;
    }
    if (condition & G_IO_IN && read(fd, &byte, 1) != 1) {
        return G_SOURCE_CONTINUE;
    }
    stat64_add(p->events, 1);
    trace_coiommu_pressure();
    coiommu_unpin_urgent(p->unpin);
    return G_SOURCE_CONTINUE;
}

/* Set the trigger.  Returns what to poll for, or 0 if that can't be. */
static GIOCondition trigger_set(int fd)
{
    struct stat st;

    /* For tests: a FIFO is never urgent, so a byte in it is an event. */
    if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode)) {
        return G_IO_IN;
    }
    /* The terminating 0 is part of it. */
    return write(fd, trigger, sizeof(trigger)) == sizeof(trigger) ?
           G_IO_PRI : 0;
}

CoiommuPressure *coiommu_pressure_start(const char *path, CoiommuUnpin *unpin,
                                        Stat64 *events)
{
    CoiommuPressure *p;
    GIOCondition condition;
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

    condition = fd < 0 ? 0 : trigger_set(fd);
    trace_coiommu_pressure_watch(path, condition ? 0 : errno);
    if (!condition) {
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    p = g_new0(CoiommuPressure, 1);
    p->unpin = unpin;
    p->events = events;
    p->fd = fd;
    p->source = g_unix_fd_add(fd, condition | G_IO_ERR | G_IO_HUP,
                              pressure_event, p);
    return p;
}

void coiommu_pressure_stop(CoiommuPressure *p)
{
    if (!p) {
        return;
    }
    if (p->source) {
        g_source_remove(p->source);
    }
    close(p->fd);
    g_free(p);
}
