/*
 * Hundreds of timers that fire once, a moment apart, while the process is frozen, dumped, restored: each signal comes
 * exactly once, whether its timer had fired before, or fires afterwards, or fired in the middle.
 */
#include "workload.h"

enum { TIMERS = 1500, FIRST_MS = 100, STEP_US = 1000, SIGNAL = 40 };

static int came[TIMERS];

static void make(int index)
{
	long us = FIRST_MS * 1000l + (long)index * STEP_US;
	struct itimerspec value = {{0, 0}, {us / 1000000, us % 1000000 * 1000}};
	struct sigevent event;
	int id = -1;

	memset(&event, 0, sizeof event);
	event.sigev_notify = SIGEV_SIGNAL;
	event.sigev_signo = SIGNAL;
	event.sigev_value.sival_int = index;
	must(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id));
	must(syscall(SYS_timer_settime, id, 0, &value, NULL));
}

int main(void)
{
	uint64_t blocked = 1ull << (SIGNAL - 1);
	struct timespec patience = {1, 0};
	unsigned lost = 0, twice = 0;
	siginfo_t info;
	char pending[40];

	must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, 8));
	snprintf(pending, sizeof pending, "task %d ShdPnd:", getpid());
	snapshot_ignores(pending);
	for (int i = 0; i < TIMERS; i++)
		make(i);
	ready();
	wait_for_go();
	check_state();
	for (;;) {
		long got = syscall(SYS_rt_sigtimedwait, &blocked, &info, &patience, 8);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		if (check(info.si_code == SI_TIMER && info.si_value.sival_int >= 0 && info.si_value.sival_int < TIMERS, "signal with code %d value %d",
			info.si_code, info.si_value.sival_int))
			came[info.si_value.sival_int]++;
	}
	for (int i = 0; i < TIMERS; i++) {
		lost += came[i] == 0;
		twice += came[i] > 1;
	}
	check(lost == 0 && twice == 0, "of %d signals %u were lost, %u came more than once", TIMERS, lost, twice);
	pass();
}
