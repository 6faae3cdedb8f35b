/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The IOMMU of the stress device: see iommu.h.
 *
 * The page table is a flat array.  An entry is the page's offset in guest
 * memory, which is mmapped once as a whole, and flags; the flags keep the
 * borders of maps, because an unmap must not cut one.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "iommu.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE  (1ull << PAGE_SHIFT)

/* Enough for the guests of the test: all their RAM is below 4 GiB. */
#define IOVA_END   (1ull << 32)

#define PRESENT 1ull
#define FIRST   2ull
#define LAST    4ull
#define OFFSET  (~(PAGE_SIZE - 1))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Who changes maps; accesses let it go first, as mutexes aren't fair. */
static atomic_int changing;

/* Guarded by @lock. */
static uint64_t *pages;
static char *memory;
static struct stat memory_stat;

void iommu_init(void)
{
    pages = calloc(IOVA_END >> PAGE_SHIFT, sizeof(*pages));
    if (!pages) {
        perror("page table");
        exit(1);
    }
}

static void change_begin(void)
{
    atomic_fetch_add(&changing, 1);
    pthread_mutex_lock(&lock);
}

static void change_end(void)
{
    pthread_mutex_unlock(&lock);
    atomic_fetch_sub(&changing, 1);
}

/* Map guest memory, the first time.  Later, check that it is still the same. */
static int memory_open(int fd)
{
    struct stat st;

    if (fd < 0 || fstat(fd, &st)) {
        return -EBADF;
    }
    if (!memory) {
        void *p = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                       fd, 0);

        if (p == MAP_FAILED) {
            return -errno;
        }
        memory = p;
        memory_stat = st;
    }
    return st.st_dev == memory_stat.st_dev && st.st_ino == memory_stat.st_ino ?
           0 : -EINVAL;
}

static bool is_range(uint64_t iova, uint64_t size)
{
    return size && iova < IOVA_END && size <= IOVA_END - iova &&
           !((iova | size) & (PAGE_SIZE - 1));
}

static int map_locked(uint64_t iova, uint64_t size, int fd, uint64_t offset)
{
    uint64_t first = iova >> PAGE_SHIFT;
    uint64_t n = size >> PAGE_SHIFT;
    uint64_t i;
    int ret = memory_open(fd);

    if (ret) {
        return ret;
    }
    if (!is_range(iova, size) || offset & (PAGE_SIZE - 1) ||
        offset + size > (uint64_t)memory_stat.st_size) {
        return -EINVAL;
    }
    for (i = 0; i < n; i++) {
        if (pages[first + i]) {
            return -EEXIST;
        }
    }
    for (i = 0; i < n; i++) {
        pages[first + i] = (offset + (i << PAGE_SHIFT)) | PRESENT |
                           (i ? 0 : FIRST) | (i < n - 1 ? 0 : LAST);
    }
    return 0;
}

int iommu_map(uint64_t iova, uint64_t size, int fd, uint64_t offset)
{
    int ret;

    change_begin();
    ret = map_locked(iova, size, fd, offset);
    change_end();
    return ret;
}

/* Does a border of [i, end) lie within a map? */
static bool cuts(uint64_t i, uint64_t end)
{
    return (pages[i] && !(pages[i] & FIRST)) ||
           (pages[end - 1] && !(pages[end - 1] & LAST));
}

int iommu_unmap(uint64_t iova, uint64_t size)
{
    uint64_t i = iova >> PAGE_SHIFT;
    uint64_t end = i + (size >> PAGE_SHIFT);
    int ret = 0;

    if (!is_range(iova, size)) {
        return -EINVAL;
    }
    change_begin();
    if (cuts(i, end)) {
        ret = -EINVAL;
    }
    for (; !ret && i < end; i++) {
        pages[i] = 0;
    }
    change_end();
    return ret;
}

void iommu_unmap_all(void)
{
    uint64_t i;

    change_begin();
    for (i = 0; i < IOVA_END >> PAGE_SHIFT; i++) {
        if (pages[i]) {
            pages[i] = 0;
        }
    }
    change_end();
}

void *iommu_begin(uint64_t iova, uint64_t size)
{
    uint64_t page;

    if (iova >= IOVA_END || (iova & (PAGE_SIZE - 1)) + size > PAGE_SIZE) {
        return NULL;
    }
    while (atomic_load(&changing)) {
        sched_yield();
    }
    pthread_mutex_lock(&lock);
    page = pages[iova >> PAGE_SHIFT];
    if (!(page & PRESENT)) {
        pthread_mutex_unlock(&lock);
        return NULL;
    }
    return memory + (page & OFFSET) + (iova & (PAGE_SIZE - 1));
}

void iommu_end(void)
{
    pthread_mutex_unlock(&lock);
}
