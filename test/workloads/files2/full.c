/*
 * A descriptor table without a free place, or (second argument) with so many; then with one number above all others. The limit
 * is below the highest number.
 */
#include <sys/resource.h>

#include "workload.h"

int main(int argc, char **argv)
{
	int room = argc > 2 ? atoi(argv[2]) : 0, last = -1, fd;
	struct rlimit limit = {48, 48};
	char *memory = must(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	fill_pattern(memory, 1 << 20, 1);
	fd = must(open("/dev/zero", O_RDONLY));
	must(dup2(fd, 900));
	must(setrlimit(RLIMIT_NOFILE, &limit));
	snapshot_ignores("fd ");
	snapshot_ignores("fds ");
	/* With a full table there is no looking into it. */
	keep_state();
	while ((fd = open("/dev/null", O_RDWR)) >= 0)
		last = fd;
	for (int i = 0; i < room; i++)
		must(close(last--));
	must(write(1, "ready\n", 6));
	while (!go_given()) {
		struct timespec nap = {0, 10000000};

		nanosleep(&nap, NULL);
		check(fcntl(last, F_GETFD) == 0, "descriptor %d is gone", last);
	}
	for (int i = 0; i <= last; i++)
		check(fcntl(i, F_GETFD) >= 0, "descriptor %d is gone", i);
	for (int i = last + 1; i < 48; i++)
		check(fcntl(i, F_GETFD) == -1, "descriptor %d is new", i);
	check(fcntl(900, F_GETFD) == 0, "the high descriptor is gone");
	check_pattern(memory, 1 << 20, 1, "memory");
	for (int i = 10; i <= last; i++)
		close(i);
	pass();
}
