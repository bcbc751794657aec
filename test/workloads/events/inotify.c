/*
 * Watches of directories and files: numbers with gaps, all kinds of masks, the working directory, a file that is open
 * and deleted. Nothing is reported that did not happen. With the argument "unread" events wait when the dump comes.
 */
#include <limits.h>
#include <sys/inotify.h>

#include "workload.h"

static int fd;

static void expect(int wd, uint32_t mask, const char *name)
{
	static char events[4096];
	static ssize_t got, at;
	struct inotify_event *event;

	if (at == got) {
		at = 0;
		got = read(fd, events, sizeof events);
		if (got < 0)
			got = 0;
	}
	if (!wd) {
		event = (struct inotify_event *)events;
		check(got == 0, "watch %d reports %#x of \"%s\" that did not happen", event->wd, event->mask, event->len ? event->name : "");
		return;
	}
	if (!check(got > at, "watch %d does not report %#x", wd, mask))
		return;
	event = (struct inotify_event *)(events + at);
	at += (ssize_t)sizeof *event + event->len;
	check(event->wd == wd && event->mask == mask && !strcmp(event->len ? event->name : "", name), "watch %d reports %#x of \"%s\", not %d %#x of \"%s\"",
	      event->wd, event->mask, event->len ? event->name : "", wd, mask, name);
}

static int make(const char *path)
{
	return must(open(path, O_CREAT | O_RDWR, 0644));
}

int main(int argc, char **argv)
{
	int dir, file, deleted = 0, open_deleted = 0, here, once, link, last;
	/* named: without the deleted file, which the peer does not take */
	bool is_named = argc > 2 && !strcmp(argv[2], "named"), is_unread = argc > 2 && !strcmp(argv[2], "unread");
	uint32_t all = IN_ALL_EVENTS;

	must(mkdir("watched", 0755));
	must(close(make("watched/file")));
	must(close(make("once")));
	if (argc > 2 && !strcmp(argv[2], "held")) {
		/* Dump and restore have to touch these. */
		int held = make("watched/held");
		must(ftruncate(held, 4096));
		if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, held, 0) == MAP_FAILED)
			fail("mmap: %s", strerror(errno));
		must(dup2(held, 70));
		must(close(held));
		must(dup2(must(open("watched", O_RDONLY)), 71));
		must(close(3));
	}
	must(close(make("other")));
	must(symlink("other", "link"));
	fd = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	dir = must(inotify_add_watch(fd, "watched", all | IN_ONLYDIR | IN_EXCL_UNLINK));
	file = must(inotify_add_watch(fd, "watched/file", IN_MODIFY | IN_ATTRIB));
	/* A gap in the numbers. */
	for (int i = 0; i < 20; i++)
		must(inotify_rm_watch(fd, must(inotify_add_watch(fd, "other", IN_OPEN))));
	here = must(inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE | IN_MOVE));
	once = must(inotify_add_watch(fd, "once", IN_ATTRIB | IN_ONESHOT));
	link = must(inotify_add_watch(fd, "link", IN_ALL_EVENTS | IN_DONT_FOLLOW));
	if (!is_named) {
		open_deleted = make("deleted");
		deleted = must(inotify_add_watch(fd, "deleted", IN_MODIFY | IN_DELETE_SELF));
		must(unlink("deleted"));
	}
	/* The number after the last is nobody's business. */
	last = must(inotify_init1(0));
	must(inotify_add_watch(last, "/", IN_DELETE_SELF));
	{
		char events[1 << 14];
		while (read(fd, events, sizeof events) > 0)
			;
	}
	if (is_unread)
		must(chmod("watched/file", 0600));
	/* A deleted file gets another inode. */
	check(is_named || (deleted == 26 && open_deleted == 4), "the numbers below are others");
	snapshot_ignores("fd 3 inotify wd:1a");
	if (!is_named)
		snapshot_ignores("fd 4 link");
	ready();
	wait_for_go();
	check_state();
	if (is_unread) {
		expect(dir, IN_ATTRIB, "file");
		expect(file, IN_ATTRIB, "");
	}
	expect(0, 0, NULL);
	must(chmod("watched/file", 0640));
	expect(dir, IN_ATTRIB, "file");
	expect(file, IN_ATTRIB, "");
	must(rename("watched/file", "moved"));
	expect(dir, IN_MOVED_FROM, "file");
	expect(here, IN_MOVED_TO, "moved");
	must(chmod("moved", 0600));
	expect(file, IN_ATTRIB, "");
	if (!is_named) {
		must(write(open_deleted, "x", 1));
		expect(deleted, IN_MODIFY, "");
		must(close(open_deleted));
		expect(deleted, IN_DELETE_SELF, "");
		expect(deleted, IN_IGNORED, "");
	}
	must(chmod("once", 0600));
	expect(once, IN_ATTRIB, "");
	expect(once, IN_IGNORED, "");
	must(unlink("link"));
	expect(link, IN_ATTRIB, "");
	expect(link, IN_DELETE_SELF, "");
	expect(link, IN_IGNORED, "");
	expect(here, IN_DELETE, "link");
	must(unlink("moved"));
	expect(file, IN_ATTRIB, "");
	expect(file, IN_IGNORED, "");
	expect(here, IN_DELETE, "moved");
	expect(0, 0, NULL);
	check(must(inotify_add_watch(fd, "other", IN_OPEN)) > link, "a number of a watch came twice");
	pass();
}
