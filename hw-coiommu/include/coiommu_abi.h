/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause */
/*
 * coIOMMU: the interface between the device and its guest driver, version 1.0.
 *
 * This header is the one source for both sides: the QEMU device and the Linux
 * guest driver include this very file.  docs/spec.rst explains it; a test
 * compares the tables there with the constants here.
 *
 * The device tracks DMA instead of remapping it.  Guest memory is cut into
 * tracking units; the guest keeps, in its own memory, a table with one 32-bit
 * entry per unit (the DMA tracking table, DTT).  The entry counts the live DMA
 * mappings that touch the unit, and carries a PINNED bit in which the host
 * says that a device can reach all RAM of the unit.  A map whose units are all
 * PINNED needs no exit; otherwise the guest asks, through a request page and a
 * doorbell, and goes on when the doorbell write returns.
 *
 * Everything is little-endian.  Reserved fields and bits are written as zero
 * and ignored when read.  Addresses are guest physical addresses (GPA) in
 * bytes, frame numbers (GFN) are GPA >> 12 whatever the tracking unit.
 */
#ifndef COIOMMU_ABI_H
#define COIOMMU_ABI_H

#include <linux/types.h>

/* ---- Identity on the PCI bus ------------------------------------------- */

/* The range 1af4:10f0 to 10ff is QEMU's for experiments. */
#define COIOMMU_PCI_VENDOR_ID		0x1af4
#define COIOMMU_PCI_DEVICE_ID		0x10f0
/* Base system peripheral, IOMMU. */
#define COIOMMU_PCI_CLASS		0x080600
#define COIOMMU_PCI_REVISION		0x01

/* ---- BAR 0: registers in the first page, the doorbell in the second ----- */

#define COIOMMU_BAR			0
#define COIOMMU_BAR_SIZE		0x2000

/*
 * Registers of 4 bytes take aligned accesses of 4 bytes; registers of 8 bytes
 * take aligned accesses of 8, or of 4 to either half.  Any other access reads
 * as zero and writes nothing.
 */
#define COIOMMU_REG_MAGIC		0x00	/* 4, RO */
#define COIOMMU_REG_VERSION		0x04	/* 4, RO: major << 16 | minor */
#define COIOMMU_REG_DEVICE_FEATURES	0x08	/* 8, RO: COIOMMU_F_* offered */
#define COIOMMU_REG_DRIVER_FEATURES	0x10	/* 8, RW: COIOMMU_F_* taken */
#define COIOMMU_REG_UNIT_SHIFT		0x18	/* 4, RO: log2 of the unit */
#define COIOMMU_REG_BLOCK_SHIFT		0x1c	/* 4, RO: log2 of the pin block */
#define COIOMMU_REG_MAX_SLOTS		0x20	/* 4, RO: most request pages */
#define COIOMMU_REG_STATUS		0x24	/* 4, RO: COIOMMU_STATUS_* */
#define COIOMMU_REG_MAX_MAPPING		0x28	/* 8, RO: bytes */
#define COIOMMU_REG_DTT_ROOT		0x30	/* 8, RW: GPA of the directory */
#define COIOMMU_REG_DTT_SIZE		0x38	/* 8, RW: bytes tracked from GPA 0 */
#define COIOMMU_REG_REQ_ROOT		0x40	/* 8, RW: GPA of the slot array */
#define COIOMMU_REG_REQ_SLOTS		0x48	/* 4, RW: entries in that array */
#define COIOMMU_REG_COMMAND		0x4c	/* 4, WO: COIOMMU_CMD_* */
#define COIOMMU_REG_ERROR		0x50	/* 4, RO: COIOMMU_ST_* of COMMAND */
#define COIOMMU_REG_HOTPLUG_END		0x58	/* 8, RO: GPA behind all of it */
/* A write of 4 bytes names the slot whose request page is to be served. */
#define COIOMMU_REG_DOORBELL		0x1000	/* 4, WO */

/* "coIO" in memory order. */
#define COIOMMU_MAGIC			0x4f496f63u
#define COIOMMU_VERSION_MAJOR		1
#define COIOMMU_VERSION_MINOR		0
#define COIOMMU_VERSION \
	((COIOMMU_VERSION_MAJOR << 16) | COIOMMU_VERSION_MINOR)

/*
 * Features.  The driver writes back the subset that it uses before ENABLE;
 * a bit that was not offered makes ENABLE fail with COIOMMU_ST_FEATURE.
 */
/* The driver sets ACCESSED at each map; the device may look at it. */
#define COIOMMU_F_ACCESSED		(1ull << 0)
/* The driver rings again when a PIN ends with COIOMMU_ST_AGAIN. */
#define COIOMMU_F_PARTIAL		(1ull << 1)

/* ENABLE has succeeded and neither DISABLE nor a reset has come since. */
#define COIOMMU_STATUS_ENABLED		(1u << 0)

#define COIOMMU_CMD_ENABLE		1
#define COIOMMU_CMD_DISABLE		2

#define COIOMMU_UNIT_SHIFT_MIN		12
#define COIOMMU_UNIT_SHIFT_DEFAULT	16
#define COIOMMU_UNIT_SHIFT_MAX		21
#define COIOMMU_SLOTS_MAX		4096

/* ---- Status codes -------------------------------------------------------- */

#define COIOMMU_ST_OK			0
/* A field is malformed: alignment, reserved value, count, overflow. */
#define COIOMMU_ST_INVALID		1
/* No such command or opcode. */
#define COIOMMU_ST_UNSUPPORTED		2
/* Not in this state: enabled twice, not enabled, pin before attach. */
#define COIOMMU_ST_STATE		3
/* An address is not, or not wholly, guest RAM that devices may reach. */
#define COIOMMU_ST_RANGE		4
/* No such endpoint, or one that is not assigned. */
#define COIOMMU_ST_NODEV		5
/* The host is out of memory, or of locked memory. */
#define COIOMMU_ST_NOMEM		6
/* The host IOMMU holds as many mappings as it can. */
#define COIOMMU_ST_NOSPACE		7
/* The operator's limit on pinned memory is reached. */
#define COIOMMU_ST_QUOTA		8
/* The host refused for another reason; its log has it. */
#define COIOMMU_ST_IO			9
/* DRIVER_FEATURES has a bit that the device did not offer. */
#define COIOMMU_ST_FEATURE		10
/* PIN, with F_PARTIAL: more is pinned than was, but not all; ring again. */
#define COIOMMU_ST_AGAIN		11
/* What the driver writes before it rings; never written by the device. */
#define COIOMMU_ST_PENDING		0xffffffffu

/* ---- The DMA tracking table ---------------------------------------------- */

/*
 * The directory is one contiguous array in guest RAM, a le64 per leaf: the
 * GPA of the leaf, with PRESENT.  A leaf is one page: 1024 entries, one per
 * tracking unit.  Units of 64 KiB: a leaf covers 64 MiB.
 */
#define COIOMMU_DTT_PAGE_SIZE		4096
#define COIOMMU_DTT_LEAF_SHIFT		10
#define COIOMMU_DTT_LEAF_ENTRIES	(1u << COIOMMU_DTT_LEAF_SHIFT)
#define COIOMMU_DTT_DIR_PRESENT		(1ull << 0)
#define COIOMMU_DTT_DIR_ADDR_MASK	0x000ffffffffff000ull

/* Set and cleared by the host alone: devices can reach all RAM of the unit. */
#define COIOMMU_DTT_PINNED		(1u << 31)
/* Set by the guest at map, cleared by the host when it looks for idle units. */
#define COIOMMU_DTT_ACCESSED		(1u << 30)
/* How many live DMA mappings touch the unit.  Changed by the guest alone. */
#define COIOMMU_DTT_COUNT_MASK		0x000fffffu
/*
 * The guest lets no count that stays go past this.  The margin to the mask is for
 * CPUs that have counted but not yet looked.
 */
#define COIOMMU_DTT_COUNT_MAX		0x000effffu
/* A count that has got here stays: it is not known any more how many there are. */
#define COIOMMU_DTT_COUNT_SATURATED	0x00080000u

/* ---- Requests ------------------------------------------------------------- */

#define COIOMMU_REQ_PAGE_SIZE		4096
#define COIOMMU_REQ_MAX_RANGES		254
/* The most 4 KiB pages in one request, all ranges together: 64 MiB. */
#define COIOMMU_REQ_MAX_PAGES		16384

/* Is this endpoint behind the device?  Changes nothing. */
#define COIOMMU_OP_PROBE		1
/* From now on each DMA mapping of this endpoint is in the DTT. */
#define COIOMMU_OP_ATTACH		2
/* No longer so. */
#define COIOMMU_OP_DETACH		3
/* Pin these ranges. */
#define COIOMMU_OP_PIN			4

/* An endpoint as the guest numbers it: segment, bus, device, function. */
#define COIOMMU_ENDPOINT(segment, bus, devfn) \
	(((__u32)(segment) << 16) | ((__u32)(bus) << 8) | (__u32)(devfn))

/**
 * struct coiommu_range - guest memory that a request is about
 * @gfn: first frame, GPA >> 12
 * @npages: number of 4 KiB frames, at least 1
 */
struct coiommu_range {
	__le64 gfn;
	__le64 npages;
};

/**
 * struct coiommu_request - one request page, owned by one slot
 * @opcode: COIOMMU_OP_*
 * @count: PIN: valid entries in @range, 1 to COIOMMU_REQ_MAX_RANGES; else 0
 * @status: COIOMMU_ST_PENDING from the driver, the result from the device
 * @done: PIN: how many leading ranges are wholly pinned (from the device)
 * @endpoint: PROBE, ATTACH, DETACH: COIOMMU_ENDPOINT(); else 0
 * @reserved: zero
 * @range: PIN: what to pin
 *
 * The page belongs to the device from the doorbell write until that write
 * returns, and to the driver otherwise.
 */
struct coiommu_request {
	__le32 opcode;
	__le32 count;
	__le32 status;
	__le32 done;
	__le32 endpoint;
	__le32 reserved[3];
	struct coiommu_range range[COIOMMU_REQ_MAX_RANGES];
};

_Static_assert(sizeof(struct coiommu_range) == 16, "coiommu_range size");
_Static_assert(sizeof(struct coiommu_request) == COIOMMU_REQ_PAGE_SIZE,
	       "coiommu_request is one page");
_Static_assert(__builtin_offsetof(struct coiommu_request, opcode) == 0x00 &&
	       __builtin_offsetof(struct coiommu_request, count) == 0x04 &&
	       __builtin_offsetof(struct coiommu_request, status) == 0x08 &&
	       __builtin_offsetof(struct coiommu_request, done) == 0x0c &&
	       __builtin_offsetof(struct coiommu_request, endpoint) == 0x10 &&
	       __builtin_offsetof(struct coiommu_request, range) == 0x20,
	       "coiommu_request offsets");
_Static_assert(COIOMMU_DTT_LEAF_ENTRIES * sizeof(__le32) ==
	       COIOMMU_DTT_PAGE_SIZE, "a DTT leaf is one page");
_Static_assert((COIOMMU_DTT_COUNT_MASK & (COIOMMU_DTT_PINNED |
					  COIOMMU_DTT_ACCESSED)) == 0 &&
	       COIOMMU_DTT_COUNT_SATURATED < COIOMMU_DTT_COUNT_MAX &&
	       COIOMMU_DTT_COUNT_MAX < COIOMMU_DTT_COUNT_MASK,
	       "DTT count and flags overlap");

#endif /* COIOMMU_ABI_H */
