/* A function that somebody probes from outside is called all the time. */
#include "workload.h"

static volatile unsigned calls;

__attribute__((noinline)) void probed(void)
{
	calls++;
}

int main(void)
{
	unsigned before;

	/* The kernel makes an area for probes when it meets the first, at another place each time. */
	snapshot_ignores("map");
	for (int i = 0; i < 50; i++, probed())
		sleep_ms(1);
	ready();
	while (!go_given()) {
		probed();
		sleep_ms(1);
	}
	before = calls;
	for (int i = 0; i < 100; i++)
		probed();
	check(calls == before + 100, "of 100 calls %u were made", calls - before);
	pass();
}
