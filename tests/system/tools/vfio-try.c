// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What VFIO says to a program that wants to use a device's IOMMU group:
 *
 *   vfio-try GROUP      status 0: it would translate for it; 3: it can't; 1: something
 *                       else is wrong before that
 */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	char path[64];
	int container, group;

	if (argc != 2)
		return 2;
	snprintf(path, sizeof(path), "/dev/vfio/%s", argv[1]);
	container = open("/dev/vfio/vfio", O_RDWR);
	group = open(path, O_RDWR);
	if (container < 0 || group < 0) {
		perror(path);
		return 1;
	}
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container)) {
		perror("VFIO_GROUP_SET_CONTAINER");
		return 1;
	}
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)) {
		perror("VFIO_SET_IOMMU");
		return 3;
	}
	return 0;
}
