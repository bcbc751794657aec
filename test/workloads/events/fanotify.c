/* Marks on files, directories, mounts and file systems, with masks of what is ignored; the files that events bring. */
#include <limits.h>
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

int main(void)
{
	int quiet;

	must(mkdir("dir", 0755));
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
