/* Memory of huge pages: private, shared, of a memfd; with a child that has changed a page of the private one. */
#include "workload.h"

enum { HUGE = 2 << 20 };

int main(void)
{
	char *own = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0), *shared, *file, *closed;
	int fd = memfd_create("huge", MFD_HUGETLB), *board = shared_memory(4096);
	pid_t kid;

	if (own == MAP_FAILED || fd < 0) {
		note("this machine has no huge pages to give");
		ready();
		wait_for_go();
		pass();
	}
	shared = must(mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0));
	must(ftruncate(fd, HUGE));
	file = must(mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	closed = must(mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0));
	fill_pattern(own, 2 * HUGE, 1);
	fill_pattern(shared, HUGE, 2);
	fill_pattern(file, HUGE, 3);
	fill_pattern(closed, HUGE, 4);
	must(mprotect(closed, HUGE, PROT_READ));
	kid = must(fork());
	if (!kid) {
		strcpy(own + HUGE, "the child's");
		keep_state();
		__atomic_store_n(board, 1, __ATOMIC_SEQ_CST);
		while (!__atomic_load_n(board + 1, __ATOMIC_SEQ_CST))
			sleep_ms(2);
		check_state();
		check(!strcmp(own + HUGE, "the child's"), "the child's own page was lost");
		check_pattern(own, HUGE, 1, "the page that the child did not change");
		check(!strcmp(shared + 100, "from the parent"), "the child does not see what the parent wrote");
		strcpy(shared + 200, "from the child");
		child_done();
	}
	while (!__atomic_load_n(board, __ATOMIC_SEQ_CST))
		sleep_ms(2);
	ready();
	wait_for_go();
	check_state();
	check_pattern(own, 2 * HUGE, 1, "private");
	check_pattern(shared, HUGE, 2, "shared");
	check_pattern(file, HUGE, 3, "memfd");
	check_pattern(closed, HUGE, 4, "closed to writing");
	strcpy(file + 500, "through the mapping");
	char text[20] = "";

	check(pread(fd, text, 20, 500) == 20 && !strcmp(text, "through the mapping"), "mapping and memfd are two things");
	strcpy(shared + 100, "from the parent");
	__atomic_store_n(board + 1, 1, __ATOMIC_SEQ_CST);
	child_passed(kid);
	check(!strcmp(shared + 200, "from the child"), "the parent does not see what the child wrote");
	pass();
}
