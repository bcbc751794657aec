/*
 * A child and a grandchild made something else of the mappings they inherited: other protections, split, joined, cut,
 * lengthened, replaced, with the same contents or with other ones.
 */
#include "workload.h"

enum { PAGE = 4096, PAGES = 12 };
enum { OPENED, CLOSED, CLOSED_CHANGED, SPLIT, JOINED, CUT, LENGTHENED, REPLACED, FILE_CLOSED, FILE_SHARED, ALL };

static char *area[ALL];
static int *turn;

static char *map(int prot, int flags, int fd)
{
	/* With room behind, for what is lengthened. */
	char *at = mmap(NULL, 2 * PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(munmap(at, 2 * PAGES * PAGE));
	if (mmap(at, PAGES * PAGE, prot, flags | MAP_FIXED, fd, 0) != at)
		fail("mmap: %s", strerror(errno));
	return at;
}

static void make_all(void)
{
	int fd = must(open("mapped", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	static char bytes[PAGES * PAGE];

	fill_pattern(bytes, sizeof bytes, 1000);
	must(write(fd, bytes, sizeof bytes));
	for (int i = 0; i < FILE_CLOSED; i++) {
		area[i] = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		fill_pattern(area[i], PAGES * PAGE, (uint64_t)i);
	}
	area[FILE_CLOSED] = map(PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	area[FILE_SHARED] = map(PROT_READ, MAP_SHARED, fd);
	fill_pattern(area[FILE_CLOSED], 2 * PAGE, 2000);
	close(fd);
	must(mprotect(area[OPENED], PAGES * PAGE, PROT_READ));
	must(mprotect(area[JOINED] + 4 * PAGE, 4 * PAGE, PROT_READ));
}

/* The changes, made once in the child and, with other protections again, in the grandchild. */
static void change(void)
{
	must(mprotect(area[OPENED], PAGES * PAGE, PROT_READ | PROT_WRITE));
	must(mprotect(area[CLOSED], PAGES * PAGE, PROT_NONE));
	fill_pattern(area[CLOSED_CHANGED] + PAGE, PAGE, 101);
	must(mprotect(area[CLOSED_CHANGED], PAGES * PAGE, PROT_READ));
	must(mprotect(area[SPLIT] + 2 * PAGE, 3 * PAGE, PROT_READ));
	must(munmap(area[SPLIT] + 7 * PAGE, 2 * PAGE));
	must(mprotect(area[JOINED], PAGES * PAGE, PROT_READ | PROT_WRITE));
	must(munmap(area[CUT], 2 * PAGE));
	must(munmap(area[CUT] + 10 * PAGE, 2 * PAGE));
	must(mremap(area[LENGTHENED], PAGES * PAGE, (PAGES + 5) * PAGE, 0) == MAP_FAILED ? -1 : 0);
	fill_pattern(area[LENGTHENED] + (PAGES + 1) * PAGE, PAGE, 106);
	must(mmap(area[REPLACED], PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -1 : 0);
	fill_pattern(area[REPLACED], PAGE, (uint64_t)REPLACED);
	must(mprotect(area[FILE_CLOSED], PAGES * PAGE, PROT_READ));
	must(mprotect(area[FILE_SHARED], PAGES * PAGE, PROT_READ | PROT_WRITE));
}

static void change_again(void)
{
	must(mprotect(area[OPENED], PAGES * PAGE, PROT_READ | PROT_EXEC));
	must(mprotect(area[CLOSED_CHANGED], PAGES * PAGE, PROT_READ | PROT_WRITE));
	must(mprotect(area[SPLIT] + 2 * PAGE, 3 * PAGE, PROT_READ | PROT_WRITE));
	must(mprotect(area[JOINED] + 6 * PAGE, 6 * PAGE, PROT_NONE));
	must(mremap(area[LENGTHENED], (PAGES + 5) * PAGE, 3 * PAGE, 0) == MAP_FAILED ? -1 : 0);
	must(mprotect(area[FILE_CLOSED], 1 * PAGE, PROT_READ | PROT_WRITE));
	fill_pattern(area[FILE_CLOSED], PAGE, 2001);
}

static void check_pages(int which, int first, int pages, uint64_t seed, const char *who)
{
	static char expected[PAGES * PAGE];
	char *at = area[which] + first * PAGE;

	fill_pattern(expected, sizeof expected, seed);
	must(mprotect(at, (size_t)pages * PAGE, PROT_READ));
	for (int i = 0; i < pages; i++)
		check(!memcmp(at + i * PAGE, expected + (first + i) * PAGE, PAGE), "%s, area %d: page %d", who, which, first + i);
}

static void check_changed(const char *who, bool again)
{
	check_pages(OPENED, 0, PAGES, OPENED, who);
	check_pages(CLOSED, 0, PAGES, CLOSED, who);
	check_pages(CLOSED_CHANGED, 0, 1, CLOSED_CHANGED, who);
	check_pages(CLOSED_CHANGED, 2, PAGES - 2, CLOSED_CHANGED, who);
	check_pattern(area[CLOSED_CHANGED] + PAGE, PAGE, 101, who);
	check_pages(SPLIT, 0, 7, SPLIT, who);
	check_pages(SPLIT, 9, 3, SPLIT, who);
	check_pages(JOINED, 0, PAGES, JOINED, who);
	check_pages(CUT, 2, 8, CUT, who);
	check_pages(LENGTHENED, 0, again ? 3 : PAGES, LENGTHENED, who);
	if (!again)
		check_pattern(area[LENGTHENED] + (PAGES + 1) * PAGE, PAGE, 106, who);
	check_pages(REPLACED, 0, 1, REPLACED, who);
	for (int i = PAGE; i < PAGES * PAGE; i++)
		if (!check(area[REPLACED][i] == 0, "%s: the replaced area is not empty", who))
			break;
	check_pages(FILE_CLOSED, 2, PAGES - 2, 1000, who);
	if (again)
		check_pattern(area[FILE_CLOSED], PAGE, 2001, who);
	check_pages(FILE_CLOSED, 1, 1, 2000, who);
	check_pages(FILE_SHARED, 0, PAGES, 1000, who);
}

static void serve(const char *who, bool again, int my_turn, pid_t kid)
{
	keep_state();
	__atomic_store_n(turn, my_turn, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(turn, __ATOMIC_SEQ_CST) < 100)
		sleep_ms(2);
	check_state();
	check_changed(who, again);
	if (kid)
		child_passed(kid);
	child_done();
}

static void child(void)
{
	pid_t kid;

	change();
	kid = must(fork());
	if (!kid) {
		change_again();
		serve("the grandchild", true, 1, 0);
	}
	while (__atomic_load_n(turn, __ATOMIC_SEQ_CST) != 1)
		sleep_ms(2);
	serve("the child", false, 2, kid);
}

int main(void)
{
	pid_t kid;

	turn = shared_memory(sizeof *turn);
	make_all();
	kid = must(fork());
	if (!kid)
		child();
	while (__atomic_load_n(turn, __ATOMIC_SEQ_CST) != 2)
		sleep_ms(2);
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < FILE_CLOSED; i++)
		check_pages(i, 0, PAGES, (uint64_t)i, "the parent");
	check_pages(FILE_CLOSED, 2, PAGES - 2, 1000, "the parent");
	check_pages(FILE_SHARED, 0, PAGES, 1000, "the parent");
	__atomic_store_n(turn, 100, __ATOMIC_SEQ_CST);
	child_passed(kid);
	pass();
}
