/*
 * Watches on a file system whose file handles lead nowhere (an overlay), deep below what the process has open: their names have to
 * be searched for.
 */
#include <sys/inotify.h>
#include <sys/mount.h>

#include "workload.h"

static int fd;

static void expect(int wd, uint32_t mask, const char *name)
{
	char events[4096];
	struct inotify_event *event = (struct inotify_event *)events;
	ssize_t got = read(fd, events, sizeof *event + (*name ? 16 : 0));

	if (!mask) {
		check(got < 0 && errno == EAGAIN, "watch %d reports %#x that did not happen", event->wd, event->mask);
		return;
	}
	check(got > 0 && event->wd == wd && event->mask == mask && !strcmp(event->len ? event->name : "", name), "no event %#x of \"%s\" by %d", mask, name, wd);
}

int main(void)
{
	int folder, file;

	for (int i = 0; i < 4; i++)
		must(mkdir((const char *[]){"lower", "upper", "spare", "merged"}[i], 0755));
	must(mount("overlay", "merged", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=spare"));
	must(mkdir("merged/a", 0755));
	must(mkdir("merged/a/b", 0755));
	must(close(must(open("merged/a/b/file", O_CREAT | O_RDWR, 0600))));
	fd = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	folder = must(inotify_add_watch(fd, "merged/a/b", IN_ALL_EVENTS));
	file = must(inotify_add_watch(fd, "merged/a/b/file", IN_ATTRIB));
	ready();
	wait_for_go();
	check_state();
	expect(0, 0, "");
	must(chmod("merged/a/b/file", 0640));
	expect(folder, IN_ATTRIB, "file");
	expect(file, IN_ATTRIB, "");
	must(unlink("merged/a/b/file"));
	must(close(fd));
	must(umount("merged"));
	pass();
}
