/*
 * Sets of watched descriptors. The argument says what is special about them. At the end every set is looked at as the
 * kernel tells it (numbers, masks, data), and then for what it reports.
 */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/resource.h>

#include "workload.h"

enum { MANY = 1000 };

static char *before[8];
static int sets[8], set_count;

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The targets of a set as sorted text, without inode numbers: those of pipes change, and the kernel's order with them. */
static char *targets(int set)
{
	static char *rows[MANY + 8];
	char path[64], row[256], *text, *end;
	size_t count = 0, length = 1;
	FILE *file;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", set);
	file = fopen(path, "r");
	while (fgets(row, sizeof row, file))
		if (!strncmp(row, "tfd:", 4)) {
			*strstr(row, " pos:") = 0;
			length += strlen(row) + 1;
			rows[count++] = strdup(row);
		}
	fclose(file);
	qsort(rows, count, sizeof *rows, compare);
	text = end = calloc(1, length);
	for (size_t i = 0; i < count; free(rows[i++]))
		end += sprintf(end, "%s\n", rows[i]);
	return text;
}

static int new_set(int flags)
{
	char prefix[64];
	int set = must(epoll_create1(flags));

	snprintf(prefix, sizeof prefix, "fd %d tfd", set);
	snapshot_ignores(strdup(prefix));
	sets[set_count++] = set;
	return set;
}

static int new_eventfd(void)
{
	char prefix[64];
	int fd = must(eventfd(0, EFD_NONBLOCK));

	snprintf(prefix, sizeof prefix, "fd %d eventfd-id", fd);
	snapshot_ignores(strdup(prefix));
	return fd;
}

static void add(int set, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = {events, {.u64 = data}};

	must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
}

static void signal_to(int fd)
{
	uint64_t one = 1;

	must(write(fd, &one, 8));
}

/* The set reports exactly this: one event with this data, or nothing when `events` is 0. */
static void reports(int set, uint32_t events, uint64_t data)
{
	struct epoll_event got[4];
	int count = epoll_wait(set, got, 4, events ? 5000 : 0);

	if (!events)
		check(count == 0, "set %d reports %d events (%#x of %#lx), not none", set, count, got[0].events, got[0].data.u64);
	else
		check(count == 1 && got[0].events == events && got[0].data.u64 == data, "set %d reports %d events, %#x of %#lx, not %#x of %#lx", set, count,
		      got[0].events, got[0].data.u64, events, data);
}

static void get_ready(void)
{
	for (int i = 0; i < set_count; i++)
		before[i] = targets(sets[i]);
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < set_count; i++) {
		char *after = targets(sets[i]);
		check(!strcmp(before[i], after), "set %d was:\n%sand is:\n%s", sets[i], before[i], after);
	}
}

static void plain(void)
{
	int empty = new_set(0), set = new_set(EPOLL_CLOEXEC), ends[2], pair[2], event = new_eventfd();
	char byte;

	must(pipe(ends));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	add(set, ends[0], EPOLLIN | EPOLLPRI, 0xfedcba9876543210);
	add(set, pair[0], EPOLLIN | EPOLLRDHUP, 2);
	add(set, event, EPOLLIN, 3);
	get_ready();
	reports(empty, 0, 0);
	reports(set, 0, 0);
	must(write(ends[1], "x", 1));
	reports(set, EPOLLIN, 0xfedcba9876543210);
	must(read(ends[0], &byte, 1));
	must(write(pair[1], "x", 1));
	reports(set, EPOLLIN, 2);
	must(epoll_ctl(set, EPOLL_CTL_DEL, pair[0], NULL));
	signal_to(event);
	reports(set, EPOLLIN, 3);
}

static void polling(void)
{
	/* struct epoll_params and its calls, uapi/linux/eventpoll.h. */
	struct {
		uint32_t usecs;
		uint16_t budget;
		uint8_t prefer, zero;
	} wanted = {64, 16, 1, 0}, now = {0};
	int set = new_set(0);

	must(ioctl(set, _IOC(_IOC_WRITE, 0x8a, 1, sizeof wanted), &wanted));
	get_ready();
	must(ioctl(set, _IOC(_IOC_READ, 0x8a, 2, sizeof now), &now));
	check(!memcmp(&wanted, &now, sizeof now), "it polls for %u µs, %u packets, %u", now.usecs, now.budget, now.prefer);
}

static void pipes(void)
{
	int set = new_set(0), idle[2], full[2], hung[2], event = new_eventfd();

	must(pipe(idle));
	must(pipe(full));
	must(pipe(hung));
	add(set, idle[0], EPOLLIN, 1);
	add(set, full[0], EPOLLIN | EPOLLET, 2);
	add(set, event, EPOLLIN | EPOLLEXCLUSIVE, 3);
	get_ready();
	reports(set, 0, 0);
	must(write(full[1], "x", 1));
	reports(set, EPOLLIN, 2);
	reports(set, 0, 0);
	must(write(full[1], "x", 1));
	reports(set, EPOLLIN, 2);
	close(idle[1]);
	reports(set, EPOLLHUP, 1);
}

/* Numbers that went on: the target was moved to another number, its own is free, or another file's. */
static void moved(void)
{
	int set = new_set(0), gone = new_eventfd(), reused = new_eventfd(), twice = new_eventfd(), second;

	add(set, gone, EPOLLIN, 1);
	add(set, reused, EPOLLIN, 2);
	must(dup2(gone, 50));
	must(dup2(reused, 51));
	snapshot_ignores("fd 50 eventfd-id");
	snapshot_ignores("fd 51 eventfd-id");
	close(gone);
	close(reused);
	/* Both numbers belong to a file that is watched too, under the same number once more, and to one that is not. */
	second = new_eventfd();
	check(second == gone, "the lowest number was not given");
	add(set, second, EPOLLIN, 3);
	check(open("/dev/null", O_RDONLY | O_CLOEXEC) == reused, "the next number was not given");
	/* One file under two numbers. */
	add(set, twice, EPOLLIN, 4);
	must(dup2(twice, 52));
	snapshot_ignores("fd 52 eventfd-id");
	add(set, 52, EPOLLIN | EPOLLET, 5);
	get_ready();
	reports(set, 0, 0);
	signal_to(50);
	reports(set, EPOLLIN, 1);
	must(dup2(50, 60));
	close(50);
	close(60);
	reports(set, 0, 0);
	signal_to(51);
	reports(set, EPOLLIN, 2);
	close(51);
	reports(set, 0, 0);
	signal_to(second);
	reports(set, EPOLLIN, 3);
	must(epoll_ctl(set, EPOLL_CTL_DEL, second, NULL));
	must(epoll_ctl(set, EPOLL_CTL_DEL, twice, NULL));
	signal_to(twice);
	reports(set, EPOLLIN, 5);
}

/* Sets of sets. */
static void nested(void)
{
	int inner = new_set(0), middle = new_set(0), outer = new_set(0), event = new_eventfd();

	add(outer, middle, EPOLLIN, 30);
	add(middle, inner, EPOLLIN, 20);
	add(inner, event, EPOLLIN, 10);
	add(outer, event, EPOLLIN | EPOLLET, 11);
	must(epoll_ctl(outer, EPOLL_CTL_DEL, event, NULL));
	get_ready();
	reports(outer, 0, 0);
	signal_to(event);
	reports(outer, EPOLLIN, 30);
	reports(middle, EPOLLIN, 20);
	reports(inner, EPOLLIN, 10);
}

/* What was reported once is not reported again before it is asked for anew. */
static void oneshot(void)
{
	int set = new_set(0), fired = new_eventfd(), armed = new_eventfd();
	struct epoll_event event = {EPOLLIN | EPOLLONESHOT, {.u64 = 1}};

	add(set, fired, EPOLLIN | EPOLLONESHOT, 1);
	add(set, armed, EPOLLIN | EPOLLONESHOT, 2);
	signal_to(fired);
	reports(set, EPOLLIN, 1);
	reports(set, 0, 0);
	get_ready();
	reports(set, 0, 0);
	signal_to(armed);
	reports(set, EPOLLIN, 2);
	reports(set, 0, 0);
	must(epoll_ctl(set, EPOLL_CTL_MOD, fired, &event));
	reports(set, EPOLLIN, 1);
}

/* A child has the set and the targets, or the set without them. */
static void shared(void)
{
	int set = new_set(0), common = new_eventfd(), parents = new_eventfd(), *asked = shared_memory(4096);
	pid_t kid;

	add(set, common, EPOLLIN, 1);
	add(set, parents, EPOLLIN, 2);
	kid = must(fork());
	if (!kid) {
		close(parents);
		keep_state();
		asked[0] = 1;
		while (!__atomic_load_n(&asked[1], __ATOMIC_SEQ_CST))
			sleep_ms(1);
		check_state();
		reports(set, EPOLLIN, 2);
		child_done();
	}
	while (!__atomic_load_n(&asked[0], __ATOMIC_SEQ_CST))
		sleep_ms(1);
	get_ready();
	reports(set, 0, 0);
	signal_to(parents);
	__atomic_store_n(&asked[1], 1, __ATOMIC_SEQ_CST);
	child_passed(kid);
	reports(set, EPOLLIN, 2);
}

/* The target is open in the child only. */
static void others(void)
{
	int set = new_set(0), theirs = new_eventfd(), *asked = shared_memory(4096);
	pid_t kid;

	add(set, theirs, EPOLLIN, 2);
	kid = must(fork());
	if (!kid) {
		close(set);
		must(dup2(theirs, 90));
		close(theirs);
		snapshot_ignores("fd 90 eventfd-id");
		keep_state();
		asked[0] = 1;
		while (!__atomic_load_n(&asked[1], __ATOMIC_SEQ_CST))
			sleep_ms(1);
		check_state();
		signal_to(90);
		asked[2] = 1;
		while (!__atomic_load_n(&asked[3], __ATOMIC_SEQ_CST))
			sleep_ms(1);
		child_done();
	}
	close(theirs);
	while (!__atomic_load_n(&asked[0], __ATOMIC_SEQ_CST))
		sleep_ms(1);
	get_ready();
	reports(set, 0, 0);
	__atomic_store_n(&asked[1], 1, __ATOMIC_SEQ_CST);
	reports(set, EPOLLIN, 2);
	__atomic_store_n(&asked[3], 1, __ATOMIC_SEQ_CST);
	child_passed(kid);
	reports(set, 0, 0);
}

/* Thousands of targets. */
static void many(void)
{
	struct rlimit limit = {MANY + 100, MANY + 100};
	int set, ends[2];

	must(setrlimit(RLIMIT_NOFILE, &limit));
	set = new_set(0);
	must(pipe(ends));
	add(set, ends[0], EPOLLIN, 1ull << 40);
	for (int i = 0; i < MANY; i++)
		add(set, must(dup(ends[0])), EPOLLIN | EPOLLET, i);
	get_ready();
	reports(set, 0, 0);
	for (int i = 0; i < MANY; i++)
		must(close(ends[1] + 1 + i));
	must(write(ends[1], "x", 1));
	{
		struct epoll_event got[8];
		check(epoll_wait(set, got, 8, 5000) == 8, "not all targets are reported");
	}
}

int main(int argc, char **argv)
{
	static const struct { const char *name; void (*run)(void); } kinds[] = {
		{"plain", plain}, {"polling", polling}, {"pipes", pipes}, {"moved", moved}, {"nested", nested}, {"oneshot", oneshot},
		{"shared", shared}, {"others", others}, {"many", many}};

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (argc > 2 && !strcmp(argv[2], kinds[i].name)) {
			kinds[i].run();
			pass();
		}
	fail("which?");
}
