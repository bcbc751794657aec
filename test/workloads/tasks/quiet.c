/* State of a process that only the kernel uses: membarrier registrations, the login uid of the audit. */
#include <linux/membarrier.h>

#include "workload.h"

enum { GET_REGISTRATIONS = 1 << 9, LOGIN = 4242 };

static unsigned login_uid(void)
{
	char text[32] = "";
	int fd = must(open("/proc/self/loginuid", O_RDONLY));

	must(read(fd, text, sizeof text - 1));
	close(fd);
	return (unsigned)strtoul(text, NULL, 10);
}

int main(void)
{
	int fd = must(open("/proc/self/loginuid", O_WRONLY));
	long registered;

	must(write(fd, "4242", 4));
	close(fd);
	must(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
	must(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0));
	must(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0));
	registered = must(syscall(SYS_membarrier, GET_REGISTRATIONS, 0, 0));
	check(login_uid() == LOGIN, "the login uid is %u", login_uid());
	ready();
	wait_for_go();
	check(must(syscall(SYS_membarrier, GET_REGISTRATIONS, 0, 0)) == registered, "other registrations than %#lx", registered);
	check(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0, "the barrier fails: %s", strerror(errno));
	check(login_uid() == LOGIN, "the login uid is %u", login_uid());
	pass();
}
