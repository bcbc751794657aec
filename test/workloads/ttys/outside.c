/*
 * Two terminals whose masters are outside: standard input controls our session, descriptor 5 is another. At the restore others
 * take their places: each has a line to read, and shows another. With "plain": /dev/tty is not open, and there is no child in the foreground.
 */
#include <sys/ioctl.h>
#include <termios.h>

#include "workload.h"

static void use(int fd, const char *what)
{
	char line[64] = {0}, text[64];
	ssize_t got = read(fd, line, sizeof line - 1);
	int length = snprintf(text, sizeof text, "%s shown\n", what);

	check(isatty(fd), "%s is no terminal", what);
	check(got > 0 && !strcmp(line, "typed\n"), "at %s \"%s\" was typed", what, line);
	check(write(fd, text, (size_t)length) == length, "%s cannot be written: %s", what, strerror(errno));
}

/* The tool that restores may be the new parent; a child ends first. */
static void ignore_parent(void)
{
	static char parent[64], child[64];

	snapshot_ignores("stat ppid");
	snprintf(parent, sizeof parent, "task %d PPid:", getpid());
	snapshot_ignores(parent);
	snprintf(child, sizeof child, "task %d child", getpid());
	snapshot_ignores(child);
}

int main(int argc, char **argv)
{
	bool plain = argc > 2 && !strcmp(argv[2], "plain");
	pid_t kid = 0;
	int own;

	must(setsid());
	must(ioctl(0, TIOCSCTTY, 0));
	own = must(plain ? dup(0) : open("/dev/tty", O_RDWR));
	snapshot_ignores("stat tty");
	snapshot_ignores("link ns/time");
	snapshot_ignores("fd ");
	if (!plain && (kid = must(fork())) == 0) {
		must(setpgid(0, 0));
		keep_state();
		wait_for_go();
		check(tcgetpgrp(own) == getpid(), "the foreground group is %d, was %d", tcgetpgrp(own), getpid());
		child_done();
	}
	signal(SIGTTOU, SIG_IGN);
	if (!plain) {
		must(setpgid(kid, kid) == 0 || errno == EACCES ? 0 : -1);
		must(tcsetpgrp(0, kid));
	}
	signal(SIGTTIN, SIG_IGN);
	if (kid)
		until_it_waits(kid);
	ignore_parent();
	ready();
	wait_for_go();
	check(tcgetsid(0) == getpid(), "the terminal's session is %d", tcgetsid(0));
	check(tcgetsid(own) == getpid(), "the session of /dev/tty is %d", tcgetsid(own));
	if (!plain) {
		check(tcgetpgrp(0) == kid, "the foreground group is %d, was %d", tcgetpgrp(0), kid);
		child_passed(kid);
	}
	must(tcsetpgrp(0, getpid()));
	use(0, "the own terminal");
	use(5, "the other terminal");
	pass();
}
