/*
 * POSIX timers: identifiers with gaps, clocks, intervals, remaining times, notification by signal, to a thread and none,
 * absolute ones, an overrun count that goes on counting.
 */
#include <pthread.h>

#include "workload.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { SOON_MS = 1200 };

static volatile bool thread_up, looked;
static volatile pid_t thread_tid;
static volatile int thread_got;

static int make(clockid_t clock, int notify, int sig, long value, pid_t tid)
{
	struct sigevent event;
	int id = -1;

	memset(&event, 0, sizeof event);
	event.sigev_notify = notify;
	event.sigev_signo = sig;
	event.sigev_value.sival_ptr = (void *)value;
	if (notify == SIGEV_THREAD_ID)
		event.sigev_notify_thread_id = tid;
	must(syscall(SYS_timer_create, clock, &event, &id));
	return id;
}

static void arm(int id, int flags, int64_t first_ms, int64_t every_ms)
{
	struct itimerspec value = {{every_ms / 1000, every_ms % 1000 * 1000000}, {first_ms / 1000, first_ms % 1000 * 1000000}};

	must(syscall(SYS_timer_settime, id, flags, &value, NULL));
}

static int64_t left(int id, int64_t *interval)
{
	struct itimerspec value;

	memset(&value, 0, sizeof value);
	if (!check(syscall(SYS_timer_gettime, id, &value) == 0, "timer %d is gone: %s", id, strerror(errno)))
		return -1;
	if (interval)
		*interval = (int64_t)value.it_interval.tv_sec * 1000 + value.it_interval.tv_nsec / 1000000;
	return (int64_t)value.it_value.tv_sec * 1000 + value.it_value.tv_nsec / 1000000;
}

static void *thread(void *unused)
{
	uint64_t one = 1ull << (45 - 1);
	siginfo_t info;
	struct timespec wait = {15, 0};

	thread_tid = gettid_now();
	thread_up = true;
	while (!looked)
		sleep_ms(2);
	while (syscall(SYS_rt_sigtimedwait, &one, &info, &wait, 8) < 0 && errno == EINTR)
		;
	thread_got = info.si_value.sival_int;
	return unused;
}

static siginfo_t take(int sig)
{
	uint64_t one = 1ull << (sig - 1);
	struct timespec wait = {15, 0};
	siginfo_t info;

	memset(&info, 0, sizeof info);
	while (syscall(SYS_rt_sigtimedwait, &one, &info, &wait, 8) < 0 && errno == EINTR)
		;
	return info;
}

/* The timers that fire once may do so while we look, however soon that is: from then on their signals are pending. */
static void expect_fired(void)
{
	static char lines[3][40];

	snprintf(lines[0], sizeof lines[0], "task %d ShdPnd:", getpid());
	snprintf(lines[1], sizeof lines[1], "task %d ShdPnd:", thread_tid);
	snprintf(lines[2], sizeof lines[2], "task %d SigPnd:", thread_tid);
	for (int i = 0; i < 3; i++)
		snapshot_ignores(lines[i]);
}

int main(void)
{
	uint64_t blocked = 1ull << (SIGUSR1 - 1) | 1ull << (44 - 1) | 1ull << (45 - 1) | 1ull << (46 - 1);
	int unused1, unused2, silent, far, soon, to_thread, fast, off, real;
	int64_t start, interval = 0, remains;
	struct timespec wall;
	siginfo_t info;
	pthread_t other;

	must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, 8));
	must_zero(pthread_create(&other, NULL, thread, NULL));
	while (!thread_up)
		sleep_ms(1);
	unused1 = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 0, 0);
	silent = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
	unused2 = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 0, 0);
	far = make(CLOCK_REALTIME, SIGEV_SIGNAL, 46, 0x46, 0);
	soon = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 0xabcd, 0);
	to_thread = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, 45, 4545, thread_tid);
	fast = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, 44, 0x44, 0);
	off = make(CLOCK_BOOTTIME, SIGEV_SIGNAL, 46, 0, 0);
	real = make(CLOCK_REALTIME, SIGEV_NONE, 0, 0, 0);
	must(syscall(SYS_timer_delete, unused1));
	must(syscall(SYS_timer_delete, unused2));
	start = now_ms();
	arm(silent, 0, 500000, 60000);
	arm(far, 0, 900000, 0);
	arm(soon, 0, SOON_MS, 0);
	arm(to_thread, 0, SOON_MS + 100, 0);
	arm(fast, 0, 5, 5);
	must(clock_gettime(CLOCK_REALTIME, &wall));
	arm(real, TIMER_ABSTIME, ((int64_t)wall.tv_sec + 5000) * 1000, 0);
	sleep_ms(100);
	ready();
	wait_for_go();
	expect_fired();
	check_state();
	looked = true;
	remains = left(silent, &interval);
	check(interval == 60000, "the silent timer's interval is %ld ms", (long)interval);
	check(remains <= 500000 && remains >= 500000 - (now_ms() - start) - 50, "the silent timer has %ld ms left", (long)remains);
	remains = left(far, &interval);
	check(interval == 0 && remains <= 900000 && remains >= 900000 - (now_ms() - start) - 50, "the far timer has %ld ms left", (long)remains);
	remains = left(real, NULL);
	check(remains <= 5000000 && remains >= 5000000 - (now_ms() - start) - 1100, "the absolute timer has %ld ms left", (long)remains);
	check(left(off, NULL) == 0, "a timer that was off is armed");
	info = take(44);
	check(info.si_code == SI_TIMER && info.si_value.sival_ptr == (void *)0x44 && info.si_timerid == fast, "the fast timer: code %d value %p id %d",
		info.si_code, info.si_value.sival_ptr, info.si_timerid);
	/* The kernel counts overruns while the signal is pending in its own queue: a signal queued again on restore has none. */
	check(info.si_overrun >= 10 || was_restored(), "the fast timer ran over %d times only", info.si_overrun);
	info = take(44);
	check(info.si_code == SI_TIMER, "the fast timer does not go on");
	arm(fast, 0, 0, 0);
	info = take(SIGUSR1);
	check(info.si_code == SI_TIMER && info.si_value.sival_ptr == (void *)0xabcd && info.si_timerid == soon, "the soon timer: code %d value %p id %d",
		info.si_code, info.si_value.sival_ptr, info.si_timerid);
	check(now_ms() - start >= SOON_MS - 5, "the soon timer fired after %ld ms", (long)(now_ms() - start));
	must_zero(pthread_join(other, NULL));
	check(thread_got == 4545, "the thread's timer brought %d", thread_got);
	pass();
}
