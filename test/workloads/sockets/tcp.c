/*
 * Established TCP connections of which both ends are in the tree, IPv4, IPv6 and mapped: data waits on both sides, one
 * direction is full to the brim, an idle one stays idle; options of connections; the listening socket still listens. The
 * streams are checked byte for byte, and data flows again afterwards.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "sockets.h"

enum { PORT = 7300, BYTES = 8 << 20 };

static unsigned char *pattern;

static int listening(int family)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(PORT + 1)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd = must(socket(family, SOCK_STREAM, 0)), on = 1;

	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(family == AF_INET ? bind(fd, (struct sockaddr *)&four, sizeof four) : bind(fd, (struct sockaddr *)&six, sizeof six));
	must(listen(fd, 5));
	return fd;
}

static int client(int family, int port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = must(socket(family, SOCK_STREAM, 0));

	must(family == AF_INET ? connect(fd, (struct sockaddr *)&four, sizeof four) : connect(fd, (struct sockaddr *)&six, sizeof six));
	return fd;
}

static size_t fill(int fd)
{
	size_t done = 0;
	ssize_t got;

	/* What was sent has to arrive before it can be seen that more fits. */
	for (int idle = 0; idle < 20; idle++) {
		while (done < BYTES && (got = send(fd, pattern + done, BYTES - done < 100000 ? BYTES - done : 100000, MSG_DONTWAIT)) > 0) {
			done += (size_t)got;
			idle = 0;
		}
		sleep_ms(5);
	}
	return done;
}

static void expect_bytes(int fd, size_t from, size_t length)
{
	static unsigned char back[100000];
	size_t done = 0;

	while (done < length) {
		size_t want = length - done < sizeof back ? length - done : sizeof back;
		ssize_t got = recv(fd, back, want, 0);
		if (!check(got > 0, "fd %d: the stream ends after %zu of %zu bytes: %s", fd, done, length, strerror(errno)))
			return;
		if (!check(!memcmp(back, pattern + from + done, (size_t)got), "fd %d: bytes at %zu differ", fd, done))
			return;
		done += (size_t)got;
	}
}

static void expect_option(int fd, int level, int name, int value)
{
	int now = -1;
	socklen_t size = sizeof now;

	must(getsockopt(fd, level, name, &now, &size));
	check(now == value, "option %d of fd %d is %d, not %d", name, fd, now, value);
}

int main(int argc, char **argv)
{
	static const struct {
		int family, port;
	} kinds[] = {{AF_INET, PORT}, {AF_INET6, PORT + 1}, {AF_INET, PORT + 1}};
	int servers[2], ends[3][2], idle[2], on = 1;
	struct timeval patience = {10, 0};
	size_t filled[3];

	begin(argc, argv);
	pattern = must(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	fill_pattern(pattern, BYTES, 5);
	servers[0] = listening(AF_INET);
	servers[1] = listening(AF_INET6);
	for (int i = 0; i < 3; i++) {
		ends[i][0] = client(kinds[i].family, kinds[i].port);
		ends[i][1] = must(accept(servers[kinds[i].port - PORT], NULL, NULL));
		for (int e = 0; e < 2; e++)
			must(setsockopt(ends[i][e], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
		filled[i] = fill(ends[i][0]);
		send_text(ends[i][1], "some data");
	}
	idle[0] = client(AF_INET, PORT);
	idle[1] = must(accept(servers[0], NULL, NULL));
	must(setsockopt(idle[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
	must(setsockopt(idle[1], SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < 3; i++) {
		expect_bytes(ends[i][1], 0, filled[i]);
		expect_text(ends[i][0], "some data");
	}
	for (int i = 0; i < 3; i++) {
		must(send(ends[i][0], pattern, 50000, 0));
		expect_bytes(ends[i][1], 0, 50000);
		must(send(ends[i][1], pattern, 30000, 0));
		expect_bytes(ends[i][0], 0, 30000);
	}
	expect_text(idle[0], NULL);
	must(send(idle[0], pattern, 1000, 0));
	expect_bytes(idle[1], 0, 1000);
	expect_option(idle[0], IPPROTO_TCP, TCP_NODELAY, 1);
	expect_option(idle[1], SOL_SOCKET, SO_KEEPALIVE, 1);
	idle[0] = client(AF_INET, PORT);
	idle[1] = must(accept(servers[0], NULL, NULL));
	must(send(idle[0], pattern, 10, 0));
	expect_bytes(idle[1], 0, 10);
	close(ends[0][0]);
	check(recv(ends[0][1], &on, 1, 0) == 0, "no end of the stream");
	pass();
}
