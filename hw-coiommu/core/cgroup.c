/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much memory the control groups allow that a process is in.
 *
 * A line of /proc/PID/cgroup is "number:controllers:path".  A group's limit is
 * in a file of its folder: in version 2, which has the line "0::path",
 * memory.max; in version 1, on the line with the controller "memory",
 * memory.limit_in_bytes.  The groups above limit it, too.  In a container the
 * path may be the host's, and not be there: then what is mounted is the
 * container's own group, which is met at the end of the way up.
 */
#include "osdep.h"
#include "cgroup.h"

/* The number in a file; UINT64_MAX for "max", or if there is no such file. */
static uint64_t read_limit(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL) ||
        !g_ascii_isdigit(text[0])) {
        return UINT64_MAX;
    }
    return g_ascii_strtoull(text, NULL, 10);
}

/* The lowest limit from the group @path, below @root, upwards. */
static uint64_t lowest_limit(const char *root, const char *path,
                             const char *name)
{
    g_autofree char *group = g_strdup(path);
    uint64_t limit = UINT64_MAX;
    char *slash;

    do {
        g_autofree char *folder = g_build_filename(root, group, NULL);

        limit = MIN(limit, read_limit(folder, name));
        slash = strrchr(group, '/');
        if (slash) {
            *slash = '\0';
        }
    } while (slash);
    return limit;
}

static bool has_memory(const char *controllers)
{
    g_auto(GStrv) names = g_strsplit(controllers, ",", -1);

    return g_strv_contains((const char *const *)names, "memory");
}

static uint64_t line_limit(const char *line, const char *root)
{
    g_auto(GStrv) fields = g_strsplit(line, ":", 3);
    g_autofree char *v1 = g_build_filename(root, "memory", NULL);

    if (g_strv_length(fields) < 3) {
        return UINT64_MAX;
    }
    if (has_memory(fields[1])) {
        return lowest_limit(v1, fields[2], "memory.limit_in_bytes");
    }
    if (!fields[1][0]) {
        return lowest_limit(root, fields[2], "memory.max");
    }
    return UINT64_MAX;
}

uint64_t coiommu_cgroup_memory_limit(const char *file, const char *root)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    uint64_t limit = UINT64_MAX;
    unsigned i;

    if (!g_file_get_contents(file, &text, NULL, NULL)) {
        return UINT64_MAX;
    }
    lines = g_strsplit(text, "\n", -1);
    for (i = 0; lines[i]; i++) {
        limit = MIN(limit, line_limit(lines[i], root));
    }
    return limit;
}
