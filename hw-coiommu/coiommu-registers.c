/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BAR 0: registers and commands.
 *
 * It has two pages, each a memory region of its own: the registers, used to set
 * things up and served under the BQL, and the doorbell (coiommu-request.c).
 *
 * A register is described once, in a table; a read or write that does not fit
 * its entry reads as zero and writes nothing.  A command takes what the
 * registers say, refuses what is malformed, acts, and leaves its status in
 * ERROR.
 */
#include "qemu/osdep.h"
#include "hw/boards.h"
#include "coiommu.h"
#include "trace.h"

#define REGISTERS_SIZE  COIOMMU_REG_DOORBELL
#define DOORBELL_SIZE   (COIOMMU_BAR_SIZE - COIOMMU_REG_DOORBELL)

/* What we offer. */
static uint64_t device_features(CoiommuState *s)
{
    return COIOMMU_F_ACCESSED | (s->doorbell_us ? COIOMMU_F_PARTIAL : 0);
}

/* ---- Commands ---- */

/* @rw: what the registers say, indexed by COIOMMU_RW_*. */
static uint32_t cmd_enable(CoiommuState *s, const uint64_t *rw)
{
    uint64_t features = rw[COIOMMU_RW_DRIVER_FEATURES];
    uint64_t req_root = rw[COIOMMU_RW_REQ_ROOT];
    uint64_t req_slots = rw[COIOMMU_RW_REQ_SLOTS];
    CoiommuDtt dtt;

    if (s->enabled) {
        return COIOMMU_ST_STATE;
    }
    if (features & ~device_features(s)) {
        return COIOMMU_ST_FEATURE;
    }
    if (!coiommu_dtt_init(&dtt, rw[COIOMMU_RW_DTT_ROOT],
                          rw[COIOMMU_RW_DTT_SIZE], s->unit_shift)) {
        return COIOMMU_ST_INVALID;
    }
    if (req_slots == 0 || req_slots > COIOMMU_SLOTS_MAX ||
        req_root % sizeof(uint64_t)) {
        return COIOMMU_ST_INVALID;
    }
    if (!coiommu_ram_contains(s, dtt.root, coiommu_dtt_dir_bytes(&dtt)) ||
        !coiommu_ram_contains(s, req_root, req_slots * sizeof(uint64_t))) {
        return COIOMMU_ST_RANGE;
    }
    coiommu_gate_close(&s->gate);
    s->dtt = dtt;
    s->req_root = req_root;
    s->req_slots = req_slots;
    s->features = features;
    s->enabled = true;
    s->table_generation++;
    coiommu_pin_void(s);
    coiommu_pin_publish_all(s);
    coiommu_gate_open(&s->gate);
    return COIOMMU_ST_OK;
}

static uint32_t cmd_disable(CoiommuState *s)
{
    coiommu_fallback_detach_begin(s, NULL);
    coiommu_gate_close(&s->gate);
    coiommu_endpoint_detach_all(s);
    coiommu_pin_withdraw_all(s);
    s->enabled = false;
    coiommu_fallback_detach_end(s);
    coiommu_gate_open(&s->gate);
    return COIOMMU_ST_OK;
}

/*
 * The table first: its memory may be another kernel's by now, and is written to
 * no more.  For a device that may do DMA all is pinned, and nothing is unpinned
 * in between.
 */
void coiommu_registers_reset(CoiommuState *s)
{
    coiommu_gate_close(&s->gate);
    memset(s->rw, 0, sizeof(s->rw));
    qatomic_set(&s->error, COIOMMU_ST_OK);
    s->enabled = false;
    coiommu_fallback_detach_begin(s, NULL);
    coiommu_endpoint_detach_all(s);
    coiommu_fallback_detach_end(s);
    coiommu_gate_open(&s->gate);
}

static void command(CoiommuState *s, uint32_t cmd)
{
    uint32_t status;

    coiommu_vfio_settle(s);
    switch (cmd) {
    case COIOMMU_CMD_ENABLE:
        status = cmd_enable(s, s->rw);
        break;
    case COIOMMU_CMD_DISABLE:
        status = cmd_disable(s);
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
    uint64_t ram = current_machine->maxram_size;
    uint64_t quota = coiommu_pinset_totals(&s->pins).quota;
    uint64_t budget = coiommu_vfio_budget(s);

    if (quota) {
        budget = MIN(budget, quota >> s->block_shift);
    }
    return coiommu_max_mapping(budget, ram, s->block_shift);
}

/* Behind the region that the machine keeps for memory to be plugged in. */
static uint64_t hotplug_end(void)
{
    DeviceMemoryState *region = current_machine->device_memory;

    return region ? region->base + memory_region_size(&region->mr) : 0;
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
        return device_features(s);
    case COIOMMU_REG_UNIT_SHIFT:
        return s->unit_shift;
    case COIOMMU_REG_BLOCK_SHIFT:
        return s->block_shift;
    case COIOMMU_REG_MAX_SLOTS:
        return COIOMMU_SLOTS_MAX;
    case COIOMMU_REG_STATUS:
        return s->enabled ? COIOMMU_STATUS_ENABLED : 0;
    case COIOMMU_REG_MAX_MAPPING:
        return max_mapping(s);
    case COIOMMU_REG_ERROR:
        return qatomic_read(&s->error);
    case COIOMMU_REG_HOTPLUG_END:
        return hotplug_end();
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
    saved->enabled = s->enabled;
    if (s->enabled) {
        saved->taken[COIOMMU_RW_DRIVER_FEATURES] = s->features;
        saved->taken[COIOMMU_RW_DTT_ROOT] = s->dtt.root;
        saved->taken[COIOMMU_RW_DTT_SIZE] = s->dtt.size;
        saved->taken[COIOMMU_RW_REQ_ROOT] = s->req_root;
        saved->taken[COIOMMU_RW_REQ_SLOTS] = s->req_slots;
    }
}

uint32_t coiommu_registers_load(CoiommuState *s, const CoiommuSaved *saved)
{
    uint32_t status = COIOMMU_ST_OK;
    unsigned i;

    coiommu_vfio_settle(s);
    coiommu_registers_reset(s);
    if (saved->enabled) {
        status = cmd_enable(s, saved->taken);
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
