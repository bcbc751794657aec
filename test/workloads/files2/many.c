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

/* As many descriptors as there may be, up to 20 000: half of them open files, of which the others are duplicates. The snapshot has no room for so many. */
static _Noreturn void as_many_as_possible(void)
{
	struct rlimit limit;
	int first, half;

	must(getrlimit(RLIMIT_NOFILE, &limit));
	if (limit.rlim_max > 20010)
		limit.rlim_max = 20010;
	limit.rlim_cur = limit.rlim_max;
	must(setrlimit(RLIMIT_NOFILE, &limit));
	first = must(open("file", O_RDWR | O_CREAT | O_EXCL, 0600)) + 1;
	half = ((int)limit.rlim_max - first) / 2;
	for (int i = 0; i < half; i++)
		must(lseek(must(open("file", O_RDONLY)), i, SEEK_SET));
	for (int i = 0; i < half; i++)
		must(fcntl(first + i, i % 7 ? F_DUPFD : F_DUPFD_CLOEXEC, 0));
	note("%d descriptors", 2 * half);
	must(write(1, "ready\n", 6));
	wait_for_go();
	for (int i = 0; i < half; i++) {
		int fd = first + i, copy = first + half + i;

		check(lseek(fd, 0, SEEK_CUR) == i && lseek(copy, 1, SEEK_CUR) == i + 1 && lseek(fd, 0, SEEK_CUR) == i + 1, "fd %d and %d are not one file", fd, copy);
		check(fcntl(fd, F_GETFD) == 0 && fcntl(copy, F_GETFD) == (i % 7 ? 0 : FD_CLOEXEC), "fd %d has another flag", copy);
	}
	must(unlink("file"));
	must(write(1, differences_seen() ? "FAIL\n" : "PASS\n", 5));
	_exit(differences_seen() != 0);
}

int main(int argc, char **argv)
{
	struct rlimit limit = {NUMBERS + 100, NUMBERS + 100};
	static int holder[FILES];
	int same = 0;

	if (argc > 2 && !strcmp(argv[2], "all"))
		as_many_as_possible();
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
