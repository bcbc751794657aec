/*
 * memfd files: contents, size, mode, owner and seals of each; every open file description with its own flags and offset;
 * mappings of all sorts, also by tasks that have no descriptor; shared with a child.
 */
#include "workload.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#endif

enum { PAGE = 4096 };

static int again(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return must(open(path, flags));
}

struct kept {
	struct stat stat;
	int seals;
};

static struct kept look(int fd)
{
	struct kept kept;

	must(fstat(fd, &kept.stat));
	kept.seals = fcntl(fd, F_GET_SEALS);
	return kept;
}

static void compare(int fd, const struct kept *before, const char *what)
{
	struct kept now = look(fd);

	check(now.seals == before->seals, "%s: seals %#x, were %#x", what, now.seals, before->seals);
	check(now.stat.st_size == before->stat.st_size, "%s: size %ld, was %ld", what, (long)now.stat.st_size, (long)before->stat.st_size);
	check(now.stat.st_mode == before->stat.st_mode, "%s: mode %o, was %o", what, now.stat.st_mode, before->stat.st_mode);
	check(now.stat.st_uid == before->stat.st_uid && now.stat.st_gid == before->stat.st_gid, "%s: another owner", what);
}

static int turn(int *board)
{
	return __atomic_load_n(board, __ATOMIC_SEQ_CST);
}

static void until(int *board, int value)
{
	for (int i = 0; turn(board) != value; i++) {
		if (i > 30000)
			fail("the other task does not answer");
		sleep_ms(2);
	}
}

static void child(char *shared, char *copy, int *board)
{
	strcpy(copy + 7, "the child's own");
	snapshot_ignores("fd ");
	keep_state();
	__atomic_store_n(board, 1, __ATOMIC_SEQ_CST);
	until(board, 2);
	check_state();
	check(!strcmp(shared + 100, "from the parent"), "the child does not see what the parent wrote");
	check(!strcmp(copy + 7, "the child's own"), "the child's private page was lost");
	strcpy(shared + 200, "from the child");
	child_done();
}

int main(void)
{
	int alpha = must(memfd_create("alpha beta", MFD_ALLOW_SEALING)), reader, appender, twin, *board = shared_memory(PAGE);
	int sealed = must(memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC)), plain = must(memfd_create("", 0));
	int future = must(memfd_create("future", MFD_ALLOW_SEALING)), sparse = must(memfd_create("sparse", 0)), noexec, lost;
	struct kept kept[6];
	char *shared, *copy, *fixed, *open_ended, *orphan;
	pid_t kid;

	must(ftruncate(alpha, 3 * PAGE + 5));
	must(fchmod(alpha, 0640));
	must(fchown(alpha, 12, 34));
	must(pwrite(alpha, "alpha", 5, 0));
	must(pwrite(alpha, "tail", 4, 3 * PAGE + 1));
	must(fcntl(alpha, F_ADD_SEALS, F_SEAL_SHRINK));
	must(lseek(alpha, 77, SEEK_SET));
	reader = again(alpha, O_RDONLY | O_NONBLOCK);
	must(lseek(reader, 3, SEEK_SET));
	appender = again(alpha, O_WRONLY | O_APPEND);
	twin = must(dup(appender));
	shared = must(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, alpha, PAGE));
	copy = must(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, reader, 0));
	strcpy(shared, "shared");
	strcpy(copy + PAGE + 50, "private");

	must(write(sealed, "never again", 11));
	must(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL));
	fixed = must(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, again(sealed, O_RDONLY), 0));

	must(ftruncate(future, PAGE));
	open_ended = must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0));
	must(fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	strcpy(open_ended, "still written");

	must(ftruncate(sparse, 1l << 32));
	must(pwrite(sparse, "far", 3, (1l << 32) - 3));
	noexec = memfd_create("noexec", MFD_NOEXEC_SEAL);
	if (noexec < 0)
		noexec = must(memfd_create("noexec", MFD_ALLOW_SEALING));

	lost = must(memfd_create("mapped only", 0));
	must(ftruncate(lost, PAGE));
	orphan = must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, lost, 0));
	must(close(lost));
	strcpy(orphan, "no descriptor");

	const int all[] = {alpha, sealed, plain, future, sparse, noexec};

	for (size_t i = 0; i < 6; i++)
		kept[i] = look(all[i]);
	kid = must(fork());
	if (!kid)
		child(shared, copy, board);
	until(board, 1);
	ready();
	wait_for_go();
	check_state();
	const char *names[] = {"alpha", "sealed", "plain", "future", "sparse", "noexec"};

	for (size_t i = 0; i < 6; i++)
		compare(all[i], &kept[i], names[i]);
	char text[16] = "";

	check(lseek(alpha, 0, SEEK_CUR) == 77, "the position of alpha has moved");
	check(read(reader, text, 2) == 2 && !memcmp(text, "ha", 2), "reading goes on elsewhere: %s", text);
	check(!strcmp(shared, "shared"), "the shared mapping shows something else");
	check(!strcmp(copy + PAGE + 50, "private"), "the private page was lost");
	check(!strcmp(copy, "alpha"), "the private mapping does not show the file");
	check(pread(alpha, text, 6, PAGE) == 6 && !strcmp(text, "shared"), "mapping and file are two things");
	check(write(twin, "+", 1) == 1, "appending: %s", strerror(errno));
	check(lseek(appender, 0, SEEK_CUR) == 3 * PAGE + 6, "duplicates do not share their position");
	check(pread(alpha, text, 6, 3 * PAGE) == 6 && !memcmp(text, "\0tail+", 6), "the end of the file is something else");
	check(ftruncate(alpha, 5) < 0 && errno == EPERM, "the seal against shrinking is gone");
	check(!strcmp(fixed, "never again"), "the sealed file shows something else");
	check(pwrite(sealed, "x", 1, 0) < 0 && errno == EPERM, "the seal against writing is gone");
	check(mprotect(fixed, PAGE, PROT_READ | PROT_WRITE) < 0, "a mapping of a file opened for reading became writable");
	check(!strcmp(open_ended, "still written"), "the mapping sealed against others was lost");
	strcpy(open_ended, "and again");
	check(pread(future, text, 10, 0) == 10 && !strcmp(text, "and again"), "the mapping sealed against others is a copy");
	check(pwrite(future, "x", 1, 0) < 0 && errno == EPERM, "the seal against future writes is gone");
	check(pread(sparse, text, 3, (1l << 32) - 3) == 3 && !memcmp(text, "far", 3), "the end of the sparse file was lost");
	check(kept[4].stat.st_blocks == look(sparse).stat.st_blocks, "the sparse file was filled");
	check(!strcmp(orphan, "no descriptor"), "the memfd without descriptor was lost");
	strcpy(shared + 100, "from the parent");
	__atomic_store_n(board, 2, __ATOMIC_SEQ_CST);
	child_passed(kid);
	check(!strcmp(shared + 200, "from the child"), "the parent does not see what the child wrote");
	check(!copy[7], "the child's private page became the parent's");
	snapshot_ignores("fd ");
	pass();
}
