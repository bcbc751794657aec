/*
 * Requests of asynchronous I/O under way, without end: a thread reads blocks of a file directly from the device, many at
 * once, and checks every one. With "polls": requests that are completed every millisecond whether the process stands still or
 * not. With "spoilt": the head of the ring is written over.
 */
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <sys/timerfd.h>

#include "workload.h"

enum { BLOCKS = 64, BLOCK = 64 << 10, POLLS = 900, BALLAST = 48 << 20 };

static aio_context_t context;
static int fd;
static char *memory;
static volatile bool stop;
static volatile unsigned long done;

static void submit(unsigned i)
{
	struct iocb request = {.aio_fildes = (uint32_t)fd, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_buf = (uintptr_t)(memory + (size_t)i * BLOCK), .aio_nbytes = BLOCK, .aio_offset = (int64_t)i * BLOCK, .aio_data = i};
	struct iocb *one = &request;

	memset(memory + (size_t)i * BLOCK, 0, BLOCK);
	if (syscall(SYS_io_submit, context, 1, &one) != 1)
		fail("io_submit: %s", strerror(errno));
}

static void reap(void)
{
	struct io_event events[BLOCKS];
	struct timespec limit = {.tv_sec = 5};
	long got = syscall(SYS_io_getevents, context, 1, BLOCKS, events, &limit);

	if (got < 0 && errno == EINTR)
		return;
	if (got <= 0)
		fail("requests are lost: io_getevents gave %ld after %lu", got, done);
	for (long k = 0; k < got; k++) {
		unsigned i = (unsigned)events[k].data;

		if (events[k].res != BLOCK || !check_pattern(memory + (size_t)i * BLOCK, BLOCK, i, "a block"))
			fail("block %u came with result %lld", i, (long long)events[k].res);
		done++;
		if (!stop)
			submit(i);
	}
}

static void *reader(void *unused)
{
	(void)unused;
	for (unsigned i = 0; i < BLOCKS; i++)
		submit(i);
	while (!stop)
		reap();
	return NULL;
}

static void read_without_end(void)
{
	pthread_t thread;
	unsigned long before;

	fd = must(open("file", O_RDWR | O_CREAT, 0600));
	must((long)(memory = mmap(NULL, (size_t)BLOCKS * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	for (unsigned i = 0; i < BLOCKS; i++) {
		fill_pattern(memory + (size_t)i * BLOCK, BLOCK, i);
		if (pwrite(fd, memory + (size_t)i * BLOCK, BLOCK, (off_t)i * BLOCK) != BLOCK)
			fail("pwrite: %s", strerror(errno));
	}
	must(fsync(fd));
	if (fcntl(fd, F_SETFL, O_DIRECT))
		note("this file system has no direct I/O");
	must_zero(pthread_create(&thread, NULL, reader, NULL));
	while (done < 10 * BLOCKS)
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	before = done;
	while (done < before + 10 * BLOCKS)
		sleep_ms(1);
	stop = true;
	must_zero(pthread_join(thread, NULL));
	pass();
}

static void poll_timers(void)
{
	struct iocb requests[POLLS], *one;
	char *ballast = mmap(NULL, BALLAST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must((long)ballast);
	/* Time goes on for the timers. */
	snapshot_ignores("fd ");
	fill_pattern(ballast, BALLAST, 1);
	for (int i = 0; i < POLLS; i++) {
		struct itimerspec when = {.it_value = {.tv_sec = (i + 1) / 200, .tv_nsec = (long)((i + 1) % 200) * 5000000 + 1}};
		int timer = must(timerfd_create(CLOCK_MONOTONIC, 0));

		must(timerfd_settime(timer, 0, &when, NULL));
		requests[i] = (struct iocb){.aio_fildes = (uint32_t)timer, .aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = POLLIN, .aio_data = (uint64_t)i};
		one = &requests[i];
		if (syscall(SYS_io_submit, context, 1, &one) != 1)
			fail("io_submit: %s", strerror(errno));
	}
	ready();
	wait_for_go();
	pass();
}

int main(int argc, char **argv)
{
	must(syscall(SYS_io_setup, 2 * POLLS, &context));
	if (argc > 2 && !strcmp(argv[2], "polls"))
		poll_timers();
	if (argc > 2 && !strcmp(argv[2], "spoilt")) {
		((unsigned *)context)[4] = 0;
		ready();
		wait_for_go();
		pass();
	}
	read_without_end();
}
