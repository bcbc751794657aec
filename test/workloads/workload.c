#include "workload.h"

#include <poll.h>
#include <stdarg.h>

#include "snapshot.h"

static const char *go_path = "go";
static int go_directory = AT_FDCWD;
static unsigned differences;
static pid_t main_process;
static bool restored, interrupted, compared;

__attribute__((constructor)) static void take_arguments(int argc, char **argv)
{
	if (argc > 1)
		go_path = argv[1];
	main_process = getpid();
}

void note(const char *format, ...)
{
	char text[2048];
	va_list list;
	size_t used = (size_t)snprintf(text, sizeof text, "[%d] ", getpid());

	va_start(list, format);
	used += (size_t)vsnprintf(text + used, sizeof text - used - 1, format, list);
	va_end(list);
	if (used > sizeof text - 2)
		used = sizeof text - 2;
	text[used++] = '\n';
	if (write(1, text, used) < 0)
		_exit(99);
}

bool check(bool condition, const char *format, ...)
{
	char text[1900];
	va_list list;

	if (condition)
		return true;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	note("DIFFERS: %s", text);
	__atomic_add_fetch(&differences, 1, __ATOMIC_SEQ_CST);
	return false;
}

void fail(const char *format, ...)
{
	char text[1900];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	note("FAIL: %s", text);
	_exit(1);
}

void ready(void)
{
	keep_state();
	if (write(1, "ready\n", 6) != 6)
		_exit(99);
}

void look_for_go_in(int directory, const char *name)
{
	go_directory = directory;
	go_path = name;
}

/* The go file says whether we were restored, and names snapshot lines that the tool is known not to carry. */
static void read_go_file(void)
{
	static char text[4096];
	int fd = openat(go_directory, go_path, O_RDONLY | O_CLOEXEC);
	ssize_t got;
	char *rest = text, *row;

	if (*text || fd < 0) {
		close(fd);
		return;
	}
	got = read(fd, text, sizeof text - 1);
	close(fd);
	text[got > 0 ? got : 0] = 0;
	while ((row = strsep(&rest, "\n")))
		if (!strcmp(row, "restored"))
			restored = true;
		else if (!strcmp(row, "interrupted"))
			interrupted = true;
		else if (*row)
			snapshot_ignores(row);
}

bool was_restored(void)
{
	read_go_file();
	return restored;
}

bool was_interrupted(void)
{
	read_go_file();
	return interrupted;
}

bool go_given(void)
{
	return faccessat(go_directory, go_path, F_OK, 0) == 0;
}

void wait_for_go(void)
{
	while (!go_given())
		sleep_ms(2);
}

void keep_state(void)
{
	compared = false;
	snapshot_keep();
}

void check_state(void)
{
	read_go_file();
	compared = true;
	differences += snapshot_compare();
}

void pass(void)
{
	if (getpid() != main_process)
		fail("pass() called in a child");
	if (!compared)
		check_state();
	if (differences)
		fail("%u differences", differences);
	if (write(1, "PASS\n", 5) != 5)
		_exit(99);
	_exit(0);
}

void child_done(void)
{
	if (!compared)
		check_state();
	_exit(differences ? 1 : 0);
}

void child_passed(pid_t child)
{
	int status = 0;
	pid_t got;

	do
		got = waitpid(child, &status, 0);
	while (got < 0 && errno == EINTR);
	check(got == child, "waitpid(%d) gave %d: %s", child, got, strerror(errno));
	check(got != child || status == 0, "child %d ended with wait status %#x", child, status);
}

int64_t now_ms(void)
{
	struct timespec t;

	/* Not by way of the vdso, which some workloads move. */
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void sleep_ms(int ms)
{
	struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};

	nanosleep(&t, NULL);
}

pid_t gettid_now(void)
{
	return (pid_t)syscall(SYS_gettid);
}

/* The numbers of a task in each pid namespace, outermost first, as /proc has them; returns how many. */
static int numbers_of(const char *task, pid_t *numbers, int room)
{
	char path[96], text[4096], *at;
	int fd, count = 0;
	ssize_t got;

	snprintf(path, sizeof path, "/proc/%s/status", task);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	got = read(fd, text, sizeof text - 1);
	close(fd);
	text[got > 0 ? got : 0] = 0;
	at = strstr(text, "NSpid:");
	for (at = at ? at + 6 : text + strlen(text); *at == '\t' && count < room; count++)
		numbers[count] = (pid_t)strtol(at + 1, &at, 10);
	return count;
}

bool proc_is_outer(void)
{
	pid_t numbers[8];

	return numbers_of("self", numbers, 8) > 1;
}

pid_t proc_number(pid_t tid)
{
	char path[96], ours[64] = "", theirs[64];
	static int tasks[32768];
	unsigned count;
	pid_t found = tid;

	if (!proc_is_outer())
		return tid;
	readlink("/proc/self/ns/pid", ours, sizeof ours - 1);
	count = list_numbers("/proc/self/task", tasks, 32768);
	count += list_numbers("/proc", tasks + count, 32768 - count);
	for (unsigned i = 0; i < count; i++) {
		pid_t numbers[8];
		char name[16];
		int known;

		snprintf(name, sizeof name, "%d", tasks[i]);
		known = numbers_of(name, numbers, 8);
		if (known == 0 || numbers[known - 1] != tid)
			continue;
		memset(theirs, 0, sizeof theirs);
		snprintf(path, sizeof path, "/proc/%d/ns/pid", tasks[i]);
		readlink(path, theirs, sizeof theirs - 1);
		if (!strcmp(ours, theirs))
			found = tasks[i];
	}
	return found;
}

char task_state(pid_t tid)
{
	char path[64], text[512];
	const char *at;
	ssize_t got;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/stat", proc_number(tid));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	got = read(fd, text, sizeof text - 1);
	close(fd);
	text[got > 0 ? got : 0] = 0;
	at = strrchr(text, ')');
	return at ? at[2] : 0;
}

bool comes_to(pid_t tid, char state)
{
	for (int i = 0; i < 30000 && task_state(tid) != state; i++)
		sleep_ms(1);
	return task_state(tid) == state;
}

void until_asleep(pid_t tid)
{
	for (int i = 0; i < 30000; i++) {
		bool sleeps = task_state(tid) == 'S';

		/* On its way into the call it may sleep for a moment, too. */
		sleep_ms(sleeps ? 5 : 1);
		if (sleeps && task_state(tid) == 'S')
			return;
	}
	fail("task %d does not go to sleep", tid);
}

/* The number of the system call in which a task sleeps, -1 when it runs. */
static long sleeps_in_call(pid_t tid)
{
	char path[64], text[64];
	ssize_t got;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/syscall", proc_number(tid));
	fd = must(open(path, O_RDONLY | O_CLOEXEC));
	got = read(fd, text, sizeof text - 1);
	close(fd);
	text[got > 0 ? got : 0] = 0;
	return *text >= '0' && *text <= '9' ? atol(text) : -1;
}

void until_it_waits(pid_t pid)
{
	for (int i = 0; i < 30000; i++) {
		long number = sleeps_in_call(pid);

		if (number == SYS_nanosleep || number == SYS_clock_nanosleep)
			return;
		/* Not sleep_ms(): who waits for us would take that for the end of our own work. */
		poll(NULL, 0, 1);
	}
	fail("process %d does not come to wait", pid);
}

void *shared_memory(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("mmap of %zu shared bytes: %s", bytes, strerror(errno));
	return memory;
}

static uint64_t pattern_at(uint64_t seed, size_t index)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + index;

	x ^= x >> 31;
	x *= 0xbf58476d1ce4e5b9u;
	return x ^ (x >> 29);
}

void fill_pattern(void *memory, size_t bytes, uint64_t seed)
{
	uint64_t *words = memory;

	for (size_t i = 0; i < bytes / sizeof *words; i++)
		words[i] = pattern_at(seed, i);
}

bool check_pattern(const void *memory, size_t bytes, uint64_t seed, const char *what)
{
	const uint64_t *words = memory;

	for (size_t i = 0; i < bytes / sizeof *words; i++)
		if (words[i] != pattern_at(seed, i))
			return check(false, "%s: at byte %zu of %zu (%p): %#lx instead of %#lx", what, i * 8, bytes,
				(const void *)(words + i), (unsigned long)words[i], (unsigned long)pattern_at(seed, i));
	return true;
}

unsigned differences_seen(void)
{
	return differences;
}
