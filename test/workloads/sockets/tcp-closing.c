/*
 * TCP connections on their way to the end, of which both ends are in the tree; IPv4, IPv6 and mapped:
 *
 *   0  FIN-WAIT-2 / CLOSE-WAIT    one end has closed its direction, and what it sent before is not read yet
 *   1  FIN-WAIT-1 / ESTABLISHED   the same, but the end waits behind more data than the other one takes
 *   2  CLOSING / FIN-WAIT-2       then the other one closes its direction as well
 *   3  LAST-ACK / FIN-WAIT-2      the other one had done so before
 *   4  CLOSE / CLOSE              both are through, with data to be read
 *   5  CLOSE / -                  broken off by the other end, with data to be read
 *
 * and one that asks and has no answer (SYN-SENT). States and streams are checked, and the ends meet as they would have.
 */
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "sockets.h"

enum { PORT = 7340, BYTES = 16 << 20, KINDS = 3, SHAPES = 6 };
enum { ESTABLISHED = 1, SYN_SENT = 2, FIN_WAIT1 = 4, FIN_WAIT2 = 5, CLOSED = 7, CLOSE_WAIT = 8, LAST_ACK = 9, CLOSING = 11 };

static unsigned char *pattern;

static int listening(int family, int port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = must(socket(family, SOCK_STREAM, 0)), on = 1;

	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(family == AF_INET ? bind(fd, (struct sockaddr *)&four, sizeof four) : bind(fd, (struct sockaddr *)&six, sizeof six));
	must(listen(fd, 5));
	return fd;
}

static int client(int family, int port, int flags)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = must(socket(family, SOCK_STREAM | flags, 0));
	int failed = family == AF_INET ? connect(fd, (struct sockaddr *)&four, sizeof four) : connect(fd, (struct sockaddr *)&six, sizeof six);

	if (failed && errno != EINPROGRESS)
		fail("connect: %s", strerror(errno));
	return fd;
}

static int state_of(int fd)
{
	struct tcp_info info;
	socklen_t size = sizeof info;

	must(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size));
	return info.tcpi_state;
}

static void await_state(int fd, int state)
{
	for (int i = 0; i < 4000 && state_of(fd) != state; i++)
		sleep_ms(5);
	check(state_of(fd) == state, "fd %d is in state %d, not %d", fd, state_of(fd), state);
}

/* Until nothing more fits. */
static size_t fill(int fd)
{
	size_t done = 0;
	ssize_t got;

	for (int idle = 0; idle < 20; idle++) {
		while (done < BYTES && (got = send(fd, pattern + done, BYTES - done < 100000 ? BYTES - done : 100000, MSG_DONTWAIT)) > 0) {
			done += (size_t)got;
			idle = 0;
		}
		sleep_ms(5);
	}
	if (done == BYTES)
		fail("%d bytes are not enough to fill a connection", BYTES);
	return done;
}

static void expect_bytes(int fd, size_t length)
{
	static unsigned char back[100000];

	for (size_t done = 0; done < length;) {
		size_t want = length - done < sizeof back ? length - done : sizeof back;
		ssize_t got = recv(fd, back, want, 0);
		if (!check(got > 0, "fd %d: the stream ends after %zu of %zu bytes: %s", fd, done, length, strerror(errno)))
			return;
		if (!check(!memcmp(back, pattern + done, (size_t)got), "fd %d: bytes at %zu differ", fd, done))
			return;
		done += (size_t)got;
	}
}

static void expect_end(int fd)
{
	char byte;
	ssize_t got = recv(fd, &byte, 1, 0);

	check(got == 0, "fd %d: %zd instead of the end of the stream: %s", fd, got, strerror(errno));
}

static void abort_connection(int fd)
{
	struct linger now = {1, 0};

	must(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
	must(close(fd));
}

struct connection {
	int a, b;
	size_t filled;
	int states[2];
};

static void shape(struct connection *c, int which)
{
	static const int expected[SHAPES][2] = {{FIN_WAIT2, CLOSE_WAIT}, {FIN_WAIT1, ESTABLISHED}, {CLOSING, FIN_WAIT2},
		{LAST_ACK, FIN_WAIT2}, {CLOSED, CLOSED}, {CLOSED, 0}};

	if (which == 0 || which == 4)
		send_text(c->a, "good bye");
	if (which == 4 || which == 5)
		send_text(c->b, "farewell");
	if (which >= 1 && which <= 3)
		c->filled = fill(c->a);
	if (which == 3) {
		must(shutdown(c->b, SHUT_WR));
		await_state(c->a, CLOSE_WAIT);
	}
	if (which == 5) {
		/* What was sent has to arrive first. */
		struct pollfd ready_to_read = {c->a, POLLIN, 0};
		must(poll(&ready_to_read, 1, 5000));
		abort_connection(c->b);
		c->b = -1;
	} else {
		must(shutdown(c->a, SHUT_WR));
	}
	if (which == 2 || which == 4)
		must(shutdown(c->b, SHUT_WR));
	for (int end = 0; end < 2; end++) {
		c->states[end] = expected[which][end];
		if (expected[which][end])
			await_state(end ? c->b : c->a, expected[which][end]);
	}
}

static void judge(struct connection *c, int which)
{
	int error = 0;
	socklen_t size = sizeof error;

	switch (which) {
	case 0:
		expect_text(c->b, "good bye");
		expect_end(c->b);
		send_text(c->b, "one more thing");
		expect_text(c->a, "one more thing");
		must(close(c->b));
		expect_end(c->a);
		break;
	case 1:
		expect_bytes(c->b, c->filled);
		expect_end(c->b);
		await_state(c->a, FIN_WAIT2);
		send_text(c->b, "one more thing");
		expect_text(c->a, "one more thing");
		break;
	case 2:
	case 3:
		expect_bytes(c->b, c->filled);
		expect_end(c->b);
		expect_end(c->a);
		await_state(c->a, CLOSED);
		break;
	case 4:
		expect_text(c->a, "farewell");
		expect_end(c->a);
		expect_text(c->b, "good bye");
		expect_end(c->b);
		check(send(c->a, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "sending on a closed connection: %s", strerror(errno));
		break;
	default:
		expect_text(c->a, "farewell");
		must(getsockopt(c->a, SOL_SOCKET, SO_ERROR, &error, &size));
		check(error == ECONNRESET, "the error is %d, not ECONNRESET", error);
	}
}

static void refuse_all(int fd)
{
	struct sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
	struct sock_fprog program = {1, &nothing};

	must(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
}

int main(int argc, char **argv)
{
	static const struct {
		int family, port;
	} kinds[KINDS] = {{AF_INET, PORT}, {AF_INET6, PORT + 1}, {AF_INET, PORT + 1}};
	static struct connection connections[KINDS][SHAPES];
	struct timeval patience = {60, 0};
	int servers[2], deaf, asking, none = 0;
	struct pollfd answered;

	begin(argc, argv);
	pattern = must(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	fill_pattern(pattern, BYTES, 5);
	servers[0] = listening(AF_INET, PORT);
	servers[1] = listening(AF_INET6, PORT + 1);
	for (int kind = 0; kind < KINDS; kind++) {
		for (int which = 0; which < SHAPES; which++) {
			struct connection *c = &connections[kind][which];
			c->a = client(kinds[kind].family, kinds[kind].port, 0);
			c->b = must(accept(servers[kinds[kind].port - PORT], NULL, NULL));
			must(setsockopt(c->a, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
			must(setsockopt(c->b, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
			shape(c, which);
		}
	}
	deaf = listening(AF_INET, PORT + 2);
	refuse_all(deaf);
	asking = client(AF_INET, PORT + 2, SOCK_NONBLOCK);
	check(state_of(asking) == SYN_SENT, "the one that asks is in state %d", state_of(asking));
	ready();
	wait_for_go();
	check_state();
	for (int kind = 0; kind < KINDS; kind++)
		for (int which = 0; which < SHAPES; which++)
			/* A full queue may take some more afterwards, so that they get further by themselves. */
			for (int end = 0; end < 2 && !(was_restored() && which >= 1 && which <= 3); end++)
				if (connections[kind][which].states[end])
					await_state(end ? connections[kind][which].b : connections[kind][which].a, connections[kind][which].states[end]);
	for (int kind = 0; kind < KINDS; kind++)
		for (int which = 0; which < SHAPES; which++)
			judge(&connections[kind][which], which);
	check(state_of(asking) == SYN_SENT, "the one that asks is in state %d", state_of(asking));
	must(setsockopt(deaf, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none));
	/* It asks again after as long as it has asked already. */
	answered = (struct pollfd){asking, POLLOUT, 0};
	check(poll(&answered, 1, 120000) == 1 && state_of(asking) == ESTABLISHED, "no answer, state %d", state_of(asking));
	pass();
}
