/* The console and a virtual terminal, as programs have them open that write messages there; nobody's controlling terminal. */
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "workload.h"

static int open_device(const char *path, int flags, unsigned major_wanted)
{
	struct stat found;
	int fd = must(open(path, flags | O_NOCTTY));

	must(fstat(fd, &found));
	check(S_ISCHR(found.st_mode) && major(found.st_rdev) == major_wanted, "%s is another device", path);
	return fd;
}

int main(void)
{
	int console = open_device("/dev/console", O_WRONLY, 5), first = open_device("/dev/tty1", O_RDWR | O_NONBLOCK, 4);
	int again = must(dup(first));
	struct termios modes;
	struct stat before[2], after;

	must(fstat(console, &before[0]));
	must(fstat(first, &before[1]));
	ready();
	wait_for_go();
	must(fstat(console, &after));
	check(after.st_rdev == before[0].st_rdev, "the console is another device");
	must(fstat(first, &after));
	check(after.st_rdev == before[1].st_rdev, "the virtual terminal is another device");
	check(tcgetattr(first, &modes) == 0, "the virtual terminal has no modes: %s", strerror(errno));
	check(fcntl(first, F_GETFL) & O_NONBLOCK, "O_NONBLOCK is gone");
	check((fcntl(console, F_GETFL) & O_ACCMODE) == O_WRONLY, "the console is not for writing only");
	check_state();
	must(fcntl(again, F_SETFL, 0));
	check(!(fcntl(first, F_GETFL) & O_NONBLOCK), "the duplicate is none");
	check(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO, "there is a controlling terminal now");
	pass();
}
