/*
 * Calls that block until something happens: each child is frozen inside its call, and the call goes on waiting until, after
 * go, what it waits for is made to happen. None may see an interruption, but those that any stop interrupts.
 */
#include <linux/futex.h>
#include <poll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>

#include "workload.h"

struct outcome {
	volatile pid_t tid;
	volatile long result;
	volatile int error, interruptions, handled;
	volatile uint32_t word;
	volatile bool done;
};

struct kind {
	const char *name;
	void (*prepare)(struct outcome *o);
	long (*block)(struct outcome *o);
	void (*happen)(struct outcome *o, pid_t child);
	long wanted;
	/* -1: a restart shows as EINTR after restore only; 0: it never shows. */
	int interruption;
};

static struct outcome *mine;
static int in_pipe[2], full_pipe[2], poll_pipe[2], select_pipe[2];
static int queue;

static void handle(int sig)
{
	mine->handled = sig;
}

static void catch_usr1(struct outcome *o)
{
	struct sigaction sa = {.sa_handler = handle};

	(void)o;
	sigaction(SIGUSR1, &sa, NULL);
}

static void block_usr1(struct outcome *o)
{
	sigset_t set;

	catch_usr1(o);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static long wait_read(struct outcome *o)
{
	char byte = 0;
	long got = read(in_pipe[0], &byte, 1);

	(void)o;
	return got == 1 ? byte : got;
}

static void happen_read(struct outcome *o, pid_t child)
{
	(void)o, (void)child;
	must(write(in_pipe[1], "r", 1));
}

static void fill_full_pipe(struct outcome *o)
{
	static char bytes[65536];

	(void)o;
	memset(bytes, 'f', sizeof bytes);
	must(write(full_pipe[1], bytes, sizeof bytes));
}

static long wait_write(struct outcome *o)
{
	static char bytes[5000];

	(void)o;
	memset(bytes, 'w', sizeof bytes);
	return write(full_pipe[1], bytes, sizeof bytes);
}

static void happen_write(struct outcome *o, pid_t child)
{
	static char bytes[70536];
	size_t got = 0;

	(void)child, (void)o;
	while (got < sizeof bytes)
		got += (size_t)must(read(full_pipe[0], bytes + got, sizeof bytes - got));
	for (size_t i = 0; i < got; i++)
		if (bytes[i] != (i < 65536 ? 'f' : 'w')) {
			check(false, "the full pipe: byte %zu is %d", i, bytes[i]);
			break;
		}
}

static long wait_poll(struct outcome *o)
{
	struct pollfd p = {poll_pipe[0], POLLIN, 0};

	(void)o;
	return syscall(SYS_poll, &p, 1, -1);
}

static void happen_poll(struct outcome *o, pid_t child)
{
	(void)o, (void)child;
	must(write(poll_pipe[1], "p", 1));
}

static long wait_select(struct outcome *o)
{
	fd_set set;

	(void)o;
	FD_ZERO(&set);
	FD_SET(select_pipe[0], &set);
	return select(select_pipe[0] + 1, &set, NULL, NULL, NULL);
}

static void happen_select(struct outcome *o, pid_t child)
{
	(void)o, (void)child;
	must(write(select_pipe[1], "s", 1));
}

static long wait_futex(struct outcome *o)
{
	return syscall(SYS_futex, &o->word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void happen_futex(struct outcome *o, pid_t child)
{
	(void)child;
	o->word = 1;
	check(syscall(SYS_futex, &o->word, FUTEX_WAKE, 1, NULL, NULL, 0) == 1, "nobody waited on the futex");
}

static long wait_pause(struct outcome *o)
{
	long result = pause();

	return result == -1 && errno == EINTR && o->handled == SIGUSR1 ? 77 : result;
}

static void happen_signal(struct outcome *o, pid_t child)
{
	(void)o;
	must(kill(child, SIGUSR1));
}

static long wait_sigsuspend(struct outcome *o)
{
	sigset_t none, now;
	long result;

	sigfillset(&none);
	sigdelset(&none, SIGUSR1);
	result = sigsuspend(&none);
	sigprocmask(SIG_BLOCK, NULL, &now);
	if (!sigismember(&now, SIGUSR1) || sigismember(&now, SIGUSR2))
		return -2;
	return result == -1 && errno == EINTR && o->handled == SIGUSR1 ? 77 : result;
}

static long wait_ppoll(struct outcome *o)
{
	sigset_t none, now;
	long result;

	sigfillset(&none);
	sigdelset(&none, SIGUSR1);
	result = ppoll(NULL, 0, NULL, &none);
	sigprocmask(SIG_BLOCK, NULL, &now);
	if (!sigismember(&now, SIGUSR1) || sigismember(&now, SIGUSR2))
		return -2;
	return result == -1 && errno == EINTR && o->handled == SIGUSR1 ? 77 : result;
}

static pid_t *grandchildren;

static long wait_for_child(struct outcome *o)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		pause();
		_exit(1);
	}
	grandchildren[0] = child;
	(void)o;
	if (wait4(child, &status, 0, NULL) != child)
		return -1;
	return WIFSIGNALED(status) ? WTERMSIG(status) : -2;
}

static void happen_child(struct outcome *o, pid_t child)
{
	(void)o, (void)child;
	must(kill(grandchildren[0], SIGTERM));
}

static long wait_msgrcv(struct outcome *o)
{
	struct {
		long type;
		char text[8];
	} message;

	(void)o;
	return msgrcv(queue, &message, sizeof message.text, 0, 0);
}

static void happen_msgrcv(struct outcome *o, pid_t child)
{
	struct {
		long type;
		char text[8];
	} message = {1, "hello"};

	(void)o, (void)child;
	must(msgsnd(queue, &message, 6, 0));
}

static const struct kind kinds[] = {
	{"read of a pipe", NULL, wait_read, happen_read, 'r', 0},
	{"write to a full pipe", fill_full_pipe, wait_write, happen_write, 5000, 0},
	{"poll", NULL, wait_poll, happen_poll, 1, -1},
	{"select", NULL, wait_select, happen_select, 1, 0},
	{"futex wait", NULL, wait_futex, happen_futex, 0, 0},
	{"pause", catch_usr1, wait_pause, happen_signal, 77, 0},
	{"sigsuspend", block_usr1, wait_sigsuspend, happen_signal, 77, 0},
	{"ppoll with a mask", block_usr1, wait_ppoll, happen_signal, 77, 0},
	{"wait4", NULL, wait_for_child, happen_child, SIGTERM, 0},
	{"msgrcv", NULL, wait_msgrcv, happen_msgrcv, 6, 0},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void child(const struct kind *k, struct outcome *o)
{
	mine = o;
	if (k->prepare)
		k->prepare(o);
	o->tid = getpid();
	for (;;) {
		errno = 0;
		o->result = k->block(o);
		o->error = errno;
		if (o->result != -1 || o->error != EINTR || o->interruptions++ > 3)
			break;
	}
	o->done = true;
	_exit(0);
}

int main(void)
{
	struct outcome *outcomes = shared_memory(KINDS * sizeof *outcomes);
	pid_t pids[KINDS];

	grandchildren = shared_memory(64);
	must(pipe(in_pipe));
	must(pipe(full_pipe));
	must(pipe(poll_pipe));
	must(pipe(select_pipe));
	queue = must(msgget(IPC_PRIVATE, 0600));
	for (int i = 0; i < KINDS; i++)
		if ((pids[i] = must(fork())) == 0)
			child(&kinds[i], &outcomes[i]);
	for (int i = 0; i < KINDS; i++) {
		while (!outcomes[i].tid)
			sleep_ms(1);
		until_asleep(pids[i]);
	}
	ready();
	wait_for_go();
	sleep_ms(30);
	for (int i = 0; i < KINDS; i++)
		check(!outcomes[i].done, "%s ended by itself: result %ld, %s", kinds[i].name, outcomes[i].result, strerror(outcomes[i].error));
	check_state();
	for (int i = 0; i < KINDS; i++) {
		struct outcome *o = &outcomes[i];
		int allowed = kinds[i].interruption && was_interrupted() ? 3 : 0;
		if (!o->done)
			kinds[i].happen(o, pids[i]);
		child_passed(pids[i]);
		check(o->result == kinds[i].wanted, "%s gave %ld (%s), not %ld", kinds[i].name, o->result, strerror(o->error), kinds[i].wanted);
		check(o->interruptions <= allowed, "%s was interrupted %d times", kinds[i].name, o->interruptions);
	}
	must(msgctl(queue, IPC_RMID, NULL));
	pass();
}
