/*
 * Tasks that share a descriptor table, an fs struct, memory or handlers with one that did not create them: siblings, a
 * grandparent, children of somebody who shared once and does no more. All pairs are compared by kcmp(2).
 */
#include <linux/kcmp.h>
#include <sched.h>

#include "workload.h"

enum { MOST = 16, STACK = 64 << 10 };

static const struct {
	const char *name;
	int what;
} kinds[] = {{"descriptor table", KCMP_FILES}, {"fs struct", KCMP_FS}, {"memory", KCMP_VM}, {"handlers", KCMP_SIGHAND}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static struct shared {
	_Atomic int count, ready, looked;
	pid_t pids[MOST];
} *all;
static bool before[KINDS][MOST][MOST];

static void wait_until_all(int count)
{
	while (all->ready < count)
		sleep_ms(2);
}

static void stay(void)
{
	all->ready++;
	while (!all->looked)
		sleep_ms(5);
	_exit(0);
}

/* A new process, which `life` is the life of; its number is entered by itself. */
static void make(unsigned long flags, void (*life)(void))
{
	int expected = all->count + 1;
	pid_t pid = (pid_t)must(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0));

	if (pid == 0) {
		all->pids[all->count] = getpid();
		all->count++;
		life();
		stay();
	}
	while (all->count < expected)
		sleep_ms(1);
}

static void as_sibling_files(void)
{
	make(CLONE_PARENT | CLONE_FILES, stay);
}

static void as_sibling_both(void)
{
	make(CLONE_PARENT | CLONE_FS, stay);
	make(CLONE_PARENT | CLONE_FILES | CLONE_FS, stay);
}

/* Passes on what it has, and has its own then. */
static void middle(void)
{
	make(CLONE_FILES | CLONE_FS, stay);
	must(unshare(CLONE_FILES));
	make(CLONE_FILES, stay);
	must(unshare(CLONE_FS));
}

static void sharer_once(void)
{
	make(CLONE_FILES, stay);
	make(CLONE_FILES, stay);
	must(unshare(CLONE_FILES));
	make(CLONE_FILES, stay);
}

static int in_same_memory(void *unused)
{
	(void)unused;
	all->pids[all->count] = (pid_t)syscall(SYS_getpid);
	all->count++;
	stay();
	return 0;
}

/* Two children of the same parent in one memory; only handlers of one of them are the creator's. */
static void as_sibling_memory(void)
{
	static char stacks[2][STACK] __attribute__((aligned(16)));
	int expected = all->count;

	for (int i = 0; i < 2; i++) {
		must(clone(in_same_memory, stacks[i] + STACK, CLONE_PARENT | CLONE_VM | (i ? CLONE_SIGHAND : 0) | SIGCHLD, NULL));
		expected++;
		while (all->count < expected)
			sleep_ms(1);
	}
}

static void look(bool into[KINDS][MOST][MOST])
{
	for (int kind = 0; kind < KINDS; kind++)
		for (int a = 0; a < all->count; a++)
			for (int b = 0; b < all->count; b++)
				into[kind][a][b] = must(syscall(SYS_kcmp, all->pids[a], all->pids[b], kinds[kind].what, 0, 0)) == 0;
}

int main(int argc, char **argv)
{
	static bool after[KINDS][MOST][MOST];
	static struct shared for_all;
	int status, children = 0;
	bool with_memory = argc > 2 && !strcmp(argv[2], "memory");

	must(prctl(PR_SET_DUMPABLE, 1));
	all = mmap(NULL, sizeof for_all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	all->pids[all->count++] = getpid();
	all->ready++;
	if (with_memory) {
		make(0, as_sibling_memory);
		wait_until_all(4);
	} else {
		make(CLONE_FILES | CLONE_FS, stay);
		wait_until_all(2);
		make(0, as_sibling_files);
		wait_until_all(4);
		make(CLONE_FS, as_sibling_both);
		wait_until_all(7);
		make(CLONE_FILES | CLONE_FS, middle);
		wait_until_all(10);
		make(0, sharer_once);
		wait_until_all(14);
	}
	look(before);
	ready();
	wait_for_go();
	look(after);
	for (int kind = 0; kind < KINDS; kind++)
		for (int a = 0; a < all->count; a++)
			for (int b = 0; b < all->count; b++)
				check(before[kind][a][b] == after[kind][a][b], "%s of tasks %d and %d: shared %d before, %d now", kinds[kind].name, a, b,
				      before[kind][a][b], after[kind][a][b]);
	check_state();
	all->looked = 1;
	while (waitpid(-1, &status, 0) > 0)
		children++, check(status == 0, "a child ended with %#x", status);
	check(children == (with_memory ? 3 : 8), "there were %d children", children);
	pass();
}
