/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dma-entries PID: how many mappings the VFIO containers of a process hold, as the
 * host's kernel counts them.
 *
 * type1 says only how many more it would take, and only to whoever has the container:
 * a copy of the process's descriptor is taken for that.  Works for VFIO's own
 * containers, not for iommufd.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIMIT "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"

/* Room for the structure and all that the kernel adds to it. */
typedef union Info {
	struct vfio_iommu_type1_info fixed;
	char bytes[4096];
} Info;

/* How many more mappings the container takes; -1 if it isn't in use yet. */
static long available(int container)
{
	Info info = { .fixed.argsz = sizeof(info) };
	const struct vfio_iommu_type1_info_dma_avail *avail;
	uint32_t offset;

	if (ioctl(container, VFIO_IOMMU_GET_INFO, &info) ||
	    !(info.fixed.flags & VFIO_IOMMU_INFO_CAPS))
		return -1;
	for (offset = info.fixed.cap_offset; offset;
	     offset = avail->header.next) {
		avail = (const void *)(info.bytes + offset);
		if (avail->header.id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)
			return avail->avail;
	}
	return -1;
}

/* Is descriptor @fd of the process an open VFIO container? */
static int is_container(const char *pid, const char *fd)
{
	char link[300], target[64];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/%s/fd/%s", pid, fd);
	len = readlink(link, target, sizeof(target) - 1);
	if (len < 0)
		return 0;
	target[len] = '\0';
	return !strcmp(target, "/dev/vfio/vfio");
}

int main(int argc, char **argv)
{
	long limit, left, entries = 0;
	struct dirent *file;
	char path[300];
	FILE *f;
	DIR *fds;
	int process, fd;

	f = fopen(LIMIT, "r");
	if (argc != 2 || !f || fscanf(f, "%ld", &limit) != 1) {
		fputs("usage: dma-entries PID, with vfio_iommu_type1 loaded\n",
		      stderr);
		return 1;
	}
	snprintf(path, sizeof(path), "/proc/%s/fd", argv[1]);
	fds = opendir(path);
	process = syscall(SYS_pidfd_open, atoi(argv[1]), 0);
	if (!fds || process < 0) {
		perror(path);
		return 1;
	}
	while ((file = readdir(fds))) {
		if (!is_container(argv[1], file->d_name))
			continue;
		fd = syscall(SYS_pidfd_getfd, process, atoi(file->d_name), 0);
		left = fd < 0 ? -1 : available(fd);
		if (left >= 0)
			entries += limit - left;
		close(fd);
	}
	printf("%ld\n", entries);
	return 0;
}
