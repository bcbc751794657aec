/* Locks of every kind on ranges that overlap, shared by fork; another process sees the same locks as before. */
#include <sys/file.h>

#include "workload.h"

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* /proc/locks lines of the file, without number, sorted. */
static void read_lines(int fd, char *text, size_t room)
{
	char row[256], wanted[64], rows[16][256];
	struct stat st;
	FILE *file = fopen("/proc/locks", "r");
	size_t used = 0, count = 0;

	must(fstat(fd, &st));
	snprintf(wanted, sizeof wanted, ":%lu ", (unsigned long)st.st_ino);
	text[0] = 0;
	while (fgets(row, sizeof row, file))
		if (strstr(row, wanted) && count < 16)
			strcpy(rows[count++], strchr(row, ':') + 1);
	fclose(file);
	qsort(rows, count, sizeof rows[0], by_text);
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(text + used, room - used, "%s", rows[i]);
}

/*
 * The kernel hands /proc/locks out a page at a time: where others of the machine lock or unlock in between, a line may
 * come twice or be left out. What two readings in a row agree on is so.
 */
static void lines_of(int fd, char *text, size_t room)
{
	char again[2048];

	do {
		read_lines(fd, text, room);
		sleep_ms(1);
		read_lines(fd, again, sizeof again);
	} while (strcmp(text, again));
}

static void lock(int fd, int command, int type, off_t start, off_t length)
{
	struct flock range = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

	must(fcntl(fd, command, &range));
}

#define FILES 6
static int fds[FILES];
static const char *names[FILES] = {"posix", "flock", "ofd", "flock-shared", "dup", "of-child"};

int main(int argc, char **argv)
{
	static char before[FILES][2048], after[FILES][2048];
	volatile int *stage = shared_memory(sizeof *stage);
	int second, copy;
	bool family = argc > 2 && !strcmp(argv[2], "family");
	pid_t child;

	for (int i = 0; i < FILES; i++)
		fds[i] = must(open(names[i], O_RDWR | O_CREAT | O_EXCL, 0600));
	lock(fds[0], F_SETLK, F_WRLCK, 10, 20);
	lock(fds[0], F_SETLK, F_RDLCK, 20, 5);
	lock(fds[0], F_SETLK, F_RDLCK, 1000, 0);
	must(flock(fds[1], LOCK_EX));
	second = must(open("ofd", O_RDWR));
	lock(fds[2], F_OFD_SETLK, F_RDLCK, 0, 100);
	lock(second, F_OFD_SETLK, F_RDLCK, 50, 0);
	lock(second, F_OFD_SETLK, F_WRLCK, 1L << 40, 1L << 40);
	must(flock(fds[3], LOCK_SH));
	must(flock(must(open("flock-shared", O_RDONLY)), LOCK_SH));
	copy = must(dup(fds[4]));
	lock(copy, F_SETLK, F_WRLCK, 0, 0);
	must(flock(fds[4], LOCK_EX));
	must(close(must(dup(second))));
	child = family ? must(fork()) : -1;
	if (child == 0) {
		lock(fds[5], F_SETLK, F_WRLCK, 3, 4);
		lock(fds[0], F_SETLK, F_RDLCK, 22, 2);
		*stage = 1;
		keep_state();
		*stage = 2;
		wait_for_go();
		/* The parent looks at our locks first. */
		while (*stage < 3)
			sleep_ms(1);
		child_done();
	}
	while (family && *stage < 2)
		sleep_ms(1);
	for (int i = 0; i < FILES; i++)
		lines_of(fds[i], before[i], sizeof before[i]);
	ready();
	wait_for_go();
	for (int i = 0; i < FILES; i++) {
		lines_of(fds[i], after[i], sizeof after[i]);
		check(!strcmp(before[i], after[i]), "locks of %s are\n%swere\n%s", names[i], after[i], before[i]);
	}
	check(flock(must(open("flock", O_RDWR)), LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK, "the file is not locked against others");
	*stage = 3;
	if (family)
		child_passed(child);
	must(flock(fds[1], LOCK_UN));
	must(flock(must(open("flock", O_RDWR)), LOCK_SH | LOCK_NB));
	for (int fd = 3 + FILES; fd < 20; fd++)
		close(fd);
	for (int i = 0; i < FILES; i++)
		must(unlink(names[i]));
	printf("PASS\n");
	return differences_seen() ? 1 : 0;
}
