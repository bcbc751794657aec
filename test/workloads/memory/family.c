/*
 * A parent with MiB (first argument) of private memory and children (second argument) forked from it; each child has written
 * one page of its own. All of it is checked in the end.
 */
#include "workload.h"

enum { PAGE = 4096 };

int main(int argc, char **argv)
{
	size_t size = (argc > 2 ? (size_t)atoi(argv[2]) : 64) << 20;
	int children = argc > 3 ? atoi(argv[3]) : 8;
	uint8_t *own = must(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	/* What children have written, and behind it whether they are to look and end. */
	volatile int *written = shared_memory(sizeof *written * (size_t)(children + 1));
	pid_t kids[64];

	fill_pattern(own, size, 1);
	for (int i = 0; i < children && i < 64; i++) {
		if ((kids[i] = must(fork())))
			continue;
		size_t page = (size_t)(i + 1) * 7 * PAGE;
		fill_pattern(own + page, PAGE, 100u + (unsigned)i);
		written[i] = 1;
		keep_state();
		while (!written[children])
			sleep_ms(2);
		check_pattern(own + page, PAGE, 100u + (unsigned)i, "the child's own page");
		check_state();
		child_done();
	}
	for (int i = 0; i < children; i++)
		while (!written[i])
			sleep_ms(2);
	ready();
	wait_for_go();
	check_state();
	check_pattern(own, size, 1, "the parent's memory");
	written[children] = 1;
	for (int i = 0; i < children && i < 64; i++)
		child_passed(kids[i]);
	pass();
}
