/*
 * Periodic timers of the process and of its thread whose signals wait: how many periods they have missed is told when the signal is taken,
 * those before a death included.
 */
#include "workload.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { EVERY_MS = 20, WAITED_MS = 300, FIRST_SIGNAL = 40, TIMERS = 3 };

static int ids[TIMERS];

static void make(int which)
{
	static const clockid_t clocks[TIMERS] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME};
	struct itimerspec value = {{0, EVERY_MS * 1000000}, {0, EVERY_MS * 1000000}};
	struct sigevent event = {.sigev_notify = which == 1 ? SIGEV_THREAD_ID : SIGEV_SIGNAL, .sigev_signo = FIRST_SIGNAL + which};

	event.sigev_notify_thread_id = gettid_now();
	must(syscall(SYS_timer_create, clocks[which], &event, &ids[which]));
	must(syscall(SYS_timer_settime, ids[which], 0, &value, NULL));
}

int main(void)
{
	uint64_t blocked = 7ull << (FIRST_SIGNAL - 1);
	int64_t start;

	must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, 8));
	start = now_ms();
	for (int i = 0; i < TIMERS; i++)
		make(i);
	sleep_ms(WAITED_MS);
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < TIMERS; i++) {
		struct timespec now = {0, 0};
		uint64_t one = 1ull << (FIRST_SIGNAL + i - 1);
		siginfo_t info;
		long got = syscall(SYS_rt_sigtimedwait, &one, &info, &now, 8);
		int most = (int)((now_ms() - start) / EVERY_MS);

		check(got == FIRST_SIGNAL + i && info.si_code == SI_TIMER && info.si_timerid == ids[i], "timer %d: signal %ld, code %d", i, got, info.si_code);
		check(info.si_overrun >= WAITED_MS / EVERY_MS - 2 && info.si_overrun <= most, "timer %d has missed %d periods, of %d", i, info.si_overrun, most);
		check(syscall(SYS_timer_getoverrun, ids[i]) == info.si_overrun, "timer %d: the last overrun is %ld", i, syscall(SYS_timer_getoverrun, ids[i]));
	}
	pass();
}
