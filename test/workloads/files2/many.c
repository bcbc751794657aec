/* Thousands of descriptors in a shuffled order: which ones share a position is as before. */
#include <sys/resource.h>

#include "workload.h"

#define NUMBERS 2500
#define FILES 900
#define FIRST 3

/* Which open file each number is, by a generator that always gives the same. */
static int file_of(int number)
{
	return (int)((unsigned)number * 2654435761u >> 8) % FILES;
}

int main(void)
{
	struct rlimit limit = {NUMBERS + 100, NUMBERS + 100};
	static int holder[FILES];
	int same = 0;

	must(setrlimit(RLIMIT_NOFILE, &limit));
	must(close(must(open("file", O_RDWR | O_CREAT | O_EXCL, 0600))));
	/* In descending order, so that what arrives low belongs high. */
	for (int number = FIRST + NUMBERS - 1; number >= FIRST; number--) {
		int file = file_of(number), fd;

		if (holder[file] == 0) {
			fd = must(open("file", O_RDONLY));
			if (fd != number) {
				must(dup2(fd, number));
				must(close(fd));
			}
			holder[file] = number;
			/* Half of them look alike from outside. */
			must(lseek(number, file % 2 ? 0 : file, SEEK_SET));
		} else {
			must(dup2(holder[file], number));
			same++;
		}
		if (number % 7 == 0)
			must(fcntl(number, F_SETFD, FD_CLOEXEC));
	}
	check(same > NUMBERS / 3, "too few duplicates");
	ready();
	wait_for_go();
	check_state();
	for (int file = 0; file < FILES; file++)
		if (holder[file])
			must(lseek(holder[file], 10000 + file, SEEK_SET));
	for (int number = FIRST; number < FIRST + NUMBERS; number++)
		if (!check(lseek(number, 0, SEEK_CUR) == 10000 + file_of(number), "fd %d shares its position with another file", number))
			break;
	must(unlink("file"));
	pass();
}
