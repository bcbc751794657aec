/*
 * One program with something of all that belongs to processes: threads with attributes of their own, children in another
 * session, dead, stopped, sharing tables; credentials and filters; signals that wait, timers; memory of every kind;
 * open files of many kinds. The snapshot compares nearly all of it; what it cannot know is checked at the end.
 */
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "workload.h"

enum { PAGE = 4096, BIG = 1 << 20, THREADS = 6, ALT = 64 << 10 };

static char *private_memory, *file_memory, *shared, *sealed, *guarded, *forked;
static pid_t session_leader, stopped, dead, sharer;
static int pipe_ends[2], pair[2], event, deleted, waiting_signal_value = 42;
static volatile int finish, threads_ready;

static void *thread(void *argument)
{
	long number = (long)argument;
	char name[16];
	sigset_t set;

	snprintf(name, sizeof name, "worker-%ld", number);
	must(prctl(PR_SET_NAME, name));
	must(prctl(PR_SET_TIMERSLACK, 60000 + number));
	must(setpriority(PRIO_PROCESS, gettid_now(), (int)number));
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1 + (int)number);
	must_zero(pthread_sigmask(SIG_BLOCK, &set, NULL));
	must_zero(pthread_kill(pthread_self(), SIGRTMIN + 1 + (int)number));
	__atomic_add_fetch(&threads_ready, 1, __ATOMIC_SEQ_CST);
	while (!finish)
		sleep_ms(20);
	must(sigwaitinfo(&set, NULL));
	return NULL;
}

static void make_threads(pthread_t *threads)
{
	for (long i = 0; i < THREADS; i++)
		must_zero(pthread_create(&threads[i], NULL, thread, (void *)i));
	while (threads_ready < THREADS)
		sleep_ms(1);
}

static void stay(void)
{
	while (!go_given())
		sleep_ms(20);
	check(check_pattern(forked, BIG, 5, "a child's copy"), "a child's copy differs");
	sleep_ms(500);
	_exit(differences_seen() != 0);
}

static void make_children(void)
{
	int status;

	session_leader = must(fork());
	if (session_leader == 0) {
		must(setsid());
		forked[7] ^= 0;
		stay();
	}
	stopped = must(fork());
	if (stopped == 0) {
		raise(SIGSTOP);
		stay();
	}
	must(waitpid(stopped, &status, WUNTRACED));
	dead = must(fork());
	if (dead == 0)
		_exit(77);
	sharer = (pid_t)must(syscall(SYS_clone, CLONE_FILES | CLONE_FS | SIGCHLD, 0, 0, 0, 0));
	if (sharer == 0)
		stay();
	while (task_state(dead) != 'Z')
		sleep_ms(1);
}

static void make_memory(void)
{
	int file = must(open("mapped", O_RDWR | O_CREAT, 0600)), memfd = must((int)syscall(SYS_memfd_create, "sealed", 3));

	private_memory = must(mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	fill_pattern(private_memory, BIG, 1);
	must(mprotect(private_memory + 8 * PAGE, 4 * PAGE, PROT_READ));
	must(madvise(private_memory + 32 * PAGE, 8 * PAGE, MADV_DONTDUMP));
	must(mlock(private_memory + 64 * PAGE, 4 * PAGE));
	must(ftruncate(file, 16 * PAGE));
	file_memory = must(mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));
	fill_pattern(file_memory + 4 * PAGE, 4 * PAGE, 2);
	shared = shared_memory(64 * PAGE);
	fill_pattern(shared, 64 * PAGE, 3);
	must(ftruncate(memfd, 8 * PAGE));
	sealed = must(mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0));
	fill_pattern(sealed, 8 * PAGE, 4);
	must(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	forked = must(mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	fill_pattern(forked, BIG, 5);
	guarded = must(mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	if (madvise(guarded + 2 * PAGE, PAGE, 102) && errno != EINVAL)
		fail("guard regions: %s", strerror(errno));
}

static void make_files(void)
{
	struct epoll_event watched = {.events = EPOLLIN, .data.u64 = 0x1122334455667788};
	struct itimerspec far = {{1000, 0}, {100000, 0}};
	char with_fd[CMSG_SPACE(sizeof(int))] = "";
	struct iovec byte = {"x", 1};
	struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = with_fd, .msg_controllen = sizeof with_fd};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	int poller, timer, watcher, locked;
	sigset_t set;

	must(pipe2(pipe_ends, O_CLOEXEC));
	must(write(pipe_ends[1], "in the pipe", 11));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	*rights = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(rights), &pipe_ends[0], sizeof(int));
	must(sendmsg(pair[0], &message, 0));
	event = must(eventfd(7, EFD_SEMAPHORE));
	timer = must(timerfd_create(CLOCK_MONOTONIC, 0));
	must(timerfd_settime(timer, 0, &far, NULL));
	poller = must(epoll_create1(0));
	must(epoll_ctl(poller, EPOLL_CTL_ADD, event, &watched));
	must(epoll_ctl(poller, EPOLL_CTL_ADD, pair[1], &watched));
	watcher = must(inotify_init());
	must(inotify_add_watch(watcher, ".", IN_DELETE_SELF));
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 9);
	must(signalfd(-1, &set, 0));
	deleted = must(open("deleted", O_RDWR | O_CREAT, 0600));
	must(write(deleted, "kept all the same", 17));
	must(unlink("deleted"));
	locked = must(open("locked", O_RDWR | O_CREAT, 0600));
	must(flock(locked, LOCK_EX));
	must(dup2(locked, 700));
}

static void make_signals(void)
{
	static char alternate[ALT];
	stack_t stack = {.ss_sp = alternate, .ss_size = ALT};
	struct itimerspec far = {{500, 0}, {90000, 0}};
	struct sigevent quiet = {.sigev_notify = SIGEV_NONE};
	timer_t timer;
	sigset_t set;

	must(sigaltstack(&stack, NULL));
	must(timer_create(CLOCK_MONOTONIC, &quiet, &timer));
	must(timer_settime(timer, 0, &far, NULL));
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 8);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	for (int i = 0; i < 3; i++)
		must(sigqueue(getpid(), SIGRTMIN + 8, (union sigval){.sival_int = waiting_signal_value + i}));
}

static void make_attributes(void)
{
	struct sock_filter allow[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
	struct sock_fprog filter = {1, allow};
	struct rlimit files = {2000, 3000};
	cpu_set_t set;

	must(setrlimit(RLIMIT_NOFILE, &files));
	umask(027);
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	must(sched_setaffinity(0, sizeof set, &set));
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter));
}

static void end_children(void)
{
	int status;

	must(waitpid(dead, &status, 0));
	check(WIFEXITED(status) && WEXITSTATUS(status) == 77, "the dead child ended with %#x", status);
	check(task_state(stopped) == 'T', "the stopped child is in state %c", task_state(stopped));
	must(kill(stopped, SIGCONT));
	for (int i = 0; i < 3; i++)
		check(waitpid(-1, &status, 0) > 0 && status == 0, "a child ended with %#x", status);
}

int main(void)
{
	pthread_t threads[THREADS];
	char text[32] = "";
	uint64_t count;
	siginfo_t info;
	sigset_t set;

	make_attributes();
	make_memory();
	make_children();
	make_files();
	make_signals();
	make_threads(threads);
	/* New objects have new numbers, and the long timer goes down. */
	snapshot_ignores("fd 9 eventfd-id");
	snapshot_ignores("fd 10 it_value");
	snapshot_ignores("fd 11 tfd");
	snapshot_ignores("fd 14 link");
	ready();
	wait_for_go();
	check_state();
	check_pattern(private_memory, BIG, 1, "private memory");
	check_pattern(file_memory + 4 * PAGE, 4 * PAGE, 2, "private file memory");
	check_pattern(shared, 64 * PAGE, 3, "shared memory");
	check_pattern(sealed, 8 * PAGE, 4, "the memfd");
	check_pattern(forked, BIG, 5, "memory that children have too");
	check(read(pipe_ends[0], text, sizeof text) == 11 && !strcmp(text, "in the pipe"), "the pipe has %s", text);
	check(pread(deleted, text, sizeof text, 0) == 17 && !memcmp(text, "kept all", 8), "the deleted file has %s", text);
	check(read(event, &count, sizeof count) == 8 && count == 1, "the semaphore gives %lu", (unsigned long)count);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 8);
	for (int i = 0; i < 3; i++)
		check(sigwaitinfo(&set, &info) > 0 && info.si_value.sival_int == waiting_signal_value + i, "a signal has %d", info.si_value.sival_int);
	finish = 1;
	for (int i = 0; i < THREADS; i++)
		must_zero(pthread_join(threads[i], NULL));
	end_children();
	pass();
}
