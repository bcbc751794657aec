/*
 * Clocks that never jump back. Argument: by how many seconds they must have jumped forward at some time (of an edited image);
 * "prepared": with another time namespace for children, which is to be refused.
 */
#include <sched.h>

#include "workload.h"

static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE};
enum { CLOCKS = sizeof clocks / sizeof *clocks };

static double seconds(const struct timespec *t)
{
	return (double)t->tv_sec + (double)t->tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double expected = 0, last[CLOCKS] = {0}, jump = 0;

	if (argc > 2 && !strcmp(argv[2], "prepared"))
		must(unshare(0x80));
	else if (argc > 2)
		expected = atof(argv[2]);
	snapshot_ignores("link ns/time");
	/* The kernel shows its data pages in another way within a namespace. */
	snapshot_ignores("map");
	ready();
	while (!go_given()) {
		for (int i = 0; i < CLOCKS; i++) {
			struct timespec by_vdso, by_call;

			must(clock_gettime(clocks[i], &by_vdso));
			must(syscall(SYS_clock_gettime, clocks[i], &by_call));
			check(seconds(&by_vdso) >= last[i], "clock %d jumps back by %f s", clocks[i], last[i] - seconds(&by_vdso));
			check(seconds(&by_call) - seconds(&by_vdso) > -0.02 && seconds(&by_call) - seconds(&by_vdso) < 30, "clock %d: the vdso is %f s away",
			      clocks[i], seconds(&by_call) - seconds(&by_vdso));
			if (last[i] != 0 && i == 0 && seconds(&by_vdso) - last[i] > jump)
				jump = seconds(&by_vdso) - last[i];
			last[i] = seconds(&by_call);
		}
		sleep_ms(2);
	}
	check(jump >= expected && jump < expected + 60, "the largest step was %f s, not %f", jump, expected);
	pass();
}
