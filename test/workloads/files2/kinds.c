/* Everything that is not a regular file, without a name: directories, fifos, devices, symbolic links, sockets; cwd. */
#include <sys/sysmacros.h>

#include "deleted.h"

static int of_link(int fd, const char *expected)
{
	char target[64];
	ssize_t got = readlinkat(fd, "", target, sizeof target);

	return got == (ssize_t)strlen(expected) && !memcmp(target, expected, (size_t)got);
}

int main(int argc, char **argv)
{
	int directory, fifo, writer, null, path, link, below;
	bool more = argc > 2 && !strcmp(argv[2], "more");

	char data[16], cwd[512];

	look_at_times = false;
	must(mkdir("directory", 0750));
	directory = must(open("directory", O_RDONLY));
	below = new_file("directory/below", O_RDWR, "below");
	must(unlink("directory/below"));
	if (!more)
		must(close(below));
	must(rmdir("directory"));

	must(mkfifo("fifo", 0620));
	fifo = must(open("fifo", O_RDWR));
	writer = must(open("fifo", O_WRONLY));
	must(unlink("fifo"));
	must(write(writer, "in the fifo", 11));

	must(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
	null = must(open("null", O_RDWR));
	must(unlink("null"));
	path = new_file("path", O_RDWR, "path");
	must(close(path));
	path = must(open("path", O_PATH));
	must(unlink("path"));
	if (more) {
		int socket_path;

		must(mknod("socket", S_IFSOCK | 0600, 0));
		socket_path = must(open("socket", O_PATH));
		must(unlink("socket"));
		keep_deleted(socket_path);
		must(mkfifo("fifo's name", 0600));
		must(open("fifo's name", O_PATH));
		must(open("/dev/ptmx", O_PATH));
		keep_deleted(below);
	}
	must(symlink("where it leads", "link"));
	link = must(open("link", O_PATH | O_NOFOLLOW));
	must(unlink("link"));
	must(mkdir("cwd", 0700));
	must(chdir("cwd"));
	must(rmdir("../cwd"));
	snapshot_ignores("link cwd");

	keep_deleted(directory);
	keep_deleted(fifo);
	keep_deleted(writer);
	keep_deleted(null);
	keep_deleted(path);
	keep_deleted(link);
	ready();
	wait_for_go();
	check_deleted();
	check_state();
	if (more)
		check_content(below, "below");
	check_content(path, "path");
	check(of_link(link, "where it leads"), "the symbolic link leads elsewhere");
	check(openat(directory, "new", O_CREAT | O_RDWR, 0600) < 0 && errno == ENOENT, "the directory is not a deleted one");
	check(read(fifo, data, sizeof data) == 11 && !memcmp(data, "in the fifo", 11), "the fifo lost its data");
	check(write(null, "x", 1) == 1 && read(null, data, 1) == 0, "the device is not null");
	check(getcwd(cwd, sizeof cwd) == NULL && errno == ENOENT, "the working directory has a name: %s", cwd);
	must(chdir(".."));
	pass();
}
