/*
 * A foreground job of a shell: it switches the terminal to single keys without echo, obeys the keys it is sent, notices
 * the interrupt key, and at "q" looks at itself. With "child" a second process of the job reads the keys; with
 * "controlling" it has /dev/tty open as well.
 */
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "workload.h"

static volatile sig_atomic_t interrupts;

static void on_interrupt(int sig)
{
	(void)sig;
	interrupts++;
}

static struct termios single_keys(void)
{
	struct termios modes;

	must(tcgetattr(0, &modes));
	modes.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	modes.c_cc[VMIN] = 1;
	modes.c_cc[VTIME] = 0;
	modes.c_cc[VQUIT] = 'Q' - '@';
	must(tcsetattr(0, TCSADRAIN, &modes));
	must(tcgetattr(0, &modes));
	return modes;
}

static bool same_modes(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag && a->c_lflag == b->c_lflag &&
		!memcmp(a->c_cc, b->c_cc, sizeof a->c_cc);
}

/* The interrupt is open only while we wait: it cannot come between a look at the count and the wait, and go unnoticed. */
static void obey_keys(void)
{
	struct pollfd keyboard = {.fd = 0, .events = POLLIN};
	sigset_t interrupt, before;
	int told = 0;

	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	must(sigprocmask(SIG_BLOCK, &interrupt, &before));
	for (;;) {
		int ready = ppoll(&keyboard, 1, NULL, &before);
		char key = 0;

		while (told < interrupts)
			note("interrupted %d", ++told);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready != 1 || read(0, &key, 1) != 1)
			fail("reading the terminal: %d %s", ready, strerror(errno));
		if (key == 'q')
			break;
		note("key %c", key);
	}
	must(sigprocmask(SIG_SETMASK, &before, NULL));
}

static void check_terminal(const struct termios *modes)
{
	struct termios now;

	must(tcgetattr(0, &now));
	check(same_modes(modes, &now), "the terminal's modes: local %o, were %o", now.c_lflag, modes->c_lflag);
	check(tcgetpgrp(0) == getpgrp(), "group %d is in the foreground, not ours, %d", tcgetpgrp(0), getpgrp());
	check(tcgetsid(0) == getsid(0), "the terminal belongs to session %d, we to %d", tcgetsid(0), getsid(0));
	check(ttyname(0) != NULL && ttyname(1) != NULL, "standard input or output is no terminal");
}

int main(int argc, char **argv)
{
	bool with_child = argc > 2 && !strcmp(argv[2], "child");
	struct sigaction action = {.sa_handler = on_interrupt};
	bool by_name = argc > 2 && !strcmp(argv[2], "controlling");
	int controlling = by_name ? must(open("/dev/tty", O_RDWR | O_CLOEXEC)) : -1;
	struct termios modes;
	char parent[64], child[64];
	pid_t kid = 0;

	/* The tool that restores is the new parent. */
	snapshot_ignores("stat ppid");
	snprintf(parent, sizeof parent, "task %d PPid:", getpid());
	snapshot_ignores(parent);
	/* The child ends first. */
	snprintf(child, sizeof child, "task %d child", getpid());
	snapshot_ignores(child);
	must(sigaction(SIGINT, &action, NULL));
	modes = single_keys();
	note("is the job");
	if (with_child && !(kid = must(fork()))) {
		keep_state();
		obey_keys();
		check_state();
		check_terminal(&modes);
		child_done();
	}
	ready();
	if (!kid)
		obey_keys();
	else
		child_passed(kid);
	check_state();
	check_terminal(&modes);
	check(!by_name || write(controlling, "by /dev/tty\n", 12) == 12, "/dev/tty cannot be written");
	pass();
}
