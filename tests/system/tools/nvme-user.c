// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An NVMe driver in userspace, of the least kind: it reads a disk by DMA into its own
 * memory, with no word to the kernel about that.
 *
 *   nvme-user BDF OFFSET BYTES     OFFSET and BYTES in multiples of 8 KiB; the data
 *                                  goes to stdout
 *
 * The disk's kernel driver must be unbound, and memory decoding and bus mastering be
 * on.  Root, and a kernel that shows physical addresses in /proc/self/pagemap.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define ENTRIES 16
/* Pages to read into, in pairs: as many as make the DMA go to many places. */
#define PAIRS 512

/* Registers, by their offset in BAR 0. */
enum { CAP = 0x00, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30,
       DOORBELLS = 0x1000 };

struct command {
	uint32_t opcode;	/* and the command's number, from bit 16 on */
	uint32_t namespace;
	uint64_t reserved[2];
	uint64_t prp[2];
	uint32_t word[6];	/* 10 to 15 of the specification */
};

struct completion {
	uint32_t result[2];
	uint32_t queue;
	uint32_t status;	/* bit 16 is the phase */
};

/* A pair of queues; id 0 is the one for administration. */
struct queue {
	unsigned int id, tail, head, phase;
	struct command *commands;
	volatile struct completion *completions;
};

static volatile uint8_t *bar;
static unsigned int stride;

static void die(const char *what)
{
	fprintf(stderr, "nvme-user: %s\n", what);
	exit(1);
}

static volatile uint32_t *reg(unsigned int offset)
{
	return (volatile uint32_t *)(bar + offset);
}

static void write64(unsigned int offset, uint64_t value)
{
	*reg(offset) = value;
	*reg(offset + 4) = value >> 32;
}

/* Pages that stay where they are in physical memory, all zero. */
static void *pages(unsigned int n)
{
	void *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		die("no memory");
	memset(p, 0, n * PAGE);
	return p;
}

/* The address for DMA. */
static uint64_t physical(const void *p)
{
	static int fd = -1;
	uint64_t entry;

	if (fd < 0)
		fd = open("/proc/self/pagemap", O_RDONLY);
	if (pread(fd, &entry, 8, (uintptr_t)p / PAGE * 8) != 8 || !(entry >> 63))
		die("no physical address");
	entry &= (1ull << 55) - 1;
	if (!entry)
		die("physical addresses are hidden");
	return entry * PAGE + (uintptr_t)p % PAGE;
}

/* Ten seconds for a register's bit to become this. */
static void await_ready(unsigned int ready)
{
	int tries;

	for (tries = 0; tries < 10000; tries++) {
		if ((*reg(CSTS) & 1) == ready)
			return;
		usleep(1000);
	}
	die("the controller doesn't get ready");
}

/* Run one command and wait for its end. */
static void run(struct queue *q, struct command *c)
{
	volatile struct completion *end = &q->completions[q->head];
	time_t limit = time(NULL) + 60;

	q->commands[q->tail] = *c;
	q->tail = (q->tail + 1) % ENTRIES;
	/* The command is in memory before the controller is told to look. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	*reg(DOORBELLS + 2 * q->id * stride) = q->tail;
	while ((end->status >> 16 & 1) != q->phase)
		if (time(NULL) > limit)
			die("a command doesn't end");
	/* What the controller wrote before the phase is read after it. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (end->status >> 17)
		die("a command fails");
	q->head = (q->head + 1) % ENTRIES;
	q->phase ^= !q->head;
	*reg(DOORBELLS + (2 * q->id + 1) * stride) = q->head;
}

static void queue_init(struct queue *q, unsigned int id)
{
	q->id = id;
	q->tail = 0;
	q->head = 0;
	q->phase = 1;
	q->commands = pages(1);
	q->completions = pages(1);
}

static void start(const char *bdf, struct queue *admin)
{
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource0", bdf);
	fd = open(path, O_RDWR | O_SYNC);
	if (fd < 0)
		die("no such device");
	bar = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bar == MAP_FAILED)
		die("its BAR can't be mapped");
	close(fd);
	stride = 4 << (*reg(CAP + 4) & 0xf);
	*reg(CC) = 0;
	await_ready(0);
	queue_init(admin, 0);
	*reg(AQA) = (ENTRIES - 1) << 16 | (ENTRIES - 1);
	write64(ASQ, physical(admin->commands));
	write64(ACQ, physical((void *)admin->completions));
	/* Entries of 64 and 16 bytes; enable. */
	*reg(CC) = 6 << 16 | 4 << 20 | 1;
	await_ready(1);
}

/* The size of the disk's sectors; says who it is on stderr. */
static unsigned int identify(struct queue *admin)
{
	uint8_t *data = pages(1);
	struct command c = { .opcode = 6, .prp = { physical(data) }, .word = { 1 } };

	run(admin, &c);
	fprintf(stderr, "nvme-user: serial number %.20s\n", data + 4);
	c.namespace = 1;
	c.word[0] = 0;
	run(admin, &c);
	/* Which format, then the format's size as a power of 2. */
	return 1u << data[128 + 4 * (data[26] & 0xf) + 2];
}

static void create_queue(struct queue *admin, struct queue *io)
{
	struct command c = { .opcode = 5 };

	queue_init(io, 1);
	c.prp[0] = physical((void *)io->completions);
	c.word[0] = (ENTRIES - 1) << 16 | io->id;
	c.word[1] = 1;
	run(admin, &c);
	c.opcode = 1;
	c.prp[0] = physical(io->commands);
	c.word[1] = io->id << 16 | 1;
	run(admin, &c);
}

int main(int argc, char **argv)
{
	struct queue admin, io;
	uint64_t offset, left;
	unsigned int sector, n;
	uint8_t *data;

	if (argc != 4)
		die("usage: nvme-user BDF OFFSET BYTES");
	offset = strtoull(argv[2], NULL, 0);
	left = strtoull(argv[3], NULL, 0);
	start(argv[1], &admin);
	sector = identify(&admin);
	create_queue(&admin, &io);
	data = pages(2 * PAIRS);
	for (n = 0; left; n = (n + 1) % PAIRS) {
		uint8_t *pair = data + 2 * n * PAGE;
		struct command c = {
			.opcode = 2, .namespace = 1,
			.prp = { physical(pair), physical(pair + PAGE) },
			.word = { offset / sector, offset / sector >> 32,
				  2 * PAGE / sector - 1 },
		};

		run(&io, &c);
		if (write(1, pair, 2 * PAGE) != 2 * PAGE)
			die("stdout is closed");
		offset += 2 * PAGE;
		left -= 2 * PAGE;
	}
	*reg(CC) = 0;
	await_ready(0);
	return 0;
}
