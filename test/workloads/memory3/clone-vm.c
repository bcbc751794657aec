/*
 * Processes that share all of their memory but are no threads of one another (CLONE_VM), some with their descriptors and
 * signal handlers too; one of them stopped, one with a thread, one with a child of its own.
 */
#include <linux/kcmp.h>
#include <pthread.h>
#include <sched.h>

#include "workload.h"

enum { STACK = 256 << 10 };

struct part {
	const char *name;
	int flags;
	pid_t pid;
	char stack[STACK] __attribute__((aligned(64)));
};
static struct part parts[] = {
	{.name = "memory", .flags = CLONE_VM},
	{.name = "memory and handlers", .flags = CLONE_VM | CLONE_SIGHAND},
	{.name = "memory, descriptors and directory", .flags = CLONE_VM | CLONE_FILES | CLONE_FS},
};
enum { ALL = sizeof parts / sizeof *parts };
static volatile int counters[ALL], go_on, done[ALL];
static char *mapped_later;

static int run(void *argument)
{
	int which = (int)(intptr_t)argument;

	/* Nothing of the C library's that belongs to a thread: all of it is shared. */
	while (!go_on) {
		counters[which]++;
		struct timespec nap = {.tv_nsec = 2000000};
		syscall(SYS_nanosleep, &nap, NULL);
	}
	if (mapped_later)
		mapped_later[which] = (char)('a' + which);
	done[which] = 1;
	syscall(SYS_exit, 0);
	return 0;
}

static bool shared(pid_t a, pid_t b, int what)
{
	return syscall(SYS_kcmp, a, b, what, 0, 0) == 0;
}

int main(int argc, char **argv)
{
	bool stopped = argc > 2 && !strcmp(argv[2], "stopped");
	pid_t self = getpid();
	int before[ALL];

	must(prctl(PR_SET_DUMPABLE, 1));
	for (int i = 0; i < ALL; i++)
		parts[i].pid = must(clone(run, parts[i].stack + STACK, parts[i].flags | SIGCHLD, (void *)(intptr_t)i));
	for (int i = 0; i < ALL; i++)
		while (!counters[i])
			sleep_ms(1);
	if (stopped) {
		must(kill(parts[1].pid, SIGSTOP));
		must(waitpid(parts[1].pid, NULL, WUNTRACED));
	}
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < ALL; i++) {
		check(shared(self, parts[i].pid, KCMP_VM), "%s: memory is not shared", parts[i].name);
		check(shared(self, parts[i].pid, KCMP_SIGHAND) == !!(parts[i].flags & CLONE_SIGHAND), "%s: sharing of handlers changed", parts[i].name);
		check(shared(self, parts[i].pid, KCMP_FILES) == !!(parts[i].flags & CLONE_FILES), "%s: sharing of descriptors changed", parts[i].name);
		check(shared(self, parts[i].pid, KCMP_FS) == !!(parts[i].flags & CLONE_FS), "%s: sharing of the directory changed", parts[i].name);
		before[i] = counters[i];
	}
	if (stopped) {
		check(comes_to(parts[1].pid, 'T'), "the stopped one runs");
		must(kill(parts[1].pid, SIGCONT));
	}
	for (int i = 0; i < ALL; i++) {
		for (int tries = 0; tries < 20000 && counters[i] == before[i]; tries++)
			sleep_ms(1);
		check(counters[i] != before[i], "%s: it does not run any more", parts[i].name);
	}
	mapped_later = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	go_on = 1;
	for (int i = 0; i < ALL; i++) {
		int status;

		check(waitpid(parts[i].pid, &status, 0) == parts[i].pid && status == 0, "%s: it ended with %#x", parts[i].name, status);
		check(done[i] && mapped_later[i] == 'a' + i, "%s: it did not see what was mapped later", parts[i].name);
	}
	pass();
}
