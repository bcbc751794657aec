/*
 * Descriptors of processes: of itself, its parent, a child, a grandchild, a dead child, two of a process that is gone, and
 * one of another; one that was fetched from another process.
 */
#include <poll.h>

#include "workload.h"

static int open_pidfd(pid_t pid, unsigned flags)
{
	return must(syscall(SYS_pidfd_open, pid, flags));
}

static int send(int fd, int sig)
{
	return syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0);
}

static bool is_over(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};

	must(poll(&p, 1, 0));
	return p.revents & POLLIN;
}

static ino_t inode(int fd)
{
	struct stat st;

	must(fstat(fd, &st));
	return st.st_ino;
}

static pid_t make(bool dies)
{
	pid_t pid = must(fork());

	if (!pid) {
		if (dies)
			_exit(7);
		for (;;)
			pause();
	}
	return pid;
}

int main(void)
{
	int self, child, grandchild, zombie, gone, gone_too, other_gone, nonblocking, fetched;
	pid_t *pids = shared_memory(4096), kid, dead;
	siginfo_t info;

	self = open_pidfd(getpid(), 0);
	kid = must(fork());
	if (!kid) {
		int parent = open_pidfd(getppid(), 0);
		pids[0] = make(false);
		pids[1] = parent;
		keep_state();
		__atomic_store_n(&pids[2], 1, __ATOMIC_SEQ_CST);
		while (!__atomic_load_n(&pids[3], __ATOMIC_SEQ_CST))
			sleep_ms(1);
		check_state();
		check(inode(parent) == inode(self) && !is_over(parent), "the descriptor of the parent is another's");
		must(send(parent, 0));
		must(waitpid(pids[0], NULL, 0));
		child_done();
	}
	while (!__atomic_load_n(&pids[2], __ATOMIC_SEQ_CST))
		sleep_ms(1);
	child = open_pidfd(kid, 0);
	nonblocking = open_pidfd(kid, O_NONBLOCK);
	grandchild = open_pidfd(pids[0], 0);
	fetched = must(syscall(SYS_pidfd_getfd, child, pids[1], 0));
	dead = make(true);
	zombie = open_pidfd(dead, 0);
	must(waitid(P_PID, dead, &info, WEXITED | WNOWAIT));
	dead = make(true);
	gone = open_pidfd(dead, 0);
	gone_too = open_pidfd(dead, 0);
	must(waitpid(dead, NULL, 0));
	dead = make(true);
	other_gone = open_pidfd(dead, 0);
	must(waitpid(dead, NULL, 0));
	ready();
	wait_for_go();
	check_state();
	must(send(self, 0));
	must(send(child, 0));
	check(inode(fetched) == inode(self), "the descriptor got from the child is another's");
	check(!is_over(self) && !is_over(child) && !is_over(grandchild), "a living process is said to be over");
	check(is_over(zombie) && is_over(gone) && is_over(gone_too) && is_over(other_gone), "a dead process is not over");
	check(send(gone, 0) < 0 && errno == ESRCH && send(other_gone, 0) < 0 && errno == ESRCH, "a signal reached a process that is gone");
	check(inode(gone) == inode(gone_too) && inode(gone) != inode(other_gone), "descriptors of a process that is gone are mixed up");
	check(waitid((idtype_t)3 /* P_PIDFD */, nonblocking, &info, WEXITED) < 0 && errno == EAGAIN, "waiting did not return at once");
	check(!waitid((idtype_t)3, zombie, &info, WEXITED) && info.si_code == CLD_EXITED && info.si_status == 7, "the dead child: %d %d", info.si_code,
	      info.si_status);
	must(send(grandchild, SIGKILL));
	__atomic_store_n(&pids[3], 1, __ATOMIC_SEQ_CST);
	must(waitid((idtype_t)3, child, &info, WEXITED));
	check(info.si_code == CLD_EXITED && info.si_status == 0, "the child ended with %d %d", info.si_code, info.si_status);
	check(is_over(child) && is_over(grandchild), "a process that ended is not over");
	pass();
}
