/* Leases for reading and writing, at rest and while somebody breaks them; nobody is told of the breaking again. */
#include "workload.h"

static volatile sig_atomic_t told;

static void on_signal(int signal)
{
	(void)signal;
	told++;
}

static int lease(const char *name, int flags, int type)
{
	int fd = must(open(name, flags | O_CREAT | O_EXCL, 0600));

	must(fcntl(fd, F_SETLEASE, type));
	return fd;
}

static void check_lease(int fd, int expected)
{
	int now = must(fcntl(fd, F_GETLEASE));

	check(now == expected, "the lease of fd %d is %d, not %d", fd, now, expected);
}

int main(int argc, char **argv)
{
	bool breaking = argc > 2 && !strcmp(argv[2], "breaking");
	int reading, writing, to_nothing, to_reading, from_reading, already;

	signal(SIGIO, on_signal);
	reading = lease("reading", O_RDONLY, F_RDLCK);
	writing = lease("writing", O_RDWR, F_WRLCK);
	to_nothing = lease("to-nothing", O_RDWR, F_WRLCK);
	to_reading = lease("to-reading", O_RDWR, F_WRLCK);
	from_reading = lease("from-reading", O_RDONLY, F_RDLCK);
	must(fcntl(must(dup(reading)), F_GETLEASE));
	if (!breaking)
		goto set_up;
	check(open("to-nothing", O_WRONLY | O_NONBLOCK) < 0 && errno == EWOULDBLOCK, "the lease was not broken");
	check(open("to-reading", O_RDONLY | O_NONBLOCK) < 0 && errno == EWOULDBLOCK, "the lease was not broken");
	check(open("from-reading", O_RDWR | O_NONBLOCK) < 0 && errno == EWOULDBLOCK, "the lease was not broken");
	check(told == 3, "told %d times", (int)told);
set_up:
	already = told;
	ready();
	wait_for_go();
	check(told == already, "told of the breaking again, %d times", (int)told);
	check_state();
	check_lease(reading, F_RDLCK);
	check_lease(writing, F_WRLCK);
	check_lease(to_nothing, breaking ? F_UNLCK : F_WRLCK);
	check_lease(to_reading, breaking ? F_RDLCK : F_WRLCK);
	check_lease(from_reading, breaking ? F_UNLCK : F_RDLCK);
	check(open("writing", O_RDONLY | O_NONBLOCK) < 0 && errno == EWOULDBLOCK, "the lease for writing holds nobody back");
	check(told == already + 1, "not told of the breaking, %d times", (int)told);
	must(fcntl(to_nothing, F_SETLEASE, F_UNLCK));
	must(close(must(open("to-nothing", O_WRONLY | O_NONBLOCK))));
	must(fcntl(to_reading, F_SETLEASE, F_UNLCK));
	must(close(must(open("to-reading", O_RDONLY | O_NONBLOCK))));
	must(unlink("reading"));
	must(unlink("writing"));
	must(unlink("to-nothing"));
	must(unlink("to-reading"));
	must(unlink("from-reading"));
	pass();
}
