/* SPDX-License-Identifier: GPL-2.0 */
/* Requests to the device; see coiommu_request.c. */
#ifndef COIOMMU_REQUEST_H
#define COIOMMU_REQUEST_H

#include <linux/atomic.h>
#include <linux/types.h>

#include "coiommu_abi.h"

struct coiommu;
struct pci_dev;
struct scatterlist;

/**
 * struct coiommu_slots - the request pages; see coiommu_request.c
 * @page: one per possible CPU; used on that CPU with interrupts off
 * @root: the array of their addresses that the device reads
 * @count: nr_cpu_ids
 * @doorbell: where a slot's number is written
 * @block_shift: log2 of the pin block in bytes
 * @partial: the device may answer a PIN with COIOMMU_ST_AGAIN
 * @requests: doorbells rung
 * @failures: requests that ended neither with COIOMMU_ST_OK nor _AGAIN, PROBE
 *	apart
 * @again: PIN requests that were served in part
 * @ranges: ranges in PIN requests
 * @pages: 4 KiB pages in PIN requests
 * @ns: nanoseconds spent in all of them, from the doorbell write to its return
 * @ns_max: in the longest
 */
struct coiommu_slots {
	struct coiommu_request **page;
	__le64 *root;
	unsigned int count;
	void __iomem *doorbell;
	unsigned int block_shift;
	bool partial;
	atomic64_t requests;
	atomic64_t failures;
	atomic64_t again;
	atomic64_t ranges;
	atomic64_t pages;
	atomic64_t ns;
	atomic64_t ns_max;
};

int coiommu_slots_init(struct coiommu_slots *slots, void __iomem *doorbell,
		       u32 max_slots, unsigned int block_shift, bool partial);
void coiommu_slots_free(struct coiommu_slots *slots);
u32 coiommu_endpoint_request(struct coiommu *coi, u32 opcode,
			     struct pci_dev *pdev);
int coiommu_pin(struct coiommu *coi, u64 addr, size_t size);
int coiommu_pin_sg(struct coiommu *coi, struct scatterlist *sgl, int nents);
const char *coiommu_status_name(u32 status);

#endif /* COIOMMU_REQUEST_H */
