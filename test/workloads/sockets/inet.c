/*
 * IPv4 and IPv6 without connections of TCP: UDP and UDP-Lite bound, connected, with datagrams that wait, half shut down; TCP
 * that listens, is bound only, or was only created; what options they have.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "sockets.h"

static socklen_t loopback(struct sockaddr_storage *address, int family, int port)
{
	memset(address, 0, sizeof *address);
	address->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
		((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(struct sockaddr_in);
	}
	((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)port);
	((struct sockaddr_in6 *)address)->sin6_addr = in6addr_loopback;
	return sizeof(struct sockaddr_in6);
}

static int port_of(int fd, bool peer)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof address;

	if ((peer ? getpeername : getsockname)(fd, (struct sockaddr *)&address, &length))
		return -1;
	return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static int bound(int family, int type, int protocol, int port)
{
	struct sockaddr_storage address;
	socklen_t length = loopback(&address, family, port);
	int fd = must(socket(family, type, protocol));

	must(bind(fd, (struct sockaddr *)&address, length));
	return fd;
}

static void connect_to(int fd, int family, int port)
{
	struct sockaddr_storage address;
	socklen_t length = loopback(&address, family, port);

	must(connect(fd, (struct sockaddr *)&address, length));
}

static void set(int fd, int level, int name, int value)
{
	must(setsockopt(fd, level, name, &value, sizeof value));
}

static void expect(int fd, int level, int name, int value)
{
	int now = -1;
	socklen_t size = sizeof now;

	must(getsockopt(fd, level, name, &now, &size));
	check(now == value, "option %d of level %d of fd %d is %d, not %d", name, level, fd, now, value);
}

static void expect_ports(int fd, int own, int peer)
{
	check(port_of(fd, false) == own && port_of(fd, true) == peer, "fd %d has ports %d and %d, not %d and %d", fd, port_of(fd, false), port_of(fd, true), own, peer);
}

/* A client gets through and is answered. */
static void expect_server(int fd, int family, int port)
{
	int client = must(socket(family, SOCK_STREAM, 0)), end;

	connect_to(client, family, port);
	end = must(accept(fd, NULL, NULL));
	send_text(client, "hello");
	while (recv(end, &(char){0}, 1, MSG_PEEK) != 1)
		;
	expect_text(end, "hello");
	close(client);
	close(end);
}

static void family_of_sockets(int family, int base, bool checks)
{
	static int all[2][10];
	int *fd = all[family == AF_INET6], level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;

	if (!checks) {
		fd[0] = bound(family, SOCK_DGRAM, 0, base);
		fd[1] = must(socket(family, SOCK_DGRAM, 0));
		connect_to(fd[1], family, base);
		send_text(fd[1], "waits");
		send_text(fd[1], "too");
		fd[2] = bound(family, SOCK_DGRAM, 0, base + 1);
		connect_to(fd[2], family, base);
		send_text(fd[2], "from the second");
		must(shutdown(fd[2], SHUT_RD));
		fd[3] = must(socket(family, SOCK_DGRAM, 0));
		set(fd[3], SOL_SOCKET, SO_BROADCAST, 1);
		fd[4] = bound(family, SOCK_DGRAM, IPPROTO_UDPLITE, base + 2);
		fd[5] = must(socket(family, SOCK_STREAM, 0));
		set(fd[5], SOL_SOCKET, SO_REUSEADDR, 1);
		{
			struct sockaddr_storage address;
			socklen_t length = loopback(&address, family, base + 3);
			must(bind(fd[5], (struct sockaddr *)&address, length));
		}
		must(listen(fd[5], 17));
		set(fd[5], IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
		set(fd[5], IPPROTO_TCP, TCP_KEEPIDLE, 33);
		fd[6] = bound(family, SOCK_STREAM, 0, base + 4);
		fd[7] = must(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
		set(fd[7], IPPROTO_TCP, TCP_NODELAY, 1);
		set(fd[7], IPPROTO_TCP, TCP_USER_TIMEOUT, 4321);
		set(fd[7], SOL_SOCKET, SO_KEEPALIVE, 1);
		if (family == AF_INET) {
			set(fd[7], level, IP_TOS, 0x10);
			set(fd[7], level, IP_TTL, 33);
			set(fd[0], level, IP_PKTINFO, 1);
			set(fd[0], level, IP_RECVTTL, 1);
		} else {
			set(fd[7], level, IPV6_V6ONLY, 1);
			set(fd[7], level, IPV6_UNICAST_HOPS, 44);
			set(fd[0], level, IPV6_RECVPKTINFO, 1);
		}
		return;
	}
	expect_ports(fd[0], base, -1);
	check(port_of(fd[1], true) == base && port_of(fd[1], false) > 0, "the client has lost its ports");
	expect_ports(fd[2], base + 1, base);
	if (names_matter) {
		expect_text(fd[0], "waits");
		expect_text(fd[0], "too");
		expect_text(fd[0], "from the second");
	}
	expect_text(fd[0], NULL);
	send_text(fd[1], "more");
	expect_text(fd[0], "more");
	send_text(fd[2], "still");
	expect_text(fd[0], "still");
	check((struct pollfd){fd[2], POLLRDHUP, 0}.revents == 0, "never");
	{
		struct pollfd poll_for = {fd[2], POLLRDHUP | POLLIN, 0};
		must(poll(&poll_for, 1, 0));
		check(poll_for.revents & POLLRDHUP, "the socket hears again");
	}
	expect(fd[3], SOL_SOCKET, SO_BROADCAST, 1);
	expect(fd[4], SOL_SOCKET, SO_PROTOCOL, IPPROTO_UDPLITE);
	expect_ports(fd[4], base + 2, -1);
	expect(fd[5], SOL_SOCKET, SO_ACCEPTCONN, 1);
	expect(fd[5], IPPROTO_TCP, TCP_KEEPIDLE, 33);
	expect(fd[5], SOL_SOCKET, SO_REUSEADDR, 1);
	expect_server(fd[5], family, base + 3);
	expect_ports(fd[6], base + 4, -1);
	expect(fd[6], SOL_SOCKET, SO_REUSEADDR, 0);
	must(listen(fd[6], 1));
	expect_server(fd[6], family, base + 4);
	expect(fd[7], IPPROTO_TCP, TCP_NODELAY, 1);
	expect(fd[7], SOL_SOCKET, SO_KEEPALIVE, 1);
	/* The peer does not keep these. */
	if (names_matter)
		expect(fd[7], IPPROTO_TCP, TCP_USER_TIMEOUT, 4321);
	if (family == AF_INET) {
		expect(fd[7], level, IP_TOS, 0x10);
		expect(fd[7], level, IP_TTL, 33);
		expect(fd[0], level, IP_PKTINFO, 1);
		if (names_matter)
			expect(fd[0], level, IP_RECVTTL, 1);
	} else {
		expect(fd[7], level, IPV6_V6ONLY, 1);
		if (names_matter)
			expect(fd[7], level, IPV6_UNICAST_HOPS, 44);
		expect(fd[0], level, IPV6_RECVPKTINFO, 1);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_storage address;
	socklen_t length;
	int shared[2];

	begin(argc, argv);
	family_of_sockets(AF_INET, 5000, false);
	family_of_sockets(AF_INET6, 6000, false);
	/* Two listeners that share a port. */
	for (int i = 0; i < 2; i++) {
		shared[i] = must(socket(AF_INET, SOCK_STREAM, 0));
		set(shared[i], SOL_SOCKET, SO_REUSEPORT, 1);
		length = loopback(&address, AF_INET, 7000);
		must(bind(shared[i], (struct sockaddr *)&address, length));
		must(listen(shared[i], 3));
	}
	ready();
	wait_for_go();
	check_state();
	family_of_sockets(AF_INET, 5000, true);
	family_of_sockets(AF_INET6, 6000, true);
	for (int i = 0; i < 2; i++) {
		expect(shared[i], SOL_SOCKET, SO_ACCEPTCONN, 1);
		expect_ports(shared[i], 7000, -1);
	}
	pass();
}
