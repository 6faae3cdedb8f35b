// SPDX-License-Identifier: GPL-2.0
/*
 * O_DIRECT at odd places.
 *
 *     direct DISK COPY SEED ROUNDS
 *
 * Writes and reads of random numbers of sectors, at random sectors of the
 * disk's first part, from and to memory that begins at an odd sector of a page.
 * What is read is compared with a copy of the disk's contents, and so are the
 * bytes around it, which must stay as they were.  The copy goes to a file, for
 * others to compare.  Exit status 0 if all was right.
 */

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTOR	512UL
#define PAGE	4096UL
#define DISK	(4UL << 20)		/* the part of the disk that is used */
#define MEMORY	(8UL << 20)		/* where the buffers lie */
#define MOST	(300UL << 10)		/* of one request, in bytes */
#define GUARD	PAGE			/* bytes before and after it */

static unsigned char *copy, *memory;
static int disk;

static void fill(unsigned char *to, size_t size)
{
	size_t i;

	for (i = 0; i < size; i++)
		to[i] = random();
}

/* A sector count, mostly odd and often small. */
static size_t random_size(void)
{
	size_t most = random() % 2 ? MOST : 4 * PAGE;

	return (random() % (most / SECTOR) + 1) * SECTOR;
}

/* Memory for a request, at an odd sector of some page. */
static unsigned char *random_buffer(void)
{
	size_t pages = (MEMORY - MOST - 2 * GUARD) / PAGE;

	return memory + GUARD + random() % pages * PAGE +
	       (random() % (PAGE / SECTOR / 2) * 2 + 1) * SECTOR;
}

static void write_some(void)
{
	size_t size = random_size();
	off_t at = random() % ((DISK - size) / SECTOR + 1) * SECTOR;
	unsigned char *buffer = random_buffer();

	fill(buffer, size);
	if (pwrite(disk, buffer, size, at) != (ssize_t)size)
		err(1, "write of %zu at %lld", size, (long long)at);
	memcpy(copy + at, buffer, size);
}

static void read_some(void)
{
	static unsigned char before[MOST + 2 * GUARD];
	size_t size = random_size();
	off_t at = random() % ((DISK - size) / SECTOR + 1) * SECTOR;
	unsigned char *buffer = random_buffer();

	fill(buffer - GUARD, size + 2 * GUARD);
	memcpy(before, buffer - GUARD, size + 2 * GUARD);
	if (pread(disk, buffer, size, at) != (ssize_t)size)
		err(1, "read of %zu at %lld", size, (long long)at);
	memcpy(before + GUARD, copy + at, size);
	if (memcmp(before, buffer - GUARD, size + 2 * GUARD))
		errx(1, "wrong data: %zu bytes at %lld, memory at %#lx in its page",
		     size, (long long)at, (unsigned long)buffer % PAGE);
}

int main(int argc, char **argv)
{
	int file, rounds;

	if (argc != 5)
		errx(2, "usage: direct DISK COPY SEED ROUNDS");
	disk = open(argv[1], O_RDWR | O_DIRECT);
	file = open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (disk < 0 || file < 0 || ftruncate(file, DISK))
		err(1, "%s or %s", argv[1], argv[2]);
	copy = mmap(NULL, DISK, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED || memory == MAP_FAILED)
		err(1, "mmap");
	srandom(atoi(argv[3]));
	if (pread(disk, memory, DISK, 0) != (ssize_t)DISK)
		err(1, "read of %lu at 0", DISK);
	memcpy(copy, memory, DISK);
	for (rounds = atoi(argv[4]); rounds; rounds--) {
		write_some();
		read_some();
	}
	return 0;
}
