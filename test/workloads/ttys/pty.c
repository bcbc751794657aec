/*
 * A pseudo-terminal with both sides in the tree: number, modes, window, owner, session, foreground group, several opens of
 * the slave, bytes on their way in both directions. "packet": the master is in packet mode; "alone": the slave is closed.
 */
/* cflags: -lutil */
#include "workload.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile int *seen;

static int number_of(int master)
{
	int number = -1;

	must(ioctl(master, TIOCGPTN, &number));
	return number;
}

/* A session leader whose terminal it is, with a child in a foreground group of its own. */
static void leader(int slave, int number)
{
	char name[32];
	pid_t kid, self = must(setsid());
	int own;

	must(ioctl(slave, TIOCSCTTY, 0));
	own = must(open("/dev/tty", O_RDWR | O_CLOEXEC));
	if ((kid = must(fork())) == 0) {
		must(setpgid(0, 0));
		keep_state();
		wait_for_go();
		check(tcgetsid(slave) == self, "in the child the terminal's session is %d, was %d", tcgetsid(slave), self);
		check(tcgetpgrp(own) == getpid(), "the foreground group is %d, was %d", tcgetpgrp(own), getpid());
		check(close(open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC)) == 0, "there is no /dev/tty: %s", strerror(errno));
		child_done();
	}
	signal(SIGTTOU, SIG_IGN);
	must(setpgid(kid, kid) == 0 || errno == EACCES ? 0 : -1);
	must(tcsetpgrp(slave, kid));
	signal(SIGTTOU, SIG_DFL);
	keep_state();
	*seen = 1;
	wait_for_go();
	snprintf(name, sizeof name, "/dev/pts/%d", number);
	check(!strcmp(ttyname(slave), name), "the terminal is %s, was %s", ttyname(slave), name);
	check(tcgetsid(slave) == self, "the terminal's session is %d, was %d", tcgetsid(slave), self);
	check(tcgetpgrp(slave) == kid, "the foreground group is %d, was %d", tcgetpgrp(slave), kid);
	check_state();
	child_passed(kid);
	_exit(differences_seen() ? 1 : 0);
}

static void read_exactly(int fd, const char *wanted, const char *which)
{
	char text[256];
	ssize_t got = read(fd, text, sizeof text - 1);

	text[got > 0 ? got : 0] = 0;
	check(!strcmp(text, wanted), "%s has \"%s\", had \"%s\"", which, text, wanted);
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "pair";
	struct winsize window = {33, 77, 5, 6}, window_now;
	struct termios modes, modes_now;
	int master, slave, again, number, on = 1;
	pid_t kid = 0;

	seen = shared_memory(sizeof *seen);
	must(openpty(&master, &slave, NULL, NULL, &window));
	must(fcntl(master, F_SETFL, O_NONBLOCK));
	number = number_of(master);
	must(tcgetattr(slave, &modes));
	modes.c_lflag &= ~(ECHO | ISIG);
	modes.c_cc[VINTR] = 7;
	modes.c_cc[VMIN] = 3;
	must(tcsetattr(slave, TCSANOW, &modes));
	must(fchown(slave, 12, 34));
	again = must(open(ttyname(slave), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
	if (!strcmp(what, "packet"))
		must(ioctl(master, TIOCPKT, &on));
	if (!strcmp(what, "alone")) {
		must(close(slave));
		must(close(again));
	} else if ((kid = must(fork())) == 0) {
		close(master);
		close(again);
		leader(slave, number);
	} else {
		while (!*seen)
			sleep_ms(1);
		/* Two lines typed and nobody there to read them; a line printed, and the program that shows it has not read it. */
		if (!strcmp(what, "pair")) {
			must(write(master, "first\nsecond\n", 13));
			must(write(slave, "shown\n", 6));
			sleep_ms(50);
		}
	}
	ready();
	wait_for_go();
	check(number_of(master) == number, "the number is %d, was %d", number_of(master), number);
	must(ioctl(master, TIOCGWINSZ, &window_now));
	check(!memcmp(&window, &window_now, sizeof window), "the window is %d by %d", window_now.ws_row, window_now.ws_col);
	must(tcgetattr(master, &modes_now));
	check(modes.c_iflag == modes_now.c_iflag && modes.c_oflag == modes_now.c_oflag && modes.c_lflag == modes_now.c_lflag &&
	          modes.c_cflag == modes_now.c_cflag && !memcmp(modes.c_cc, modes_now.c_cc, sizeof modes.c_cc),
	      "the modes are %x %x %x %x, were %x %x %x %x", modes_now.c_iflag, modes_now.c_oflag, modes_now.c_cflag, modes_now.c_lflag,
	      modes.c_iflag, modes.c_oflag, modes.c_cflag, modes.c_lflag);
	if (!strcmp(what, "alone")) {
		char byte;

		check(read(master, &byte, 1) == -1 && errno == EIO, "a master without slaves reads errno %d", errno);
	} else {
		struct stat node;

		must(fstat(slave, &node));
		check(node.st_uid == 12 && node.st_gid == 34, "the owner is %d:%d", node.st_uid, node.st_gid);
	}
	if (!strcmp(what, "pair")) {
		check_state();
		read_exactly(slave, "first\n", "the slave");
		read_exactly(again, "second\n", "the slave");
		read_exactly(master, "shown\r\n", "the master");
	}
	if (!strcmp(what, "packet")) {
		int packets = 0;

		must(ioctl(master, TIOCGPKT, &packets));
		check(packets == 1, "packet mode is off");
		must(write(slave, "x", 1));
		sleep_ms(20);
		read_exactly(master, "", "the packet's first byte");
	}
	check_state();
	if (kid)
		child_passed(kid);
	pass();
}
