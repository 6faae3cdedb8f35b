// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One buffer, two devices: a disk and a NIC read the same pages at the same time.
 *
 *   share FILE DISK OFFSET ADDRESS PORT
 *
 * FILE, which must be in tmpfs, goes to a TCP peer straight from its pages, while the
 * same pages are written to DISK at OFFSET (bytes) again and again.  What the peer
 * answers goes to stdout, and to stderr how often the disk has had it all.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK 65536

static volatile sig_atomic_t enough;

static void stop(int signal)
{
	(void)signal;
	enough = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Write it to the disk past the page cache until told to stop, but once at least. */
static void to_disk(const char *disk, off_t offset, const char *data, size_t size)
{
	int fd = open(disk, O_WRONLY | O_DIRECT);
	unsigned int rounds = 0;
	size_t at;

	if (fd < 0)
		die(disk);
	do {
		for (at = 0; at < size; at += CHUNK)
			if (pwrite(fd, data + at, CHUNK, offset + at) != CHUNK)
				die(disk);
		rounds++;
	} while (!enough);
	fprintf(stderr, "share: written %u times\n", rounds);
	exit(0);
}

static int connect_to(const char *address, const char *port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(atoi(port)),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, address, &to.sin_addr);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die(address);
	return fd;
}

int main(int argc, char **argv)
{
	struct stat st;
	int fd, peer, status;
	char answer[256];
	ssize_t n;
	off_t at = 0;
	char *data;
	pid_t pid;

	if (argc != 6)
		return 2;
	fd = open(argv[1], O_RDWR);
	if (fd < 0 || fstat(fd, &st) || st.st_size % CHUNK)
		die(argv[1]);
	data = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		die(argv[1]);
	peer = connect_to(argv[4], argv[5]);
	signal(SIGTERM, stop);
	pid = fork();
	if (!pid)
		to_disk(argv[2], strtoll(argv[3], NULL, 0), data, st.st_size);
	while (at < st.st_size)
		if (sendfile(peer, fd, &at, st.st_size - at) <= 0)
			die("sendfile");
	while ((n = read(peer, answer, sizeof(answer))) > 0)
		if (write(1, answer, n) != n)
			die("stdout");
	kill(pid, SIGTERM);
	if (waitpid(pid, &status, 0) != pid || status)
		return 1;
	return n ? 1 : 0;
}
