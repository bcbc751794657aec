/*
 * Signals about I/O: who gets them (the process, a child, a thread, a group), which signal, the number of the descriptor
 * in it, and in whose name they are sent.
 */
#include <pthread.h>
#include <sys/socket.h>

#include "workload.h"

static volatile pid_t thread_tid;
static volatile int thread_got, thread_fd;
static volatile bool looked;

static void handler(int sig, siginfo_t *info, void *unused)
{
	(void)unused;
	thread_got = gettid_now() == thread_tid ? sig : -sig;
	thread_fd = info->si_fd;
}

static void *thread(void *unused)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGRTMIN + 3);
	thread_tid = gettid_now();
	while (!looked)
		sleep_ms(2);
	pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
	while (!thread_got)
		sleep_ms(2);
	return unused;
}

/* A pipe whose reading end sends `sig` to the owner. */
static int make(int type, pid_t pid, int sig, int *writer)
{
	struct f_owner_ex owner = {type, pid};
	int ends[2];

	must(pipe(ends));
	must(fcntl(ends[0], F_SETOWN_EX, &owner));
	must(fcntl(ends[0], F_SETSIG, sig));
	must(fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK));
	*writer = ends[1];
	return ends[0];
}

static void expect(int sig, int fd)
{
	struct timespec soon = {5, 0};
	siginfo_t info;
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, sig);
	if (check(sigtimedwait(&mask, &info, &soon) == sig, "signal %d did not come", sig))
		check(info.si_fd == fd && info.si_band & 1, "signal %d is about fd %d, band %#lx, not fd %d", sig, info.si_fd, (long)info.si_band, fd);
}

int main(void)
{
	int own, childs, threads, groups, users, write_own, write_childs, write_threads, write_groups, write_users, start[2];
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	struct timespec none = {0, 0};
	uid_t uids[2];
	pthread_t other;
	sigset_t all;
	pid_t kid;

	sigfillset(&all);
	must(sigprocmask(SIG_BLOCK, &all, NULL));
	must(sigaction(SIGRTMIN + 3, &action, NULL));
	must_zero(pthread_create(&other, NULL, thread, NULL));
	while (!thread_tid)
		sleep_ms(1);
	must(pipe(start));
	own = make(F_OWNER_PID, getpid(), SIGRTMIN + 1, &write_own);
	kid = must(fork());
	if (!kid) {
		char byte;
		must(read(start[0], &byte, 1));
		expect(SIGRTMIN + 2, own + 2);
		_exit(differences_seen() != 0);
	}
	childs = make(F_OWNER_PID, kid, SIGRTMIN + 2, &write_childs);
	threads = make(F_OWNER_TID, thread_tid, SIGRTMIN + 3, &write_threads);
	groups = make(F_OWNER_PGRP, getpgrp(), SIGRTMIN + 4, &write_groups);
	/* In the name of another user, who may not send to us: nothing comes. By the system call, which leaves the other thread alone. */
	must(syscall(SYS_setresuid, 1000, 1000, 0));
	users = make(F_OWNER_PID, getpid(), SIGRTMIN + 5, &write_users);
	must(syscall(SYS_setresuid, 0, 0, 0));
	ready();
	wait_for_go();
	check_state();
	check(sigtimedwait(&all, NULL, &none) < 0, "a signal came without I/O");
	check(fcntl(users, 17 /* F_GETOWNER_UIDS */, uids) == 0 && uids[0] == 1000 && uids[1] == 1000, "fd %d sends in the name of %u, %u", users, uids[0], uids[1]);
	must(write(write_own, "x", 1));
	expect(SIGRTMIN + 1, own);
	must(write(write_groups, "x", 1));
	expect(SIGRTMIN + 4, groups);
	must(write(write_users, "x", 1));
	check(sigtimedwait(&all, NULL, &none) < 0, "a signal came from who may not send it");
	check(childs == own + 2, "numbers are others than thought");
	must(write(write_childs, "x", 1));
	must(write(start[1], "x", 1));
	child_passed(kid);
	must(write(write_threads, "x", 1));
	looked = true;
	must_zero(pthread_join(other, NULL));
	check(thread_got == SIGRTMIN + 3 && thread_fd == threads, "the thread got %d about fd %d", thread_got, thread_fd);
	pass();
}
