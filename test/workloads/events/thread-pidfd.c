/*
 * Descriptors of threads: of a later thread in two processes, under two numbers, watched by an epoll.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

#include "workload.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

static pid_t *shared;
static volatile bool ends;

static void *body(void *index)
{
	__atomic_store_n(&shared[(long)index], gettid_now(), __ATOMIC_SEQ_CST);
	while (!ends && index)
		sleep_ms(1);
	return NULL;
}

static int open_thread(pid_t tid, unsigned flags)
{
	return must(syscall(SYS_pidfd_open, tid, PIDFD_THREAD | flags));
}

static ino_t inode(int fd)
{
	struct stat st;

	must(fstat(fd, &st));
	return st.st_ino;
}

static bool is_over(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};

	must(poll(&p, 1, 0));
	return p.revents & POLLIN;
}

int main(void)
{
	struct epoll_event event = {EPOLLIN, {.u64 = 77}}, got;
	int later, twin, leader, inherited, set;
	pthread_t first, second;
	char line[32];
	pid_t kid;

	shared = shared_memory(4096);
	must_zero(pthread_create(&first, NULL, body, (void *)1));
	must_zero(pthread_create(&second, NULL, body, (void *)2));
	while (!__atomic_load_n(&shared[1], __ATOMIC_SEQ_CST) || !__atomic_load_n(&shared[2], __ATOMIC_SEQ_CST))
		sleep_ms(1);
	later = open_thread(shared[1], 0);
	must(fcntl(later, F_SETFD, 0));
	twin = must(dup3(later, 100, O_CLOEXEC));
	leader = open_thread(getpid(), 0);
	inherited = open_thread(shared[2], O_NONBLOCK);
	must(fcntl(inherited, F_SETOWN, getpid()));
	set = must(epoll_create1(EPOLL_CLOEXEC));
	must(epoll_ctl(set, EPOLL_CTL_ADD, later, &event));
	snprintf(line, sizeof line, "fd %d tfd:", set);
	snapshot_ignores(line); /* it has inode numbers, which are new */
	kid = must(fork());
	if (!kid) {
		struct pollfd p = {inherited, POLLIN, 0};

		keep_state();
		__atomic_store_n(&shared[10], 1, __ATOMIC_SEQ_CST);
		while (!__atomic_load_n(&shared[11], __ATOMIC_SEQ_CST))
			sleep_ms(1);
		check_state();
		__atomic_store_n(&shared[13], 1, __ATOMIC_SEQ_CST);
		check(inode(inherited) == (ino_t)shared[12], "the child has a descriptor of another thread");
		must(poll(&p, 1, 20000));
		check(p.revents & POLLIN, "the child does not see the end of the thread");
		child_done();
	}
	while (!__atomic_load_n(&shared[10], __ATOMIC_SEQ_CST))
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	check(inode(later) == inode(twin) && inode(later) != inode(leader) && inode(later) != inode(inherited), "descriptors are mixed up");
	check(inode(later) == inode(open_thread(shared[1], 0)), "the descriptor is not of the thread");
	check(inode(inherited) == inode(open_thread(shared[2], 0)), "the inherited descriptor is not of the thread");
	shared[12] = (pid_t)inode(inherited);
	check(!is_over(later) && !is_over(leader) && !is_over(inherited), "a living thread is said to be over");
	check(epoll_wait(set, &got, 1, 0) == 0, "the epoll reports a living thread");
	must(syscall(SYS_pidfd_send_signal, later, 0, NULL, 0));
	__atomic_store_n(&shared[11], 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&shared[13], __ATOMIC_SEQ_CST))
		sleep_ms(1);
	ends = true;
	must(epoll_wait(set, &got, 1, 20000));
	check(got.data.u64 == 77, "the epoll reports %llu", (unsigned long long)got.data.u64);
	must_zero(pthread_join(first, NULL));
	must_zero(pthread_join(second, NULL));
	/* Joining may be over a moment before the thread is. */
	for (int i = 0; i < 5000 && !(is_over(later) && is_over(twin) && is_over(inherited)); i++)
		sleep_ms(1);
	check(is_over(later) && is_over(twin) && is_over(inherited) && !is_over(leader), "a thread that ended is not over");
	child_passed(kid);
	pass();
}
