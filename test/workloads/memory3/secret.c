/* Memory that only the process can read: not to be dumped, and unharmed by the attempt. */
#include "workload.h"

enum { PAGE = 4096 };

int main(void)
{
	int fd = (int)must(syscall(SYS_memfd_secret, 0));
	char *memory;

	must(ftruncate(fd, 4 * PAGE));
	memory = must(mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	fill_pattern(memory, 4 * PAGE, 1);
	ready();
	wait_for_go();
	check_pattern(memory, 4 * PAGE, 1, "secret memory");
	pass();
}
