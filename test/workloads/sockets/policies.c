/*
 * What --tcp-policy and --map-ip do, and --skip-in-flight. Not a case of its own: see sockets-policy.test.ts.
 *
 *   policies server PORT                 three listening sockets at PORT and above; tells how each connection ended
 *   policies client ADDRESS PORT         a connection to each; after SIGUSR1 the first is alive, the second is closed with what had
 *                                        arrived, the third is broken off; a fourth, to itself, is alive
 *   policies over ADDRESS PORT [NEW]     connections that are over; after SIGUSR1 they still are, at NEW
 *   policies skipped PORT                a connection to itself that it has not accepted; after SIGUSR1 it is gone
 *   policies moved6 DEVICE OLD OLD4 NEW NEW4
 *                                        the same for IPv6, an IPv4 address in it, and an address of a link
 *   policies moved OLD PORT NEW          listens, talks to itself, and has a datagram waiting at OLD; after SIGUSR1 at NEW
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "sockets.h"

static struct sockaddr_in at(const char *address, int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = inet_addr(address)};
}

static int bound(int type, struct sockaddr_in where)
{
	int fd = must(socket(AF_INET, type, 0)), on = 1;

	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(bind(fd, (struct sockaddr *)&where, sizeof where));
	return fd;
}

static int listening(struct sockaddr_in where)
{
	int fd = bound(SOCK_STREAM, where);

	must(listen(fd, 5));
	return fd;
}

static int connected(struct sockaddr_in where)
{
	int fd = must(socket(AF_INET, SOCK_STREAM, 0));

	must(connect(fd, (struct sockaddr *)&where, sizeof where));
	return fd;
}

static void await_signal(void)
{
	sigset_t set;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	must_zero(sigwait(&set, &number));
}

static void hear(int fd, const char *text)
{
	struct pollfd ready_to_read = {fd, POLLIN, 0};

	check(poll(&ready_to_read, 1, 60000) == 1, "fd %d: nothing comes", fd);
	expect_text(fd, text);
}

static void serve(int port)
{
	int fds[3];

	for (int i = 0; i < 3; i++)
		fds[i] = listening(at("0.0.0.0", port + i));
	must(write(1, "listens\n", 8));
	for (int i = 0; i < 3; i++) {
		int server = fds[i];

		fds[i] = must(accept(server, NULL, NULL));
		send_text(fds[i], "early");
	}
	must(write(1, "ready\n", 6));
	/* The second and the third end by themselves; the first is asked something later. */
	for (int i = 2; i >= 0; i--) {
		struct pollfd ready_to_read = {fds[i], POLLIN, 0};
		char byte[16];
		ssize_t got;

		check(poll(&ready_to_read, 1, 120000) == 1, "connection %d: nothing comes", i);
		got = recv(fds[i], byte, sizeof byte, 0);
		if (i == 0)
			check(got == 8 && !memcmp(byte, "question", 8), "the first connection is not alive: %zd", got);
		else if (i == 1)
			check(got == 0 || (got == -1 && errno == ECONNRESET), "the second connection has not ended: %zd", got);
		else
			check(got == -1 && errno == ECONNRESET, "the third connection was not broken off: %zd, %s", got, strerror(errno));
		if (i == 0)
			send_text(fds[i], "answer");
	}
}

static void ask(const char *address, int port)
{
	int fds[3], own[2], server = listening(at(address, port + 3)), arrived;
	char byte;

	for (int i = 0; i < 3; i++)
		fds[i] = connected(at(address, port + i));
	own[0] = connected(at(address, port + 3));
	own[1] = must(accept(server, NULL, NULL));
	for (int i = 0; i < 3; i++)
		for (arrived = 0; arrived < 5; sleep_ms(1))
			must(ioctl(fds[i], FIONREAD, &arrived));
	must(write(1, "ready\n", 6));
	await_signal();
	expect_talk(own[0], own[1]);
	for (int i = 0; i < 3; i++)
		hear(fds[i], "early");
	send_text(fds[0], "question");
	hear(fds[0], "answer");
	check(recv(fds[1], &byte, 1, MSG_DONTWAIT) == 0, "the second connection does not end: %s", strerror(errno));
	check(recv(fds[2], &byte, 1, MSG_DONTWAIT) == -1 && errno == ECONNRESET, "the third connection was not broken off: %s", strerror(errno));
	check(recv(fds[2], &byte, 1, MSG_DONTWAIT) == 0, "the error of the third connection stays");
	check(send(fds[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "the second connection can be written to");
}

static void expect_place(int fd, bool peer, struct sockaddr_in where)
{
	struct sockaddr_in is;
	socklen_t length = sizeof is;

	must((peer ? getpeername : getsockname)(fd, (struct sockaddr *)&is, &length));
	check(is.sin_addr.s_addr == where.sin_addr.s_addr && (where.sin_port == 0 || is.sin_port == where.sin_port),
		  "fd %d: %s at %s:%d", fd, peer ? "connected to one" : "is", inet_ntoa(is.sin_addr), ntohs(is.sin_port));
}

static void move(const char *old, int port, const char *new)
{
	int server = listening(at(old, port)), one = must(socket(AF_INET, SOCK_STREAM, 0)), other, udp[2], waiting;
	struct sockaddr_in here = at(old, port), there = at(new, port), from;
	socklen_t length = sizeof from;
	char text[32];

	must(bind(one, (struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET, .sin_addr = here.sin_addr}, sizeof here));
	must(connect(one, (struct sockaddr *)&here, sizeof here));
	other = must(accept(server, NULL, NULL));
	send_text(one, "on its way");
	udp[0] = bound(SOCK_DGRAM, here);
	udp[1] = bound(SOCK_DGRAM, at(old, port + 1));
	must(connect(udp[1], (struct sockaddr *)&here, sizeof here));
	send_text(udp[1], "datagram");
	must(write(1, "ready\n", 6));
	await_signal();

	expect_place(server, false, there);
	expect_place(one, false, at(new, 0));
	expect_place(one, true, there);
	expect_place(other, false, there);
	hear(other, "on its way");
	expect_talk(one, other);
	expect_place(udp[0], false, there);
	expect_place(udp[1], true, there);
	check(recvfrom(udp[0], text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&from, &length) == 8, "the datagram is lost: %s", strerror(errno));
	check(from.sin_addr.s_addr == there.sin_addr.s_addr && ntohs(from.sin_port) == port + 1, "the datagram comes from %s", inet_ntoa(from.sin_addr));
	waiting = connected(there);
	other = must(accept(server, NULL, NULL));
	expect_talk(waiting, other);
}

/* A client whose connection has not been accepted, which --skip-in-flight leaves out; the server listens again. */
static void skip(int port)
{
	struct sockaddr_in here = at("127.0.0.1", port);
	int server = listening(here), client = connected(here), on = 1;
	struct pollfd broken = {client, POLLIN, 0};
	char byte;

	send_text(client, "in vain");
	must(write(1, "ready\n", 6));
	await_signal();
	must(ioctl(server, FIONBIO, &on));
	check(accept(server, NULL, NULL) == -1 && errno == EAGAIN, "there is a connection: %s", strerror(errno));
	errno = 0;
	/* Who was left out learns of it at the latest when it says something. */
	if (send(client, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 && poll(&broken, 1, 10000) == 1)
		recv(client, &byte, 1, MSG_DONTWAIT);
	check(errno == ECONNRESET, "its client does not learn of it: %s", strerror(errno));
	must(ioctl(server, FIONBIO, &(int){0}));
	client = connected(here);
	expect_talk(client, must(accept(server, NULL, NULL)));
}

/* Connections that are over, one with something to read, one broken off; nobody else has their address. */
static void over(const char *address, int port, const char *new)
{
	struct linger at_once = {1, 0};
	int server = listening(at(address, port)), fds[2], state = 0;
	struct tcp_info info;
	socklen_t size;
	char byte;

	for (int i = 0; i < 2; i++) {
		int end;

		fds[i] = connected(at(address, port));
		end = must(accept(server, NULL, NULL));
		send_text(end, "last");
		if (i == 1)
			must(setsockopt(end, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
		else
			must(shutdown(fds[i], SHUT_WR));
		close(end);
	}
	close(server);
	for (int i = 0; i < 2; i++) {
		for (state = 0; state != TCP_CLOSE; state = info.tcpi_state) {
			size = sizeof info;
			must(getsockopt(fds[i], IPPROTO_TCP, TCP_INFO, &info, &size));
			sleep_ms(1);
		}
	}
	must(write(1, "ready\n", 6));
	await_signal();
	/* The first has closed first: its address is kept from use for a while (TIME-WAIT). */
	for (int i = 0; i < 2; i++)
		expect_place(fds[i], false, at(new ? new : address, 0));
	expect_text(fds[0], "last");
	check(recv(fds[0], &byte, 1, MSG_DONTWAIT) == 0, "it does not end: %s", strerror(errno));
	expect_text(fds[1], "last");
	check(recv(fds[1], &byte, 1, MSG_DONTWAIT) == -1 && errno == ECONNRESET, "it was not broken off: %s", strerror(errno));
}

static struct sockaddr_in6 at6(const char *address, int port, const char *device)
{
	struct sockaddr_in6 there = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_scope_id = device ? if_nametoindex(device) : 0};

	must(inet_pton(AF_INET6, address, &there.sin6_addr) == 1 ? 0 : -1);
	return there;
}

static void expect_place6(int fd, bool peer, struct sockaddr_in6 where)
{
	struct sockaddr_in6 is = {0};
	socklen_t length = sizeof is;

	must((peer ? getpeername : getsockname)(fd, (struct sockaddr *)&is, &length));
	check(!memcmp(&is.sin6_addr, &where.sin6_addr, sizeof is.sin6_addr) && is.sin6_port == where.sin6_port && is.sin6_scope_id == where.sin6_scope_id,
		  "fd %d: %s elsewhere", fd, peer ? "connected" : "is");
}

/* Three servers, each with a connection to itself: at an address, at a mapped one, and at one of a link. */
static void move6(const char *device, char **addresses)
{
	const char *old[3] = {addresses[0], addresses[1], "fe80::77"}, *new[3] = {addresses[2], addresses[3], "fe80::77"};
	int ends[3][3], on = 1;

	for (int i = 0; i < 3; i++) {
		struct sockaddr_in6 here = at6(old[i], 7440 + i, i == 2 ? device : NULL);

		ends[i][0] = must(socket(AF_INET6, SOCK_STREAM, 0));
		must(setsockopt(ends[i][0], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
		must(bind(ends[i][0], (struct sockaddr *)&here, sizeof here));
		must(listen(ends[i][0], 5));
		ends[i][1] = must(socket(AF_INET6, SOCK_STREAM, 0));
		must(connect(ends[i][1], (struct sockaddr *)&here, sizeof here));
		ends[i][2] = must(accept(ends[i][0], NULL, NULL));
		send_text(ends[i][1], "on its way");
	}
	must(write(1, "ready\n", 6));
	await_signal();
	for (int i = 0; i < 3; i++) {
		struct sockaddr_in6 there = at6(new[i], 7440 + i, i == 2 ? device : NULL);

		expect_place6(ends[i][0], false, there);
		expect_place6(ends[i][1], true, there);
		expect_place6(ends[i][2], false, there);
		hear(ends[i][2], "on its way");
		expect_talk(ends[i][1], ends[i][2]);
	}
}

int main(int argc, char **argv)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	if (!strcmp(argv[1], "server"))
		serve(atoi(argv[2]));
	else if (!strcmp(argv[1], "client"))
		ask(argv[2], atoi(argv[3]));
	else if (!strcmp(argv[1], "over"))
		over(argv[2], atoi(argv[3]), argc > 4 ? argv[4] : NULL);
	else if (!strcmp(argv[1], "skipped"))
		skip(atoi(argv[2]));
	else if (!strcmp(argv[1], "moved6"))
		move6(argv[2], argv + 3);
	else
		move(argv[2], atoi(argv[3]), argc > 4 ? argv[4] : argv[2]);
	if (differences_seen())
		fail("%u differences", differences_seen());
	must(write(1, "PASS\n", 5));
	return 0;
}
