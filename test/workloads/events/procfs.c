/*
 * Open files of /proc: of the process itself, a child, a process or a thread ("thread") that is gone; of the namespaces it lives in; and
 * its links themselves ("links"), of descriptors, mappings and threads, or of a descriptor of a process that is gone ("gone-link").
 */
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>

#include "workload.h"

enum { FILES = 9 };

static int fds[FILES];
static char links[FILES][PATH_MAX];

static void read_link(int fd, char *to)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	memset(to, 0, PATH_MAX);
	must(readlink(path, to, PATH_MAX - 1));
}

static void take(int *count, int flags, const char *format, ...)
{
	char path[PATH_MAX], prefix[64];
	va_list list;

	va_start(list, format);
	vsnprintf(path, sizeof path, format, list);
	va_end(list);
	fds[*count] = must(open(path, flags));
	read_link(fds[*count], links[*count]);
	/* Files of /proc get inode numbers as they are looked up. */
	snprintf(prefix, sizeof prefix, "fd %d link", fds[*count]);
	snapshot_ignores(strdup(prefix));
	++*count;
}

static void *open_own(void *fds_at)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/task/%d/stat", gettid_now());
	((int *)fds_at)[0] = must(open(path, O_RDONLY));
	path[strlen(path) - 5] = 0;
	((int *)fds_at)[1] = must(open(path, O_RDONLY));
	return NULL;
}

/* A thread that is gone. */
static void of_thread(void)
{
	int of_gone[2];
	pthread_t thread;
	char byte;

	must_zero(pthread_create(&thread, NULL, open_own, of_gone));
	must_zero(pthread_join(thread, NULL));
	/* The kernel wakes us before the thread has left. */
	while (pread(of_gone[0], &byte, 1, 0) >= 0)
		sleep_ms(1);
	snapshot_ignores("fd 3 link");
	snapshot_ignores("fd 4 link");
	ready();
	wait_for_go();
	check_state();
	check(pread(of_gone[0], &byte, 1, 0) < 0 && errno == ESRCH, "a thread that is gone can be read: %s", strerror(errno));
	check(faccessat(of_gone[1], "stat", F_OK, 0) < 0, "a thread that is gone is there");
	pass();
}

enum { LINKS = 9 };

static void *wait_for_ever(void *tid)
{
	__atomic_store_n((pid_t *)tid, gettid_now(), __ATOMIC_SEQ_CST);
	while (!go_given() || pause())
		sleep_ms(2);
	return NULL;
}

/* Where a link leads to; empty when it leads nowhere any more. */
static void target_of(int fd, char *to)
{
	memset(to, 0, PATH_MAX);
	if (readlinkat(fd, "", to, PATH_MAX - 1) < 0)
		check(errno == ENOENT, "the link of fd %d cannot be read: %s", fd, strerror(errno));
}

/* The links of /proc themselves, of things that are there only when descriptors, mappings or threads are. */
static void of_links(void)
{
	static char before[LINKS][PATH_MAX], now[PATH_MAX];
	const int how = O_PATH | O_NOFOLLOW;
	int open_one, closed, count = 0, info;
	pid_t tid = 0, kid;
	pthread_t thread;
	char text[64], *map;

	must(mkdir("place", 0700));
	open_one = must(open("place", O_RDONLY | O_DIRECTORY));
	closed = must(fcntl(open_one, F_DUPFD, 700));
	kid = must(fork());
	if (!kid)
		for (;;)
			pause();
	must_zero(pthread_create(&thread, NULL, wait_for_ever, &tid));
	while (!__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
		sleep_ms(1);
	map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, must(open("/proc/self/exe", O_RDONLY)), 0);
	take(&count, how, "/proc/self/fd/%d", open_one);
	take(&count, how, "/proc/self/fd/%d", closed);
	take(&count, how, "/proc/%d/fd/%d", kid, closed);
	take(&count, how, "/proc/self/task/%d/fd/%d", tid, open_one);
	take(&count, how, "/proc/self/exe");
	take(&count, how, "/proc/self/cwd");
	take(&count, how, "/proc/self/ns/net");
	take(&count, how, "/proc/self/map_files/%lx-%lx", (unsigned long)map, (unsigned long)map + 4096);
	take(&count, O_RDONLY, "/proc/self/fdinfo/%d", open_one);
	info = fds[--count];
	/* What it is about is made late, and so is it; the snapshot has its owner. */
	must(fcntl(info, F_SETOWN, kid));
	must(fcntl(info, F_SETSIG, SIGRTMIN + 1));
	must(close(closed));
	for (int i = 0; i < count; i++)
		target_of(fds[i], before[i]);
	until_asleep(kid);
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < count; i++) {
		target_of(fds[i], now);
		check(!strcmp(now, before[i]), "link %d leads to \"%s\", not \"%s\"", i, now, before[i]);
		read_link(fds[i], now);
		check(!strcmp(now, links[i]), "fd %d is %s, not %s", fds[i], now, links[i]);
	}
	check(fcntl(closed, F_GETFD) < 0, "what was closed is open");
	check(pread(info, text, 4, 0) == 4 && !memcmp(text, "pos:", 4), "what is said of a descriptor cannot be read");
	must(kill(kid, SIGKILL));
	must(waitpid(kid, NULL, 0));
	pass();
}

/* The link of a descriptor of a process that is gone. */
static void of_gone_link(void)
{
	char path[64];
	pid_t gone = must(fork());
	int fd;

	if (!gone)
		for (;;)
			pause();
	snprintf(path, sizeof path, "/proc/%d/fd/1", gone);
	fd = must(open(path, O_PATH | O_NOFOLLOW));
	must(kill(gone, SIGKILL));
	must(waitpid(gone, NULL, 0));
	ready();
	wait_for_go();
	check_state();
	check(readlinkat(fd, "", path, sizeof path) < 0 && errno == ENOENT, "the link leads somewhere");
	pass();
}

static int number_in(int fd)
{
	char text[64] = "";

	check(pread(fd, text, sizeof text - 1, 0) > 0, "fd %d cannot be read: %s", fd, strerror(errno));
	return atoi(text);
}

int main(int argc, char **argv)
{
	bool with_gone = argc > 2 && !strcmp(argv[2], "gone");
	pid_t kid, gone;
	char now[PATH_MAX], byte = 0;
	int count = 0;

	if (argc > 2 && !strcmp(argv[2], "thread"))
		of_thread();
	if (argc > 2 && !strcmp(argv[2], "gone-link"))
		of_gone_link();
	if (argc > 2 && !strcmp(argv[2], "links"))
		of_links();
	kid = must(fork());
	if (!kid)
		for (;;)
			pause();
	take(&count, O_RDONLY, "/proc/self/stat");
	take(&count, O_RDONLY, "/proc/%d/stat", kid);
	take(&count, O_RDONLY, "/proc/self/task");
	take(&count, O_RDWR, "/proc/self/mem");
	take(&count, O_RDONLY, "/proc/meminfo");
	take(&count, O_RDONLY, "/proc/self/ns/net");
	take(&count, O_RDONLY | O_CLOEXEC, "/proc/self/ns/pid");
	if (with_gone) {
		gone = must(fork());
		if (!gone)
			_exit(0 * pause());
		take(&count, O_RDONLY, "/proc/%d/stat", gone);
		take(&count, O_RDONLY, "/proc/%d", gone);
		must(kill(gone, SIGKILL));
		must(waitpid(gone, NULL, 0));
	}
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < count; i++) {
		read_link(fds[i], now);
		check(!strncmp(now, links[i], strlen(links[i])), "fd %d is %s, not %s", fds[i], now, links[i]);
	}
	check(number_in(fds[0]) == getpid() && number_in(fds[1]) == kid, "stat is of another process");
	check(faccessat(fds[2], "..", F_OK, 0) == 0, "the directory of threads is gone");
	check(pread(fds[3], &byte, 1, (off_t)(uintptr_t)"x") == 1 && byte == 'x', "mem shows other memory");
	check(pread(fds[4], now, 9, 0) == 9 && !memcmp(now, "MemTotal:", 9), "meminfo is something else");
	if (with_gone) {
		check(pread(fds[7], now, 9, 0) < 0 && errno == ESRCH, "a process that is gone can be read");
		check(faccessat(fds[8], "stat", F_OK, 0) < 0, "a process that is gone is there");
	}
	must(kill(kid, SIGKILL));
	must(waitpid(kid, NULL, 0));
	pass();
}
