/*
 * Signals that wait with every kind of siginfo, for the process and for a thread: those of faults, children, I/O, system calls, timers,
 * and unknown ones. All that the kernel keeps of each comes out again.
 */
#include "workload.h"

enum { KEPT = 48 };

static const struct {
	int signo, code;
} kinds[] = {
	{SIGSEGV, SEGV_MAPERR}, {SIGSEGV, SEGV_ACCERR}, {SIGBUS, BUS_ADRERR}, {SIGFPE, FPE_INTDIV}, {SIGILL, ILL_ILLOPN}, {SIGCHLD, CLD_EXITED},
	{SIGCHLD, CLD_STOPPED}, {SIGPOLL, POLL_IN}, {SIGSYS, 1}, {SIGTRAP, TRAP_BRKPT}, {SIGHUP, SI_USER}, {SIGINT, SI_KERNEL},
	{SIGTERM, SI_QUEUE}, {SIGUSR1, SI_MESGQ}, {SIGUSR2, SI_ASYNCIO}, {SIGALRM, SI_TIMER}, {SIGPIPE, SI_SIGIO}, {SIGQUIT, SI_TKILL},
	{SIGWINCH, -60}, {SIGXCPU, -6}, {45, SI_QUEUE}, {45, POLL_HUP}, {45, SI_TIMER},
};
enum { ALL = sizeof kinds / sizeof *kinds };

static siginfo_t sent[2][ALL];
static bool is_queued[2][ALL];

/* Faults carry an address, children a status; what lies beyond must be nothing. */
static void fill(siginfo_t *info, int kind, int whose)
{
	memset(info, 0, sizeof *info);
	info->si_signo = kinds[kind].signo;
	info->si_errno = 1 + kind;
	info->si_code = kinds[kind].code;
	info->si_pid = 1000 + kind;
	info->si_uid = (uid_t)(2000 + whose);
	if (kinds[kind].signo == SIGCHLD) {
		info->si_status = 7;
		info->si_utime = 11;
		info->si_stime = 13;
	} else if (kinds[kind].signo != 45) {
		info->si_value.sival_ptr = (void *)(0x123456789a000 + (long)kind);
	} else {
		info->si_value.sival_int = kind;
	}
}

static void queue_all(int whose)
{
	for (int i = 0; i < ALL; i++) {
		long got;

		fill(&sent[whose][i], i, whose);
		got = whose ? syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid_now(), kinds[i].signo, &sent[whose][i])
			: syscall(SYS_rt_sigqueueinfo, getpid(), kinds[i].signo, &sent[whose][i]);
		if (got < 0)
			note("signal %d with code %d cannot be sent: %s", kinds[i].signo, kinds[i].code, strerror(errno));
		/* Of ordinary signals only the first waits. */
		is_queued[whose][i] = got == 0;
		for (int j = 0; j < i && kinds[i].signo < 34; j++)
			if (kinds[j].signo == kinds[i].signo && is_queued[whose][j])
				is_queued[whose][i] = false;
	}
}

static void take_all(int whose)
{
	struct timespec now = {0, 0};

	for (int i = 0; i < ALL; i++) {
		uint64_t one = 1ull << (kinds[i].signo - 1);
		siginfo_t info;
		long got;

		if (!is_queued[whose][i])
			continue;
		memset(&info, 0, sizeof info);
		got = syscall(SYS_rt_sigtimedwait, &one, &info, &now, 8);
		check(got == kinds[i].signo && !memcmp(&info, &sent[whose][i], KEPT), "%s: signal %d with code %d: %ld, code %d, sender %d, value %p",
		      whose ? "thread" : "process", kinds[i].signo, kinds[i].code, got, info.si_code, info.si_pid, info.si_value.sival_ptr);
	}
}

int main(void)
{
	uint64_t all = ~0ull;

	must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8));
	queue_all(0);
	queue_all(1);
	ready();
	wait_for_go();
	check_state();
	/* A thread's own come first. */
	take_all(1);
	take_all(0);
	pass();
}
