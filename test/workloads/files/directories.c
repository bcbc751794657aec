/*
 * Directories being read go on after the entry they were at; O_PATH descriptors of a file, a directory and a symbolic link
 * still mean what they meant.
 */
#include <dirent.h>

#include "workload.h"

enum { ENTRIES = 300 };

static unsigned seen[ENTRIES];

/* Reads some entries, marks them, and says how many there were; a small buffer makes many calls. */
static unsigned read_some(int fd, unsigned calls)
{
	unsigned count = 0;

	while (calls-- > 0) {
		char bytes[512];
		long got = must(syscall(SYS_getdents64, fd, bytes, sizeof bytes));
		if (got == 0)
			break;
		for (long at = 0; at < got; at += *(unsigned short *)(bytes + at + 16)) {
			int number;
			if (sscanf(bytes + at + 19, "entry-%d", &number) == 1)
				seen[number]++;
			count++;
		}
	}
	return count;
}

static int is_same(int fd, const char *path)
{
	struct stat a, b;

	must(fstat(fd, &a));
	must(lstat(path, &b));
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int main(void)
{
	int directory, ended, file, path_file, path_dir, path_link, under;
	char text[64];
	ssize_t got;

	must(mkdir("directory", 0755));
	for (int i = 0; i < ENTRIES; i++) {
		snprintf(text, sizeof text, "directory/entry-%d", i);
		close(must(open(text, O_WRONLY | O_CREAT, 0644)));
	}
	must(symlink("entry-5", "directory/link"));
	file = must(open("directory/entry-5", O_WRONLY | O_CLOEXEC));
	must(write(file, "content", 7));
	directory = must(open("directory", O_RDONLY | O_DIRECTORY));
	ended = must(open("directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	check(read_some(ended, 100000) >= ENTRIES, "too few entries");
	memset(seen, 0, sizeof seen);
	read_some(directory, 7);
	path_file = must(open("directory/entry-5", O_PATH));
	path_dir = must(open("directory", O_PATH | O_DIRECTORY | O_CLOEXEC));
	path_link = must(open("directory/link", O_PATH | O_NOFOLLOW));
	ready();
	wait_for_go();
	check_state();
	check(read_some(directory, 100000) > 0, "no entry is left to be read");
	for (int i = 0; i < ENTRIES; i++)
		if (!check(seen[i] == 1, "entry %d was read %u times", i, seen[i]))
			break;
	check(read_some(ended, 1) == 0, "a directory that was read to its end begins again");
	check(read(path_file, text, 1) < 0 && errno == EBADF, "an O_PATH descriptor of a file can be read");
	check(is_same(path_file, "directory/entry-5"), "the O_PATH descriptor of a file means another");
	check(is_same(path_dir, "directory"), "the O_PATH descriptor of a directory means another");
	check(is_same(path_link, "directory/link"), "the O_PATH descriptor of a symbolic link means another");
	got = readlinkat(path_link, "", text, sizeof text);
	check(got == 7 && !memcmp(text, "entry-5", 7), "the symbolic link cannot be read through its descriptor");
	under = openat(path_dir, "entry-5", O_RDONLY);
	check(under >= 0 && read(under, text, 64) == 7, "a file cannot be opened below an O_PATH descriptor");
	pass();
}
