/* SPDX-License-Identifier: GPL-2.0 */
/* Counting where it is not done inline; see coiommu_count.c. */
#ifndef COIOMMU_COUNT_H
#define COIOMMU_COUNT_H

#include <linux/atomic.h>
#include <linux/types.h>

struct coiommu_dev;
struct coiommu_struck;
struct scatterlist;

int coiommu_count_slow(struct coiommu_dev *cdev, u64 addr, size_t size,
		       atomic_t *entry);
int coiommu_count(struct coiommu_dev *cdev, u64 addr, size_t size);
void coiommu_strike(struct coiommu_dev *cdev, u64 addr, size_t size,
		    struct coiommu_struck *struck);
void coiommu_strike_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
		       int nents, struct coiommu_struck *struck);
void coiommu_uncount(struct coiommu_dev *cdev, u64 addr, size_t size,
		     struct coiommu_struck *struck);
void coiommu_uncount_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
			int nents, struct coiommu_struck *struck);
void coiommu_uncount_now(struct coiommu_dev *cdev, u64 addr, size_t size);
int coiommu_count_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
		     int nents);
int coiommu_pin_counted_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
			   int nents, int flags);

#endif /* COIOMMU_COUNT_H */
