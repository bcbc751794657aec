/*
 * A pseudo-terminal with both sides in the tree: number, modes, window, owner, session, foreground group, several opens of
 * the slave, bytes on their way in both directions. "packet": the master is in packet mode, with something to read; "alone": the slave is closed; "new": it never was open;
 * "much": raw, with all that its queues hold; "hung-up": the master is closed; "without-group": nobody is in the foreground; "revoked": the slave is hung up, and opened again; "stopped": something printed, then ^S; "held": the same by tcflow(3);
 * "untold", "untold-stopped", "untold-literal": in packet mode, and the master does not know yet what was done; "modes": locked, exclusive, a speed
 * of its own, modes that nobody may change.
 */
/* cflags: -lutil */
#include "workload.h"

#include <poll.h>
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
	until_it_waits(kid);
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

/* The kernel moves bytes from one side to the other when it gets to it. */
static void until_readable(int fd)
{
	struct pollfd readable = {fd, POLLIN, 0};

	check(poll(&readable, 1, 30000) == 1, "nothing arrives at descriptor %d", fd);
}

static void read_exactly(int fd, const char *wanted, const char *which)
{
	char text[256];
	ssize_t got = read(fd, text, sizeof text - 1);

	text[got > 0 ? got : 0] = 0;
	check(!strcmp(text, wanted), "%s has \"%s\", had \"%s\"", which, text, wanted);
}

/* Lines, the end of a file after a line and alone, and the beginning of a line. */
static void type_ahead(int master)
{
	must(write(master, "first\nsecond\nthird\4\4half", 24));
}

static void check_typed(int master, int slave, int again)
{
	read_exactly(slave, "first\n", "the slave");
	read_exactly(again, "second\n", "the slave");
	read_exactly(slave, "third", "the slave");
	check(read(slave, (char[8]){0}, 8) == 0, "the slave is not at an end of file");
	check(read(again, (char[8]){0}, 8) == -1 && errno == EAGAIN, "half a line can be read");
	must(write(master, "\177 f\n", 4));
	read_exactly(slave, "hal f\n", "the slave");
}

static size_t fill(int fd, uint64_t seed)
{
	static char data[1 << 17];
	size_t used = 0;

	fill_pattern(data, sizeof data, seed);
	must(fcntl(fd, F_SETFL, O_NONBLOCK));
	for (int tries = 0; tries < 20; sleep_ms(5)) {
		ssize_t wrote = write(fd, data + used, 700);

		if (wrote <= 0)
			tries++;
		else
			used += (size_t)wrote;
	}
	return used;
}

static void check_fill(int fd, size_t wanted, uint64_t seed, const char *what)
{
	static char data[1 << 17];
	size_t used = 0;

	must(fcntl(fd, F_SETFL, O_NONBLOCK));
	/* The kernel moves the bytes from side to side when it gets to it. */
	for (int tries = 0; tries < (used < wanted ? 10000 : 20) && used < sizeof data;) {
		ssize_t got = read(fd, data + used, sizeof data - used);

		if (got <= 0)
			tries++, sleep_ms(2);
		else
			used += (size_t)got;
	}
	check(used == wanted, "%s has %zu bytes, had %zu", what, used, wanted);
	check_pattern(data, used & ~7UL, seed, what);
}

/* A raw terminal that is full both ways. */
_Noreturn static void much(int master, int slave)
{
	struct termios modes;
	size_t typed, shown;

	must(tcgetattr(slave, &modes));
	cfmakeraw(&modes);
	must(tcsetattr(slave, TCSANOW, &modes));
	typed = fill(master, 1);
	shown = fill(slave, 2);
	note("%zu bytes typed, %zu shown", typed, shown);
	ready();
	wait_for_go();
	check_state();
	check_fill(slave, typed, 1, "the slave");
	check_fill(master, shown, 2, "the master");
	pass();
}

struct termios2 {
	unsigned iflag, oflag, cflag, lflag;
	unsigned char line, cc[19];
	unsigned ispeed, ospeed;
};

_Noreturn static void special_modes(int master, int slave)
{
	const unsigned long get = _IOR('T', 0x2a, struct termios2), set = _IOW('T', 0x2b, struct termios2);
	struct termios locks = {.c_lflag = ECHO}, locks_now;
	struct termios2 modes;
	int on = 1, locked = 0, exclusive = 0;

	must(ioctl(slave, get, &modes));
	modes.cflag = (modes.cflag & ~(unsigned)CBAUD) | 0010000;
	modes.ispeed = modes.ospeed = 12345;
	must(ioctl(slave, set, &modes));
	must(ioctl(slave, TIOCSLCKTRMIOS, &locks));
	must(ioctl(slave, TIOCEXCL, 0));
	must(ioctl(master, TIOCSPTLCK, &on));
	must(write(master, "typed\n", 6));
	ready();
	wait_for_go();
	memset(&modes, 0, sizeof modes);
	must(ioctl(slave, get, &modes));
	check(modes.ispeed == 12345 && modes.ospeed == 12345, "the speeds are %u and %u", modes.ispeed, modes.ospeed);
	must(ioctl(slave, TIOCGLCKTRMIOS, &locks_now));
	check(locks_now.c_lflag == ECHO && !locks_now.c_iflag, "the locked modes are %x", locks_now.c_lflag);
	must(ioctl(slave, TIOCGEXCL, &exclusive));
	check(exclusive, "others may open it");
	must(ioctl(master, TIOCGPTLCK, &locked));
	check(locked, "it is not locked");
	read_exactly(slave, "typed\n", "the slave");
	pass();
}

_Noreturn static void hung_up(int master, int slave)
{
	struct pollfd polled = {.fd = slave, .events = POLLIN};
	struct termios modes;
	char byte;

	must(close(master));
	ready();
	wait_for_go();
	check_state();
	check(read(slave, &byte, 1) == 0, "a slave without a master is not at its end: %s", strerror(errno));
	check(write(slave, "x", 1) == -1 && errno == EIO, "a slave without a master can be written to");
	check(tcgetattr(slave, &modes) == -1 && errno == EIO, "a slave without a master has modes");
	check(poll(&polled, 1, 0) == 1 && (polled.revents & POLLHUP), "a slave without a master has not hung up");
	pass();
}

static bool takes_output(int slave)
{
	struct pollfd writable = {slave, POLLOUT, 0};

	must(poll(&writable, 1, 0));
	return writable.revents & POLLOUT;
}

/* Output goes on only when who has stopped it says so: whoever types ^Q, or the program. */
/* A session whose foreground group was killed, and its leader has not taken the terminal back yet. */
_Noreturn static void without_group(int master, int slave)
{
	pid_t leader, job;

	if ((leader = must(fork())) == 0) {
		must(close(master));
		must(setsid());
		must(ioctl(slave, TIOCSCTTY, 0));
		signal(SIGTTOU, SIG_IGN);
		if ((job = must(fork())) == 0)
			for (;;)
				pause();
		must(setpgid(job, job));
		must(tcsetpgrp(slave, job));
		must(kill(job, SIGKILL));
		must(waitpid(job, NULL, 0));
		*seen = 1;
		wait_for_go();
		check(tcgetsid(slave) == getpid(), "the terminal's session is %d", tcgetsid(slave));
		must(tcsetpgrp(slave, getpid()));
		check(tcgetpgrp(slave) == getpid(), "the foreground group is %d", tcgetpgrp(slave));
		_exit(differences_seen() != 0);
	}
	while (!*seen)
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	child_passed(leader);
	pass();
}

/* As by vhangup(2): who had the slave open has lost it, and the pair goes on for others. */
_Noreturn static void revoked(int master, int slave)
{
	int reader = must(open(ttyname(slave), O_RDONLY | O_NOCTTY)), copy = must(dup(slave)), later;
	struct pollfd polled = {.fd = slave, .events = POLLIN};
	struct termios modes;
	char byte;

	must(ioctl(slave, TIOCVHANGUP, 0));
	later = must(open(ptsname(master), O_RDWR | O_NOCTTY));
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < 2; i++) {
		int fd = i ? reader : copy;

		check(tcgetattr(fd, &modes) == -1 && errno == EIO, "a slave that has hung up has modes");
		check(read(fd, &byte, 1) == 0, "a slave that has hung up is not at its end: %s", strerror(errno));
	}
	check(write(slave, "x", 1) == -1 && errno == EIO, "a slave that has hung up can be written to");
	check(poll(&polled, 1, 0) == 1 && (polled.revents & POLLHUP), "a slave has not hung up");
	must(write(later, "x", 1));
	until_readable(master);
	read_exactly(master, "x", "the master");
	pass();
}

_Noreturn static void stopped(int master, int slave, bool by_typing)
{
	struct termios modes;

	must(tcgetattr(slave, &modes));
	modes.c_lflag &= ~(tcflag_t)ECHO;
	must(tcsetattr(slave, TCSANOW, &modes));
	must(write(master, "typed\n", 6));
	until_readable(slave);
	must(write(slave, "shown\n", 6));
	until_readable(master);
	if (by_typing)
		must(write(master, "\023", 1));
	else
		must(tcflow(slave, TCOOFF));
	while (takes_output(slave))
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	check(!takes_output(slave), "output is not stopped any more");
	read_exactly(master, "shown\r\n", "the master");
	read_exactly(slave, "typed\n", "the slave");
	must(write(master, "\021\n", 2));
	until_readable(slave);
	check(takes_output(slave) == by_typing, "^Q %s", by_typing ? "has no effect" : "lets output go on that a program has stopped");
	if (!by_typing)
		must(tcflow(slave, TCOON));
	check(takes_output(slave), "output does not go on");
	pass();
}

/*
 * The master of a pair in packet mode has not been told yet what was done: queues were flushed, output stopped and let go on, flow control was
 * taken away ("untold-stopped": output is stopped, and flow control came; "untold-literal": so it is, and ^S was typed before, and not read). Since then there is something in both queues.
 */
_Noreturn static void untold(int master, int slave, const char *how)
{
	bool stopped = *how, literal = !strcmp(how, "-literal");
	int on = 1;
	struct termios modes;
	char expected = stopped ? TIOCPKT_FLUSHREAD | TIOCPKT_STOP | TIOCPKT_DOSTOP
		: TIOCPKT_FLUSHREAD | TIOCPKT_FLUSHWRITE | TIOCPKT_START | TIOCPKT_NOSTOP;
	char text[64];

	must(fcntl(master, F_SETFL, O_NONBLOCK));
	must(tcgetattr(slave, &modes));
	modes.c_lflag &= ~(tcflag_t)ECHO;
	modes.c_iflag = stopped ? modes.c_iflag & ~(tcflag_t)IXON : modes.c_iflag | IXON;
	must(tcsetattr(slave, TCSANOW, &modes));
	must(ioctl(master, TIOCPKT, &on));
	must(tcflush(slave, stopped ? TCIFLUSH : TCIOFLUSH));
	must(write(slave, "shown\n", 6));
	must(write(master, literal ? "typ\023d\n\004half" : "typed\n\004half", 11));
	until_readable(slave);
	must(tcflow(slave, TCOOFF));
	if (!stopped)
		must(tcflow(slave, TCOON));
	modes.c_iflag ^= IXON;
	must(tcsetattr(slave, TCSANOW, &modes));
	ready();
	wait_for_go();
	check_state();
	check(read(master, text, 1) == 1 && *text == expected, "the status is %#x, was %#x", *text, expected);
	check(read(master, text, sizeof text) == 8 && !memcmp(text, "\0shown\r\n", 8), "the packet is \"%s\"", text + 1);
	check(read(master, text, sizeof text) == -1 && errno == EAGAIN, "the master reads more: %#x", *text);
	read_exactly(slave, literal ? "typ\023d\n" : "typed\n", "the slave");
	check(read(slave, text, sizeof text) == 0, "the slave does not read the end of a file");
	must(write(master, "\n", 1));
	read_exactly(slave, "half\n", "the slave");
	pass();
}

/* A master whose slave nobody has opened yet is not hung up. */
_Noreturn static void brand_new(void)
{
	int master = must(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK)), slave;
	char byte;

	must(unlockpt(master));
	ready();
	wait_for_go();
	check_state();
	check(read(master, &byte, 1) == -1 && errno == EAGAIN, "a master whose slave was never open reads errno %d", errno);
	slave = must(open(ptsname(master), O_RDWR | O_NOCTTY));
	must(write(slave, "x", 1));
	until_readable(master);
	read_exactly(master, "x", "the master");
	pass();
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "pair";
	struct winsize window = {33, 77, 5, 6}, window_now;
	struct termios modes, modes_now;
	int master, slave, again, number, on = 1;
	pid_t kid = 0;
	char text[64] = {0};

	seen = shared_memory(sizeof *seen);
	if (!strcmp(what, "new"))
		brand_new();
	must(openpty(&master, &slave, NULL, NULL, &window));
	if (!strcmp(what, "much"))
		much(master, slave);
	if (!strcmp(what, "hung-up"))
		hung_up(master, slave);
	if (!strcmp(what, "stopped") || !strcmp(what, "held"))
		stopped(master, slave, !strcmp(what, "stopped"));
	if (!strcmp(what, "without-group"))
		without_group(master, slave);
	if (!strcmp(what, "revoked"))
		revoked(master, slave);
	if (!strncmp(what, "untold", 6))
		untold(master, slave, what + 6);
	if (!strcmp(what, "modes"))
		special_modes(master, slave);
	must(fcntl(master, F_SETFL, O_NONBLOCK));
	number = number_of(master);
	must(tcgetattr(slave, &modes));
	modes.c_lflag &= ~(ECHO | ISIG);
	modes.c_cc[VINTR] = 7;
	modes.c_cc[VMIN] = 3;
	modes.c_cc[VERASE] = 0177;
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
			type_ahead(master);
			must(write(slave, "shown\n", 6));
			until_readable(master);
			until_readable(slave);
		}
		if (!strcmp(what, "packet"))
			must(write(slave, "shown\n", 6));
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
		check_typed(master, slave, again);
		read_exactly(master, "shown\r\n", "the master");
	}
	if (!strcmp(what, "packet")) {
		int packets = 0;

		must(ioctl(master, TIOCGPKT, &packets));
		check(packets == 1, "packet mode is off");
		check(read(master, text, sizeof text) == 8 && !memcmp(text, "\0shown\r\n", 8), "the packet is \"%s\"", text + 1);
	}
	check_state();
	if (kid)
		child_passed(kid);
	pass();
}
