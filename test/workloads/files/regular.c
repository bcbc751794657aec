/*
 * Open files keep offset, access mode, status flags (also those set later by fcntl) and number; reading and writing goes
 * on where it was.
 */
#include <sys/resource.h>

#include "workload.h"

enum { BYTES = 64 << 10 };

static const struct {
	const char *name;
	int flags, later;
} opens[] = {
	{"O_RDONLY", O_RDONLY, 0},
	{"O_WRONLY", O_WRONLY, 0},
	{"O_RDWR", O_RDWR, 0},
	{"O_APPEND", O_RDWR | O_APPEND, 0},
	{"O_NONBLOCK", O_RDWR | O_NONBLOCK, 0},
	{"O_SYNC", O_RDWR | O_SYNC, 0},
	{"O_DSYNC", O_RDWR | O_DSYNC, 0},
	{"O_NOATIME", O_RDONLY | O_NOATIME, 0},
	{"O_NOFOLLOW", O_RDONLY | O_NOFOLLOW, 0},
	{"O_CLOEXEC", O_RDWR | O_CLOEXEC, 0},
	{"O_APPEND set later", O_RDWR, O_APPEND},
	{"O_NONBLOCK set later", O_RDONLY, O_NONBLOCK},
	{"O_EXCL, O_CREAT and O_TRUNC, which do not stay", O_RDWR | O_CREAT | O_EXCL | O_TRUNC, 0},
};
enum { ALL = sizeof opens / sizeof *opens };

static char content[BYTES];

static void check_one(int i, int fd)
{
	int mode = opens[i].flags & O_ACCMODE, flags = fcntl(fd, F_GETFL);
	off_t at = lseek(fd, 0, SEEK_CUR);
	struct stat st;
	char text[8] = "";

	check(at == 100 * i, "%s: the offset is %ld, not %d", opens[i].name, (long)at, 100 * i);
	check((flags & opens[i].later) == opens[i].later, "%s: flags %o", opens[i].name, flags);
	if (mode == O_WRONLY) {
		check(read(fd, text, 1) < 0 && errno == EBADF, "%s: can be read", opens[i].name);
	} else if (i != ALL - 1) {
		must(read(fd, text, 4));
		check(!memcmp(text, content + 100 * i, 4), "%s: the file's text is another", opens[i].name);
	}
	if (mode == O_RDONLY) {
		check(write(fd, "x", 1) < 0 && errno == EBADF, "%s: can be written", opens[i].name);
		return;
	}
	must(fstat(fd, &st));
	check(write(fd, "tail", 4) == 4, "%s: cannot be written", opens[i].name);
	at = lseek(fd, 0, SEEK_CUR);
	if ((opens[i].flags | opens[i].later) & O_APPEND)
		check(at == st.st_size + 4, "%s: wrote at %ld of %ld", opens[i].name, (long)at, (long)st.st_size);
	else
		check(at == 100 * i + (mode == O_RDWR && i != ALL - 1 ? 8 : 4), "%s: wrote up to %ld", opens[i].name, (long)at);
}

/* Not every file system has it. */
static int open_direct(void)
{
	int fd = open("file-0", O_RDONLY | O_DIRECT);

	if (fd < 0)
		note("no O_DIRECT here: %s", strerror(errno));
	else
		must(lseek(fd, 8192, SEEK_SET));
	return fd;
}

static void check_direct(int fd)
{
	char *page = aligned_alloc(4096, 4096);

	if (fd < 0)
		return;
	check(fcntl(fd, F_GETFL) & O_DIRECT, "O_DIRECT is gone");
	check(lseek(fd, 0, SEEK_CUR) == 8192, "the offset of the file read directly");
	check(read(fd, page, 4096) == 4096 && !memcmp(page, content + 8192, 4096), "direct reading: %s", strerror(errno));
}

int main(void)
{
	struct rlimit limit;
	int fds[ALL], direct, far;

	/* As high as we may go. */
	must(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = limit.rlim_max < (1 << 20) ? limit.rlim_max : 1 << 20;
	must(setrlimit(RLIMIT_NOFILE, &limit));
	fill_pattern(content, BYTES, 1);
	for (int i = 0; i < ALL; i++) {
		char name[32];
		int fd;
		snprintf(name, sizeof name, "file-%d", i);
		if (!(opens[i].flags & O_EXCL)) {
			fd = must(open(name, O_WRONLY | O_CREAT, 0644));
			must(write(fd, content, BYTES));
			close(fd);
		}
		fd = must(open(name, opens[i].flags, 0600));
		/* Numbers with gaps, and high ones. */
		fds[i] = must(fcntl(fd, opens[i].flags & O_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD, i < 8 ? 20 + 3 * i : (int)limit.rlim_cur - 100 * (ALL - i)));
		close(fd);
		must(lseek(fds[i], 100 * i, SEEK_SET));
		if (opens[i].later)
			must(fcntl(fds[i], F_SETFL, opens[i].later));
	}
	direct = open_direct();
	/* Beyond the end of its file. */
	far = must(open("file-1", O_RDWR));
	must(lseek(far, 5l << 32, SEEK_SET));
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < ALL; i++)
		check_one(i, fds[i]);
	check_direct(direct);
	check(lseek(far, 0, SEEK_CUR) == 5l << 32, "the offset beyond 4 GiB");
	pass();
}
