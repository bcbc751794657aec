/* Times of deleted files, to the nanosecond, and not disturbed by being looked at. */
#include "deleted.h"

int main(void)
{
	struct timespec times[2] = {{.tv_sec = 1000000000, .tv_nsec = 123456789}, {.tv_sec = 1234567890, .tv_nsec = 987654321}};
	int file = new_file("file", O_RDWR, "content"), directory;

	must(futimens(file, times));
	must(unlink("file"));
	must(mkdir("directory", 0700));
	directory = must(open("directory", O_RDONLY));
	must(rmdir("directory"));
	must(futimens(directory, times));
	keep_deleted(file);
	keep_deleted(directory);
	ready();
	wait_for_go();
	check_deleted();
	pass();
}
