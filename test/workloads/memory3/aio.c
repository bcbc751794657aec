/*
 * Contexts of kernel asynchronous I/O: their names, completions that nobody has read, and how they go on: one in use with a
 * ring that has gone round, one never used, one that is full of unread completions.
 */
#include <linux/aio_abi.h>

#include "workload.h"

enum { BLOCK = 512, ROUND = 300 };

static int fd;
static char block[BLOCK];

static void submit(aio_context_t context, uint64_t data)
{
	struct iocb request = {.aio_fildes = (uint32_t)fd, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (uintptr_t)block, .aio_nbytes = BLOCK, .aio_offset = (int64_t)(data % 8) * BLOCK, .aio_data = data};
	struct iocb *one = &request;

	if (syscall(SYS_io_submit, context, 1, &one) != 1)
		fail("io_submit: %s", strerror(errno));
}

static void expect(aio_context_t context, uint64_t data, const char *what)
{
	struct io_event event;
	struct timespec limit = {.tv_sec = 2};
	long got = syscall(SYS_io_getevents, context, 1, 1, &event, &limit);

	if (!check(got == 1, "%s: io_getevents gave %ld: %s", what, got, got < 0 ? strerror(errno) : "no error"))
		return;
	check(event.data == data, "%s: completion of %llu instead of %llu", what, (unsigned long long)event.data, (unsigned long long)data);
	check(event.res == BLOCK, "%s: result %lld", what, (long long)event.res);
}

static void expect_none(aio_context_t context, const char *what)
{
	struct io_event event;
	struct timespec limit = {0};

	check(syscall(SYS_io_getevents, context, 0, 1, &event, &limit) == 0, "%s: there is a completion too many", what);
}

int main(void)
{
	aio_context_t used = 0, unused = 0, full = 0;
	unsigned count;

	fd = must(open("file", O_RDWR | O_CREAT, 0600));
	must(ftruncate(fd, 8 * BLOCK));
	must(syscall(SYS_io_setup, 16, &used));
	must(syscall(SYS_io_setup, 1000, &unused));
	must(syscall(SYS_io_setup, 20, &full));
	for (int i = 0; i < ROUND; i++) {
		submit(used, (uint64_t)i);
		expect(used, (uint64_t)i, "before");
	}
	for (int i = 0; i < 5; i++)
		submit(used, 1000 + (uint64_t)i);
	for (count = 0; count < 20; count++)
		submit(full, 2000 + count);
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < 5; i++)
		expect(used, 1000 + (uint64_t)i, "unread");
	expect_none(used, "used");
	expect_none(unused, "unused");
	for (unsigned i = 0; i < count; i++)
		expect(full, 2000 + i, "full");
	expect_none(full, "full");
	for (int i = 0; i < ROUND; i++) {
		submit(used, 3000 + (uint64_t)i);
		submit(unused, 4000 + (uint64_t)i);
		submit(full, 5000 + (uint64_t)i);
		expect(used, 3000 + (uint64_t)i, "used again");
		expect(unused, 4000 + (uint64_t)i, "used first");
		expect(full, 5000 + (uint64_t)i, "full again");
	}
	check(!syscall(SYS_io_destroy, used) && !syscall(SYS_io_destroy, unused) && !syscall(SYS_io_destroy, full), "a context cannot be destroyed");
	pass();
}
