/*
 * The three interval timers: interval and remaining time are kept (time that passed while dead does not count, time that
 * passed while running does), and they fire. With "one-shot", without interval.
 */
#include <sys/time.h>

#include "workload.h"

static volatile sig_atomic_t fired[3];

static void on_real(int sig)
{
	(void)sig;
	fired[ITIMER_REAL]++;
}

static void on_virtual(int sig)
{
	(void)sig;
	fired[ITIMER_VIRTUAL]++;
}

static void on_prof(int sig)
{
	(void)sig;
	fired[ITIMER_PROF]++;
}

static int64_t ms_of(struct timeval t)
{
	return (int64_t)t.tv_sec * 1000 + t.tv_usec / 1000;
}

static void burn_until(int which)
{
	int64_t limit = now_ms() + 60000;

	while (!fired[which] && now_ms() < limit)
		;
	check(fired[which], "timer %d did not fire", which);
}

int main(int argc, char **argv)
{
	bool one_shot = argc > 2;
	struct itimerval first[3] = {{{1, 250000}, {1, 500000}}, {{0, 700000}, {0, 400000}}, {{0, 900000}, {0, 500000}}};
	struct itimerval far = {{7, 0}, {3000, 123456}}, left;
	int64_t start;
	pid_t child;

	(void)argv;
	signal(SIGALRM, on_real);
	signal(SIGVTALRM, on_virtual);
	signal(SIGPROF, on_prof);
	if (one_shot)
		for (int i = 0; i < 3; i++)
			first[i].it_interval = (struct timeval){0, 0};
	/* Long ones in a child, to see the remaining time; short ones here, to see them fire. */
	if ((child = must(fork())) == 0) {
		for (int i = 0; i < 3; i++)
			must(setitimer(i, &far, NULL));
		start = now_ms();
		keep_state();
		wait_for_go();
		for (int i = 0; i < 3; i++) {
			must(getitimer(i, &left));
			check(ms_of(left.it_interval) == 7000, "timer %d: interval %ld ms", i, (long)ms_of(left.it_interval));
			/* The processor-time timers are set and read in ticks. */
			check(ms_of(left.it_value) <= 3000124 + 50, "timer %d: %ld ms are left, more than there were", i, (long)ms_of(left.it_value));
			check(ms_of(left.it_value) >= 3000123 - (i == ITIMER_REAL ? now_ms() - start : 1000) - 100, "timer %d: %ld ms are left, too few", i,
				(long)ms_of(left.it_value));
		}
		child_done();
	}
	until_it_waits(child);
	for (int i = 0; i < 3; i++)
		must(setitimer(i, &first[i], NULL));
	ready();
	wait_for_go();
	for (int i = 0; i < 3; i++) {
		must(getitimer(i, &left));
		check(ms_of(left.it_interval) == ms_of(first[i].it_interval), "timer %d: interval %ld ms, was %ld", i, (long)ms_of(left.it_interval),
			(long)ms_of(first[i].it_interval));
	}
	check(!fired[ITIMER_VIRTUAL], "the virtual timer fired before its time was used");
	burn_until(ITIMER_VIRTUAL);
	burn_until(ITIMER_PROF);
	burn_until(ITIMER_REAL);
	fired[ITIMER_REAL] = 0;
	if (one_shot) {
		must(getitimer(ITIMER_REAL, &left));
		check(ms_of(left.it_value) == 0, "a one-shot timer is armed again");
	} else {
		burn_until(ITIMER_REAL);
	}
	snapshot_ignores("itimer");
	child_passed(child);
	snapshot_ignores("task ");
	pass();
}
