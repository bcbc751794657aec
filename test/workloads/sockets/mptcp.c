/*
 * Multipath TCP as servers in Go have it: sockets that listen, IPv4 and IPv6, one that is bound and one that is new. A client that speaks
 * plain TCP is accepted as plain TCP.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "sockets.h"

enum { MPTCP = 262, PORT = 7960 };

static int made(int family, int protocol)
{
	return must(socket(family, SOCK_STREAM, protocol));
}

static socklen_t here(struct sockaddr_storage *address, int family)
{
	memset(address, 0, sizeof *address);
	address->ss_family = (sa_family_t)family;
	((struct sockaddr_in *)address)->sin_port = htons(family == AF_INET ? PORT : PORT + 1);
	if (family == AF_INET)
		((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)address)->sin6_addr = in6addr_loopback;
	return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static int number(int fd, int level, int name)
{
	int value = -1;
	socklen_t size = sizeof value;

	must(getsockopt(fd, level, name, &value, &size));
	return value;
}

static int client(int family, int protocol)
{
	struct sockaddr_storage address;
	socklen_t length = here(&address, family);
	int fd = made(family, protocol);

	must(connect(fd, (struct sockaddr *)&address, length));
	return fd;
}

int main(int argc, char **argv)
{
	const int families[] = {AF_INET, AF_INET6};
	int servers[2], clients[2], ends[2], fresh, bound, on = 1, fd;
	struct sockaddr_storage address;
	socklen_t length;

	begin(argc, argv);
	for (int i = 0; i < 2; i++) {
		length = here(&address, families[i]);
		servers[i] = made(families[i], MPTCP);
		must(setsockopt(servers[i], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
		must(setsockopt(servers[i], SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
		if (i == 1)
			must(setsockopt(servers[i], IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on));
		must(bind(servers[i], (struct sockaddr *)&address, length));
		must(listen(servers[i], 7));
		clients[i] = client(families[i], IPPROTO_TCP);
		ends[i] = must(accept(servers[i], NULL, NULL));
		check(number(ends[i], SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP, "a plain client is not plain here");
		send_text(clients[i], "waits");
	}
	fresh = made(AF_INET, MPTCP);
	bound = made(AF_INET, MPTCP);
	here(&address, AF_INET);
	((struct sockaddr_in *)&address)->sin_port = htons(PORT + 2);
	must(bind(bound, (struct sockaddr *)&address, sizeof(struct sockaddr_in)));
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < 2; i++) {
		check(number(servers[i], SOL_SOCKET, SO_PROTOCOL) == MPTCP && number(servers[i], SOL_SOCKET, SO_ACCEPTCONN) == 1, "no server of Multipath TCP");
		check(number(servers[i], SOL_SOCKET, SO_KEEPALIVE) == 1, "options are lost");
		expect_text(ends[i], "waits");
		expect_talk(clients[i], ends[i]);
		fd = client(families[i], IPPROTO_TCP);
		expect_talk(fd, must(accept(servers[i], NULL, NULL)));
	}
	fd = client(AF_INET, MPTCP);
	ends[0] = must(accept(servers[0], NULL, NULL));
	check(number(ends[0], SOL_SOCKET, SO_PROTOCOL) == MPTCP, "it does not speak Multipath TCP any more");
	expect_talk(fd, ends[0]);
	check(number(fresh, SOL_SOCKET, SO_PROTOCOL) == MPTCP, "the new socket is another");
	must(listen(bound, 1));
	length = sizeof address;
	must(getsockname(bound, (struct sockaddr *)&address, &length));
	check(ntohs(((struct sockaddr_in *)&address)->sin_port) == PORT + 2, "the bound one is elsewhere");
	pass();
}
