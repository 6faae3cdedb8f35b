// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The memory that the threads map: pieces of 2 MiB from all over the guest's
 * memory, shared by all threads and devices, so that mappings meet in tracking
 * units and pin blocks.  Only pages are exclusive: a mapping claims those in
 * which its data is.
 *
 * A small part of some pieces is hot: single pages of it are mapped all the
 * time and shortly, so that its blocks go idle and come back about as fast as
 * the host looks at them.  Mappings in the rest mostly meet blocks that are not
 * pinned.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "stress.h"

/* 2 MiB. */
#define PIECE_ORDER	9
#define PIECE_PAGES	512u

/* How many pieces begin with a hot part. */
#define HOT_PIECES	64u

static struct page **piece;
static unsigned int pieces;
static unsigned int hot;
static unsigned long *claimed;

void arena_free(void)
{
	unsigned int i;

	for (i = 0; i < pieces; i++)
		if (piece[i])
			__free_pages(piece[i], PIECE_ORDER);
	vfree(claimed);
	kvfree(piece);
}

/**
 * arena_init - get the memory
 * @mib: how much
 * @hot_pages: how large a hot part is
 */
int arena_init(unsigned int mib, unsigned int hot_pages)
{
	unsigned int i;

	pieces = mib / 2;
	hot = hot_pages;
	if (pieces < HOT_PIECES || !hot || hot > PIECE_PAGES / 2)
		return -EINVAL;
	piece = kvcalloc(pieces, sizeof(*piece), GFP_KERNEL);
	claimed = vzalloc(BITS_TO_LONGS(pieces * PIECE_PAGES) * sizeof(long));
	if (!piece || !claimed)
		goto err;
	for (i = 0; i < pieces; i++) {
		piece[i] = alloc_pages(GFP_KERNEL, PIECE_ORDER);
		if (!piece[i])
			goto err;
	}
	return 0;

err:
	arena_free();
	return -ENOMEM;
}

static bool claim(const struct run *run)
{
	unsigned int i;

	for (i = 0; i < run->count; i++) {
		if (test_and_set_bit(run->first + i, claimed)) {
			while (i--)
				clear_bit_unlock(run->first + i, claimed);
			return false;
		}
	}
	return true;
}

/* Any place, hot or not, for so many pages. */
static void random_place(struct run *run, unsigned int pages, bool is_hot)
{
	unsigned int p, page;

	if (is_hot) {
		p = get_random_u32_below(HOT_PIECES);
		page = get_random_u32_below(hot - pages + 1);
	} else {
		p = get_random_u32_below(pieces);
		page = hot + get_random_u32_below(PIECE_PAGES - hot - pages + 1);
	}
	run->first = p * PIECE_PAGES + page;
	run->count = pages;
}

/**
 * arena_claim - claim pages somewhere
 * @run: which
 * @pages: how many, 1 if they are to be hot
 * @is_hot: whether they are
 *
 * Returns where they are, or NULL if chance found none that are free.
 */
void *arena_claim(struct run *run, unsigned int pages, bool is_hot)
{
	int tries;

	for (tries = 0; tries < 8; tries++) {
		random_place(run, pages, is_hot);
		if (claim(run))
			return page_address(piece[run->first / PIECE_PAGES] +
					    run->first % PIECE_PAGES);
	}
	run->count = 0;
	return NULL;
}

/**
 * arena_release - the pages of a run are free again
 * @run: the run, or none
 */
void arena_release(const struct run *run)
{
	unsigned int i;

	for (i = 0; i < run->count; i++)
		clear_bit_unlock(run->first + i, claimed);
}
