/*
 * Timers to read from: every clock, one-shot and periodic, relative and absolute, expired and not yet read, stopped.
 * The name of a clock is the argument.
 */
#include <poll.h>
#include <sys/timerfd.h>

#include "workload.h"

static clockid_t the_clock;
static int64_t set_at;

static int make(int64_t first_ms, int64_t every_ms, int flags)
{
	struct itimerspec value = {{every_ms / 1000, every_ms % 1000 * 1000000}, {first_ms / 1000, first_ms % 1000 * 1000000}};
	int fd = must(timerfd_create(the_clock, TFD_NONBLOCK));
	struct timespec now;
	char prefix[64];

	snprintf(prefix, sizeof prefix, "fd %d it_value", fd);
	snapshot_ignores(strdup(prefix));
	snprintf(prefix, sizeof prefix, "fd %d ticks", fd);
	if (every_ms && every_ms < 1000)
		snapshot_ignores(strdup(prefix));
	if (flags & TFD_TIMER_ABSTIME) {
		must(clock_gettime(the_clock == CLOCK_REALTIME_ALARM ? CLOCK_REALTIME : the_clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME : the_clock, &now));
		value.it_value.tv_sec += now.tv_sec;
		value.it_value.tv_nsec += now.tv_nsec;
		if (value.it_value.tv_nsec >= 1000000000)
			value.it_value.tv_sec++, value.it_value.tv_nsec -= 1000000000;
	}
	if (first_ms)
		must(timerfd_settime(fd, flags, &value, NULL));
	return fd;
}

/* How many expirations there are to read. */
static uint64_t ticks(int fd)
{
	uint64_t got = 0;

	if (read(fd, &got, 8) < 0)
		check(errno == EAGAIN, "fd %d: %s", fd, strerror(errno));
	return got;
}

static void left(int fd, int64_t first_ms, int64_t every_ms)
{
	struct itimerspec now;
	int64_t value, want = first_ms - (now_ms() - set_at);

	must(timerfd_gettime(fd, &now));
	value = (int64_t)now.it_value.tv_sec * 1000 + now.it_value.tv_nsec / 1000000;
	check(now.it_interval.tv_sec * 1000 + now.it_interval.tv_nsec / 1000000 == every_ms, "fd %d: another interval", fd);
	if (first_ms)
		/* Time does not pass between dump and restore: as much as that more may be left. */
		check(value >= want - 1000 && value <= first_ms, "fd %d: %ld ms left, not %ld", fd, value, want);
	else
		check(value == 0, "fd %d: %ld ms left of a stopped timer", fd, value);
}

int main(int argc, char **argv)
{
	static const struct { const char *name; clockid_t clock; } clocks[] = {
		{"monotonic", CLOCK_MONOTONIC}, {"realtime", CLOCK_REALTIME}, {"boottime", CLOCK_BOOTTIME},
		{"realtime-alarm", CLOCK_REALTIME_ALARM}, {"boottime-alarm", CLOCK_BOOTTIME_ALARM}};
	int stopped, far, far_periodic, absolute, once, unread, periodic, cancelled = -1;
	uint64_t got;
	struct pollfd p;

	for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++)
		if (argc > 2 && !strcmp(argv[2], clocks[i].name))
			the_clock = clocks[i].clock;
	set_at = now_ms();
	stopped = make(0, 0, 0);
	far = make(500000, 0, 0);
	far_periodic = make(600000, 3000, 0);
	absolute = make(700000, 5000, TFD_TIMER_ABSTIME);
	once = make(1, 0, 0);
	unread = make(1, 400000, 0);
	periodic = make(20, 20, 0);
	if (the_clock == CLOCK_REALTIME)
		cancelled = make(800000, 0, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	sleep_ms(100);
	ready();
	wait_for_go();
	check_state();
	left(stopped, 0, 0);
	left(far, 500000, 0);
	left(far_periodic, 600000, 3000);
	left(absolute, 700000, 5000);
	if (cancelled >= 0)
		left(cancelled, 800000, 0);
	check(ticks(stopped) == 0 && ticks(far) == 0 && ticks(far_periodic) == 0 && ticks(absolute) == 0, "a timer expired too early");
	got = ticks(once);
	check(got == 1, "a timer expired %lu times instead of once", got);
	check(ticks(once) == 0, "a timer expired again");
	got = ticks(unread);
	check(got == 1, "%lu expirations of a slow timer", got);
	left(unread, 400001, 400000);
	got = ticks(periodic);
	/* Those missed since it expired are counted when somebody asks: the peer does not ask. */
	check(got >= 1 && got <= (uint64_t)(now_ms() - set_at) / 20 + 1, "%lu expirations in %ld ms", got, now_ms() - set_at);
	for (int i = 0; i < 3; i++) {
		p = (struct pollfd){periodic, POLLIN, 0};
		check(poll(&p, 1, 5000) == 1, "a periodic timer does not go on");
		check(ticks(periodic) > 0, "a periodic timer wakes without expiration");
	}
	pass();
}
