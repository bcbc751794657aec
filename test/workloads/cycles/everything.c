/*
 * One program with something of all that belongs to processes: threads with attributes and a filter of their own, children in another
 * session, dead, stopped, asleep for long, without their main thread, sharing tables, sharing memory and ending with a signal of its
 * own, of 32 bits; credentials and filters; signals that wait, timers; memory of every kind, huge pages, segments, contexts of asynchronous I/O; open files of many kinds. The snapshot compares nearly all of it; what it cannot know is checked at the end.
 */
#include <asm/ldt.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "ia32.h"
#include "workload.h"

enum { PAGE = 4096, BIG = 1 << 20, THREADS = 6, ALT = 64 << 10, SLEEPERS = 3, COMPLETIONS = 5, HUGE = 2 << 20 };

static char *private_memory, *file_memory, *shared, *sealed, *guarded, *forked;
static pid_t narrow, leaderless, session_leader, stopped, dead, sharer, sleepers[SLEEPERS], in_memory;
static aio_context_t context;
static char *segment, *huge, *huge_segment;
static timer_t missed;
static volatile int rounds;
static int pipe_ends[2], pair[2], event, deleted, waiting_signal_value = 42;
static volatile int finish, threads_ready, *looked;

static void add_filter(void)
{
	struct sock_filter allow[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
	struct sock_fprog filter = {1, allow};

	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter));
}

static void *thread(void *argument)
{
	long number = (long)argument;
	char name[16];
	sigset_t set;

	snprintf(name, sizeof name, "worker-%ld", number);
	must(prctl(PR_SET_NAME, name));
	must(prctl(PR_SET_TIMERSLACK, 60000 + number));
	must(setpriority(PRIO_PROCESS, gettid_now(), (int)number));
	if (number == 3)
		add_filter();
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
	while (!*looked)
		sleep_ms(20);
	check(check_pattern(forked, BIG, 5, "a child's copy"), "a child's copy differs");
	_exit(differences_seen() != 0);
}

/* Its main thread has ended. */
static void *without_leader(void *unused)
{
	stay();
	return unused;
}

/* For ia32, without a C library: says that it is there, waits for SIGUSR2 (12) without a limit, and ends with its number. */
static const char narrow_program[] =
	"static int call(int nr, int a, int b, int c, int d)\n"
	"{\n"
	"	int r;\n"
	"	__asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(nr), \"b\"(a), \"c\"(b), \"d\"(c), \"S\"(d) : \"memory\");\n"
	"	return r;\n"
	"}\n"
	"void _start(void)\n"
	"{\n"
	"	int set[2] = {1 << 11, 0};\n"
	"	call(175, 0, (int)set, 0, 8);\n"
	"	call(4, 1, (int)set, 1, 0);\n"
	"	call(6, 1, 0, 0, 0);\n"
	"	call(1, call(177, (int)set, 0, 0, 8), 0, 0, 0);\n"
	"}\n";

static void make_narrow(void)
{
	int said[2];
	char byte;

	compile_ia32(narrow_program, "everything-32");
	must(pipe2(said, O_CLOEXEC));
	narrow = must(fork());
	if (narrow == 0) {
		must(dup2(said[1], 1));
		execl("./everything-32", "everything-32", NULL);
		_exit(9);
	}
	must(close(said[1]));
	check(read(said[0], &byte, 1) == 1, "the 32-bit program does not start");
	must(close(said[0]));
}

static void make_children(void)
{
	pthread_t other;
	int status;

	leaderless = must(fork());
	if (leaderless == 0) {
		must_zero(pthread_create(&other, NULL, without_leader, NULL));
		syscall(SYS_exit, 0);
	}

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
	while (task_state(dead) != 'Z' || task_state(leaderless) != 'Z')
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
	looked = shared_memory(PAGE);
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

static int run_in_memory(void *unused)
{
	(void)unused;
	while (!*looked) {
		rounds++;
		syscall(SYS_nanosleep, &(struct timespec){0, 2000000}, NULL);
	}
	syscall(SYS_exit, 0);
	return 0;
}

/* Kept in calls that the kernel restarts. */
static void sleep_long(int how)
{
	struct timespec t = {100000, 0}, rest;
	uint32_t word = 1;

	if (how == 0)
		nanosleep(&t, &rest);
	else if (how == 1)
		poll(NULL, 0, 100000000);
	else
		syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, &t, NULL, 0);
	_exit(1);
}

static void make_sleepers(void)
{
	static char stack[64 << 10] __attribute__((aligned(16)));

	for (int i = 0; i < SLEEPERS; i++)
		if ((sleepers[i] = must(fork())) == 0)
			sleep_long(i);
	in_memory = must(clone(run_in_memory, stack + sizeof stack, CLONE_VM | SIGUSR2, NULL));
	for (int i = 0; i < SLEEPERS; i++)
		until_asleep(sleepers[i]);
}

/* What not every kernel has is tried. */
static void make_more_memory(void)
{
	struct user_desc desc = {.entry_number = 3, .base_addr = 0x1000, .limit = 0xfff, .seg_32bit = 1, .limit_in_pages = 1};
	const unsigned long node = 1;
	struct iocb request = {.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (uintptr_t)"block", .aio_nbytes = 5}, *one = &request;
	int file = must(open("aio", O_RDWR | O_CREAT, 0600)), id = must(shmget(IPC_PRIVATE, 4 * PAGE, IPC_CREAT | 0600));
	/* With a page around it, so that no neighbour becomes one with it. */
	char *room = must(mmap(NULL, 18 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)), *area = room + PAGE;

	must(mprotect(area, 16 * PAGE, PROT_READ | PROT_WRITE));
	segment = shmat(id, NULL, 0);
	must(shmctl(id, IPC_RMID, NULL));
	fill_pattern(segment, 4 * PAGE, 6);
	huge = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	id = shmget(IPC_PRIVATE, HUGE, IPC_CREAT | SHM_HUGETLB | 0600);
	if (huge != MAP_FAILED && id >= 0) {
		huge_segment = shmat(id, NULL, 0);
		fill_pattern(huge, PAGE, 7);
		fill_pattern(huge_segment, PAGE, 8);
	}
	if (id >= 0)
		must(shmctl(id, IPC_RMID, NULL));
	request.aio_fildes = (uint32_t)file;
	must(syscall(SYS_io_setup, 16, &context));
	for (int i = 0; i < COMPLETIONS; i++)
		if (syscall(SYS_io_submit, context, 1, &one) != 1)
			fail("io_submit: %s", strerror(errno));
	must(close(file));
	must(madvise(area, 4 * PAGE, MADV_WIPEONFORK));
	must(madvise(area + 4 * PAGE, 4 * PAGE, MADV_DONTFORK));
	must(mlock2(area + 8 * PAGE, 4 * PAGE, MLOCK_ONFAULT));
	syscall(SYS_mbind, area + 12 * PAGE, 4 * PAGE, MPOL_BIND, &node, 64, 0);
	mmap(NULL, PAGE, PROT_READ | PROT_WRITE, 8 | MAP_ANONYMOUS, -1, 0); /* MAP_DROPPABLE */
	syscall(SYS_modify_ldt, 0x11, &desc, sizeof desc);
	prctl(67, 1, 0, 0, 0); /* PR_SET_MEMORY_MERGE */
}

static void check_more(void)
{
	struct timespec at_once = {0, 0};
	struct io_event events[COMPLETIONS + 1];
	int status, before = rounds;
	uint64_t entries[8] = {0};

	check(check_pattern(segment, 4 * PAGE, 6, "the segment"), "the segment differs");
	check(!huge_segment || check_pattern(huge, PAGE, 7, "huge pages"), "huge pages differ");
	check(!huge_segment || check_pattern(huge_segment, PAGE, 8, "a segment of huge pages"), "a segment of huge pages differs");
	check(syscall(SYS_io_getevents, context, 0, COMPLETIONS + 1, events, &at_once) == COMPLETIONS, "completions are lost");
	check(syscall(SYS_modify_ldt, 0, entries, sizeof entries) <= 0 || entries[3] != 0, "the segment table is lost");
	check(timer_getoverrun(missed) >= 0, "the timer is lost");
	for (int i = 0; i < SLEEPERS; i++) {
		check(waitpid(sleepers[i], &status, WNOHANG) == 0, "sleeper %d has ended with %#x", i, status);
		must(kill(sleepers[i], SIGKILL));
		must(waitpid(sleepers[i], &status, 0));
	}
	while (rounds == before)
		sleep_ms(1);
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
	struct sigevent quiet = {.sigev_notify = SIGEV_NONE}, waiting = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 12};
	timer_t timer;
	sigset_t set;

	must(sigaltstack(&stack, NULL));
	must(timer_create(CLOCK_MONOTONIC, &quiet, &timer));
	must(timer_settime(timer, 0, &far, NULL));
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 8);
	sigaddset(&set, SIGRTMIN + 12);
	sigaddset(&set, SIGUSR2);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	/* Its signal waits, and it misses periods. */
	far = (struct itimerspec){{0, 50000000}, {0, 1000000}};
	must(timer_create(CLOCK_MONOTONIC, &waiting, &missed));
	must(timer_settime(missed, 0, &far, NULL));
	sleep_ms(5);
	for (int i = 0; i < 3; i++)
		must(sigqueue(getpid(), SIGRTMIN + 8, (union sigval){.sival_int = waiting_signal_value + i}));
}

static void make_attributes(void)
{
	struct rlimit files = {2000, 3000};
	cpu_set_t set;

	must(setrlimit(RLIMIT_NOFILE, &files));
	umask(027);
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	must(sched_setaffinity(0, sizeof set, &set));
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	add_filter();
}

static void end_children(void)
{
	int status;

	must(kill(narrow, SIGUSR2));
	must(waitpid(narrow, &status, 0));
	check(WIFEXITED(status) && WEXITSTATUS(status) == SIGUSR2, "the 32-bit program ended with %#x", status);
	must(waitpid(dead, &status, 0));
	check(WIFEXITED(status) && WEXITSTATUS(status) == 77, "the dead child ended with %#x", status);
	check(comes_to(stopped, 'T'), "the stopped child is in state %c", task_state(stopped));
	must(kill(stopped, SIGCONT));
	*looked = 1;
	for (int i = 0; i < 4; i++)
		check(waitpid(-1, &status, 0) > 0 && status == 0, "a child ended with %#x", status);
	check(waitpid(in_memory, &status, __WCLONE) == in_memory && status == 0, "the child in the same memory ended with %#x", status);
}

int main(void)
{
	pthread_t threads[THREADS];
	char text[32] = "";
	uint64_t count;
	siginfo_t info;
	sigset_t set;

	make_narrow();
	make_attributes();
	make_memory();
	make_children();
	make_files();
	make_more_memory();
	make_signals();
	make_sleepers();
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
	check_more();
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
