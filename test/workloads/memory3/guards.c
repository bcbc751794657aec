/*
 * Ranges that fault whatever their protection is (MADV_GUARD_INSTALL) in mappings of every kind; memory that the kernel
 * may drop (MAP_DROPPABLE) and memory that a child gets empty (MADV_WIPEONFORK). A child made before and one made after.
 */
#include <setjmp.h>

#include "workload.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 8
#endif

enum { PAGE = 4096, PAGES = 8 };

static sigjmp_buf back;

static void fault(int signal)
{
	(void)signal;
	siglongjmp(back, 1);
}

static bool faults(volatile char *at)
{
	if (sigsetjmp(back, 1))
		return true;
	(void)*at;
	return false;
}

static const struct {
	const char *name;
	int flags;
	bool file;
} kinds[] = {
	{"anonymous", MAP_PRIVATE | MAP_ANONYMOUS, false},
	{"shared", MAP_SHARED | MAP_ANONYMOUS, false},
	{"private file", MAP_PRIVATE, true},
	{"locked", MAP_PRIVATE | MAP_ANONYMOUS, false},
};
enum { ALL = sizeof kinds / sizeof *kinds };
static char *at[ALL];
static bool guarded[ALL];

static void look(const char *who)
{
	for (int i = 0; i < ALL; i++) {
		for (int page = 0; page < PAGES; page++) {
			bool expected = guarded[i] && (page == 2 || page == 3 || page == PAGES - 1);

			if (!check(faults(at[i] + page * PAGE) == expected, "%s: %s: page %d %s", who, kinds[i].name, page, expected ? "does not fault" : "faults"))
				continue;
			if (!expected)
				check(at[i][page * PAGE] == 'a' + page, "%s: %s: page %d was lost", who, kinds[i].name, page);
		}
	}
}

int main(void)
{
	struct sigaction action = {.sa_handler = fault};
	char *droppable, *wiped;
	int *board = shared_memory(PAGE), fd;
	pid_t kid;

	must(sigaction(SIGSEGV, &action, NULL));
	fd = must(open("file", O_RDWR | O_CREAT, 0600));
	must(ftruncate(fd, PAGES * PAGE));
	for (int i = 0; i < ALL; i++) {
		at[i] = must(mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, kinds[i].flags, kinds[i].file ? fd : -1, 0));
		for (int page = 0; page < PAGES; page++)
			at[i][page * PAGE] = (char)('a' + page);
		guarded[i] = !madvise(at[i] + 2 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL) && !madvise(at[i] + (PAGES - 1) * PAGE, PAGE, MADV_GUARD_INSTALL);
		if (i == ALL - 1)
			must(mlock2(at[i], PAGES * PAGE, MLOCK_ONFAULT));
	}
	if (!guarded[0])
		note("this kernel has no guard regions");
	must(close(fd));
	droppable = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
	if (droppable != MAP_FAILED)
		strcpy(droppable, "may go");
	wiped = must(mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	strcpy(wiped, "mine");
	must(madvise(wiped, PAGES * PAGE, MADV_WIPEONFORK));
	kid = must(fork());
	if (!kid) {
		if (droppable != MAP_FAILED)
			check(!droppable[0], "the child inherited what is droppable");
		check(!wiped[0], "the child inherited what is to be wiped");
		strcpy(wiped + PAGE, "the child's");
		keep_state();
		__atomic_store_n(board, 1, __ATOMIC_SEQ_CST);
		while (!__atomic_load_n(board + 1, __ATOMIC_SEQ_CST))
			sleep_ms(2);
		check_state();
		look("child");
		if (droppable != MAP_FAILED)
			check(!droppable[0], "the child got the parent's droppable memory");
		check(!wiped[0] && !strcmp(wiped + PAGE, "the child's"), "the child's own page was lost");
		child_done();
	}
	while (!__atomic_load_n(board, __ATOMIC_SEQ_CST))
		sleep_ms(2);
	ready();
	wait_for_go();
	check_state();
	look("parent");
	check(!strcmp(wiped, "mine"), "the page that a child gets empty was lost");
	if (droppable != MAP_FAILED)
		check(!strcmp(droppable, "may go"), "the droppable page was lost without need");
	__atomic_store_n(board + 1, 1, __ATOMIC_SEQ_CST);
	child_passed(kid);
	kid = must(fork());
	if (!kid) {
		look("later child");
		check(!wiped[0] && (droppable == MAP_FAILED || !droppable[0]), "a later child inherits what it must not");
		_exit(differences_seen() ? 1 : 0);
	}
	child_passed(kid);
	pass();
}
