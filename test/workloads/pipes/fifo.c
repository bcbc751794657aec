/*
 * Named pipes opened for reading, writing and both, with data in flight, two of one name, reader and writer in different
 * tasks; what is written after the thaw comes out behind what was there before.
 */
#include <sys/ioctl.h>

#include "workload.h"

static void child(int reader)
{
	char text[32] = "";

	keep_state();
	while (!go_given())
		sleep_ms(2);
	check_state();
	for (int waiting = 0; waiting < 12; sleep_ms(1))
		must(ioctl(reader, FIONREAD, &waiting));
	check(read(reader, text, 31) == 12 && !strcmp(text, "kept, behind"), "the child read \"%s\"", text);
	child_done();
}

int main(void)
{
	int keep, both, reader, writer, lonely, second;
	char text[32] = "";
	pid_t kid;

	signal(SIGPIPE, SIG_IGN);
	must(mkfifo("fifo", 0600));
	must(mkfifo("other", 0620));
	keep = must(open("fifo", O_RDONLY | O_NONBLOCK));
	writer = must(open("fifo", O_WRONLY | O_CLOEXEC));
	reader = must(open("fifo", O_RDONLY));
	must(close(keep));
	both = must(open("other", O_RDWR));
	second = must(open("other", O_RDWR | O_NONBLOCK));
	must(fcntl(both, F_SETPIPE_SZ, 1 << 17));
	must(write(both, "in between", 10));
	must(mkfifo("lonely", 0600));
	lonely = must(open("lonely", O_RDONLY | O_NONBLOCK));
	must(write(writer, "kept, ", 6));
	kid = must(fork());
	if (!kid) {
		must(close(writer));
		child(reader);
	}
	must(close(reader));
	until_it_waits(kid);
	ready();
	wait_for_go();
	check_state();
	check(write(writer, "behind", 6) == 6, "the fifo cannot be written");
	check(read(second, text, 31) == 10 && !strcmp(text, "in between"), "the other fifo had \"%s\"", text);
	check(read(second, text, 31) < 0 && errno == EAGAIN, "the other fifo is not empty");
	check(read(lonely, text, 31) == 0, "a fifo without writers has no end");
	keep = must(open("lonely", O_WRONLY));
	check(write(keep, "now", 3) == 3 && read(lonely, text, 31) == 3, "a fifo opened by name is another one");
	child_passed(kid);
	check(write(writer, "x", 1) < 0 && errno == EPIPE, "a fifo without readers can be written");
	pass();
}
