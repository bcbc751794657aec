/*
 * Pipes of which only one end is open: readers see the rest and then the end, writers get EPIPE and SIGPIPE; and several
 * descriptions of one end, made by opening it again through /proc.
 */
#include "workload.h"

static volatile sig_atomic_t broken;

static void on_broken(int sig)
{
	broken = sig;
}

static int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return must(open(path, flags));
}

static ino_t inode(int fd)
{
	struct stat st;

	must(fstat(fd, &st));
	return st.st_ino;
}

int main(void)
{
	int rest[2], empty[2], broken_pipe[2], many[2], again_read, again_write, both;
	char text[16] = "";

	signal(SIGPIPE, on_broken);
	must(pipe(rest));
	must(write(rest[1], "rest", 4));
	must(close(rest[1]));
	must(pipe(empty));
	must(close(empty[1]));
	must(pipe2(broken_pipe, O_CLOEXEC));
	must(write(broken_pipe[1], "lost", 4));
	must(close(broken_pipe[0]));
	must(pipe(many));
	again_read = reopen(many[0], O_RDONLY | O_NONBLOCK);
	again_write = reopen(many[1], O_WRONLY | O_CLOEXEC);
	both = reopen(many[0], O_RDWR);
	must(write(many[1], "abcdef", 6));
	ready();
	wait_for_go();
	check_state();
	check(read(rest[0], text, 16) == 4 && !memcmp(text, "rest", 4), "the rest in a pipe without writers");
	check(read(rest[0], text, 16) == 0, "no end after the rest");
	check(read(empty[0], text, 16) == 0, "no end of an empty pipe without writers");
	check(write(broken_pipe[1], "x", 1) < 0 && errno == EPIPE && broken == SIGPIPE, "a pipe without readers can be written");
	check(inode(many[0]) == inode(many[1]) && inode(many[0]) == inode(again_read) && inode(many[0]) == inode(again_write) &&
		inode(many[0]) == inode(both), "the descriptions are of different pipes");
	check(read(again_read, text, 1) == 1 && *text == 'a', "the end opened again");
	check(read(many[0], text, 1) == 1 && *text == 'b', "the end itself");
	check(read(both, text, 1) == 1 && *text == 'c', "the end opened for both");
	check(write(again_write, "x", 1) == 1 && write(both, "y", 1) == 1, "writing");
	check(read(many[0], text, 16) == 5 && !memcmp(text, "defxy", 5), "the order");
	/* The flag belongs to the description, not to the pipe. */
	check(read(again_read, text, 1) < 0 && errno == EAGAIN, "the end opened with O_NONBLOCK blocks");
	check(!(fcntl(many[0], F_GETFL) & O_NONBLOCK), "the end itself became non-blocking");
	must(close(many[1]));
	must(close(both));
	check(write(again_write, "z", 1) == 1 && read(many[0], text, 16) == 1, "the last writer");
	must(close(again_write));
	check(read(many[0], text, 16) == 0, "no end after the last writer");
	pass();
}
