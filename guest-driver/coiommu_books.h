/* SPDX-License-Identifier: GPL-2.0 */
/* Each mapping of a device that has left some behind; see coiommu_books.c. */
#ifndef COIOMMU_BOOKS_H
#define COIOMMU_BOOKS_H

#include <linux/list.h>
#include <linux/types.h>

struct coiommu_books;
struct coiommu_dtt;

/**
 * struct coiommu_struck - mappings struck off the books of a device
 * @list: struct mapping
 */
struct coiommu_struck {
	struct hlist_head list;
};

struct coiommu_books *coiommu_books_new(void);
int coiommu_books_add(struct coiommu_books *books, u64 addr, size_t size);
void coiommu_books_strike(struct coiommu_books *books, u64 addr, size_t size,
			  struct coiommu_struck *struck);
void coiommu_books_strike_all(struct coiommu_books *books,
			      struct coiommu_struck *struck);
u64 coiommu_struck_put(struct coiommu_struck *struck, struct coiommu_dtt *dtt);

#endif /* COIOMMU_BOOKS_H */
