/*
 * The console and a virtual terminal, as programs have them open that write messages there; nobody's controlling terminal.
 * "controlling": a virtual terminal is that of our session, with modes of ours and a child in the foreground.
 */
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

_Noreturn static void control(void)
{
	int terminal = open_device("/dev/tty9", O_RDWR, 4), own;
	struct termios modes, now;
	pid_t kid;

	must(ioctl(terminal, TIOCSCTTY, 0));
	must(tcgetattr(terminal, &modes));
	modes.c_lflag &= ~(tcflag_t)ECHO;
	must(tcsetattr(terminal, TCSANOW, &modes));
	if ((kid = must(fork())) == 0) {
		must(close(terminal));
		must(setpgid(0, 0));
		keep_state();
		wait_for_go();
		own = must(open("/dev/tty", O_RDWR | O_CLOEXEC));
		check(tcgetpgrp(own) == getpid(), "the foreground group is %d, was %d", tcgetpgrp(own), getpid());
		check(tcgetsid(own) == getppid(), "the terminal's session is %d, was %d", tcgetsid(own), getppid());
		must(close(own));
		child_done();
	}
	must(setpgid(kid, kid) == 0 || errno == EACCES ? 0 : -1);
	signal(SIGTTOU, SIG_IGN);
	must(tcsetpgrp(terminal, kid));
	until_it_waits(kid);
	ready();
	wait_for_go();
	check(tcgetsid(terminal) == getpid(), "the terminal's session is %d, was %d", tcgetsid(terminal), getpid());
	check(tcgetpgrp(terminal) == kid, "the foreground group is %d, was %d", tcgetpgrp(terminal), kid);
	must(tcgetattr(terminal, &now));
	check(!(now.c_lflag & ECHO), "the terminal echoes now");
	check_state();
	child_passed(kid);
	pass();
}

int main(int argc, char **argv)
{
	const char *how = argc > 2 ? argv[2] : "";
	int console, first, again;
	struct termios modes;
	struct stat before[2], after;

	if (*how)
		control();
	console = open_device("/dev/console", O_WRONLY, 5);
	first = open_device("/dev/tty1", O_RDWR | O_NONBLOCK, 4);
	again = must(dup(first));
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
