/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BAR 0: registers and commands.
 *
 * It has two pages, each a memory region of its own: the registers, used to set
 * things up and served under the BQL, and the doorbell (request.c).
 *
 * A register is described once, in a table; a read or write that does not fit
 * its entry reads as zero and writes nothing.  A command takes what the
 * registers say, refuses what is malformed, acts, and leaves its status in
 * ERROR.
 */
#include "qemu/osdep.h"
#include "hw/coiommu/machine/pc.h"
#include "hw/coiommu/trace.h"
#include "registers.h"
#include "request.h"
#include "session.h"

#define REGISTERS_SIZE  COIOMMU_REG_DOORBELL
#define DOORBELL_SIZE   (COIOMMU_BAR_SIZE - COIOMMU_REG_DOORBELL)

/* ---- Commands ---- */

static void command(CoiommuState *s, uint32_t cmd)
{
    uint32_t status;

    coiommu_vfio_refresh(s->domain.vfio);
    switch (cmd) {
    case COIOMMU_CMD_ENABLE:
        status = coiommu_session_enable(s, s->rw);
        break;
    case COIOMMU_CMD_DISABLE:
        coiommu_session_disable(s);
        status = COIOMMU_ST_OK;
        break;
    default:
        status = COIOMMU_ST_UNSUPPORTED;
        break;
    }
    qatomic_set(&s->error, status);
    trace_coiommu_command(cmd, status, s->rw[COIOMMU_RW_DTT_ROOT],
                          s->rw[COIOMMU_RW_DTT_SIZE],
                          s->rw[COIOMMU_RW_REQ_ROOT],
                          s->rw[COIOMMU_RW_REQ_SLOTS]);
}

/* ---- Registers ---- */

/**
 * CoiommuRegister - one register
 * @offset: in BAR 0
 * @size: 4 or 8 bytes
 * @rw: index into CoiommuState.rw, or -1
 */
typedef struct CoiommuRegister {
    uint16_t offset;
    uint8_t size;
    int8_t rw;
} CoiommuRegister;

static const CoiommuRegister coiommu_registers[] = {
    { COIOMMU_REG_MAGIC, 4, -1 },
    { COIOMMU_REG_VERSION, 4, -1 },
    { COIOMMU_REG_DEVICE_FEATURES, 8, -1 },
    { COIOMMU_REG_DRIVER_FEATURES, 8, COIOMMU_RW_DRIVER_FEATURES },
    { COIOMMU_REG_UNIT_SHIFT, 4, -1 },
    { COIOMMU_REG_BLOCK_SHIFT, 4, -1 },
    { COIOMMU_REG_MAX_SLOTS, 4, -1 },
    { COIOMMU_REG_STATUS, 4, -1 },
    { COIOMMU_REG_MAX_MAPPING, 8, -1 },
    { COIOMMU_REG_DTT_ROOT, 8, COIOMMU_RW_DTT_ROOT },
    { COIOMMU_REG_DTT_SIZE, 8, COIOMMU_RW_DTT_SIZE },
    { COIOMMU_REG_REQ_ROOT, 8, COIOMMU_RW_REQ_ROOT },
    { COIOMMU_REG_REQ_SLOTS, 4, COIOMMU_RW_REQ_SLOTS },
    { COIOMMU_REG_COMMAND, 4, -1 },
    { COIOMMU_REG_ERROR, 4, -1 },
    { COIOMMU_REG_HOTPLUG_END, 8, -1 },
};

/*
 * The register that an access is for, or NULL.  Registers are aligned to their
 * size, so an aligned access of at most that size stays within one.
 */
static const CoiommuRegister *register_find(hwaddr addr, unsigned size)
{
    unsigned i;

    if ((size != 4 && size != 8) || addr % size) {
        return NULL;
    }
    for (i = 0; i < ARRAY_SIZE(coiommu_registers); i++) {
        const CoiommuRegister *reg = &coiommu_registers[i];

        if (addr >= reg->offset && addr + size <= reg->offset + reg->size) {
            return reg;
        }
    }
    return NULL;
}

/* What can always be pinned is limited by containers, and by the quota. */
static uint64_t max_mapping(CoiommuState *s)
{
    uint64_t ram = coiommu_machine_max_ram();
    uint64_t quota = coiommu_pinset_totals(&s->domain.pins.set).quota;
    uint64_t budget = coiommu_vfio_budget(s->domain.vfio);

    if (quota) {
        budget = MIN(budget, quota >> s->geometry.block_shift);
    }
    return coiommu_max_mapping(budget, ram, s->geometry.block_shift);
}

static uint64_t register_value(CoiommuState *s, const CoiommuRegister *reg)
{
    if (reg->rw >= 0) {
        return s->rw[reg->rw];
    }
    switch (reg->offset) {
    case COIOMMU_REG_MAGIC:
        return COIOMMU_MAGIC;
    case COIOMMU_REG_VERSION:
        return COIOMMU_VERSION;
    case COIOMMU_REG_DEVICE_FEATURES:
        return coiommu_session_features(s);
    case COIOMMU_REG_UNIT_SHIFT:
        return s->geometry.unit_shift;
    case COIOMMU_REG_BLOCK_SHIFT:
        return s->geometry.block_shift;
    case COIOMMU_REG_MAX_SLOTS:
        return COIOMMU_SLOTS_MAX;
    case COIOMMU_REG_STATUS:
        return s->domain.pins.table.enabled ? COIOMMU_STATUS_ENABLED : 0;
    case COIOMMU_REG_MAX_MAPPING:
        return max_mapping(s);
    case COIOMMU_REG_ERROR:
        return qatomic_read(&s->error);
    case COIOMMU_REG_HOTPLUG_END:
        return coiommu_machine_hotplug_end();
    default:
        /* COMMAND can only be written. */
        return 0;
    }
}

static uint64_t coiommu_registers_read(void *opaque, hwaddr addr,
                                       unsigned size)
{
    CoiommuState *s = opaque;
    const CoiommuRegister *reg = register_find(addr, size);
    uint64_t value = 0;

    if (reg) {
        value = extract64(register_value(s, reg), (addr - reg->offset) * 8,
                          size * 8);
    }
    trace_coiommu_register_read(addr, size, value);
    return value;
}

static void coiommu_registers_write(void *opaque, hwaddr addr, uint64_t value,
                                    unsigned size)
{
    CoiommuState *s = opaque;
    const CoiommuRegister *reg = register_find(addr, size);

    trace_coiommu_register_write(addr, size, value);
    if (!reg) {
        return;
    }
    if (reg->rw >= 0) {
        s->rw[reg->rw] = deposit64(s->rw[reg->rw], (addr - reg->offset) * 8,
                                   size * 8, value);
    } else if (reg->offset == COIOMMU_REG_COMMAND) {
        command(s, value);
    }
}

/* Every access comes in as the guest made it: we look at its size. */
static const MemoryRegionOps coiommu_registers_ops = {
    .read = coiommu_registers_read,
    .write = coiommu_registers_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

void coiommu_registers_init(CoiommuState *s)
{
    Object *owner = OBJECT(s);

    memory_region_init(&s->bar, owner, "coiommu-bar", COIOMMU_BAR_SIZE);
    memory_region_init_io(&s->registers, owner, &coiommu_registers_ops, s,
                          "coiommu-registers", REGISTERS_SIZE);
    memory_region_init_io(&s->doorbell, owner, &coiommu_doorbell_ops, s,
                          "coiommu-doorbell", DOORBELL_SIZE);
    coiommu_compat_lockless(&s->doorbell);
    memory_region_add_subregion(&s->bar, 0, &s->registers);
    memory_region_add_subregion(&s->bar, COIOMMU_REG_DOORBELL, &s->doorbell);
}

/* ---- Saved and loaded ---- */

void coiommu_registers_save(CoiommuState *s, CoiommuSaved *saved)
{
    saved->error = qatomic_read(&s->error);
    memcpy(saved->rw, s->rw, sizeof(saved->rw));
    memset(saved->taken, 0, sizeof(saved->taken));
    saved->enabled = s->domain.pins.table.enabled;
    if (s->domain.pins.table.enabled) {
        saved->taken[COIOMMU_RW_DRIVER_FEATURES] = s->features;
        saved->taken[COIOMMU_RW_DTT_ROOT] = s->domain.pins.table.dtt.root;
        saved->taken[COIOMMU_RW_DTT_SIZE] = s->domain.pins.table.dtt.size;
        saved->taken[COIOMMU_RW_REQ_ROOT] = s->req_root;
        saved->taken[COIOMMU_RW_REQ_SLOTS] = s->req_slots;
    }
}

uint32_t coiommu_registers_load(CoiommuState *s, const CoiommuSaved *saved)
{
    uint32_t status = COIOMMU_ST_OK;
    unsigned i;

    coiommu_vfio_refresh(s->domain.vfio);
    coiommu_session_reset(s);
    if (saved->enabled) {
        status = coiommu_session_enable(s, saved->taken);
    }
    if (status) {
        return status;
    }
    for (i = 0; i < ARRAY_SIZE(coiommu_registers); i++) {
        const CoiommuRegister *reg = &coiommu_registers[i];

        /* Only what fits: the guest could not get rid of the rest. */
        if (reg->rw >= 0) {
            s->rw[reg->rw] = extract64(saved->rw[reg->rw], 0, reg->size * 8);
        }
    }
    qatomic_set(&s->error, saved->error);
    return COIOMMU_ST_OK;
}
