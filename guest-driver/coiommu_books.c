// SPDX-License-Identifier: GPL-2.0
/*
 * Books: each mapping of one device, with its size.
 *
 * The table has one count for all devices.  That is enough for drivers that
 * undo what they have mapped.  One that unmaps less than it has mapped, or
 * forgets to, leaves counts behind; and when these have been taken from the
 * table, an unmap that comes late would take another mapping's count.
 *
 * So a device that may have left counts behind is *booked* from then on, until it
 * is unplugged or coIOMMU is unbound (coiommu_track.c).  Each of its mappings is
 * noted here, and an unmap takes back what was noted for its address, whatever
 * size it says; without a note it takes no count.  When its driver goes, what is still
 * noted is taken back.  That costs a lock and an allocation for each mapping, so
 * it is not for all devices: a booked one goes the way of the shadowed.
 */
#include <linux/hash.h>
#include <linux/hashtable.h>
#include <linux/lockdep.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "coiommu_books.h"
#include "coiommu_dtt.h"

#define BOOKS_BITS	10

/**
 * struct coiommu_books - the mappings of one device
 * @lock: taken with interrupts off, as drivers map in any context
 * @hash: struct mapping, by address
 */
struct coiommu_books {
	spinlock_t lock;	/* @hash */
	DECLARE_HASHTABLE(hash, BOOKS_BITS);
};

/**
 * struct mapping - one of them
 * @node: in coiommu_books::hash
 * @addr: DMA address
 * @size: bytes that are counted in the table
 */
struct mapping {
	struct hlist_node node;
	u64 addr;
	size_t size;
};

/**
 * coiommu_books_new - empty books
 *
 * Process context.  Returns NULL if there is no memory.
 */
struct coiommu_books *coiommu_books_new(void)
{
	struct coiommu_books *books = kzalloc(sizeof(*books), GFP_KERNEL);

	if (!books)
		return NULL;
	spin_lock_init(&books->lock);
	hash_init(books->hash);
	return books;
}

/**
 * coiommu_books_add - note a mapping that has been counted
 * @books: of its device
 * @addr: DMA address
 * @size: bytes
 *
 * Any context.  Returns 0 or -ENOMEM.
 */
int coiommu_books_add(struct coiommu_books *books, u64 addr, size_t size)
{
	struct mapping *mapping;
	unsigned long flags;

	mapping = kmalloc(sizeof(*mapping), GFP_ATOMIC | __GFP_NOWARN);
	if (!mapping)
		return -ENOMEM;
	mapping->addr = addr;
	mapping->size = size;
	spin_lock_irqsave(&books->lock, flags);
	hash_add(books->hash, &mapping->node, addr);
	spin_unlock_irqrestore(&books->lock, flags);
	return 0;
}

/* The mapping to take for an unmap: of its size if there is one, else any. */
static struct mapping *find(struct coiommu_books *books, u64 addr, size_t size)
{
	struct mapping *mapping, *found = NULL;

	lockdep_assert_held(&books->lock);
	hash_for_each_possible(books->hash, mapping, node, addr) {
		if (mapping->addr != addr)
			continue;
		if (mapping->size == size)
			return mapping;
		found = mapping;
	}
	return found;
}

/* Move a mapping from the books to @struck.  The caller must hold the books' lock. */
static void strike(struct mapping *mapping, struct coiommu_struck *struck)
{
	hash_del(&mapping->node);
	hlist_add_head(&mapping->node, &struck->list);
}

/**
 * coiommu_books_strike - strike a mapping off, if there is one
 * @books: of its device
 * @addr: DMA address
 * @size: bytes, as the driver says
 * @struck: gets it; the caller must call coiommu_struck_put()
 *
 * Must be called before @addr can be mapped anew: a second mapping of the same
 * address could be found in place of the first.  Any context.
 */
void coiommu_books_strike(struct coiommu_books *books, u64 addr, size_t size,
			  struct coiommu_struck *struck)
{
	struct mapping *mapping;
	unsigned long flags;

	spin_lock_irqsave(&books->lock, flags);
	mapping = find(books, addr, size);
	if (mapping)
		strike(mapping, struck);
	spin_unlock_irqrestore(&books->lock, flags);
}

/**
 * coiommu_books_strike_all - strike all mappings off
 * @books: of a device that has no driver any more
 * @struck: gets them; the caller must call coiommu_struck_put()
 */
void coiommu_books_strike_all(struct coiommu_books *books,
			      struct coiommu_struck *struck)
{
	struct mapping *mapping;
	struct hlist_node *next;
	unsigned long flags;
	int i;

	spin_lock_irqsave(&books->lock, flags);
	hash_for_each_safe(books->hash, i, next, mapping, node)
		strike(mapping, struck);
	spin_unlock_irqrestore(&books->lock, flags);
}

/**
 * coiommu_struck_put - take back in the table what has been struck off
 * @struck: mappings that no device uses any more; empty afterwards
 * @dtt: where they are counted
 *
 * Any context.  Returns how many there were.
 */
u64 coiommu_struck_put(struct coiommu_struck *struck, struct coiommu_dtt *dtt)
{
	struct mapping *mapping;
	struct hlist_node *next;
	u64 count = 0;

	hlist_for_each_entry_safe(mapping, next, &struck->list, node) {
		coiommu_dtt_put(dtt, mapping->addr, mapping->size);
		kfree(mapping);
		count++;
	}
	INIT_HLIST_HEAD(&struck->list);
	return count;
}
