/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory that changes while the device looks at it: see hostile.h.
 */
#include "hostile.h"

HostileAccess *hostile_access;

void hostile_script_take(HostileScript *script, Input *in)
{
    uint8_t count;

    input_take(in, &count, sizeof(count));
    script->count = count % SCRIBBLES_MAX;
    script->next = 0;
    script->waited = 0;
    input_take(in, script->scribble,
               script->count * sizeof(script->scribble[0]));
}

const Scribble *hostile_script_next(HostileScript *script)
{
    const Scribble *scribble = &script->scribble[script->next];

    if (script->next == script->count) {
        return NULL;
    }
    if (script->waited < scribble->delay) {
        script->waited++;
        return NULL;
    }
    script->next++;
    script->waited = 0;
    return scribble;
}

/* ---- What the compiler calls before each access ---- */

static void access_happens(void *addr, size_t size, bool store)
{
    if (hostile_access) {
        hostile_access(addr, size, store);
    }
}

#define ANNOUNCED(bytes)                                        \
    void __sanitizer_cov_load##bytes(void *addr)                \
    {                                                           \
        access_happens(addr, bytes, false);                     \
    }                                                           \
    void __sanitizer_cov_store##bytes(void *addr)               \
    {                                                           \
        access_happens(addr, bytes, true);                      \
    }

ANNOUNCED(1)
ANNOUNCED(2)
ANNOUNCED(4)
ANNOUNCED(8)
ANNOUNCED(16)
