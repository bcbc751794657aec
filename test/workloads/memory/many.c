/*
 * Many mappings: hundreds of small ones of changing protection, some next to one another and some not; with "sparse" one
 * of 10 GiB with pages here and there; with "large" one of 96 MiB, every page written, with neighbours.
 */
#include "workload.h"

enum { PAGE = 4096, SMALL = 900 };
#define SPARSE (10ul << 30)
#define LARGE (96ul << 20)
#define HOLED (24ul << 20)
#define HOLE (1ul << 20)
#define CLOSED (6ul << 20)

static const int protections[] = {PROT_READ, PROT_READ | PROT_WRITE, PROT_NONE, PROT_READ | PROT_EXEC};

static void small(void)
{
	char *base = must(mmap(NULL, (size_t)SMALL * 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	for (int i = 0; i < SMALL; i++) {
		char *at = base + (size_t)i * 3 * PAGE;
		fill_pattern(at + PAGE * (i % 2), PAGE, (uint64_t)i);
		if (i % 5 == 0)
			must(munmap(at + 2 * PAGE, PAGE));
		must(mprotect(at, 2 * PAGE, protections[i % 4]));
	}
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < SMALL; i++) {
		char *at = base + (size_t)i * 3 * PAGE;
		must(mprotect(at, 2 * PAGE, PROT_READ));
		check_pattern(at + PAGE * (i % 2), PAGE, (uint64_t)i, "a small mapping");
		check(at[PAGE * !(i % 2)] == 0, "a page that was never written is not zero");
	}
}

static void sparse(void)
{
	char *base = mmap(NULL, SPARSE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(base == MAP_FAILED ? -1 : 0);
	must(madvise(base, SPARSE, MADV_NOHUGEPAGE));
	for (unsigned long at = 0, i = 0; at < SPARSE; at += 123457ul * PAGE, i++)
		fill_pattern(base + at, PAGE, i);
	ready();
	wait_for_go();
	check_state();
	for (unsigned long at = 0, i = 0; at < SPARSE; at += 123457ul * PAGE, i++) {
		check_pattern(base + at, PAGE, i, "the sparse mapping");
		check(base[at + PAGE] == 0, "a page that was never written is not zero");
	}
}

/* Behind the large mapping, in the same range: one with holes, and one that may only be read. */
static void large(void)
{
	char *base = mmap(NULL, LARGE + HOLED + CLOSED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *holed = base + LARGE, *closed = holed + HOLED;

	must(base == MAP_FAILED ? -1 : 0);
	fill_pattern(base, LARGE, 9);
	for (unsigned long at = 0; at < HOLED; at += 2 * HOLE)
		fill_pattern(holed + at, HOLE - PAGE, at);
	fill_pattern(closed, CLOSED, 10);
	must(madvise(holed, HOLED, MADV_NOHUGEPAGE));
	must(mprotect(closed, CLOSED, PROT_READ));
	ready();
	wait_for_go();
	check_state();
	check_pattern(base, LARGE, 9, "the large mapping");
	check_pattern(closed, CLOSED, 10, "the one that may be read");
	for (unsigned long at = 0; at < HOLED; at += 2 * HOLE) {
		check_pattern(holed + at, HOLE - PAGE, at, "the one with holes");
		check(holed[at + HOLE - PAGE] == 0 && holed[at + HOLE] == 0, "a page that was never written is not zero");
		must(madvise(holed + at, PAGE, MADV_DONTNEED));
		check(holed[at] == 0, "a page that was given back is not zero");
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "small";

	if (!strcmp(what, "sparse"))
		sparse();
	else if (!strcmp(what, "large"))
		large();
	else
		small();
	pass();
}
