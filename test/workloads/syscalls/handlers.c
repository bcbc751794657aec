/*
 * Calls that end when a signal is handled, while signals come all the time, also in a freeze: the call ends then, too, and nobody waits
 * for ever. By main threads and by others.
 */
#include <pthread.h>
#include <poll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/time.h>

#include "workload.h"

enum { KINDS = 5 };

static volatile int handled;
static int *finish, kind, queue;

static void handle(int sig)
{
	(void)sig;
	handled++;
}

static int wait_once(void)
{
	struct timespec t = {1000, 0};
	struct {
		long type;
		char text[8];
	} message;

	switch (kind) {
	case 0:
		return pause();
	case 1:
		return select(0, NULL, NULL, NULL, NULL);
	case 2:
		return nanosleep(&t, NULL);
	case 3:
		return poll(NULL, 0, 1000000);
	default:
		return (int)msgrcv(queue, &message, sizeof message.text, 0, 0);
	}
}

static void *wait_often(void *unused)
{
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	must_zero(pthread_sigmask(SIG_UNBLOCK, &alarm, NULL));
	while (!__atomic_load_n(finish, __ATOMIC_SEQ_CST)) {
		struct itimerval soon = {.it_value = {0, 1500}};

		handled = 0;
		must(setitimer(ITIMER_REAL, &soon, NULL));
		check(wait_once() < 0 && errno == EINTR && handled, "kind %d: %s, %d signals", kind, strerror(errno), handled);
	}
	_exit(differences_seen() != 0);
	return unused;
}

int main(void)
{
	struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
	pid_t children[2 * KINDS];
	sigset_t alarm;

	finish = shared_memory(4096);
	queue = must(msgget(IPC_PRIVATE, 0600));
	must(sigaction(SIGALRM, &action, NULL));
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	for (int i = 0; i < 2 * KINDS; i++) {
		pthread_t thread;

		children[i] = must(fork());
		if (children[i] != 0)
			continue;
		kind = i / 2;
		if (i % 2 == 0)
			wait_often(NULL);
		must(sigprocmask(SIG_BLOCK, &alarm, NULL));
		must_zero(pthread_create(&thread, NULL, wait_often, NULL));
		pthread_join(thread, NULL);
	}
	snapshot_ignores("");
	ready();
	wait_for_go();
	__atomic_store_n(finish, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 2 * KINDS; i++)
		child_passed(children[i]);
	must(msgctl(queue, IPC_RMID, NULL));
	pass();
}
