/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The DMA engine of the stress device: see engine.h.
 *
 * It goes round the slots.  A slot that is READY gets one access at a random
 * place each time; one that is to STOP is gone over as a whole.  After a round
 * in which none was to stop it rests shortly: the guest needs CPU time as well,
 * and it is the maps that make the stress, not the accesses.  Everything is
 * read and written through the IOMMU, the ring too, and what that refuses is
 * told on stdout, with the time since ENABLE.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "iommu.h"
#include "stress_abi.h"

#define PAGE_SIZE   4096u

/* How many faults are told one by one. */
#define TOLD_MAX    20

/* The most words of a random access. */
#define RANDOM_WORDS 32

/* How long a rest is, at least. */
#define REST_US      20

struct engine_stats engine_stats;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Who wants @lock to change what it guards; as mutexes aren't fair. */
static atomic_int changing;

/* Guarded by @lock, which is held while a slot is served. */
static bool enabled;
static uint64_t ring;
static uint32_t slots;
static struct timespec start;

/* The thread's own. */
static uint64_t random_state = 1;
static unsigned told;

static uint64_t random_below(uint64_t end)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % end;
}

static void tell(const char *what, uint64_t addr, unsigned slot)
{
    struct timespec now;
    double seconds;

    if (told++ >= TOLD_MAX) {
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    seconds = now.tv_sec - start.tv_sec + (now.tv_nsec - start.tv_nsec) / 1e9;
    printf("fault after %.3f s: %s at 0x%" PRIx64 ", slot %u\n", seconds, what,
           addr, slot);
}

/* A whole access in one page, or NULL and a violation. */
static void *access_begin(uint64_t addr, uint64_t size, const char *what,
                          unsigned slot)
{
    void *p = iommu_begin(addr, size);

    atomic_fetch_add(&engine_stats.accesses, 1);
    if (!p) {
        atomic_fetch_add(&engine_stats.violations, 1);
        tell(what, addr, slot);
    }
    return p;
}

/*
 * Check (or write) the words of a slot at [addr, addr + size), the first of
 * which is word @index of its stream.
 */
static void access_words(uint64_t addr, uint64_t size, uint64_t seed,
                         uint64_t index, bool write, unsigned slot)
{
    while (size) {
        uint64_t chunk = PAGE_SIZE - addr % PAGE_SIZE;
        uint64_t *word;
        uint64_t i, bad = 0;

        chunk = chunk < size ? chunk : size;
        word = access_begin(addr, chunk, write ? "write" : "read", slot);
        if (word) {
            for (i = 0; i < chunk / 8; i++) {
                uint64_t value = stress_word(seed, index + i);

                if (write) {
                    word[i] = value;
                } else {
                    bad += word[i] != value;
                }
            }
            iommu_end();
        }
        if (bad) {
            atomic_fetch_add(&engine_stats.mismatches, bad);
            tell("wrong data", addr, slot);
        }
        addr += chunk;
        size -= chunk;
        index += chunk / 8;
    }
}

/* One access somewhere in the slot's memory. */
static void touch(const struct stress_slot *s, unsigned slot)
{
    uint32_t segment = random_below(s->segments);
    uint64_t index = 0, word, words;
    uint32_t i;

    for (i = 0; i < segment; i++) {
        index += s->segment[i].size / 8;
    }
    words = s->segment[segment].size / 8;
    word = random_below(words);
    words = 1 + random_below(words - word);
    words = words < RANDOM_WORDS ? words : RANDOM_WORDS;
    access_words(s->segment[segment].addr + word * 8, words * 8, s->seed,
                 index + word, !(s->access & STRESS_MAY_READ), slot);
}

/* All of the slot's memory. */
static void sweep(const struct stress_slot *s, uint64_t seed, bool write,
                  unsigned slot)
{
    uint64_t index = 0;
    uint32_t i;

    for (i = 0; i < s->segments; i++) {
        access_words(s->segment[i].addr, s->segment[i].size, seed, index,
                     write, slot);
        index += s->segment[i].size / 8;
    }
}

static void finish(const struct stress_slot *s, uint64_t addr, unsigned slot)
{
    struct stress_slot *shared;

    if (s->access & STRESS_MAY_READ) {
        sweep(s, s->seed, false, slot);
        if (s->access & STRESS_MAY_WRITE) {
            sweep(s, ~s->seed, true, slot);
        }
    } else {
        sweep(s, s->seed, true, slot);
    }
    shared = access_begin(addr, sizeof(*shared), "answer", slot);
    if (shared) {
        __atomic_store_n(&shared->state, STRESS_DONE, __ATOMIC_RELEASE);
        iommu_end();
        atomic_fetch_add(&engine_stats.served, 1);
    }
}

/* A copy of the slot, if there is something to be done. */
static bool fetch(uint64_t addr, struct stress_slot *s, unsigned slot)
{
    struct stress_slot *shared = access_begin(addr, sizeof(*s), "slot", slot);
    uint32_t state, i;

    if (!shared) {
        return false;
    }
    state = __atomic_load_n(&shared->state, __ATOMIC_ACQUIRE);
    if (state == STRESS_READY || state == STRESS_STOP) {
        memcpy(s, shared, sizeof(*s));
    }
    iommu_end();
    s->state = state;
    if (state != STRESS_READY && state != STRESS_STOP) {
        return false;
    }
    for (i = 0; i < s->segments && i < STRESS_SEGMENTS; i++) {
        if (!s->segment[i].size) {
            return false;
        }
    }
    return i && i == s->segments;
}

/* Returns whether the slot was given back. */
static bool serve(unsigned slot)
{
    uint64_t addr = ring + slot * sizeof(struct stress_slot);
    struct stress_slot s;

    if (!fetch(addr, &s, slot)) {
        return false;
    }
    if (s.state == STRESS_READY) {
        touch(&s, slot);
        return false;
    }
    finish(&s, addr, slot);
    return true;
}

static void *engine_thread(void *opaque)
{
    unsigned slot = 0, idle = 0;

    for (;;) {
        bool rest;

        while (atomic_load(&changing)) {
            sched_yield();
        }
        pthread_mutex_lock(&lock);
        if (enabled && slot < slots) {
            idle = serve(slot) ? 0 : idle + 1;
            slot++;
        } else {
            slot = 0;
        }
        rest = !enabled || idle > slots;
        pthread_mutex_unlock(&lock);
        if (rest) {
            idle = 0;
            usleep(REST_US);
        }
    }
    return opaque;
}

void engine_init(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, engine_thread, NULL)) {
        perror("thread");
        exit(1);
    }
}

static void engine_set(bool on, uint64_t new_ring, uint32_t new_slots)
{
    atomic_fetch_add(&changing, 1);
    pthread_mutex_lock(&lock);
    enabled = on;
    ring = new_ring;
    slots = new_slots < STRESS_SLOTS_MAX ? new_slots : STRESS_SLOTS_MAX;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pthread_mutex_unlock(&lock);
    atomic_fetch_sub(&changing, 1);
}

void engine_enable(uint64_t new_ring, uint32_t new_slots)
{
    engine_set(true, new_ring, new_slots);
}

void engine_disable(void)
{
    engine_set(false, 0, 0);
}
