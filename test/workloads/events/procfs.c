/* Open files of /proc: of the process itself, a child, a process that is gone; and of the namespaces it lives in. */
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
