/*
 * Private, shared and mapped memory that nobody writes: MiB (argument) of private pages with contents, a quarter as much
 * shared, all checked in the end.
 */
#include "workload.h"

int main(int argc, char **argv)
{
	size_t size = (argc > 2 ? (size_t)atoi(argv[2]) : 16) << 20;
	uint8_t *own = must(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	uint8_t *shared = must(mmap(NULL, size / 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));

	fill_pattern(own, size, 1);
	fill_pattern(shared, size / 4, 2);
	ready();
	wait_for_go();
	check_pattern(own, size, 1, "private memory");
	check_pattern(shared, size / 4, 2, "shared memory");
	check_state();
	pass();
}
