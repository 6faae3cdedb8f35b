/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mutex, condition and the big QEMU lock (BQL) for both builds of core/: QEMU's
 * own inside QEMU, and pthreads under the same names in the stand-alone build,
 * so that the thread sanitizer sees the very code that runs in QEMU.
 */
#ifndef COIOMMU_CORE_SYNC_H
#define COIOMMU_CORE_SYNC_H

#ifdef COIOMMU_STANDALONE

#include <pthread.h>

typedef pthread_mutex_t QemuMutex;
typedef pthread_cond_t QemuCond;

static inline void qemu_mutex_init(QemuMutex *mutex)
{
    pthread_mutex_init(mutex, NULL);
}

static inline void qemu_mutex_destroy(QemuMutex *mutex)
{
    pthread_mutex_destroy(mutex);
}

static inline void qemu_mutex_lock(QemuMutex *mutex)
{
    pthread_mutex_lock(mutex);
}

static inline void qemu_mutex_unlock(QemuMutex *mutex)
{
    pthread_mutex_unlock(mutex);
}

static inline void qemu_cond_init(QemuCond *cond)
{
    pthread_cond_init(cond, NULL);
}

static inline void qemu_cond_destroy(QemuCond *cond)
{
    pthread_cond_destroy(cond);
}

static inline void qemu_cond_wait(QemuCond *cond, QemuMutex *mutex)
{
    pthread_cond_wait(cond, mutex);
}

static inline void qemu_cond_signal(QemuCond *cond)
{
    pthread_cond_signal(cond);
}

static inline void qemu_cond_broadcast(QemuCond *cond)
{
    pthread_cond_broadcast(cond);
}

/* Set by the tests: does this thread play one that holds the BQL? */
extern __thread bool coiommu_standalone_bql;

static inline bool bql_locked(void)
{
    return coiommu_standalone_bql;
}

#else
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#endif

#endif /* COIOMMU_CORE_SYNC_H */
