/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stress device: what its driver in the guest (stress/) and the server that
 * is the device (server/) both know.
 *
 * BAR 0 has registers of 4 bytes.  The driver points the device to a ring of
 * slots in coherent memory and sets ENABLE.  From then on all is done through
 * the slots, in memory, without an exit:
 *
 *   FREE   the driver's.  It maps memory, describes it here, and sets READY.
 *   READY  the device does DMA in the slot's segments, at random and for as
 *          long as it likes: it checks what it may read, and fills what it may
 *          write.
 *   STOP   set by the driver.  The device goes over all of the memory once
 *          more, and sets DONE.
 *   DONE   the driver's: the device never touches the memory again.
 *
 * So a mapping lives from before READY until after DONE, and an access that
 * the IOMMU refuses is the fault of nobody but coIOMMU.
 *
 * The memory of a slot is one stream of 64-bit words over all its segments;
 * word i has the value stress_word(seed, i).  A device that may both read and
 * write replaces it by that of the complement of the seed when it is stopped.
 */
#ifndef STRESS_ABI_H
#define STRESS_ABI_H

#include <linux/types.h>

#define STRESS_VENDOR		0x1234
#define STRESS_DEVICE		0xd0d1
#define STRESS_BAR_SIZE		4096

#define STRESS_REG_RING_LO	0x00
#define STRESS_REG_RING_HI	0x04
#define STRESS_REG_SLOTS	0x08
#define STRESS_REG_ENABLE	0x0c	/* 0: no more DMA when read back */
#define STRESS_REG_VIOLATIONS	0x10	/* accesses to what is not mapped */
#define STRESS_REG_MISMATCHES	0x14	/* words that were not as they should */
#define STRESS_REG_ACCESSES	0x18	/* low half of their number */

#define STRESS_FREE		0
#define STRESS_READY		1
#define STRESS_STOP		2
#define STRESS_DONE		3

#define STRESS_MAY_READ		1
#define STRESS_MAY_WRITE	2

#define STRESS_SEGMENTS		14
#define STRESS_SLOTS_MAX	1024

/* Little-endian; 256 bytes, so that no slot crosses a page. */
struct stress_slot {
	__u32 state;
	__u32 segments;
	__u32 access;
	__u32 reserved;
	__u64 seed;
	__u64 reserved2;
	struct {
		__u64 addr;	/* multiple of 8 */
		__u32 size;	/* multiple of 8 */
		__u32 reserved;
	} segment[STRESS_SEGMENTS];
};

static inline __u64 stress_word(__u64 seed, __u64 index)
{
	__u64 word = (seed + index) * 0x9e3779b97f4a7c15ull;

	return word ^ word >> 29;
}

#endif /* STRESS_ABI_H */
