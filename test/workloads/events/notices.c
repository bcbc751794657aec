/*
 * Notices about directories by signals: once and again and again, with a signal of one's own and SIGIO; a child that has asked by the
 * same open file, with the same number, for something else.
 */
#include "workload.h"

static void block(int sig)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, sig);
	must(sigprocmask(SIG_BLOCK, &mask, NULL));
}

/* A signal about `fd`, or none. */
static void expect(int sig, int fd, const char *what)
{
	struct timespec soon = {fd < 0 ? 0 : 5, 0};
	siginfo_t info;
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, sig);
	if (fd < 0)
		check(sigtimedwait(&mask, &info, &soon) == -1, "%s: signal %d came", what, sig);
	else if (check(sigtimedwait(&mask, &info, &soon) == sig, "%s: signal %d did not come", what, sig))
		check(info.si_fd == fd, "%s: signal %d is about fd %d, not %d", what, sig, info.si_fd, fd);
}

static void make(const char *path)
{
	must(close(must(open(path, O_WRONLY | O_CREAT | O_EXCL, 0600))));
}

int main(void)
{
	int often, once, sig = SIGRTMIN + 4;
	pid_t child;

	block(sig);
	block(SIGIO);
	must(mkdir("often", 0700));
	must(mkdir("once", 0700));
	must(mkdir("child", 0700));
	often = must(open("often", O_RDONLY | O_DIRECTORY));
	once = must(open("once", O_RDONLY | O_DIRECTORY));
	must(fcntl(often, F_SETSIG, sig));
	must(fcntl(often, F_NOTIFY, (long)(DN_CREATE | DN_DELETE | DN_MULTISHOT)));
	must(fcntl(once, F_NOTIFY, DN_RENAME));
	if ((child = must(fork())) == 0) {
		must(fcntl(once, F_NOTIFY, DN_ATTRIB));
		keep_state();
		wait_for_go();
		check_state();
		/* It is told as the owner is: that is its parent. */
		child_done();
	}
	until_it_waits(child);

	ready();
	wait_for_go();
	check_state();
	child_passed(child);
	expect(sig, -1, "before anything is done");
	make("often/one");
	expect(sig, often, "made");
	must(chmod("often/one", 0644));
	expect(sig, -1, "changed");
	must(unlink("often/one"));
	expect(sig, often, "removed");
	make("often/two");
	expect(sig, often, "made again");
	make("once/one");
	expect(SIGIO, -1, "made in the other directory");
	must(rename("once/one", "once/two"));
	{
		struct timespec soon = {5, 0};
		sigset_t mask;

		sigemptyset(&mask);
		sigaddset(&mask, SIGIO);
		check(sigtimedwait(&mask, NULL, &soon) == SIGIO, "renamed: SIGIO did not come");
		must(rename("once/two", "once/three"));
		expect(SIGIO, -1, "renamed again");
	}
	pass();
}
