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
#include "coiommu.h"
#include "trace.h"

/*
 * Some task has waited for memory for 150 ms in 2 s.  Without privileges the
 * kernel takes windows that are a multiple of 2 s only.
 */
static const char trigger[] = "some 150000 2000000";

static gboolean pressure_event(gint fd, GIOCondition condition,
                               gpointer opaque)
{
    CoiommuState *s = opaque;
    char byte;

    /* The file has gone, with its cgroup. */
    if (condition & (G_IO_ERR | G_IO_HUP)) {
        trace_coiommu_pressure_lost(condition);
        s->pressure.source = 0;
        return G_SOURCE_REMOVE;
    }
    if (condition & G_IO_IN && read(fd, &byte, 1) != 1) {
        return G_SOURCE_CONTINUE;
    }
    stat64_add(&s->stats.pressure_events, 1);
    trace_coiommu_pressure();
    coiommu_unpin_hurry(s);
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

void coiommu_pressure_start(CoiommuState *s)
{
    const char *path = s->pressure_path ?: "/proc/pressure/memory";
    GIOCondition condition;
    int fd;

    s->pressure.fd = -1;
    if (!s->use_pressure) {
        return;
    }
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    condition = fd < 0 ? 0 : trigger_set(fd);
    trace_coiommu_pressure_watch(path, condition ? 0 : errno);
    if (!condition) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    s->pressure.fd = fd;
    s->pressure.source = g_unix_fd_add(fd, condition | G_IO_ERR | G_IO_HUP,
                                       pressure_event, s);
}

void coiommu_pressure_stop(CoiommuState *s)
{
    if (s->pressure.source) {
        g_source_remove(s->pressure.source);
        s->pressure.source = 0;
    }
    if (s->pressure.fd >= 0) {
        close(s->pressure.fd);
        s->pressure.fd = -1;
    }
}
