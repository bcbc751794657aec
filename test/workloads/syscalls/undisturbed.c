/*
 * Calls that the kernel ends with EINTR whenever their thread is stopped (signal(7)), without a limit of time: each goes on waiting through any
 * number of freezes until what it waits for is made to happen, or a handler runs. By main threads and by others.
 */
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>

#include "workload.h"

struct outcome {
	volatile pid_t tid;
	volatile long result;
	volatile int error, handled;
	volatile bool done;
};

static struct outcome *mine;
static int events[2], set, semaphore, ring;

static void handle(int sig)
{
	mine->handled = sig;
}

static sigset_t only(int sig)
{
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, sig);
	return one;
}

static long wait_epoll(void)
{
	struct epoll_event got;

	return epoll_wait(set, &got, 1, -1);
}

/* SIGUSR1 is blocked, but not while it waits. */
static long wait_epoll_masked(void)
{
	struct epoll_event got;
	sigset_t none, usr1 = only(SIGUSR1), now;
	long result;

	sigemptyset(&none);
	must_zero(pthread_sigmask(SIG_BLOCK, &usr1, NULL));
	result = epoll_pwait(set, &got, 1, -1, &none);
	must_zero(pthread_sigmask(SIG_BLOCK, NULL, &now));
	return sigismember(&now, SIGUSR1) ? result : -2;
}

static long wait_epoll_fine(void)
{
	struct epoll_event got;

	return syscall(SYS_epoll_pwait2, set, &got, 1, NULL, NULL, 0);
}

static long wait_semaphore(void)
{
	struct sembuf down = {0, -1, 0};

	return semop(semaphore, &down, 1);
}

static long wait_semaphore_timed(void)
{
	struct sembuf down = {0, -1, 0};

	return semtimedop(semaphore, &down, 1, NULL);
}

static long wait_signal(void)
{
	sigset_t usr2 = only(SIGUSR2);

	must_zero(pthread_sigmask(SIG_BLOCK, &usr2, NULL));
	return sigwaitinfo(&usr2, NULL);
}

static long wait_aio(void)
{
	aio_context_t context = 0;
	struct io_event got;

	must(syscall(SYS_io_setup, 4, &context));
	return syscall(SYS_io_getevents, context, 1, 1, &got, NULL);
}

static long wait_ring(void)
{
	return syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
}

static void happen_event(pid_t pid)
{
	(void)pid;
	must(write(events[1], "e", 1));
}

static void happen_up(pid_t pid)
{
	struct sembuf up = {0, 1, 0};

	(void)pid;
	must(semop(semaphore, &up, 1));
}

static void happen_usr1(pid_t pid)
{
	must(kill(pid, SIGUSR1));
}

static void happen_usr2(pid_t pid)
{
	must(kill(pid, SIGUSR2));
}

/* The handlers come first: what is written is not read, and one semaphore is for all. */
static const struct kind {
	const char *name;
	long (*block)(void);
	void (*happen)(pid_t pid);
	long wanted;
} kinds[] = {
	{"epoll_wait, a handler", wait_epoll, happen_usr1, -1},
	{"epoll_pwait, a handler", wait_epoll_masked, happen_usr1, -1},
	{"semop, a handler", wait_semaphore, happen_usr1, -1},
	{"sigwaitinfo, a handler", wait_signal, happen_usr1, -1},
	{"io_getevents, a handler", wait_aio, happen_usr1, -1},
	{"io_uring_enter, a handler", wait_ring, happen_usr1, -1},
	{"sigwaitinfo", wait_signal, happen_usr2, SIGUSR2},
	{"semop", wait_semaphore, happen_up, 0},
	{"semtimedop", wait_semaphore_timed, happen_up, 0},
	{"epoll_wait", wait_epoll, happen_event, 1},
	{"epoll_pwait", wait_epoll_masked, happen_event, 1},
	{"epoll_pwait2", wait_epoll_fine, happen_event, 1},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const struct kind *kind;

static void *wait_once(void *unused)
{
	sigset_t usr1 = only(SIGUSR1);

	must_zero(pthread_sigmask(SIG_UNBLOCK, &usr1, NULL));
	mine->tid = gettid_now();
	errno = 0;
	mine->result = kind->block();
	mine->error = errno;
	mine->done = true;
	_exit(0);
	return unused;
}

static void child(bool threaded)
{
	struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
	sigset_t both = only(SIGUSR1);
	pthread_t thread;
	/* Something to be copied ahead. */
	char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(memory, 1, 1 << 20);
	must(sigaction(SIGUSR1, &action, NULL));
	if (!threaded)
		wait_once(NULL);
	sigaddset(&both, SIGUSR2);
	must_zero(pthread_sigmask(SIG_BLOCK, &both, NULL));
	must_zero(pthread_create(&thread, NULL, wait_once, NULL));
	pthread_join(thread, NULL);
}

/* A ring of which nobody asks anything. */
static int quiet_ring(void)
{
	static char prefixes[2][32];
	struct io_uring_params p = {0};
	int fd = must((int)syscall(SYS_io_uring_setup, 4, &p));

	void *parts[] = {
		mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING),
		mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES),
	};

	/* It has another inode afterwards, as the pipe has that is watched. */
	for (int i = 0; i < 2; i++) {
		snprintf(prefixes[i], sizeof *prefixes, "map %lx-", (unsigned long)parts[i]);
		snapshot_ignores(prefixes[i]);
	}
	snapshot_ignores("fd 5 tfd:");
	return fd;
}

int main(int argc, char **argv)
{
	bool threaded = argc > 2 && !strcmp(argv[2], "threads");
	struct outcome *outcomes = shared_memory(KINDS * sizeof *outcomes);
	struct epoll_event readable = {.events = EPOLLIN};
	pid_t pids[KINDS];

	must(pipe2(events, O_CLOEXEC));
	set = must(epoll_create1(EPOLL_CLOEXEC));
	must(epoll_ctl(set, EPOLL_CTL_ADD, events[0], &readable));
	semaphore = must(semget(IPC_PRIVATE, 1, 0600));
	ring = quiet_ring();
	for (int i = 0; i < KINDS; i++) {
		kind = &kinds[i];
		mine = &outcomes[i];
		if ((pids[i] = must(fork())) == 0)
			child(threaded);
	}
	for (int i = 0; i < KINDS; i++) {
		while (!outcomes[i].tid)
			sleep_ms(1);
		until_asleep(outcomes[i].tid);
	}
	ready();
	wait_for_go();
	sleep_ms(30);
	check_state();
	for (int i = 0; i < KINDS; i++)
		check(!outcomes[i].done, "%s ended by itself: %ld, %s", kinds[i].name, outcomes[i].result, strerror(outcomes[i].error));
	for (int i = 0; i < KINDS; i++) {
		/* Who of two waits first is not said: each happens as often as it is waited for. */
		kinds[i].happen(pids[i]);
		while (kinds[i].wanted < 0 && !outcomes[i].done)
			sleep_ms(1);
	}
	for (int i = 0; i < KINDS; i++) {
		struct outcome *o = &outcomes[i];

		child_passed(pids[i]);
		check(o->result == kinds[i].wanted, "%s gave %ld (%s)", kinds[i].name, o->result, strerror(o->error));
		check(kinds[i].wanted >= 0 || (o->error == EINTR && o->handled == SIGUSR1), "%s: %s, handled %d", kinds[i].name, strerror(o->error), o->handled);
	}
	must(semctl(semaphore, 0, IPC_RMID));
	pass();
}
