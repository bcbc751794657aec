/*
 * Syscall user dispatch: a thread whose system calls become SIGSYS outside of one range of code, one whose calls do while
 * a byte says so, and one with neither. The handler counts.
 */
#include <pthread.h>
#include <ucontext.h>

#include "workload.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
#endif

static volatile bool looked;
static volatile int up;
static char selectors[3];
static volatile int caught[3];
static __thread int me;

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	selectors[me] = 0;
	caught[me]++;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = info->si_syscall == SYS_getppid ? 4711 : -1;
}

static void *thread(void *argument)
{
	me = (int)(long)argument;
	if (me > 0)
		must(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selectors[me]));
	if (me == 2)
		selectors[me] = 1;
	__atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
	/* With its calls dispatched a thread cannot sleep. */
	while (!looked)
		if (me != 2)
			sleep_ms(2);
	if (me == 1)
		selectors[me] = 1;
	check(syscall(SYS_getppid) == (me ? 4711 : getppid()), "thread %d: the call was not dispatched as it was before", me);
	check(caught[me] == (me ? 1 : 0), "thread %d: %d calls were dispatched", me, caught[me]);
	return NULL;
}

int main(void)
{
	struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
	pthread_t threads[3];

	must(sigaction(SIGSYS, &action, NULL));
	for (long i = 0; i < 3; i++)
		must_zero(pthread_create(&threads[i], NULL, thread, (void *)i));
	while (up < 3)
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	looked = true;
	for (int i = 0; i < 3; i++)
		must_zero(pthread_join(threads[i], NULL));
	pass();
}
