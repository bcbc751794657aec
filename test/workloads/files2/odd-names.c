/*
 * Names that are no UTF-8, wherever a name can be: the program, working directory, files open, mapped, deleted, renamed away, a
 * link and what it leads to, a fifo, sockets by path and without one, watches, a memfd, the thread. "quiet": all events are read.
 */
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "deleted.h"

#define FOLDER "odd \xff\xc3(\xed\xb3\xbf b\xc3\xa4h \xef\xbf\xbd"
#define NAME "f\xfei\x80le"

/* The snapshot shows what links say, not where they lead now. */
static void leads_to(int fd, const char *path)
{
	struct stat here, there;

	must(fstat(fd, &here));
	if (check(lstat(path, &there) == 0, "fd %d: its file is not there: %s", fd, strerror(errno)))
		check(here.st_ino == there.st_ino && here.st_dev == there.st_dev, "fd %d is of another file", fd);
}

/* Begins anew as a program of such a name, in a directory of such a name. */
static void begin_there(char **argv)
{
	char *again[] = {"there", argv[1], argv[2], NULL}, bytes[1 << 16];
	int from, to;
	ssize_t got;

	must(mkdir(FOLDER, 0700));
	must(chdir(FOLDER));
	from = must(open("/proc/self/exe", O_RDONLY));
	to = must(open("p\xf0rog", O_WRONLY | O_CREAT | O_EXCL, 0700));
	while ((got = must(read(from, bytes, sizeof bytes))) > 0)
		must(write(to, bytes, (size_t)got));
	must(close(from));
	must(close(to));
	execv("p\xf0rog", again);
	fail("exec: %s", strerror(errno));
}

/* Tests run side by side, each in a pid namespace of its own. */
static ino_t name_number(void)
{
	struct stat stat;

	must(lstat(".", &stat));
	return stat.st_ino;
}

static int listens(struct sockaddr_un *name, socklen_t length)
{
	int fd = must(socket(AF_UNIX, SOCK_STREAM, 0));

	must(bind(fd, (struct sockaddr *)name, length));
	must(listen(fd, 4));
	return fd;
}

static void answers(struct sockaddr_un *name, socklen_t length, int server)
{
	int client = must(socket(AF_UNIX, SOCK_STREAM, 0)), accepted;

	if (!check(connect(client, (struct sockaddr *)name, length) == 0, "connect: %s", strerror(errno)))
		return;
	accepted = must(accept(server, NULL, NULL));
	must(close(accepted));
	must(close(client));
}

static void next_event(int watcher, int wd, uint32_t mask, const char *name)
{
	union {
		struct inotify_event event;
		char room[sizeof(struct inotify_event) + 256];
	} got;
	ssize_t bytes = read(watcher, &got, sizeof(struct inotify_event) + 31);

	if (!check(bytes > 0, "no event: %s", strerror(errno)))
		return;
	check(got.event.wd == wd && got.event.mask == mask && !strcmp(got.event.len ? got.event.name : "", name),
		"the event is 0x%x of watch %d with %u bytes of a name", got.event.mask, got.event.wd, got.event.len);
}

int main(int argc, char **argv)
{
	struct sockaddr_un path = {.sun_family = AF_UNIX}, abstract = {.sun_family = AF_UNIX};
	int file, gone, writer, link_fd, fifo, server, hidden, watcher, watches[2];
	char *mapped, target[64], data[16], room[512];
	bool quiet = argc > 2 && !strcmp(argv[2], "quiet");
	socklen_t abstract_length;
	ssize_t got;

	if (strcmp(argv[0], "there"))
		begin_there(argv);
	must(prctl(PR_SET_NAME, "t\xe9st\x80"));
	file = new_file(NAME, O_RDWR, "open and mapped");
	mapped = must(mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0));
	writer = new_file(NAME "-below", O_RDWR | O_APPEND, "");
	must(symlink("wh\xe4re it leads", "l\xefnk"));
	link_fd = must(open("l\xefnk", O_PATH | O_NOFOLLOW));
	must(mkfifo("f\xef\xf0", 0600));
	fifo = must(open("f\xef\xf0", O_RDWR));
	must(write(fifo, "bytes", 5));
	strcpy(path.sun_path, "s\xf3" "cket");
	server = listens(&path, sizeof path);
	abstract_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
		(size_t)sprintf(abstract.sun_path + 1, "n\xe0me %lx", (unsigned long)name_number()));
	hidden = listens(&abstract, abstract_length);
	watcher = must(inotify_init1(IN_NONBLOCK));
	watches[0] = must(inotify_add_watch(watcher, ".", IN_CREATE | IN_DELETE));
	watches[1] = must(inotify_add_watch(watcher, NAME, IN_MODIFY));
	gone = new_file("g\xf6ne", O_RDWR, "gone");
	must(unlink("g\xf6ne"));
	look_at_times = !quiet;
	keep_deleted(gone);
	if (quiet)
		must(read(watcher, room, sizeof room));
	if (!quiet)
		must(pwrite(file, "O", 1, 0));
	must(syscall(SYS_memfd_create, "m\xe8mory", 0));

	ready();
	wait_for_go();
	check_state();
	check_deleted();
	leads_to(file, NAME);
	leads_to(writer, NAME "-below");
	leads_to(link_fd, "l\xefnk");
	leads_to(fifo, "f\xef\xf0");
	got = readlinkat(link_fd, "", target, sizeof target);
	check(got == 14 && !memcmp(target, "wh\xe4re it leads", 14), "the link leads to %zd bytes", got);
	check(read(fifo, data, sizeof data) == 5 && !memcmp(data, "bytes", 5), "the fifo holds something else");
	check(!memcmp(mapped, quiet ? "open and mapped" : "Open and mapped", 15), "the mapping holds something else");
	if (!quiet) {
		next_event(watcher, watches[0], IN_CREATE, "g\xf6ne");
		next_event(watcher, watches[0], IN_DELETE, "g\xf6ne");
		next_event(watcher, watches[1], IN_MODIFY, "");
	}
	/* The peer makes the deleted file below the watched directory. */
	while (quiet && read(watcher, room, sizeof room) > 0)
		;
	must(unlink(NAME "-below"));
	next_event(watcher, watches[0], IN_DELETE, NAME "-below");
	must(pwrite(file, "o", 1, 0));
	next_event(watcher, watches[1], IN_MODIFY, "");
	check(read(watcher, data, sizeof data) == -1 && errno == EAGAIN, "there are more events");
	answers(&path, sizeof path, server);
	answers(&abstract, abstract_length, hidden);
	pass();
}
