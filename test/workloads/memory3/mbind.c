/*
 * NUMA policies of mappings, and of parts of them: private, reserved, of files, shared with a child that maps the same object
 * elsewhere and as a whole; a child that has given up or changed what it inherited. With "thread": beside a policy of the thread,
 * which shows in the same file of /proc.
 */
#include <linux/mempolicy.h>

#include "workload.h"

#ifndef MPOL_F_STATIC_NODES
#define MPOL_F_STATIC_NODES (1 << 15)
#endif
#ifndef MPOL_LOCAL
#define MPOL_LOCAL 4
#endif

enum { BITS = 1024, PAGE = 4096, PAGES = 8, PLACES = 6, STATIC_BIND = MPOL_BIND | MPOL_F_STATIC_NODES };

struct place {
	char *at;
	const char *what;
	int before[PAGES];
};

static struct place places[PLACES];
static int count;
static const unsigned long one[BITS / 64] = {1};

static int bind(char *at, int pages, int mode)
{
	bool has_nodes = mode != MPOL_DEFAULT && mode != MPOL_LOCAL;

	return (int)syscall(SYS_mbind, at, (size_t)pages * PAGE, mode, has_nodes ? one : NULL, has_nodes ? BITS : 0, 0);
}

static int mode_at(char *at, unsigned long *nodes)
{
	unsigned long all[BITS / 64] = {0};
	int mode = -1;

	must(syscall(SYS_get_mempolicy, &mode, all, BITS, at, MPOL_F_ADDR));
	*nodes = all[0];
	return mode;
}

static void keep(char *at, const char *what)
{
	struct place *place = &places[count++];
	unsigned long nodes;

	place->at = at;
	place->what = what;
	for (int i = 0; i < PAGES; i++)
		place->before[i] = mode_at(at + i * PAGE, &nodes);
}

static void check_places(const char *who)
{
	for (int p = 0; p < count; p++)
		for (int i = 0; i < PAGES; i++) {
			unsigned long nodes;
			int mode = mode_at(places[p].at + i * PAGE, &nodes), before = places[p].before[i];

			check(mode == before, "%s: policy %#x instead of %#x at page %d of %s", who, mode, before, i, places[p].what);
			check(nodes == (before != MPOL_DEFAULT && before != MPOL_LOCAL), "%s: nodes %#lx at page %d of %s", who, nodes, i, places[p].what);
		}
}

static char *map(int protection, int flags, int fd)
{
	char *at = mmap(NULL, (size_t)(PAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must((long)at);
	/* Pages around it that no neighbour joins. */
	at += PAGE;
	must((long)mmap(at, (size_t)PAGES * PAGE, protection, flags | MAP_FIXED, fd, 0));
	return at;
}

int main(int argc, char **argv)
{
	char *mixed, *reserved, *file, *shared, *again;
	int fd, memory, got;
	sigset_t set;
	pid_t child;

	mixed = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (bind(mixed, 2, STATIC_BIND)) {
		note("this kernel takes no NUMA policies");
		ready();
		wait_for_go();
		pass();
	}
	must(bind(mixed + 2 * PAGE, 2, MPOL_INTERLEAVE));
	must(bind(mixed + 5 * PAGE, 2, MPOL_LOCAL));
	fill_pattern(mixed, (size_t)PAGES * PAGE, 1);
	reserved = map(PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	must(bind(reserved, PAGES, MPOL_PREFERRED));
	fd = must(open("file", O_RDWR | O_CREAT, 0600));
	must(ftruncate(fd, (off_t)PAGES * PAGE));
	file = map(PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	must(bind(file + 3 * PAGE, 3, MPOL_BIND));
	file[4 * PAGE] = 'x';
	memory = must(memfd_create("memory", 0));
	must(ftruncate(memory, (off_t)PAGES * PAGE));
	shared = map(PROT_READ | PROT_WRITE, MAP_SHARED, memory);
	must(bind(shared, 4, MPOL_INTERLEAVE));
	must(bind(shared + 6 * PAGE, 2, MPOL_BIND));
	fill_pattern(shared, (size_t)PAGES * PAGE, 2);
	if (argc > 2 && !strcmp(argv[2], "thread"))
		must(syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, one, BITS));

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	child = must(fork());
	if (child == 0) {
		must(munmap(shared, (size_t)PAGES * PAGE));
		again = map(PROT_READ, MAP_SHARED, memory);
		must(bind(mixed, 2, MPOL_DEFAULT));
		must(bind(mixed + 2 * PAGE, 1, MPOL_PREFERRED));
		must(bind(reserved, PAGES, MPOL_DEFAULT));
		keep(mixed, "mixed memory");
		keep(reserved, "reserved memory");
		keep(file, "a file");
		keep(again, "shared memory");
		keep_state();
		kill(getppid(), SIGUSR1);
		wait_for_go();
		check_places("child");
		check_pattern(mixed, (size_t)PAGES * PAGE, 1, "the child's mixed memory");
		check_pattern(again, (size_t)PAGES * PAGE, 2, "the child's shared memory");
		child_done();
	}
	keep(mixed, "mixed memory");
	keep(reserved, "reserved memory");
	keep(file, "a file");
	keep(shared, "shared memory");
	must_zero(sigwait(&set, &got));
	ready();
	wait_for_go();
	check_state();
	check_places("parent");
	check_pattern(mixed, (size_t)PAGES * PAGE, 1, "mixed memory");
	check_pattern(shared, (size_t)PAGES * PAGE, 2, "shared memory");
	check(file[4 * PAGE] == 'x', "a page of the file is lost");
	child_passed(child);
	pass();
}
