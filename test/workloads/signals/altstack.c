/*
 * Alternate signal stacks of the process and of threads: one free, one disabled, one in use (its thread is frozen inside a
 * handler that runs on it), one with SS_AUTODISARM; a second signal later uses them again.
 */
#include <pthread.h>

#include "workload.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1 << 31)
#endif

enum { STACK = 32768, THREADS = 3 };

static struct slot {
	char *stack;
	volatile bool inside, leave, ran_on_it;
	volatile int calls;
	pthread_t thread;
} slots[THREADS];
static _Thread_local struct slot *mine;
static volatile int up;
static volatile bool looked;

static void handler(int sig)
{
	char here;

	(void)sig;
	mine->calls++;
	mine->ran_on_it = &here >= mine->stack && &here < mine->stack + STACK;
	mine->inside = true;
	while (!mine->leave)
		sleep_ms(2);
	mine->inside = false;
}

static void set_stack(int flags)
{
	stack_t stack = {.ss_sp = mine->stack, .ss_size = STACK, .ss_flags = flags};

	must(sigaltstack(&stack, NULL));
}

static void check_stack(const char *who, int wanted)
{
	stack_t now;

	must(sigaltstack(NULL, &now));
	check(now.ss_sp == mine->stack && now.ss_size == STACK && now.ss_flags == wanted, "%s: alternate stack %p %zu flags %x, not %p %d flags %x",
		who, now.ss_sp, now.ss_size, now.ss_flags, (void *)mine->stack, STACK, wanted);
}

static void *thread(void *argument)
{
	int which = (int)(long)argument;

	mine = &slots[which];
	set_stack(which == 1 ? SS_AUTODISARM : 0);
	__atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
	while (!looked)
		sleep_ms(2);
	/* Thread 2 was in the handler all the time and returned; the others get the signal now. */
	slots[which].leave = true;
	if (which != 2)
		must(syscall(SYS_tgkill, getpid(), gettid_now(), SIGUSR1));
	check(mine->calls == 1, "thread %d: the handler ran %d times", which, mine->calls);
	check(mine->ran_on_it, "thread %d: the handler did not run on the alternate stack", which);
	check_stack("thread", which == 1 ? SS_AUTODISARM : 0);
	return NULL;
}

int main(void)
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	static struct slot main_slot;

	mine = &main_slot;
	mine->leave = true;
	mine->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(sigaction(SIGUSR1, &sa, NULL));
	set_stack(0);
	for (long i = 0; i < THREADS; i++) {
		slots[i].stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must_zero(pthread_create(&slots[i].thread, NULL, thread, (void *)i));
	}
	while (up < THREADS)
		sleep_ms(1);
	must_zero(pthread_kill(slots[2].thread, SIGUSR1));
	while (!slots[2].inside)
		sleep_ms(1);
	ready();
	wait_for_go();
	check_stack("main", 0);
	check_state();
	looked = true;
	slots[2].leave = true;
	for (int i = 0; i < THREADS; i++)
		must_zero(pthread_join(slots[i].thread, NULL));
	must(raise(SIGUSR1));
	check(mine->calls == 1 && mine->ran_on_it, "main: the handler did not run on the alternate stack");
	pass();
}
