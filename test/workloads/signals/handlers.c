/*
 * The disposition of all signals with handler, mask, flags and restorer (the snapshot compares them), and handlers that
 * work: called with siginfo, with the mask they asked for, once with SA_RESETHAND, on the alternate stack with SA_ONSTACK.
 */
#include "workload.h"

static volatile sig_atomic_t calls[65];
static volatile siginfo_t last_info;
static uint64_t mask_inside;
static bool on_alt_stack;
static char alt[65536];

static void plain(int sig)
{
	calls[sig]++;
}

static void informed(int sig, siginfo_t *info, void *context)
{
	char here;

	(void)context;
	calls[sig]++;
	memcpy((void *)&last_info, info, sizeof *info);
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask_inside, 8);
	on_alt_stack = &here >= alt && &here < alt + sizeof alt;
}

static void set(int sig, bool info, int flags, int also_blocked)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof sa);
	sigemptyset(&sa.sa_mask);
	if (also_blocked)
		sigaddset(&sa.sa_mask, also_blocked);
	sa.sa_flags = flags | (info ? SA_SIGINFO : 0);
	if (info)
		sa.sa_sigaction = informed;
	else
		sa.sa_handler = plain;
	must(sigaction(sig, &sa, NULL));
}

int main(void)
{
	stack_t stack = {.ss_sp = alt, .ss_size = sizeof alt};

	must(sigaltstack(&stack, NULL));
	for (int sig = 1; sig <= 64; sig++) {
		if (sig == SIGKILL || sig == SIGSTOP || sig == 32 || sig == 33)
			continue;
		if (sig % 5 == 0)
			must(signal(sig, SIG_IGN) == SIG_ERR ? -1 : 0);
		else if (sig % 5 != 1)
			set(sig, sig % 2, sig % 3 == 0 ? SA_RESTART : sig % 3 == 1 ? SA_NODEFER : 0, sig % 64 + 1);
	}
	set(SIGUSR1, true, SA_ONSTACK | SA_RESTART, SIGUSR2);
	set(SIGUSR2, false, (int)SA_RESETHAND, 0);
	set(SIGTRAP, true, 0, SIGHUP);
	set(SIGCHLD, false, SA_NOCLDSTOP | SA_NOCLDWAIT, 0);
	ready();
	wait_for_go();
	check_state();
	must(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 4711}));
	check(calls[SIGUSR1] == 1, "the handler of SIGUSR1 was called %d times", calls[SIGUSR1]);
	check(last_info.si_value.sival_int == 4711 && last_info.si_code == SI_QUEUE, "SIGUSR1 came with value %d", last_info.si_value.sival_int);
	check(on_alt_stack, "the handler of SIGUSR1 did not run on the alternate stack");
	check(mask_inside & (1ull << (SIGUSR2 - 1)) && mask_inside & (1ull << (SIGUSR1 - 1)), "mask inside the handler: %#lx", (long)mask_inside);
	must(raise(SIGTRAP));
	check(calls[SIGTRAP] == 1, "the handler of SIGTRAP was called %d times", calls[SIGTRAP]);
	must(raise(SIGUSR2));
	check(calls[SIGUSR2] == 1 && signal(SIGUSR2, SIG_IGN) == SIG_DFL, "SIGUSR2 was not reset to its default");
	must(raise(SIGINT + 8));
	pass();
}
