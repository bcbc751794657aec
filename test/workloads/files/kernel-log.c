/*
 * A reader of the kernel's log in the middle of it, one at its end, and one that has read nothing, among many other files: each goes on with the
 * record that comes next.
 */
#include "workload.h"

/* The number of the next record; -1: there is none. */
static long long next_of(int fd)
{
	char record[16384];
	unsigned priority;
	long long number = -1;
	ssize_t got = read(fd, record, sizeof record - 1);

	if (got < 0 && errno == EPIPE)
		got = read(fd, record, sizeof record - 1);
	if (got < 0)
		return -1;
	record[got] = 0;
	check(sscanf(record, "%u,%lld,", &priority, &number) == 2, "no record: %s", record);
	return number;
}

static int make(void)
{
	return must(open("/dev/kmsg", O_RDONLY | O_NONBLOCK));
}

/* One call for each record. */
static void say(int fd)
{
	static const char text[] = "<7>floe: a record of a test\n";

	must(write(fd, text, sizeof text - 1));
}

/* As many as are opened together and not one by one. */
static void open_others(void)
{
	for (int i = 0; i < 40; i++)
		must(open("/bin/sh", O_RDONLY));
}

int main(void)
{
	int middle, end, fresh, writer = must(open("/dev/kmsg", O_WRONLY));
	long long before = -1, last = -1, first, next;

	for (int i = 0; i < 5; i++)
		say(writer);
	must(middle = make());
	must(end = make());
	/* Three of the five are left to the one in the middle. */
	for (long long at; (at = next_of(end)) >= 0;)
		last = at;
	while (before < last - 3)
		before = next_of(middle);
	must(fresh = make());
	open_others();
	must(lseek(fresh, 0, SEEK_END));
	ready();
	wait_for_go();
	check_state();
	next = next_of(middle);
	check(next == before + 1, "the next record is %lld, not %lld", next, before + 1);
	say(writer);
	next = next_of(end);
	check(next == last + 1, "the record behind the end is %lld, not %lld", next, last + 1);
	first = next_of(fresh);
	check(first >= last + 1, "the one that began at the end reads %lld, not %lld or later", first, last + 1);
	pass();
}
