/*
 * Shared anonymous memory that is used as a file as well: through /proc/self/map_files a descriptor can be had, and with
 * it mappings of other parts, private ones too. All of it is one object.
 */
#include "workload.h"

enum { PAGE = 4096 };

int main(void)
{
	char *area = shared_memory(4 * PAGE), *shifted, *copy, *again, path[96];
	char text[8] = "";
	int fd;

	strcpy(area + PAGE, "one");
	strcpy(area + 2 * PAGE, "two");
	snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (long)area, (long)area + 4 * PAGE);
	fd = must(open(path, O_RDWR));
	must(lseek(fd, 12, SEEK_SET));
	shifted = must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 2 * PAGE));
	copy = must(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, PAGE));
	strcpy(copy + PAGE, "own");

	/* Another one, whose private mapping only is left beside the shared one. */
	char *other = shared_memory(2 * PAGE);

	strcpy(other, "base");
	snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (long)other, (long)other + 2 * PAGE);
	int gone = must(open(path, O_RDONLY));

	again = must(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, gone, 0));
	strcpy(again + PAGE, "mine");
	must(close(gone));
	ready();
	wait_for_go();
	check_state();
	check(!strcmp(shifted, "two"), "the shifted mapping shows %s", shifted);
	check(!strcmp(copy, "one") && !strcmp(copy + PAGE, "own"), "the private mapping shows %s, %s", copy, copy + PAGE);
	strcpy(area + PAGE, "ONE");
	strcpy(shifted, "TWO");
	check(!strcmp(copy, "ONE"), "the private mapping is of another object");
	check(!strcmp(area + 2 * PAGE, "TWO"), "the shifted mapping is of another object");
	check(pread(fd, text, 4, 2 * PAGE) == 4 && !strcmp(text, "TWO"), "the descriptor is of another object");
	check(!strcmp(again, "base") && !strcmp(again + PAGE, "mine"), "the mapping without descriptor shows %s, %s", again, again + PAGE);
	strcpy(other, "BASE");
	check(!strcmp(again, "BASE"), "the mapping without descriptor is of another object");
	pass();
}
