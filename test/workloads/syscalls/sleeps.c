/*
 * Timed blocking calls, each in a process of its own (or, with "threads", in a thread): the time asked for is slept in
 * full and not much longer, and no call sees an interruption, also after kill and restore. The peer has calls that the kernel
 * restarts with their remaining time report EINTR (once a restore); then the rest is slept.
 */
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>

#include "workload.h"

enum { SLEEP_MS = 4000, LATE_MS = 60000 };

/* MAY: the kernel interrupts this call whenever the task was stopped, so a freeze may show; PEER: only the peer's may. */
enum interruption { NEVER, PEER, MAY };

struct outcome {
	volatile pid_t tid;
	volatile int64_t started, ended;
	volatile int interruptions, error;
	volatile bool wrong;
};

static struct outcome *outcomes;
static int quiet_pipe[2], semaphore;
static volatile bool is_thread, seen;

static struct timespec timespec_of(int64_t ms)
{
	return (struct timespec){ms / 1000, (ms % 1000) * 1000000};
}

static int do_nanosleep(int64_t left)
{
	struct timespec t = timespec_of(left);
	return nanosleep(&t, NULL) < 0 ? errno : 0;
}

static int do_rest_elsewhere(int64_t left)
{
	struct timespec t = timespec_of(left), rest;
	return nanosleep(&t, &rest) < 0 ? errno : 0;
}

static int do_rest_in_place(int64_t left)
{
	struct timespec t = timespec_of(left);
	return nanosleep(&t, &t) < 0 ? errno : 0;
}

static int do_boottime(int64_t left)
{
	struct timespec t = timespec_of(left);
	return clock_nanosleep(CLOCK_BOOTTIME, 0, &t, NULL);
}

static int do_realtime(int64_t left)
{
	struct timespec t = timespec_of(left), rest;
	return clock_nanosleep(CLOCK_REALTIME, 0, &t, &rest);
}

static int do_absolute(int64_t left)
{
	struct timespec t = timespec_of(now_ms() + left);
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static int do_poll(int64_t left)
{
	struct pollfd p = {quiet_pipe[0], POLLIN, 0};
	int result = (int)syscall(SYS_poll, &p, 1, (int)left);
	return result < 0 ? errno : result ? -1 : 0;
}

static int do_ppoll(int64_t left)
{
	struct timespec t = timespec_of(left);
	struct pollfd p = {quiet_pipe[0], POLLIN, 0};
	sigset_t set;
	int result;

	sigfillset(&set);
	result = ppoll(&p, 1, &t, &set);
	return result < 0 ? errno : result ? -1 : 0;
}

static int do_select(int64_t left)
{
	struct timeval t = {left / 1000, (left % 1000) * 1000};
	fd_set set;
	int result;

	FD_ZERO(&set);
	FD_SET(quiet_pipe[0], &set);
	result = (int)syscall(SYS_select, quiet_pipe[0] + 1, &set, NULL, NULL, &t);
	return result < 0 ? errno : result ? -1 : 0;
}

static int do_pselect(int64_t left)
{
	struct timespec t = timespec_of(left);
	fd_set set;
	sigset_t mask;
	int result;

	sigfillset(&mask);
	FD_ZERO(&set);
	FD_SET(quiet_pipe[0], &set);
	result = pselect(quiet_pipe[0] + 1, &set, NULL, NULL, &t, &mask);
	return result < 0 ? errno : result ? -1 : 0;
}

static int do_futex(int64_t left)
{
	struct timespec t = timespec_of(left);
	uint32_t word = 1;

	return syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, &t, NULL, 0) == 0 ? -1 : errno == ETIMEDOUT ? 0 : errno;
}

static int do_futex_absolute(int64_t left)
{
	struct timespec t = timespec_of(now_ms() + left);
	uint32_t word = 1;

	return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 1, &t, NULL, FUTEX_BITSET_MATCH_ANY) == 0 ? -1
		: errno == ETIMEDOUT ? 0 : errno;
}

static int do_sigtimedwait(int64_t left)
{
	struct timespec t = timespec_of(left);
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return sigtimedwait(&set, NULL, &t) >= 0 ? -1 : errno == EAGAIN ? 0 : errno;
}

static int do_semtimedop(int64_t left)
{
	struct timespec t = timespec_of(left);
	struct sembuf down = {0, -1, 0};

	return semtimedop(semaphore, &down, 1, &t) == 0 ? -1 : errno == EAGAIN ? 0 : errno;
}

static const struct {
	const char *name;
	int (*call)(int64_t left);
	enum interruption interruption;
} calls[] = {
	{"nanosleep", do_nanosleep, PEER}, {"nanosleep, rest elsewhere", do_rest_elsewhere, PEER}, {"nanosleep, rest in place", do_rest_in_place, PEER},
	{"clock_nanosleep", do_realtime, PEER}, {"clock_nanosleep without rest", do_boottime, PEER}, {"clock_nanosleep absolute", do_absolute, NEVER}, {"poll", do_poll, PEER},
	{"ppoll", do_ppoll, NEVER}, {"select", do_select, NEVER}, {"pselect", do_pselect, NEVER}, {"futex wait", do_futex, PEER},
	{"futex wait absolute", do_futex_absolute, PEER}, {"sigtimedwait", do_sigtimedwait, MAY}, {"semtimedop", do_semtimedop, MAY},
};
enum { CALLS = sizeof calls / sizeof *calls };

static void sleep_by(int which)
{
	struct outcome *o = &outcomes[which];
	int64_t left = SLEEP_MS;

	o->started = now_ms();
	o->tid = gettid_now();
	while (left > 0) {
		int error = calls[which].call(left);
		if (error != EINTR) {
			o->error = error;
			break;
		}
		o->interruptions++;
		left = o->started + SLEEP_MS - now_ms();
	}
	o->ended = now_ms();
}

static void *sleeper(void *which)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sleep_by((int)(long)which);
	/* A slow machine may come to look at us only now. */
	while (is_thread && !seen)
		sleep_ms(1);
	return NULL;
}

/* Some calls have a mask of their own while they wait. */
static void ignore_mask(pid_t tid)
{
	static char prefixes[16][32];
	static int used;

	snprintf(prefixes[used], sizeof *prefixes, "task %d SigBlk", tid);
	snapshot_ignores(prefixes[used++]);
}

static void judge(int which)
{
	const struct outcome *o = &outcomes[which];
	int64_t took = o->ended - o->started;
	int allowed = calls[which].interruption == MAY ? INT_MAX : calls[which].interruption == PEER && was_interrupted() ? 3 : 0;

	check(o->error == 0, "%s ended with error %d (%s)", calls[which].name, o->error, o->error > 0 ? strerror(o->error) : "it was woken");
	check(took >= SLEEP_MS, "%s was cut short: %ld ms instead of %d", calls[which].name, (long)took, SLEEP_MS);
	check(took < SLEEP_MS + LATE_MS, "%s took %ld ms instead of %d", calls[which].name, (long)took, SLEEP_MS);
	check(o->interruptions <= allowed, "%s was interrupted %d times", calls[which].name, o->interruptions);
}

int main(int argc, char **argv)
{
	bool threads = argc > 2 && !strcmp(argv[2], "threads");
	pthread_t thread[CALLS];
	pid_t pid[CALLS];

	is_thread = threads;
	outcomes = shared_memory(CALLS * sizeof *outcomes);
	semaphore = must(semget(IPC_PRIVATE, 1, 0600));
	must(pipe2(quiet_pipe, O_CLOEXEC));
	for (int i = 0; i < CALLS; i++) {
		if (threads) {
			must_zero(pthread_create(&thread[i], NULL, sleeper, (void *)(long)i));
		} else if ((pid[i] = must(fork())) == 0) {
			sleeper((void *)(long)i);
			_exit(0);
		}
	}
	for (int i = 0; i < CALLS; i++) {
		while (!outcomes[i].tid)
			sleep_ms(1);
		until_asleep(outcomes[i].tid);
		if (threads)
			ignore_mask(outcomes[i].tid);
	}
	ready();
	wait_for_go();
	check_state();
	seen = true;
	for (int i = 0; i < CALLS; i++) {
		if (threads)
			must_zero(pthread_join(thread[i], NULL));
		else
			child_passed(pid[i]);
		judge(i);
	}
	must(semctl(semaphore, 0, IPC_RMID));
	pass();
}
