/*
 * A client of echo.c that stays outside the dump: sends blocks, checks that they come back, until it gets SIGTERM; then
 * prints PASS. Arguments: the port.
 */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "sockets.h"

static volatile sig_atomic_t enough;

static void stop(int signal)
{
	(void)signal;
	enough = 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[argc - 1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = must(socket(AF_INET, SOCK_STREAM, 0));
	static unsigned char bytes[20000], back[20000];
	unsigned rounds = 0;

	signal(SIGTERM, stop);
	if (getenv("FLOE_ADDRESS"))
		address.sin_addr.s_addr = inet_addr(getenv("FLOE_ADDRESS"));
	must(connect(fd, (struct sockaddr *)&address, sizeof address));
	while (!enough) {
		fill_pattern(bytes, sizeof bytes, rounds++);
		for (size_t sent = 0; sent < sizeof bytes;) {
			ssize_t got = send(fd, bytes + sent, sizeof bytes - sent, MSG_NOSIGNAL);
			if (got < 0 && errno == EINTR)
				continue;
			sent += (size_t)must(got);
		}
		for (size_t done = 0; done < sizeof back;) {
			ssize_t got = recv(fd, back + done, sizeof back - done, 0);
			if (got < 0 && errno == EINTR)
				continue;
			if (got <= 0)
				fail("the connection ended in round %u: %s", rounds, got < 0 ? strerror(errno) : "end");
			done += (size_t)got;
		}
		if (memcmp(bytes, back, sizeof bytes))
			fail("round %u came back changed", rounds);
		if (rounds == 1)
			must(write(1, "ready\n", 6));
	}
	note("%u rounds", rounds);
	must(write(1, "PASS\n", 5));
	return 0;
}
