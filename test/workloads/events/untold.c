/*
 * A program that is told of everything done to its own files: its executable, a library, what it has open or mapped, and the
 * directories they are in. Whatever is done with it, it must be told of nothing. By inotify, and with the argument "fanotify"
 * by fanotify, "mount": by a mark of all its file system, "notice": by signals about its directories.
 */
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mount.h>

#include "workload.h"

static int inotify, fanotify = -1;
static volatile sig_atomic_t notices;

static void on_notice(int number)
{
	(void)number;
	notices++;
}

static void copy(const char *from, const char *to)
{
	char bytes[65536];
	ssize_t got;
	int in = must(open(from, O_RDONLY)), out = must(open(to, O_CREAT | O_WRONLY | O_TRUNC, 0755));

	while ((got = must(read(in, bytes, sizeof bytes))) > 0)
		must(write(out, bytes, (size_t)got));
	must(close(in));
	must(close(out));
}

static void watch(const char *path)
{
	must(inotify_add_watch(inotify, path, IN_ALL_EVENTS));
	if (fanotify >= 0)
		must(fanotify_mark(fanotify, FAN_MARK_ADD, FAN_ACCESS | FAN_MODIFY | FAN_OPEN | FAN_CLOSE | FAN_EVENT_ON_CHILD | FAN_ONDIR, AT_FDCWD, path));
}

static unsigned tell_inotify(bool is_wrong)
{
	static char events[65536] __attribute__((aligned(8)));
	ssize_t got = read(inotify, events, sizeof events);
	unsigned count = 0;

	for (ssize_t at = 0; at < got; count++) {
		struct inotify_event *event = (struct inotify_event *)(events + at);
		at += (ssize_t)sizeof *event + event->len;
		if (is_wrong)
			check(false, "watch %d tells of %#x of \"%s\"", event->wd, event->mask, event->len ? event->name : "");
	}
	return count;
}

static unsigned tell_fanotify(bool is_wrong)
{
	static char events[65536] __attribute__((aligned(8)));
	unsigned count = 0;
	ssize_t got = fanotify < 0 ? 0 : read(fanotify, events, sizeof events);
	struct fanotify_event_metadata *event = (struct fanotify_event_metadata *)events;

	for (; FAN_EVENT_OK(event, got); event = FAN_EVENT_NEXT(event, got), count++) {
		char link[64], name[4096] = "";
		snprintf(link, sizeof link, "/proc/self/fd/%d", event->fd);
		if (readlink(link, name, sizeof name - 1) < 0)
			snprintf(name, sizeof name, "?");
		if (is_wrong)
			check(false, "fanotify tells of %#llx of \"%s\"", (unsigned long long)event->mask, name);
		if (event->fd >= 0)
			must(close(event->fd));
	}
	return count;
}

static void *map(const char *path, int protection, int flags)
{
	int fd = must(open(path, O_RDWR));
	void *at = mmap(NULL, 4096, protection, flags, fd, 0);

	if (at == MAP_FAILED)
		fail("mmap %s: %s", path, strerror(errno));
	must(close(fd));
	return at;
}

int main(int argc, char **argv)
{
	const char *how = argc > 2 ? argv[2] : "inotify";
	struct stat own;

	if (argc < 4) {
		must(mkdir("bin", 0755));
		must(mkdir("lib", 0755));
		must(mkdir("data", 0755));
		copy("/proc/self/exe", "bin/program");
		execl("bin/program", "bin/program", argv[1], how, "again", NULL);
		fail("execl: %s", strerror(errno));
	}
	must(chdir("data"));
	/* Mapped as a loader does it, without the descriptor; one of which nothing is mapped; one that is changed in memory. */
	copy("/proc/self/exe", "../lib/library");
	copy("/proc/self/exe", "opened");
	copy("/proc/self/exe", "changed");
	copy("/proc/self/exe", "shared");
	map("../lib/library", PROT_READ | PROT_EXEC, MAP_PRIVATE);
	memset(map("changed", PROT_READ | PROT_WRITE, MAP_PRIVATE), 7, 64);
	map("shared", PROT_READ | PROT_WRITE, MAP_SHARED);
	must(open("opened", O_RDONLY));
	must(open("written", O_CREAT | O_RDWR, 0644));
	must(open(".", O_RDONLY | O_DIRECTORY));
	must(mkfifo("fifo", 0644));
	must(open("fifo", O_RDWR));
	inotify = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	if (!strcmp(how, "fanotify") || !strcmp(how, "mount"))
		fanotify = must(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY));
	if (!strcmp(how, "deleted")) {
		copy("/proc/self/exe", "deleted");
		must(open("deleted", O_RDWR));
		watch("deleted");
		must(unlink("deleted"));
	}
	const char *const files[] = {"../bin", "../bin/program", "../lib", "../lib/library", ".", "opened", "changed", "shared", "written", "fifo"};
	if (!strcmp(how, "notice")) {
		struct sigaction action = {.sa_handler = on_notice, .sa_flags = SA_RESTART};
		must(sigaction(SIGIO, &action, NULL));
		must(fcntl(must(open("../lib", O_RDONLY)), F_NOTIFY, DN_ACCESS | DN_MULTISHOT));
		must(fcntl(must(open(".", O_RDONLY)), F_NOTIFY, DN_ACCESS | DN_MULTISHOT));
	} else if (!strcmp(how, "mount"))
		must(fanotify_mark(fanotify, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_ACCESS | FAN_OPEN | FAN_CLOSE_NOWRITE, AT_FDCWD, "."));
	else
		for (size_t i = 0; i < sizeof files / sizeof *files; i++)
			watch(files[i]);
	must(stat("opened", &own));
	ready();
	while (tell_inotify(false) + tell_fanotify(false))
		;
	notices = 0;
	wait_for_go();
	tell_inotify(true);
	tell_fanotify(true);
	check(notices == 0, "%d signals about files that were read", (int)notices);
	/* It would be told of what does happen. */
	copy("opened", "../bin/other");
	check(!strcmp(how, "mount") || !strcmp(how, "notice") || tell_inotify(false) > 3, "nothing is told of what happens");
	check(fanotify < 0 || tell_fanotify(false) > 1, "fanotify does not tell of what happens");
	check(strcmp(how, "notice") || notices > 0, "no signal tells of what happens");
	must(unlink("../bin/other"));
	pass();
}
