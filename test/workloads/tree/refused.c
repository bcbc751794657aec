/*
 * Trees that cannot be dumped, and go on: a tracer with its tracee ("traced"),
 * a tracer whose tracee is somebody else's child ("outside"; "outside-parent": it has children as well), a parent in vfork ("vfork"), memory shared
 * with a grandparent while the one in between has its own ("apart").
 */
#include <sched.h>
#include <sys/ptrace.h>

#include "workload.h"

enum { STACK = 64 << 10 };

static char stacks[2][STACK] __attribute__((aligned(16)));
static volatile int *word;

static int until_told(void *unused)
{
	(void)unused;
	while (!word[0])
		syscall(SYS_sched_yield);
	syscall(SYS_exit, 0);
	return 0;
}

static void traced(void)
{
	int status;
	pid_t child = must(fork());

	if (child == 0) {
		must(ptrace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		for (;;)
			sleep_ms(5);
	}
	must(waitpid(child, &status, 0));
	must(ptrace(PTRACE_CONT, child, 0, 0));
	ready();
	wait_for_go();
	must(kill(child, SIGUSR1));
	must(waitpid(child, &status, 0));
	check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGUSR1, "the tracer sees %#x", status);
	must(kill(child, SIGKILL));
	must(waitpid(child, &status, 0));
}

/* One as usual, one whose end is told by another signal. */
static void have_children(void)
{
	const int signals[] = {SIGCHLD, SIGUSR2};

	must(prctl(PR_SET_CHILD_SUBREAPER, 0));
	signal(SIGUSR2, SIG_IGN);
	for (int i = 0; i < 2; i++)
		if (must((int)syscall(SYS_clone, signals[i], 0, 0, 0, 0)) == 0) {
			must(prctl(PR_SET_PDEATHSIG, SIGKILL));
			for (;;)
				pause();
		}
}

/* The root's child traces the root's other child. */
static void traces_outside(bool with_children)
{
	int status;
	pid_t traced = must(fork()), tracer;

	if (traced == 0)
		for (;;)
			pause();
	tracer = must(fork());
	if (tracer == 0) {
		if (with_children)
			have_children();
		must(ptrace(PTRACE_SEIZE, traced, 0, 0));
		word[1] = 1;
		while (!word[0])
			sleep_ms(5);
		must(ptrace(PTRACE_INTERRUPT, traced, 0, 0));
		must(waitpid(traced, &status, __WALL));
		_exit(WIFSTOPPED(status) ? 0 : 1);
	}
	while (!word[1])
		sleep_ms(1);
	note("tracer %d", tracer);
	ready();
	wait_for_go();
	word[0] = 1;
	must(waitpid(tracer, &status, 0));
	check(status == 0, "the tracer ended with %#x", status);
	must(kill(traced, SIGKILL));
}

/* In a child, who is in the middle of a vfork, so that its parent can tell when to go on. */
static void in_vfork(void)
{
	int status;
	pid_t parent = must(fork());

	if (parent == 0) {
		pid_t child = must(vfork());

		if (child == 0)
			until_told(NULL);
		must(waitpid(child, &status, 0));
		_exit(status);
	}
	while (task_state(parent) != 'D')
		sleep_ms(1);
	note("parent %d", parent);
	ready();
	wait_for_go();
	word[0] = 1;
	must(waitpid(parent, &status, 0));
	check(status == 0, "the parent ended with %#x", status);
}

static int pass_memory_on(void *unused)
{
	must(clone(until_told, stacks[1] + STACK, CLONE_VM | SIGCHLD, unused));
	execl("/bin/sleep", "sleep", "1000", NULL);
	return 1;
}

static void apart(void)
{
	int status;
	char name[32] = "", path[64];
	pid_t child = (pid_t)must(clone(pass_memory_on, stacks[0] + STACK, CLONE_VM | SIGCHLD, NULL));

	snprintf(path, sizeof path, "/proc/%d/comm", child);
	while (strncmp(name, "sleep", 5)) {
		int fd = must(open(path, O_RDONLY));

		must(read(fd, name, sizeof name));
		close(fd);
	}
	ready();
	wait_for_go();
	word[0] = 1;
	must(kill(child, SIGKILL));
	must(waitpid(child, &status, 0));
}

int main(int argc, char **argv)
{
	const char *what = argv[argc - 1];

	must(prctl(PR_SET_CHILD_SUBREAPER, 1));
	word = shared_memory(2 * sizeof *word);
	snapshot_ignores("task ");
	if (!strcmp(what, "traced"))
		traced();
	else if (!strcmp(what, "outside") || !strcmp(what, "outside-parent"))
		traces_outside(!strcmp(what, "outside-parent"));
	else if (!strcmp(what, "vfork"))
		in_vfork();
	else
		apart();
	while (waitpid(-1, NULL, 0) > 0)
		;
	pass();
}
