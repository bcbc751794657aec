/* Deleted files keep their extended attributes: a file, one that never had a name, a directory, a fifo. */
#include <sys/xattr.h>

#include "workload.h"

static const struct {
	const char *name, *value;
} attributes[] = {{"user.origin", "somewhere else"}, {"user.empty", ""}, {"trusted.note", "for root\0only"}};

enum { ATTRIBUTES = sizeof attributes / sizeof attributes[0] };

/* A fifo has no user attributes. */
static bool fits(int fd, int i)
{
	struct stat st;

	must(fstat(fd, &st));
	return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || strncmp(attributes[i].name, "user.", 5) != 0;
}

static size_t length(int i)
{
	return i == 2 ? 13 : strlen(attributes[i].value);
}

static void set(int fd)
{
	for (int i = 0; i < ATTRIBUTES; i++)
		if (fits(fd, i))
			must(fsetxattr(fd, attributes[i].name, attributes[i].value, length(i), 0));
}

static void compare(int fd, const char *what)
{
	char value[64], names[256];

	for (int i = 0; i < ATTRIBUTES; i++) {
		if (!fits(fd, i))
			continue;
		ssize_t got = fgetxattr(fd, attributes[i].name, value, sizeof value);

		check(got == (ssize_t)length(i) && memcmp(value, attributes[i].value, length(i)) == 0, "%s: %s has %zd bytes", what,
		      attributes[i].name, got);
	}
	check(flistxattr(fd, names, sizeof names) > 0, "%s has no attributes", what);
}

int main(void)
{
	int file, unnamed, directory, fifo;

	file = must(open("file", O_RDWR | O_CREAT, 0600));
	must(write(file, "contents", 8));
	unnamed = must(open(".", O_TMPFILE | O_RDWR, 0640));
	must(mkdir("directory", 0755));
	directory = must(open("directory", O_RDONLY | O_DIRECTORY));
	must(mkfifo("fifo", 0600));
	fifo = must(open("fifo", O_RDWR));
	set(file);
	set(unnamed);
	set(directory);
	set(fifo);
	must(unlink("file"));
	must(rmdir("directory"));
	must(unlink("fifo"));
	/* They become other inodes. */
	snapshot_ignores("fd 3 link");
	snapshot_ignores("fd 4 link");
	snapshot_ignores("fd 5 link");
	snapshot_ignores("fd 6 link");
	ready();
	wait_for_go();
	compare(file, "the file");
	compare(unnamed, "the file without a name");
	compare(directory, "the directory");
	compare(fifo, "the fifo");
	pass();
}
