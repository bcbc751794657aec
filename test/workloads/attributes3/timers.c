/*
 * POSIX timers of threads: on the processor time of the process, of each thread, of another thread; one whose thread has
 * ended; a periodic one whose signal is queued, once, and stays queued once.
 */
#include <pthread.h>

#include "workload.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define SIGNAL_QUEUED 40

static volatile int up;
static volatile bool looked;
static int thread_timer = -1, deaf_timer = -1;

static int make(clockid_t clock, int notify, int sig, pid_t tid, int64_t first_ms, int64_t every_ms)
{
	struct itimerspec value = {{every_ms / 1000, every_ms % 1000 * 1000000}, {first_ms / 1000, first_ms % 1000 * 1000000}};
	struct sigevent event;
	int id = -1;

	memset(&event, 0, sizeof event);
	event.sigev_notify = notify;
	event.sigev_signo = sig;
	event.sigev_value.sival_int = sig;
	if (notify == SIGEV_THREAD_ID)
		event.sigev_notify_thread_id = tid;
	must(syscall(SYS_timer_create, clock, &event, &id));
	must(syscall(SYS_timer_settime, id, 0, &value, NULL));
	return id;
}

static int64_t left_us(int id)
{
	struct itimerspec value;

	memset(&value, 0, sizeof value);
	check(syscall(SYS_timer_gettime, id, &value) == 0, "timer %d is gone", id);
	return (int64_t)value.it_value.tv_sec * 1000000 + value.it_value.tv_nsec / 1000;
}

static void burn(clockid_t clock, int64_t ms)
{
	struct timespec start, now;

	clock_gettime(clock, &start);
	do
		clock_gettime(clock, &now);
	while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < ms);
}

static void *ended(void *unused)
{
	deaf_timer = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, 41, gettid_now(), 3600000, 0);
	return unused;
}

static void *thread(void *unused)
{
	int64_t before, after;

	thread_timer = make(CLOCK_THREAD_CPUTIME_ID, SIGEV_THREAD_ID, 42, gettid_now(), 5000, 0);
	__atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
	/* Hardly any processor time: that is compared with the main thread's. */
	while (!looked)
		sleep_ms(50);
	before = left_us(thread_timer);
	burn(CLOCK_THREAD_CPUTIME_ID, 30);
	after = left_us(thread_timer);
	check(before <= 5000000 && before - after >= 29000 && before - after < 200000, "the thread's timer went from %ld to %ld us", (long)before, (long)after);
	return unused;
}

static int queued(int sig)
{
	uint64_t one = 1ull << (sig - 1);
	struct timespec none = {0, 0};
	siginfo_t info;
	int count = 0;

	while (syscall(SYS_rt_sigtimedwait, &one, &info, &none, 8) > 0) {
		check(info.si_code == SI_TIMER && info.si_value.sival_int == sig, "a signal has code %d and value %d", info.si_code, info.si_value.sival_int);
		check(info.si_overrun > 0, "no overruns were counted");
		count++;
	}
	return count;
}

int main(void)
{
	uint64_t blocked = 1ull << (SIGNAL_QUEUED - 1) | 1ull << (41 - 1) | 1ull << (42 - 1) | 1ull << (43 - 1);
	int whole, own, others, periodic;
	int64_t before, after, own_before, others_before;
	pthread_t one, two;
	clockid_t clock;

	must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, 8));
	must_zero(pthread_create(&one, NULL, ended, NULL));
	must_zero(pthread_join(one, NULL));
	must_zero(pthread_create(&two, NULL, thread, NULL));
	while (up < 1)
		sleep_ms(1);
	must_zero(pthread_getcpuclockid(two, &clock));
	whole = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, 43, 0, 100000, 0);
	own = make(CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, 43, 0, 100000, 0);
	others = make(clock, SIGEV_NONE, 0, 0, 100000, 0);
	periodic = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGNAL_QUEUED, 0, 5, 1000);
	sleep_ms(30);
	/* The clock of a thread has two names, and a timer that can signal nobody any more need not say so. */
	snapshot_ignores("timer ClockID: -");
	snapshot_ignores("timer notify: ");
	ready();
	wait_for_go();
	check_state();
	sleep_ms(1100);
	check(queued(SIGNAL_QUEUED) == 1, "the periodic timer's signal is not queued once");
	check(left_us(periodic) > 0 && left_us(periodic) <= 1000000, "the periodic timer has %ld us left", (long)left_us(periodic));
	before = left_us(whole);
	own_before = left_us(own);
	others_before = left_us(others);
	burn(CLOCK_THREAD_CPUTIME_ID, 30);
	after = left_us(whole);
	check(before <= 100000000 && before - after >= 29000, "the process's timer went from %ld to %ld us", (long)before, (long)after);
	check(own_before - left_us(own) >= 29000, "the main thread's timer stands still");
	check(others_before - left_us(others) < 20000, "the other thread's timer counts the main thread's time");
	check(left_us(deaf_timer) > 0, "the timer of a thread that ended has run off");
	looked = true;
	must_zero(pthread_join(two, NULL));
	pass();
}
