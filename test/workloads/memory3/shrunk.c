/*
 * Shared anonymous memory of which nobody maps the end any more: the object keeps its size and contents, and who makes its
 * mapping longer again sees them.
 */
#include "workload.h"

enum { PAGE = 4096, PAGES = 16 };

int main(void)
{
	char *area = shared_memory(PAGES * PAGE), *longer;

	fill_pattern(area, PAGES * PAGE, 3);
	must(munmap(area + 4 * PAGE, (PAGES - 4) * PAGE));
	ready();
	wait_for_go();
	check_state();
	check_pattern(area, 4 * PAGE, 3, "what is mapped");
	longer = must(mremap(area, 4 * PAGE, PAGES * PAGE, MREMAP_MAYMOVE));
	check_pattern(longer, PAGES * PAGE, 3, "the whole");
	pass();
}
