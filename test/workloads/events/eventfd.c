/* Counters of every size, in both manners of reading, with and without O_NONBLOCK, and one shared by parent and child. */
#include <poll.h>
#include <sys/eventfd.h>

#include "workload.h"

struct counter {
	int fd, flags;
	uint64_t count;
};

static void ignore_number(int fd)
{
	char prefix[64];

	/* A number of the kernel's own for each eventfd. */
	snprintf(prefix, sizeof prefix, "fd %d eventfd-id", fd);
	snapshot_ignores(strdup(prefix));
}

static struct counter make(uint64_t count, int flags)
{
	struct counter one = {must(eventfd(0, flags)), flags, count};

	if (count)
		must(write(one.fd, &count, sizeof count));
	ignore_number(one.fd);
	return one;
}

static short polled(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};

	must(poll(&p, 1, 0));
	return p.revents;
}

static void look(struct counter one)
{
	uint64_t got = 0, add = 2, want = one.flags & EFD_SEMAPHORE ? 1 : one.count;
	bool full = one.count >= UINT64_MAX - 1;

	check(polled(one.fd) == ((one.count ? POLLIN : 0) | (full ? 0 : POLLOUT)), "counter %#lx: poll says %#x", one.count, polled(one.fd));
	must(fcntl(one.fd, F_SETFL, O_NONBLOCK));
	if (full)
		check(write(one.fd, &add, 8) < 0 && errno == EAGAIN, "a full counter could be written to");
	if (!one.count) {
		check(read(one.fd, &got, 8) < 0 && errno == EAGAIN, "a counter of 0 could be read");
		return;
	}
	check(read(one.fd, &got, 8) == 8 && got == want, "counter %#lx: read %#lx", one.count, got);
	if (one.flags & EFD_SEMAPHORE && one.count > 1)
		check(read(one.fd, &got, 8) == 8 && got == 1, "a semaphore of %#lx: read %#lx the second time", one.count, got);
}

int main(int argc, char **argv)
{
	static const uint64_t small[] = {0, 1, 3, 0xffffffff}, wide[] = {0x100000000, 0x123456789abcdef, UINT64_MAX - 1};
	bool is_wide = argc > 2 && !strcmp(argv[2], "wide"), is_semaphore = argc > 2 && !strcmp(argv[2], "semaphore");
	const uint64_t *counts = is_wide ? wide : small;
	unsigned many = is_wide ? 3 : 4, made = 0;
	struct counter all[16], shared;
	uint64_t got;
	pid_t kid;

	for (unsigned i = 0; i < many; i++) {
		all[made++] = make(counts[i], is_semaphore ? EFD_SEMAPHORE : 0);
		all[made++] = make(counts[i], EFD_NONBLOCK | EFD_CLOEXEC | (is_semaphore ? EFD_SEMAPHORE : 0));
	}
	shared = make(0, 0);
	kid = must(fork());
	if (!kid) {
		check(read(shared.fd, &got, 8) == 8 && got == 77, "the child read %lu", got);
		_exit(differences_seen() != 0);
	}
	until_asleep(kid);
	ready();
	wait_for_go();
	check_state();
	for (unsigned i = 0; i < made; i++)
		look(all[i]);
	got = 77;
	must(write(shared.fd, &got, 8));
	child_passed(kid);
	pass();
}
