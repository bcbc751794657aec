/* Descriptors to read signals from: masks, signals that wait for them, readers that block, a parent's read by a child. */
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "workload.h"

static int make(int flags, int first, int second)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, first);
	if (second)
		sigaddset(&mask, second);
	must(sigprocmask(SIG_BLOCK, &mask, NULL));
	return must(signalfd(-1, &mask, flags));
}

static void reads(int fd, int sig, int value)
{
	struct signalfd_siginfo info;
	ssize_t got = read(fd, &info, sizeof info);

	if (!sig)
		check(got < 0 && errno == EAGAIN, "read signal %u from fd %d", info.ssi_signo, fd);
	else
		check(got == sizeof info && (int)info.ssi_signo == sig && info.ssi_int == value, "fd %d: signal %u with %d, not %d with %d", fd,
		      info.ssi_signo, info.ssi_int, sig, value);
}

int main(void)
{
	int waiting = make(SFD_NONBLOCK, SIGUSR1, SIGRTMAX), idle = make(SFD_CLOEXEC, SIGUSR2, 0), set = must(epoll_create1(0));
	struct epoll_event event = {EPOLLIN, {.u64 = 7}};
	pid_t kid;

	/* An epoll keeps to the signals of who added the signalfd. */
	must(epoll_ctl(set, EPOLL_CTL_ADD, idle, &event));
	snapshot_ignores("fd 5 tfd");
	check(set == 5, "the epoll is %d", set);
	kid = must(fork());
	if (!kid) {
		keep_state();
		reads(idle, SIGUSR2, 5);
		child_done();
	}
	until_asleep(kid);
	must(sigqueue(getpid(), SIGUSR1, (union sigval){1}));
	must(sigqueue(getpid(), SIGRTMAX, (union sigval){2}));
	must(sigqueue(getpid(), SIGRTMAX, (union sigval){3}));
	ready();
	wait_for_go();
	check_state();
	reads(waiting, SIGUSR1, 1);
	reads(waiting, SIGRTMAX, 2);
	reads(waiting, SIGRTMAX, 3);
	reads(waiting, 0, 0);
	check(epoll_wait(set, &event, 1, 0) == 0, "the epoll reports a signal too early");
	must(sigqueue(kid, SIGUSR2, (union sigval){5}));
	child_passed(kid);
	must(sigqueue(getpid(), SIGUSR2, (union sigval){9}));
	check(epoll_wait(set, &event, 1, 5000) == 1 && event.data.u64 == 7, "the epoll did not report a signal");
	reads(idle, SIGUSR2, 9);
	pass();
}
