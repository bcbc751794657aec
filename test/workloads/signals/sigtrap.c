/* SIGTRAPs that wait, for a thread and for the process, with what came along; and handlers of SIGTRAP that work. */
#include <sys/ucontext.h>

#include "workload.h"

static volatile sig_atomic_t traps, code;

static void on_trap(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	traps++;
	code = info->si_code;
}

int main(void)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	struct timespec at_once = {0, 0};
	siginfo_t info;
	sigset_t set;

	must(sigaction(SIGTRAP, &action, NULL));
	__asm__ volatile("int3");
	check(traps == 1, "the handler ran %d times", (int)traps);
	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	memset(&info, 0, sizeof info);
	info.si_signo = SIGTRAP;
	info.si_code = SI_QUEUE;
	info.si_pid = getpid();
	info.si_value.sival_int = 17;
	must(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid_now(), SIGTRAP, &info));
	info.si_value.sival_int = 18;
	must(syscall(SYS_rt_sigqueueinfo, getpid(), SIGTRAP, &info));
	ready();
	wait_for_go();
	check_state();
	for (int value = 17; value <= 18; value++) {
		memset(&info, 0, sizeof info);
		check(sigtimedwait(&set, &info, &at_once) == SIGTRAP && info.si_value.sival_int == value && info.si_code == SI_QUEUE,
		      "the waiting SIGTRAP has %d, not %d", info.si_value.sival_int, value);
	}
	check(sigtimedwait(&set, &info, &at_once) == -1 && errno == EAGAIN, "there is one more");
	must(sigprocmask(SIG_UNBLOCK, &set, NULL));
	__asm__ volatile("int3");
	check(traps == 2 && code == SI_KERNEL, "the handler ran %d times, code %d", (int)traps, (int)code);
	pass();
}
