/*
 * Files in all their uses, which may be gone, or others, when the process comes back: read half, written, sparse, with two
 * names, alike, mapped for writing, and the program itself. cflags: -static
 */
#include <sys/xattr.h>

#include "workload.h"

enum { READ, WRITTEN, SPARSE, NAME_ONE, NAME_TWO, TWIN, MAPPED, EMPTY, FILES };
enum { HOLE = 8 << 20, BIG = 300000 };

static const char *const names[FILES] = {
	"data/read", "data/deep/written", "data/sparse", "data/one", "data/deep/two", "data/twin", "data/mapped", "data/empty",
};
static int fds[FILES];
static struct stat stats[FILES];

static void write_pattern(int fd, size_t bytes, uint64_t seed)
{
	char *block = must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	fill_pattern(block, bytes, seed);
	check(write(fd, block, bytes) == (ssize_t)bytes, "a short write");
	must(munmap(block, bytes));
}

static void compare_pattern(int fd, size_t bytes, uint64_t seed, const char *what)
{
	char *block = must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	if (check(pread(fd, block, bytes, 0) == (ssize_t)bytes, "%s is shorter", what))
		check_pattern(block, bytes, seed, what);
	must(munmap(block, bytes));
}

static void make(void)
{
	must(mkdir("data", 0750));
	must(mkdir("data/deep", 0711));
	must(chown("data/deep", 7, 8));
	for (int i = 0; i < FILES; i++) {
		if (i == NAME_TWO)
			must(link(names[NAME_ONE], names[NAME_TWO]));
		fds[i] = must(open(names[i], i == NAME_TWO ? O_RDONLY : O_RDWR | O_CREAT | O_EXCL, 0640));
	}
	write_pattern(fds[READ], BIG, 1);
	write_pattern(fds[TWIN], BIG, 1);
	must(write(fds[WRITTEN], "first ", 6));
	must(write(fds[NAME_ONE], "one file", 8));
	must(ftruncate(fds[SPARSE], HOLE + 3));
	must(pwrite(fds[SPARSE], "end", 3, HOLE));
	must(pwrite(fds[SPARSE], "middle", 6, HOLE / 2));
	must(ftruncate(fds[MAPPED], 8192));
	must(fchown(fds[READ], 5, 6));
	must(fchmod(fds[READ], 0604));
	must(fsetxattr(fds[READ], "user.origin", "here", 4, 0));
	must(close(fds[READ]));
	fds[READ] = must(open(names[READ], O_RDONLY));
	must(close(fds[WRITTEN]));
	fds[WRITTEN] = must(open(names[WRITTEN], O_WRONLY | O_APPEND));
	must(lseek(fds[READ], BIG / 2, SEEK_SET));
}

int main(void)
{
	char *mapped, *shown, exe[512] = "", exe_now[512] = "", link[512], cwd[512], data[64];
	struct stat st;
	int directory;

	make();
	mapped = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fds[MAPPED], 0));
	shown = must(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fds[READ], 4096));
	memcpy(mapped + 4096, "mapped", 6);
	directory = must(open("data/deep", O_RDONLY | O_DIRECTORY));
	must(getcwd(cwd, sizeof cwd) ? 0 : -1);
	must(readlink("/proc/self/exe", exe, sizeof exe - 1));
	for (int i = 0; i < FILES; i++)
		must(fstat(fds[i], &stats[i]));
	/* They may become other inodes. */
	snapshot_ignores("map ");
	snapshot_ignores("fd ");
	/* The peer makes a time namespace. */
	snapshot_ignores("link ns/time");
	ready();
	wait_for_go();
	check_state();
	must(readlink("/proc/self/exe", exe_now, sizeof exe_now - 1));
	check(strcmp(exe, exe_now) == 0, "the program is %s, it was %s", exe_now, exe);
	for (int i = 0; i < FILES; i++) {
		char path[64], wanted[1024];
		ssize_t got;

		must(fstat(fds[i], &st));
		check(st.st_size == stats[i].st_size && st.st_mode == stats[i].st_mode && st.st_uid == stats[i].st_uid && st.st_gid == stats[i].st_gid,
		      "%s: %ld bytes, mode %o, owner %d:%d", names[i], (long)st.st_size, st.st_mode, st.st_uid, st.st_gid);
		check(i == MAPPED || (st.st_mtim.tv_sec == stats[i].st_mtim.tv_sec && st.st_mtim.tv_nsec == stats[i].st_mtim.tv_nsec),
		      "%s was written at %ld.%09ld", names[i], (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
		check(st.st_nlink == stats[i].st_nlink, "%s has %lu links", names[i], (unsigned long)st.st_nlink);
		snprintf(path, sizeof path, "/proc/self/fd/%d", fds[i]);
		got = must(readlink(path, link, sizeof link - 1));
		link[got] = 0;
		snprintf(wanted, sizeof wanted, "%s/%s", cwd, names[i]);
		check(strcmp(link, wanted) == 0, "%s is called %s", names[i], link);
	}
	must(fstat(fds[NAME_ONE], &st));
	must(fstat(fds[NAME_TWO], &stats[0]));
	check(st.st_ino == stats[0].st_ino && st.st_dev == stats[0].st_dev, "two names are two files");
	must(fstat(fds[SPARSE], &st));
	check(st.st_blocks <= 64, "the sparse file has %ld blocks", (long)st.st_blocks);
	check(pread(fds[SPARSE], data, 6, HOLE / 2) == 6 && memcmp(data, "middle", 6) == 0, "the middle of the sparse file");
	compare_pattern(fds[READ], BIG, 1, "read");
	compare_pattern(fds[TWIN], BIG, 1, "twin");
	check(lseek(fds[READ], 0, SEEK_CUR) == BIG / 2, "the place in the file");
	check(fgetxattr(fds[READ], "user.origin", data, sizeof data) == 4 && memcmp(data, "here", 4) == 0, "the attribute");
	check(memcmp(mapped + 4096, "mapped", 6) == 0 && mapped[0] == 0, "the mapped file has %.6s", mapped + 4096);
	/* What is written through one use is seen through the other. */
	memcpy(mapped, "again", 5);
	check(pread(fds[MAPPED], data, 5, 0) == 5 && memcmp(data, "again", 5) == 0, "the mapping is of another file");
	must(pread(fds[READ], data, 64, 4096));
	check(memcmp(data, shown, 64) == 0, "what is mapped differs from what is read");
	check(write(fds[WRITTEN], "second", 6) == 6, "the log cannot be written");
	must(fstat(fds[WRITTEN], &st));
	check(st.st_size == 12, "the log has %ld bytes", (long)st.st_size);
	must(fstat(directory, &st));
	check(S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0711 && st.st_uid == 7 && st.st_gid == 8, "the directory has mode %o, owner %d:%d", st.st_mode,
	      st.st_uid, st.st_gid);
	pass();
}
