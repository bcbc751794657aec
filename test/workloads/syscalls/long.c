/*
 * Sleeps of 1000 seconds, each in a process of its own: what is left of them becomes less and less, however often the process is
 * killed and restored. Those that can tell say so at the end, when a signal ends them.
 */
#include <linux/futex.h>
#include <poll.h>

#include "workload.h"

enum { LONG_S = 1000, SLEPT_MS = 200 };

static void handle(int sig)
{
	(void)sig;
}

static int64_t ms_of(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct timespec rest;

static int do_nanosleep(void)
{
	struct timespec t = {LONG_S, 0};
	return nanosleep(&t, &rest) < 0 ? errno : 0;
}

static int do_clock_nanosleep(void)
{
	struct timespec t = {LONG_S, 0};
	return clock_nanosleep(CLOCK_BOOTTIME, 0, &t, &rest);
}

static int do_without_rest(void)
{
	struct timespec t = {LONG_S, 0};
	return nanosleep(&t, NULL) < 0 ? errno : 0;
}

static int do_poll(void)
{
	return poll(NULL, 0, LONG_S * 1000) < 0 ? errno : 0;
}

static int do_futex(void)
{
	struct timespec t = {LONG_S, 0};
	uint32_t word = 1;

	return syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, &t, NULL, 0) < 0 ? errno : 0;
}

static const struct {
	const char *name;
	int (*call)(void);
	bool tells;
} calls[] = {
	{"nanosleep", do_nanosleep, true}, {"clock_nanosleep", do_clock_nanosleep, true}, {"nanosleep without rest", do_without_rest, false},
	{"poll", do_poll, false}, {"futex", do_futex, false},
};
enum { CALLS = sizeof calls / sizeof *calls };

static _Noreturn void sleeper(int which, volatile int *told)
{
	struct sigaction sa = {.sa_handler = handle};
	int error;

	must(sigaction(SIGUSR1, &sa, NULL));
	error = calls[which].call();
	check(*told, "%s ended by itself with %d (%s)", calls[which].name, error, strerror(error));
	check(error == EINTR, "%s ended with %d (%s)", calls[which].name, error, strerror(error));
	if (calls[which].tells)
		check(ms_of(rest) > 0 && ms_of(rest) <= LONG_S * 1000 - SLEPT_MS, "%s has %ld ms left", calls[which].name, (long)ms_of(rest));
	_exit(differences_seen() ? 1 : 0);
}

/* With "telling": only those. */
int main(int argc, char **argv)
{
	volatile int *told = shared_memory(sizeof *told);
	pid_t pids[CALLS];
	int count = argc > 2 && !strcmp(argv[2], "telling") ? 2 : CALLS;

	for (int i = 0; i < count; i++)
		if ((pids[i] = must(fork())) == 0)
			sleeper(i, told);
	for (int i = 0; i < count; i++)
		until_asleep(pids[i]);
	sleep_ms(SLEPT_MS);
	for (int i = 0; i < count; i++)
		note("%s %d", calls[i].name, pids[i]);
	ready();
	wait_for_go();
	check_state();
	*told = 1;
	for (int i = 0; i < count; i++) {
		must(kill(pids[i], SIGUSR1));
		child_passed(pids[i]);
	}
	pass();
}
