/*
 * A process whose main thread has ended while two others live, one of which has a child. The main thread is a zombie that
 * nobody may wait for; the process ends with the others.
 */
#include <pthread.h>
#include <sys/syscall.h>

#include "workload.h"

static volatile bool looked;
static volatile int up;
static pid_t child;

static void *second(void *unused)
{
	up = 1;
	while (!looked)
		sleep_ms(2);
	up = 2;
	return unused;
}

static void *first(void *unused)
{
	pthread_t other;
	static char blocked[64];
	pid_t pid = getpid();

	while (task_state(pid) != 'Z')
		sleep_ms(1);
	must_zero(pthread_create(&other, NULL, second, NULL));
	while (!up)
		sleep_ms(1);
	child = must(fork());
	if (child == 0) {
		keep_state();
		wait_for_go();
		check_state();
		check(getppid() == pid, "the parent is %d", getppid());
		child_done();
	}
	until_it_waits(child);
	/* What a thread that has ended would have blocked is of no consequence. */
	snprintf(blocked, sizeof blocked, "task %d SigBlk", pid);
	snapshot_ignores(blocked);
	ready();
	wait_for_go();
	check_state();
	check(task_state(pid) == 'Z', "the main thread is %c", task_state(pid));
	check(getpid() == pid && gettid_now() != pid, "process %d, thread %d", getpid(), gettid_now());
	looked = true;
	must_zero(pthread_join(other, NULL));
	check(up == 2, "the other thread does not run");
	child_passed(child);
	pass();
	return unused;
}

int main(void)
{
	pthread_t thread;

	must_zero(pthread_create(&thread, NULL, first, NULL));
	syscall(SYS_exit, 0);
}
