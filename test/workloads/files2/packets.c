/* Pipes in packet mode: a read brings one message, and what does not fit is lost. */
#include "workload.h"

static const char *const messages[] = {"one", "two, longer", "3", "four"};

int main(void)
{
	char data[4096], large[4096];
	int pair[2], single[2], short_read[2], mixed[2];

	must(pipe2(pair, O_DIRECT | O_NONBLOCK));
	must(pipe2(single, O_DIRECT));
	must(pipe2(short_read, O_DIRECT));
	must(pipe2(mixed, O_NONBLOCK));
	for (unsigned i = 0; i < 4; i++)
		must(write(pair[1], messages[i], strlen(messages[i])));
	must(write(single[1], "a single message", 16));
	memset(large, 'l', sizeof large);
	must(write(short_read[1], "cut off", 7));
	must(write(short_read[1], large, sizeof large));
	must(write(mixed[1], "bytes", 5));
	must(fcntl(mixed[1], F_SETFL, O_NONBLOCK | O_DIRECT));
	must(fcntl(mixed[1], F_SETFL, O_NONBLOCK));
	ready();
	wait_for_go();
	check_state();
	for (unsigned i = 0; i < 4; i++) {
		ssize_t got = read(pair[0], data, sizeof data);

		check(got == (ssize_t)strlen(messages[i]) && !memcmp(data, messages[i], (size_t)got), "message %u has %zd bytes: %.*s", i, got, (int)got, data);
	}
	check(read(pair[0], data, sizeof data) < 0 && errno == EAGAIN, "there are more messages");
	must(write(single[1], "next", 4));
	check(read(single[0], data, 5) == 5, "the single message is not cut to what fits");
	check(read(single[0], data, sizeof data) == 4 && !memcmp(data, "next", 4), "the single message was not taken as a whole");
	check(read(short_read[0], data, 3) == 3 && !memcmp(data, "cut", 3), "the message cut short is another one");
	check(read(short_read[0], data, sizeof data) == sizeof large && !memcmp(data, large, sizeof large), "the large message is not whole");
	check(read(mixed[0], data, 2) == 2 && read(mixed[0], data, 10) == 3, "bytes have become a message");
	pass();
}
