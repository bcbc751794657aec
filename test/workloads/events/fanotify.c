/* Marks on files, directories, mounts and file systems, with masks of what is ignored; the files that events bring. */
#include <limits.h>
#include <poll.h>
#include <sys/fanotify.h>

#include "workload.h"

static int group;

static int new_group(unsigned flags, unsigned event_flags)
{
	return must(fanotify_init(flags, event_flags));
}

static void mark(int fd, unsigned flags, uint64_t mask, const char *path)
{
	must(fanotify_mark(fd, FAN_MARK_ADD | flags, mask, AT_FDCWD, path));
}

/* One event of this process on the file with this name, or none. */
static void expect(uint64_t mask, const char *name)
{
	struct fanotify_event_metadata event;
	char link[64], path[PATH_MAX] = "", *base;
	ssize_t got = read(group, &event, sizeof event);

	if (!mask) {
		check(got < 0 && errno == EAGAIN, "an event %#lx that did not happen", (long)event.mask);
		return;
	}
	if (!check(got == sizeof event, "no event %#lx of %s: %s", (long)mask, name, strerror(errno)))
		return;
	snprintf(link, sizeof link, "/proc/self/fd/%d", event.fd);
	must(readlink(link, path, sizeof path - 1));
	base = strrchr(path, '/') + 1;
	check(event.mask == mask && !strcmp(base, name) && event.pid == getpid(), "event %#lx of \"%s\" by %d, not %#lx of \"%s\"", (long)event.mask, base,
	      event.pid, (long)mask, name);
	check((fcntl(event.fd, F_GETFL) & O_ACCMODE) == O_RDWR, "the file of an event is open in another way");
	must(close(event.fd));
}

static void touch(const char *path)
{
	int fd = must(open(path, O_CREAT | O_RDWR, 0644));

	must(write(fd, "x", 1));
	must(close(fd));
}

/* Opens a file in a child; `answer` is given to it. */
static void ask(const char *path, int flags, uint64_t mask, unsigned answer)
{
	struct fanotify_event_metadata event;
	struct fanotify_response response;
	int status;
	pid_t child = must(fork());
	struct pollfd poller = {group, POLLIN, 0};

	if (!child)
		_exit(open(path, flags) < 0 ? errno : 0);
	check(poll(&poller, 1, 10000) == 1, "nobody asks");
	if (check(read(group, &event, sizeof event) == sizeof event, "no question: %s", strerror(errno))) {
		check(event.mask == mask && event.pid == child, "question %#lx by %d", (long)event.mask, event.pid);
		response.fd = event.fd;
		response.response = answer;
		must(write(group, &response, sizeof response));
		must(close(event.fd));
	}
	must(waitpid(child, &status, 0));
	check(WIFEXITED(status) && WEXITSTATUS(status) == (answer == FAN_DENY ? EPERM : 0), "the child ends with %#x", status);
}

/* It decides who may open files: one that it has open and mapped itself, those in a directory, a mount. */
static _Noreturn void permission(const char *how)
{
	int held, deciding;

	touch("held");
	must(truncate("held", 4096));
	touch("dir/inside");
	/* decide: it has none of them open, since the peer would open it too, and wait for an answer. */
	if (strcmp(how, "decide") != 0) {
		held = must(open("held", O_RDWR));
		if (mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, held, 0) == MAP_FAILED)
			fail("mmap: %s", strerror(errno));
	}
	group = new_group(FAN_CLOEXEC | FAN_NONBLOCK | FAN_CLASS_CONTENT, O_RDONLY | O_LARGEFILE);
	mark(group, 0, FAN_OPEN_PERM, "held");
	mark(group, 0, FAN_OPEN_PERM | FAN_EVENT_ON_CHILD, "dir");
	if (!strcmp(how, "images"))
		mark(group, 0, FAN_OPEN_PERM | FAN_EVENT_ON_CHILD, "../images");
	deciding = new_group(FAN_CLASS_PRE_CONTENT, O_RDONLY);
	mark(deciding, FAN_MARK_MOUNT, FAN_ACCESS_PERM, "/dev/pts");
	if (!strcmp(how, "deleted"))
		must(unlink("held"));
	ready();
	wait_for_go();
	check_state();
	if (!strcmp(how, "waiting")) {
		struct fanotify_event_metadata event;
		struct fanotify_response response;

		check(read(group, &event, sizeof event) == sizeof event && event.mask == FAN_OPEN_PERM, "the question is gone");
		response.fd = event.fd;
		response.response = FAN_ALLOW;
		must(write(group, &response, sizeof response));
		must(close(event.fd));
	}
	expect(0, NULL);
	if (strcmp(how, "deleted") != 0) {
		ask("held", O_RDONLY, FAN_OPEN_PERM, FAN_DENY);
		ask("held", O_RDONLY, FAN_OPEN_PERM, FAN_ALLOW);
	}
	ask("dir/inside", O_RDONLY, FAN_OPEN_PERM, FAN_DENY);
	expect(0, NULL);
	pass();
}

/* Events that nobody has read: an overflow after a restore. */
static _Noreturn void unread(void)
{
	struct fanotify_event_metadata event;

	touch("file");
	group = new_group(FAN_CLOEXEC | FAN_NONBLOCK | FAN_CLASS_NOTIF, O_RDWR | O_LARGEFILE);
	mark(group, 0, FAN_MODIFY, "file");
	touch("file");
	ready();
	wait_for_go();
	check_state();
	if (was_restored())
		check(read(group, &event, sizeof event) == sizeof event && event.mask == FAN_Q_OVERFLOW && event.fd == FAN_NOFD, "event %#lx, not an overflow",
		      (long)event.mask);
	else
		expect(FAN_MODIFY, "file");
	expect(0, NULL);
	touch("file");
	expect(FAN_MODIFY, "file");
	expect(0, NULL);
	pass();
}

int main(int argc, char **argv)
{
	int quiet;

	must(mkdir("dir", 0755));
	if (argc > 2 && !strcmp(argv[2], "unread"))
		unread();
	if (argc > 2)
		permission(argv[2]);
	touch("file");
	touch("ignored");
	touch("dir/inside");
	group = new_group(FAN_CLOEXEC | FAN_NONBLOCK | FAN_CLASS_NOTIF | FAN_UNLIMITED_QUEUE, O_RDWR | O_LARGEFILE);
	mark(group, 0, FAN_MODIFY, "file");
	mark(group, 0, FAN_MODIFY | FAN_EVENT_ON_CHILD, "dir");
	mark(group, FAN_MARK_ONLYDIR, FAN_OPEN | FAN_ONDIR, "dir");
	mark(group, 0, FAN_MODIFY, "ignored");
	mark(group, FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_MODIFY, "ignored");
	quiet = new_group(0, O_RDONLY);
	mark(quiet, FAN_MARK_MOUNT, FAN_CLOSE_WRITE, "/dev/pts");
	mark(quiet, FAN_MARK_MOUNT | FAN_MARK_IGNORED_MASK, FAN_OPEN, "/dev/pts");
	ready();
	wait_for_go();
	check_state();
	expect(0, NULL);
	touch("ignored");
	expect(0, NULL);
	touch("file");
	expect(FAN_MODIFY, "file");
	touch("dir/inside");
	expect(FAN_OPEN | FAN_MODIFY, "inside");
	pass();
}
