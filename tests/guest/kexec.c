// SPDX-License-Identifier: GPL-2.0
/*
 * The little of kexec-tools that the tests need, in a static program:
 *
 *   kexec load KERNEL INITRD COMMAND-LINE     the kernel to go to
 *   kexec crash KERNEL INITRD COMMAND-LINE    the kernel to go to in a panic
 *   kexec exec                                go, as a reboot would: devices
 *                                             are shut down first
 */
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int load(const char *kernel, const char *initrd, const char *args,
		unsigned long flags)
{
	int kernel_fd = open(kernel, O_RDONLY);
	int initrd_fd = open(initrd, O_RDONLY);

	/* The length includes the zero at the end. */
	return syscall(SYS_kexec_file_load, kernel_fd, initrd_fd,
		       strlen(args) + 1, args, flags);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	long ret;

	if (argc == 5 && !strcmp(what, "load")) {
		ret = load(argv[2], argv[3], argv[4], 0);
	} else if (argc == 5 && !strcmp(what, "crash")) {
		ret = load(argv[2], argv[3], argv[4], KEXEC_FILE_ON_CRASH);
	} else if (argc == 2 && !strcmp(what, "exec")) {
		ret = syscall(SYS_reboot, LINUX_REBOOT_MAGIC1,
			      LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, 0);
	} else {
		fprintf(stderr, "usage: kexec load|crash KERNEL INITRD COMMAND-LINE\n"
			"       kexec exec\n");
		return 2;
	}
	if (ret)
		perror(what);
	return ret ? 1 : 0;
}
