/*
 * Events that nobody has read when the dump comes, of every kind, some of watches that are gone. Two groups have the same
 * watches: one is read before, the other afterwards. Argument: kinds; full (the queue has overflowed); refilled (it had, some
 * were read, and more came); left (restored from images of a dump that left it running: an overflow).
 */
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include "workload.h"

enum { ROOM = 4 << 20, LONG = 200 };

static int group[2];
static char seen[2][ROOM];
static size_t seen_bytes[2];

static int watch(const char *path, uint32_t mask)
{
	int wd = must(inotify_add_watch(group[0], path, mask));

	check(must(inotify_add_watch(group[1], path, mask)) == wd, "the groups differ");
	return wd;
}

static void forget(int wd)
{
	must(inotify_rm_watch(group[0], wd));
	must(inotify_rm_watch(group[1], wd));
}

static void read_all(int which)
{
	ssize_t got;

	while ((got = read(group[which], seen[which] + seen_bytes[which], ROOM - seen_bytes[which])) > 0)
		seen_bytes[which] += (size_t)got;
}

static void make(const char *path)
{
	must(close(must(open(path, O_CREAT | O_WRONLY, 0600))));
}

static void everything_in(const char *directory)
{
	char path[300], other[300], byte;
	int fd;

	snprintf(path, sizeof path, "%s/file", directory);
	snprintf(other, sizeof other, "%s/a name with \xff and blanks", directory);
	make(path);
	fd = must(open(path, O_RDWR));
	must(write(fd, "x", 1));
	must(pread(fd, &byte, 1, 0));
	must(fchmod(fd, 0640));
	must(write(fd, "x", 1));
	must(close(fd));
	must(rename(path, other));
	must(unlink(other));
	snprintf(path, sizeof path, "%s/folder", directory);
	must(mkdir(path, 0700));
	must(chmod(path, 0711));
	fd = must(open(path, O_RDONLY | O_DIRECTORY));
	{
		char entries[512];
		must(syscall(SYS_getdents64, fd, entries, sizeof entries));
	}
	must(close(fd));
	must(rename(path, "other/folder"));
	must(rename("other/folder", path));
	must(rename(path, "outside/folder"));
	must(rename("outside/folder", path));
	must(rmdir(path));
}

static void kinds(void)
{
	char long_name[LONG + 8] = "watched/", *name = long_name + 8;
	int fd, root, gone, removed;

	watch("watched", IN_ALL_EVENTS);
	watch("other", IN_ALL_EVENTS);
	for (int i = 0; i < 5; i++)
		forget(watch("outside", IN_OPEN));
	read_all(0);
	read_all(1);
	seen_bytes[0] = seen_bytes[1] = 0;
	make("self");
	watch("self", IN_ALL_EVENTS);
	make("gone");
	gone = watch("gone", IN_ALL_EVENTS | IN_ONESHOT);
	removed = watch("outside", IN_OPEN);
	everything_in("watched");
	everything_in("other");
	memset(name, 'n', LONG - 1);
	make(long_name);
	fd = must(open("self", O_RDWR));
	must(write(fd, "self", 4));
	must(rename("self", "self2"));
	must(close(fd));
	must(unlink("self2"));
	must(chmod("gone", 0644));
	(void)gone;
	forget(removed);
	/* A file system that goes away. */
	fd = must((int)syscall(430 /* fsopen */, "tmpfs", 1));
	must(syscall(431 /* fsconfig */, fd, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0));
	root = must((int)syscall(432 /* fsmount */, fd, 1, 0));
	must(close(fd));
	{
		char path[64];
		snprintf(path, sizeof path, "/proc/self/fd/%d/x", root);
		must(mkdir(path, 0700));
		watch(path, IN_ALL_EVENTS);
		must(chmod(path, 0711));
	}
	must(close(root));
	must(chmod("watched", 0711));
}

static void overflow(bool is_read)
{
	static const char *const names[2] = {"watched/one", "watched/two"};
	int limit = 16384;
	FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "r");

	if (file) {
		check(fscanf(file, "%d", &limit) == 1, "no limit");
		fclose(file);
	}
	make(names[0]);
	make(names[1]);
	watch("watched", IN_ATTRIB);
	for (int i = 0; i < limit + 10; i++)
		must(chmod(names[i & 1], 0600));
	if (!is_read)
		return;
	/* Some are read from the front of both. */
	for (int which = 0; which < 2; which++)
		check(read(group[which], seen[which], 3200) == 3200, "a short read");
	must(rename("watched/one", "watched/three"));
	watch("watched", IN_ALL_EVENTS);
	must(unlink("watched/three"));
	make("watched/four");
}

/* Cookies are the kernel's; what counts is which are equal. */
static void compare(void)
{
	size_t at[2] = {0, 0};
	uint32_t cookies[64][2], cookie_count = 0;

	check(seen_bytes[0] == seen_bytes[1], "%zu bytes of events, not %zu", seen_bytes[1], seen_bytes[0]);
	while (at[0] < seen_bytes[0] && at[1] < seen_bytes[1]) {
		struct inotify_event *wanted = (struct inotify_event *)(seen[0] + at[0]), *got = (struct inotify_event *)(seen[1] + at[1]);
		uint32_t i;

		if (!check(wanted->wd == got->wd && wanted->mask == got->mask && wanted->len == got->len && !memcmp(wanted->name, got->name, wanted->len),
			   "watch %d reports %#x of \"%s\", not %d %#x of \"%s\"", got->wd, got->mask, got->len ? got->name : "", wanted->wd, wanted->mask,
			   wanted->len ? wanted->name : ""))
			return;
		check(was_restored() || wanted->cookie == got->cookie, "cookie %u is %u", wanted->cookie, got->cookie);
		check(!wanted->cookie == !got->cookie, "cookie %u is %u", wanted->cookie, got->cookie);
		for (i = 0; i < cookie_count && cookies[i][0] != wanted->cookie && cookies[i][1] != got->cookie; i++)
			;
		if (i < cookie_count)
			check(cookies[i][0] == wanted->cookie && cookies[i][1] == got->cookie, "a rename is no rename any more");
		else if (cookie_count < 64) {
			cookies[cookie_count][0] = wanted->cookie;
			cookies[cookie_count++][1] = got->cookie;
		}
		at[0] += sizeof *wanted + wanted->len;
		at[1] += sizeof *got + got->len;
	}
}

int main(int argc, char **argv)
{
	const char *how = argc > 2 ? argv[2] : "kinds";
	int queued;

	must(mkdir("watched", 0755));
	must(mkdir("other", 0755));
	must(mkdir("outside", 0755));
	for (int i = 0; i < 2; i++)
		group[i] = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	if (!strcmp(how, "full") || !strcmp(how, "refilled"))
		overflow(!strcmp(how, "refilled"));
	else
		kinds();
	read_all(0);
	must(ioctl(group[1], FIONREAD, &queued));
	check((size_t)queued == seen_bytes[0] && queued > 0, "%d bytes wait, not %zu", queued, seen_bytes[0]);
	ready();
	wait_for_go();
	check_state();
	if (!strcmp(how, "left") && was_restored()) {
		struct inotify_event *event = (struct inotify_event *)seen[1];

		read_all(1);
		check(seen_bytes[1] == sizeof *event && event->wd == -1 && event->mask == IN_Q_OVERFLOW, "%zu bytes of events, %#x", seen_bytes[1], event->mask);
		seen_bytes[0] = seen_bytes[1] = 0;
	} else {
		must(ioctl(group[1], FIONREAD, &queued));
		check((size_t)queued == seen_bytes[0], "%d bytes wait, not %zu", queued, seen_bytes[0]);
	}
	/* What comes now is behind them, and has the right number. */
	make("watched/last");
	must(unlink("watched/last"));
	read_all(0);
	read_all(1);
	compare();
	check(seen_bytes[0] > 64, "nothing is reported any more");
	if (strcmp(how, "left") != 0)
		check(watch("outside", IN_OPEN) > 1, "a number of a watch came twice");
	pass();
}
