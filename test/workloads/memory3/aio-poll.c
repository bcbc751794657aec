/* Two polls of a pipe wait in a context of kernel asynchronous I/O; another context has none. They end when there is data. */
#include <linux/aio_abi.h>
#include <poll.h>

#include "workload.h"

enum { POLLS = 2 };

int main(void)
{
	aio_context_t polls = 0, none = 0;
	struct iocb requests[POLLS], *list[POLLS];
	struct io_event events[POLLS];
	struct timespec limit = {.tv_sec = 5};
	int ends[2];

	must(pipe(ends));
	must(syscall(SYS_io_setup, 8, &none));
	must(syscall(SYS_io_setup, 8, &polls));
	for (int i = 0; i < POLLS; i++) {
		requests[i] = (struct iocb){.aio_fildes = (uint32_t)ends[0], .aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = POLLIN, .aio_data = 7};
		list[i] = &requests[i];
	}
	if (syscall(SYS_io_submit, polls, POLLS, list) != POLLS)
		fail("io_submit: %s", strerror(errno));
	ready();
	wait_for_go();
	check_state();
	must(write(ends[1], "x", 1));
	check(syscall(SYS_io_getevents, polls, POLLS, POLLS, events, &limit) == POLLS, "the polls did not end");
	for (int i = 0; i < POLLS; i++)
		check(events[i].data == 7 && (events[i].res & POLLIN), "poll %d gave %llx", i, (unsigned long long)events[i].res);
	pass();
}
