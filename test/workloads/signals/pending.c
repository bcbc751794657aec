/*
 * Pending signals of the process and of two threads, all blocked: each comes out once, in order, with the siginfo it was
 * sent with; real-time signals queue, others do not.
 */
#include <pthread.h>
#include <sys/time.h>

#include "workload.h"

struct expected {
	int signo, code;
	long value;
};

static const struct expected of_process[] = {
	{SIGHUP, SI_USER, 0}, {SIGUSR2, SI_QUEUE, 0x1234}, {SIGALRM, SI_KERNEL, 0},
	{40, SI_QUEUE, 1}, {40, SI_QUEUE, 2}, {40, SI_QUEUE, 3}, {41, SI_USER, 0}, {64, SI_QUEUE, -5},
};
static const struct expected of_main[] = {{SIGTERM, SI_TKILL, 0}, {SIGTRAP + 15, SI_TKILL, 0}, {50, SI_QUEUE, 11}, {50, SI_TKILL, 0}, {50, SI_QUEUE, 12}};
static const struct expected of_thread[] = {{SIGUSR1, SI_QUEUE, 0x77}, {60, SI_QUEUE, 21}, {60, SI_QUEUE, 22}};
#define COUNT(list) ((int)(sizeof list / sizeof *list))

static volatile bool thread_up, looked;
static pthread_t other;

static void block_all(void)
{
	uint64_t all = ~0ull;

	must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8));
}

static void check_info(const char *whose, const siginfo_t *got, const struct expected *want)
{
	check(got->si_signo == want->signo && got->si_code == want->code, "%s: signal %d code %d, not signal %d code %d", whose, got->si_signo,
		got->si_code, want->signo, want->code);
	if (want->code == SI_QUEUE)
		check(got->si_value.sival_ptr == (void *)want->value, "%s: signal %d has value %p, not %#lx", whose, got->si_signo,
			got->si_value.sival_ptr, want->value);
	if (want->code != SI_KERNEL)
		check(got->si_pid == getpid() && got->si_uid == getuid(), "%s: signal %d was sent by %d, uid %d", whose, got->si_signo, got->si_pid,
			got->si_uid);
}

/* A thread's own signals come first, then the process's; within each, lower numbers first. */
static void take_all(const char *whose, const struct expected *list, int count)
{
	struct timespec now = {0, 0};

	for (int i = 0; i < count; i++) {
		uint64_t one = 1ull << (list[i].signo - 1);
		siginfo_t info;
		long got;

		memset(&info, 0, sizeof info);
		got = syscall(SYS_rt_sigtimedwait, &one, &info, &now, 8);
		if (check(got == list[i].signo, "%s: signal %d is not pending: %ld %s", whose, list[i].signo, got, strerror(errno)))
			check_info(whose, &info, &list[i]);
	}
}

static void none_left(const char *whose)
{
	uint64_t all = ~0ull;
	struct timespec now = {0, 0};
	siginfo_t info;
	long got = syscall(SYS_rt_sigtimedwait, &all, &info, &now, 8);

	check(got < 0, "%s: signal %ld is pending though nobody sent it", whose, got);
}

static void *thread(void *unused)
{
	block_all();
	thread_up = true;
	while (!looked)
		syscall(SYS_nanosleep, &(struct timespec){0, 2000000}, NULL);
	take_all("thread", of_thread, COUNT(of_thread));
	return unused;
}

static void queue_to(pthread_t to, int sig, long value)
{
	must_zero(pthread_sigqueue(to, sig, (union sigval){.sival_ptr = (void *)value}));
}

static void send_all(void)
{
	struct itimerval soon = {{0, 0}, {0, 1000}};

	must(kill(getpid(), SIGHUP));
	must(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_ptr = (void *)0x1234}));
	must(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_ptr = (void *)0x9999}));
	must(setitimer(ITIMER_REAL, &soon, NULL));
	for (long i = 1; i <= 3; i++)
		must(sigqueue(getpid(), 40, (union sigval){.sival_ptr = (void *)i}));
	must(kill(getpid(), 41));
	must(sigqueue(getpid(), 64, (union sigval){.sival_ptr = (void *)-5}));
	must(syscall(SYS_tgkill, getpid(), gettid_now(), SIGTERM));
	must(syscall(SYS_tgkill, getpid(), gettid_now(), SIGTRAP + 15));
	queue_to(pthread_self(), 50, 11);
	must(syscall(SYS_tgkill, getpid(), gettid_now(), 50));
	queue_to(pthread_self(), 50, 12);
	queue_to(other, SIGUSR1, 0x77);
	queue_to(other, 60, 21);
	queue_to(other, 60, 22);
}

int main(void)
{
	block_all();
	must_zero(pthread_create(&other, NULL, thread, NULL));
	while (!thread_up)
		sleep_ms(1);
	send_all();
	sleep_ms(20);
	ready();
	wait_for_go();
	check_state();
	take_all("main thread", of_main, COUNT(of_main));
	take_all("process", of_process, COUNT(of_process));
	none_left("main thread");
	looked = true;
	must_zero(pthread_join(other, NULL));
	none_left("process");
	pass();
}
