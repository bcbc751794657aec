/*
 * POSIX timers and timerfds on every clock that there is, periodic, absolute and off; the processor time of another process and of its
 * thread; identifiers with holes; a timer with the largest identifier so far.
 */
#include <sys/timerfd.h>

#include "workload.h"

#ifndef CLOCK_TAI
#define CLOCK_TAI 11
#endif

enum { FAR_S = 100000, EVERY_S = 500, HOLES = 300 };

struct timer {
	const char *name;
	clockid_t clock;
	bool absolute, on, is_file;
	int id;
};

static struct timer timers[64];
static int count;

static void make(const char *name, clockid_t clock, bool absolute, bool on, bool is_file)
{
	struct timer *t = &timers[count];
	struct itimerspec value = {{EVERY_S, 0}, {FAR_S, 0}};
	struct sigevent event = {.sigev_notify = SIGEV_NONE};
	struct timespec now;
	long got;

	if (clock_gettime(clock, &now) < 0) {
		note("no %s here: %s", name, strerror(errno));
		return;
	}
	got = is_file ? timerfd_create(clock, 0) : syscall(SYS_timer_create, clock, &event, &t->id);

	if (got < 0) {
		note("no %s here: %s", name, strerror(errno));
		return;
	}
	*t = (struct timer){name, clock, absolute, on, is_file, is_file ? (int)got : t->id};
	count++;
	if (!on)
		return;
	if (absolute)
		value.it_value.tv_sec += now.tv_sec;
	must(is_file ? timerfd_settime(t->id, absolute ? TFD_TIMER_ABSTIME : 0, &value, NULL)
		: (int)syscall(SYS_timer_settime, t->id, absolute ? TIMER_ABSTIME : 0, &value, NULL));
}

static void judge(const struct timer *t)
{
	struct itimerspec value;
	long left;

	memset(&value, 0, sizeof value);
	must(t->is_file ? timerfd_gettime(t->id, &value) : (int)syscall(SYS_timer_gettime, t->id, &value));
	left = value.it_value.tv_sec;
	check(value.it_interval.tv_sec == (t->on ? EVERY_S : 0), "%s: every %ld s", t->name, value.it_interval.tv_sec);
	check(t->on ? left > FAR_S - 1000 && left <= FAR_S : left == 0, "%s: %ld s are left", t->name, left);
}

int main(void)
{
	static const struct {
		const char *name;
		clockid_t clock;
	} clocks[] = {
		{"CLOCK_REALTIME", CLOCK_REALTIME}, {"CLOCK_MONOTONIC", CLOCK_MONOTONIC}, {"CLOCK_BOOTTIME", CLOCK_BOOTTIME},
		{"CLOCK_TAI", CLOCK_TAI}, {"CLOCK_REALTIME_ALARM", CLOCK_REALTIME_ALARM}, {"CLOCK_BOOTTIME_ALARM", CLOCK_BOOTTIME_ALARM},
		{"CLOCK_PROCESS_CPUTIME_ID", CLOCK_PROCESS_CPUTIME_ID}, {"CLOCK_THREAD_CPUTIME_ID", CLOCK_THREAD_CPUTIME_ID},
	};
	struct sigevent quiet = {.sigev_notify = SIGEV_NONE};
	static int holes[HOLES];
	clockid_t others;
	pid_t child = must(fork());
	int status;

	if (child == 0)
		for (;;)
			pause();
	for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
		for (int hole = 0; hole < HOLES / 10; hole++) {
			must(syscall(SYS_timer_create, CLOCK_MONOTONIC, &quiet, &holes[hole]));
			must(syscall(SYS_timer_delete, holes[hole]));
		}
		make(clocks[i].name, clocks[i].clock, false, true, false);
		make(clocks[i].name, clocks[i].clock, true, true, false);
		make(clocks[i].name, clocks[i].clock, false, false, false);
		if (i >= sizeof clocks / sizeof *clocks - 2)
			continue;
		make(clocks[i].name, clocks[i].clock, false, true, true);
		make(clocks[i].name, clocks[i].clock, true, true, true);
		make(clocks[i].name, clocks[i].clock, false, false, true);
	}
	must_zero(clock_getcpuclockid(child, &others));
	make("the clock of a child", others, false, true, false);
	snapshot_ignores("fd ");
	/* The clock of a thread has two names. */
	snapshot_ignores("timer ClockID: -");
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < count; i++)
		judge(&timers[i]);
	must(kill(child, SIGKILL));
	must(waitpid(child, &status, 0));
	pass();
}
