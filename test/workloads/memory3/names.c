/* Names that a process gave to its anonymous mappings. */
#include "workload.h"

enum { PAGE = 4096, SET_VMA = 0x53564d41 };

int main(void)
{
	char *memory = must(mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	char *shared = shared_memory(4 * PAGE), line[512], wanted[64];
	int found = 0;
	FILE *maps;

	must(prctl(SET_VMA, 0, memory, 4 * PAGE, "first half"));
	must(prctl(SET_VMA, 0, shared, 4 * PAGE, "shared"));
	memory[0] = shared[0] = 1;
	ready();
	wait_for_go();
	maps = fopen("/proc/self/maps", "r");
	while (maps && fgets(line, sizeof line, maps)) {
		snprintf(wanted, sizeof wanted, "%lx-", (unsigned long)memory);
		found += !strncmp(line, wanted, strlen(wanted)) && strstr(line, "[anon:first half]");
		snprintf(wanted, sizeof wanted, "%lx-", (unsigned long)shared);
		found += !strncmp(line, wanted, strlen(wanted)) && strstr(line, "[anon_shmem:shared]");
	}
	check(found == 2, "%d names of 2 are there", found);
	pass();
}
