/*
 * Children that tell of their end by another signal than SIGCHLD, or by none, made by clone(2): living ones, dead ones, one that shares
 * its parent's memory. They are waited for with __WCLONE only.
 */
#include <sched.h>

#include "workload.h"

static const struct {
	const char *name;
	int signal, code;
	bool dead, shares;
} kinds[] = {
	{"silent", 0, 1, false, false}, {"SIGUSR1", SIGUSR1, 2, false, false}, {"dead and silent", 0, 3, true, false},
	{"dead, SIGUSR2", SIGUSR2, 4, true, false}, {"dead, real-time signal", 45, 5, true, false}, {"dead, the same", 45, 6, true, false},
	{"with the same memory", 0, 7, false, true}, {"ordinary", SIGCHLD, 8, false, false},
};
enum { ALL = sizeof kinds / sizeof *kinds, STACK = 64 << 10 };

static volatile int *over;
static char stack[STACK] __attribute__((aligned(16)));

static int live(void *which)
{
	int i = (int)(intptr_t)which;

	while (!kinds[i].dead && !*over)
		syscall(SYS_nanosleep, &(struct timespec){0, 2000000}, NULL);
	syscall(SYS_exit_group, kinds[i].code);
	return 0;
}

static int exit_signal_of(pid_t pid)
{
	char path[32], text[1024] = "", *at;
	int fd, signal = -1, field = 3;

	snprintf(path, sizeof path, "/proc/%d/stat", proc_number(pid));
	fd = must(open(path, O_RDONLY));
	must(read(fd, text, sizeof text - 1));
	close(fd);
	for (at = strrchr(text, ')') + 2; at && field < 38; field++)
		at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL;
	if (at)
		signal = atoi(at);
	return signal;
}

static void none_waits(sigset_t *set)
{
	struct timespec now = {0, 0};
	int got = sigtimedwait(set, NULL, &now);

	check(got < 0, "signal %d has come though nobody has ended", got);
}

int main(void)
{
	pid_t pids[ALL];
	sigset_t set;
	siginfo_t info;
	int status;

	over = shared_memory(sizeof *over);
	sigemptyset(&set);
	for (int i = 0; i < ALL; i++)
		if (kinds[i].signal)
			sigaddset(&set, kinds[i].signal);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	for (int i = 0; i < ALL; i++) {
		if (kinds[i].shares)
			pids[i] = must(clone(live, stack + STACK, CLONE_VM | kinds[i].signal, (void *)(intptr_t)i));
		else if ((pids[i] = (pid_t)must(syscall(SYS_clone, kinds[i].signal, 0, 0, 0, 0))) == 0)
			live((void *)(intptr_t)i);
		if (!kinds[i].dead)
			continue;
		while (task_state(pids[i]) != 'Z')
			sleep_ms(1);
		if (kinds[i].signal)
			must(sigwaitinfo(&set, NULL));
	}
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < ALL; i++)
		check(exit_signal_of(pids[i]) == kinds[i].signal, "%s: the signal is %d", kinds[i].name, exit_signal_of(pids[i]));
	none_waits(&set);
	*over = 1;
	for (int i = 0; i < ALL; i++) {
		if (kinds[i].signal && !kinds[i].dead) {
			sigset_t one;

			sigemptyset(&one);
			sigaddset(&one, kinds[i].signal);
			check(sigwaitinfo(&one, &info) == kinds[i].signal && info.si_pid == pids[i] && info.si_code == CLD_EXITED, "%s: told by signal %d of %d",
			      kinds[i].name, info.si_signo, info.si_pid);
		}
		if (kinds[i].signal != SIGCHLD)
			check(waitpid(pids[i], &status, WNOHANG) < 0 && errno == ECHILD, "%s: an ordinary wait sees it", kinds[i].name);
		check(waitpid(pids[i], &status, kinds[i].signal == SIGCHLD ? 0 : __WCLONE) == pids[i] && WIFEXITED(status) && WEXITSTATUS(status) == kinds[i].code,
		      "%s: ended with %#x", kinds[i].name, status);
	}
	none_waits(&set);
	pass();
}
