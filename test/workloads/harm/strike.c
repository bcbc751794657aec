/*
 * Kills a tool at chosen instants while it works on a process, and sees after each kill whether that process goes on.
 *
 * strike PID PROGRESS MODE FROM COUNT WINDOW COMMAND...
 *
 * PROGRESS is the file of counters of harm/steady. Modes:
 *   start    at a random instant within WINDOW microseconds after the command was started
 *   frozen   at a random instant within WINDOW microseconds after the process got a tracer; when that was too late the
 *            window gets narrower, else wider, so that most kills are in time and some come at the very end
 *   step     right before the FROMth, FROM+WINDOWth, ... call by which the command touches the process (ptrace,
 *            process_vm_writev, pwrite); no further when the command ends by itself
 *   never    the command, which is to die by itself, runs to its end
 *
 * FROM is the seed of the random instants, the first step in mode step. Prints a line for each kill, and the sum.
 */
#include <dirent.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "workload.h"

enum { COUNTERS = 10, ALIVE_MS = 30000, DUMPER_MS = 60000 };

static pid_t target;
static volatile uint64_t *counters;
static uint64_t random_state;
static unsigned while_frozen, too_late;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void pause_us(int64_t us)
{
	struct timespec t = {us / 1000000, us % 1000000 * 1000};

	nanosleep(&t, NULL);
}

static pid_t tracer_of_target(void)
{
	static int fd = -1;
	char path[64], text[1024], *found;
	ssize_t got;

	if (fd < 0) {
		snprintf(path, sizeof path, "/proc/%d/status", target);
		fd = must(open(path, O_RDONLY | O_CLOEXEC));
	}
	got = pread(fd, text, sizeof text - 1, 0);
	if (got <= 0)
		fail("process %d is gone", target);
	text[got] = 0;
	found = strstr(text, "TracerPid:");
	return found ? atoi(found + 10) : 0;
}

static int count_descriptors(void)
{
	char path[64];
	DIR *folder;
	int count = 0;

	snprintf(path, sizeof path, "/proc/%d/fd", target);
	folder = opendir(path);
	if (!folder)
		fail("process %d is gone", target);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

/* What the process has open, for a message. */
static void list_descriptors(void)
{
	char path[64], name[400], link[256];
	struct dirent *entry;
	DIR *folder;

	snprintf(path, sizeof path, "/proc/%d/fd", target);
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		ssize_t got;

		snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		got = readlink(name, link, sizeof link - 1);
		if (got > 0)
			printf("fd %s: %.*s\n", entry->d_name, (int)got, link);
	}
	if (folder)
		closedir(folder);
}

/* What a dead dumper made in the process goes by itself, at the latest a moment later. */
static void forgets_us(void)
{
	static int at_first;
	int64_t start = now_ms();

	if (at_first == 0)
		at_first = count_descriptors();
	while (count_descriptors() != at_first) {
		if (now_ms() - start > ALIVE_MS)
			list_descriptors();
		if (now_ms() - start > ALIVE_MS)
			fail("the process has %d descriptors, had %d", count_descriptors() - 2, at_first - 2);
		pause_us(1000);
	}
}

/* Every thread of the process must get on; a thread that is held somewhere does not. */
static int goes_on(void)
{
	uint64_t before[COUNTERS];
	int64_t start = now_ms();
	int late = -1;

	for (int i = 0; i < COUNTERS; i++)
		before[i] = counters[i];
	while (now_ms() - start < ALIVE_MS) {
		late = -1;
		for (int i = 0; i < COUNTERS; i++)
			if (counters[i] < before[i] + 1)
				late = i;
		if (late < 0) {
			forgets_us();
			return (int)(now_ms() - start);
		}
		if (kill(target, 0) < 0)
			fail("the process is gone");
		pause_us(1000);
	}
	fail("thread %d of the process does not go on, state %c, tracer %d", late, task_state(target), tracer_of_target());
}

static void mute(void)
{
	int null = must(open("/dev/null", O_RDWR));

	for (int fd = 0; fd < 3; fd++)
		must(dup2(null, fd));
}

static pid_t start(char **command)
{
	pid_t pid = must(fork());

	if (pid)
		return pid;
	mute();
	execvp(command[0], command);
	_exit(127);
}

/* Waits until an instant; false when the command ended before. */
static bool wait_until(int64_t instant, pid_t command)
{
	int status;

	for (int64_t left; (left = instant - now_us()) > 0;) {
		if (waitpid(command, &status, WNOHANG) == command)
			return false;
		pause_us(left > 2000 ? 1000 : left);
	}
	return true;
}

static bool wait_for_tracer(pid_t command)
{
	int64_t start = now_ms();
	int status;

	while (!tracer_of_target()) {
		if (waitpid(command, &status, WNOHANG) == command)
			return false;
		if (now_ms() - start > DUMPER_MS)
			fail("the command does not get at the process");
		pause_us(10);
	}
	return true;
}

static bool finish(pid_t command, const char *how, int64_t when)
{
	bool frozen = tracer_of_target() != 0;
	int status, ms;

	must(kill(command, SIGKILL));
	must(waitpid(command, &status, 0));
	ms = goes_on();
	if (tracer_of_target())
		fail("the process is still traced by %d", tracer_of_target());
	while_frozen += frozen;
	printf("%s %ld: %s; went on within %d ms\n", how, (long)when, frozen ? "was held" : "was not held", ms);
	return frozen;
}

static void strike_at_random(bool when_frozen, int count, int64_t window, char **command)
{
	for (int i = 0; i < count; i++) {
		int64_t delay = (int64_t)(next_random() % (uint64_t)window);
		pid_t pid = start(command);

		bool in_time = (!when_frozen || wait_for_tracer(pid)) && wait_until(now_us() + delay, pid);

		if (in_time) {
			in_time = finish(pid, when_frozen ? "frozen" : "start", delay);
		} else {
			too_late++;
			goes_on();
		}
		if (when_frozen)
			window = in_time ? window + window / 16 : delay - delay / 8 + 1000;
	}
}

/* ---- step by step ---------------------------------------------------------------------------------------------------- */

/* Asks the supervisor before each call that can touch another process. */
static int listen_to_calls(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static pid_t start_listened(char **command, int *listener)
{
	int ends[2], number = -1, pidfd;
	pid_t pid;

	must(pipe2(ends, O_CLOEXEC));
	pid = must(fork());
	if (pid == 0) {
		mute();
		number = listen_to_calls();
		if (write(ends[1], &number, sizeof number) != sizeof number)
			_exit(127);
		/* The supervisor takes the listener over while it is still open here. */
		if (read(ends[0], &number, 0) == 0)
			while (number >= 0 && fcntl(number, F_GETFD) >= 0 && fcntl(ends[1], F_GETPIPE_SZ) != 8192)
				pause_us(100);
		execvp(command[0], command);
		_exit(127);
	}
	if (read(ends[0], &number, sizeof number) != sizeof number || number < 0)
		fail("no seccomp listener");
	pidfd = must((int)syscall(SYS_pidfd_open, pid, 0));
	*listener = must((int)syscall(SYS_pidfd_getfd, pidfd, number, 0));
	must(fcntl(ends[1], F_SETPIPE_SZ, 8192));
	close(pidfd);
	close(ends[0]);
	close(ends[1]);
	return pid;
}

static bool is_thread_of_target(uint64_t tid)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/task/%d", target, (int)tid);
	return access(path, F_OK) == 0;
}

/* Does this call touch the process? From the moment on that it is held all do: they write into its files, or touch copies of it. */
static bool is_step(const struct seccomp_notif *call, bool held)
{
	if (held || call->data.nr == SYS_pwrite64)
		return held;
	return is_thread_of_target(call->data.args[call->data.nr == SYS_ptrace ? 1 : 0]);
}

/* Lets calls pass until the wanted step is due; false when the command ended before. */
static bool run_to_step(int listener, int wanted)
{
	struct pollfd ready = {listener, POLLIN, 0};

	for (int steps = 0;;) {
		struct seccomp_notif call = {0};
		struct seccomp_notif_resp answer = {0};

		if (poll(&ready, 1, DUMPER_MS) <= 0)
			fail("the command does nothing any more before step %d", wanted);
		if (ready.revents & POLLHUP && !(ready.revents & POLLIN))
			return false;
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
			continue;
		if (is_step(&call, steps > 0) && ++steps == wanted)
			return true;
		answer.id = call.id;
		answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

static void strike_step_by_step(int from, int count, int stride, char **command)
{
	for (int step = from; step < from + count * stride; step += stride) {
		int listener, status;
		pid_t pid = start_listened(command, &listener);
		bool due = run_to_step(listener, step);

		if (due) {
			finish(pid, "step", step);
		} else {
			must(waitpid(pid, &status, 0));
			too_late++;
			goes_on();
		}
		close(listener);
		if (!due)
			return;
	}
}

static void let_run(int count, char **command)
{
	for (int i = 0; i < count; i++) {
		int status;

		must(waitpid(start(command), &status, 0));
		if (!WIFSIGNALED(status))
			fail("the command ended with wait status %#x, not by a signal", status);
		printf("died by itself; went on within %d ms\n", goes_on());
	}
}

int main(int argc, char **argv)
{
	int fd, from, count;

	if (argc < 8)
		fail("arguments are missing");
	setvbuf(stdout, NULL, _IOLBF, 0);
	target = atoi(argv[1]);
	fd = must(open(argv[2], O_RDONLY | O_CLOEXEC));
	counters = must(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0));
	forgets_us();
	from = atoi(argv[4]);
	count = atoi(argv[5]);
	random_state = (uint64_t)from * 0x9e3779b97f4a7c15u + 1;
	if (!strcmp(argv[3], "step"))
		strike_step_by_step(from, count, atoi(argv[6]), argv + 7);
	else if (!strcmp(argv[3], "never"))
		let_run(count, argv + 7);
	else
		strike_at_random(!strcmp(argv[3], "frozen"), count, atol(argv[6]), argv + 7);
	printf("held %u, ended before %u\n", while_frozen, too_late);
	return 0;
}
