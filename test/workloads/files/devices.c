/* The devices without state, open in different ways, mapped too. */
#include "workload.h"

static const char *const names[] = {"null", "zero", "full", "random", "urandom"};
enum { ALL = sizeof names / sizeof *names };

int main(void)
{
	int reading[ALL], both[ALL];
	char *zero;

	for (int i = 0; i < ALL; i++) {
		char path[32];
		snprintf(path, sizeof path, "/dev/%s", names[i]);
		reading[i] = must(open(path, O_RDONLY | (i % 2 ? O_CLOEXEC : O_NONBLOCK)));
		both[i] = must(open(path, O_RDWR | O_APPEND));
	}
	zero = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, both[1], 0));
	fill_pattern(zero, 4096, 5);
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < ALL; i++) {
		char text[256] = "not yet";
		ssize_t want = i == 0 ? 0 : 64, got = read(reading[i], text, 64), wrote;
		check(got == want, "/dev/%s: read gave %zd", names[i], got);
		check(i < 1 || i > 2 || (text[0] == 0 && text[63] == 0), "/dev/%s: read something else than zeros", names[i]);
		wrote = write(both[i], "data", 4);
		check(i == 2 ? wrote < 0 && errno == ENOSPC : wrote == 4, "/dev/%s: write gave %zd", names[i], wrote);
	}
	check_pattern(zero, 4096, 5, "the private mapping of /dev/zero");
	check(zero[4096] == 0, "a page of /dev/zero that was never written");
	pass();
}
