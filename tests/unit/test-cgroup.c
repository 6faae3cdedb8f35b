/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Limits of memory cgroups, in folders that look like the kernel's.
 */
#include "osdep.h"
#include <glib/gstdio.h>
#include "cgroup.h"

static void put(const char *root, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(root, name, NULL);
    g_autofree char *folder = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* The limit of a process that is in these groups. */
static uint64_t limit(const char *root, const char *groups)
{
    g_autofree char *file = g_build_filename(root, "groups", NULL);

    put(root, "groups", groups);
    return coiommu_cgroup_memory_limit(file, root);
}

static void check_version_2(const char *root)
{
    put(root, "a/b/memory.max", "max\n");
    put(root, "a/memory.max", "8192\n");
    put(root, "a/c/memory.max", "4096\n");
    put(root, "a/d/memory.max", "12288\n");
    g_assert_cmpuint(limit(root, "0::/a/b\n"), ==, 8192);
    g_assert_cmpuint(limit(root, "0::/a/c\n"), ==, 4096);
    /* The group above allows less. */
    g_assert_cmpuint(limit(root, "0::/a/d\n"), ==, 8192);
    g_assert_cmpuint(limit(root, "0::/\n"), ==, UINT64_MAX);
    g_assert_cmpuint(limit(root, "0::/elsewhere\n"), ==, UINT64_MAX);
}

static void check_version_1(const char *root)
{
    const char *groups = "9:name=systemd:/a\n5:cpu,memory:/x/y\n0::/\n";

    put(root, "memory/x/memory.limit_in_bytes", "9223372036854771712\n");
    g_assert_cmpuint(limit(root, groups), ==, 9223372036854771712u);
    put(root, "memory/x/y/memory.limit_in_bytes", "65536\n");
    g_assert_cmpuint(limit(root, groups), ==, 65536);
    /* In a container the path is the host's, and the root the container's. */
    put(root, "memory/memory.limit_in_bytes", "131072\n");
    g_assert_cmpuint(limit(root, "5:memory:/host/path\n"), ==, 131072);
    /* Both versions at once. */
    g_assert_cmpuint(limit(root, "5:memory:/host/path\n0::/a/c\n"), ==, 4096);
}

static void check_nonsense(const char *root)
{
    put(root, "e/memory.max", "");
    put(root, "f/memory.max", "99999999999999999999999\n");
    g_assert_cmpuint(limit(root, "0::/e\n"), ==, UINT64_MAX);
    g_assert_cmpuint(limit(root, "0::/f\n"), ==, UINT64_MAX);
    g_assert_cmpuint(limit(root, ""), ==, UINT64_MAX);
    g_assert_cmpuint(limit(root, "0\n::\n:\n5:memory\n"), ==, UINT64_MAX);
    g_assert_cmpuint(coiommu_cgroup_memory_limit("/nowhere", root), ==,
                     UINT64_MAX);
}

static void test_limits(void)
{
    g_autofree char *root = g_dir_make_tmp("coiommu-cgroup-XXXXXX", NULL);
    g_autofree char *clean = g_strdup_printf("rm -r \"%s\"", root);

    check_version_2(root);
    check_version_1(root);
    check_nonsense(root);
    g_assert_true(g_spawn_command_line_sync(clean, NULL, NULL, NULL, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cgroup/limits", test_limits);
    return g_test_run();
}
