/* Netlink sockets: ports, groups above and below 32, a connected one, options; they still ask and hear. */
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>

#include "sockets.h"

static unsigned port_of(int fd)
{
	struct sockaddr_nl address;
	socklen_t length = sizeof address;

	must(getsockname(fd, (struct sockaddr *)&address, &length));
	return address.nl_pid;
}

static unsigned long long groups_of(int fd)
{
	unsigned long long mask = 0;
	socklen_t size = sizeof mask;

	must(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, &mask, &size));
	return mask;
}

/* Asks for all links; some answer must come. */
static void expect_answer(int fd)
{
	struct {
		struct nlmsghdr head;
		struct rtgenmsg body;
	} ask = {{sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_UNSPEC}};
	char answer[8192];

	must(send(fd, &ask, sizeof ask, 0));
	for (;;) {
		ssize_t got = must(recv(fd, answer, sizeof answer, 0));
		struct nlmsghdr *head = (struct nlmsghdr *)answer;
		check(head->nlmsg_type == RTM_NEWLINK || head->nlmsg_type == NLMSG_DONE, "an answer of type %d", head->nlmsg_type);
		for (; NLMSG_OK(head, got); head = NLMSG_NEXT(head, got))
			if (head->nlmsg_type == NLMSG_DONE)
				return;
	}
}

#define LONG 30000

static int user_socket(void)
{
	struct sockaddr_nl nobody = {.nl_family = AF_NETLINK};
	int fd = must(socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_USERSOCK));

	must(bind(fd, (struct sockaddr *)&nobody, sizeof nobody));
	return fd;
}

static void send_user(int from, unsigned port, size_t length, char byte)
{
	struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = port};
	static char data[LONG];

	memset(data, byte, length);
	must(sendto(from, data, length, 0, (struct sockaddr *)&to, sizeof to));
}

static void expect_user(int fd, unsigned port, size_t length, char byte)
{
	struct sockaddr_nl from = {0};
	socklen_t size = sizeof from;
	static char data[LONG + 1];
	ssize_t got = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&from, &size);

	check(got == (ssize_t)length && data[0] == byte && data[length - 1] == byte && from.nl_pid == port, "got %zd bytes from port %u, not %zu from %u", got, from.nl_pid, length, port);
}

int main(int argc, char **argv)
{
	struct sockaddr_nl nobody = {.nl_family = AF_NETLINK}, groups = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR};
	int plain, asked, listener, connected, portless, low = 1, on = 1, far = 33, now = 0;
	int user[3];
	unsigned port, user_ports[3];
	unsigned long long mask;
	socklen_t size = sizeof now;

	begin(argc, argv);
	plain = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	asked = must(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	must(bind(asked, (struct sockaddr *)&nobody, sizeof nobody));
	expect_answer(asked);
	port = port_of(asked);
	listener = must(socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK, NETLINK_ROUTE));
	must(bind(listener, (struct sockaddr *)&groups, sizeof groups));
	if (names_matter)
		must(setsockopt(listener, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &far, sizeof far));
	must(setsockopt(listener, SOL_NETLINK, NETLINK_PKTINFO, &on, sizeof on));
	mask = groups_of(listener);
	connected = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT));
	must(connect(connected, (struct sockaddr *)&nobody, sizeof nobody));
	/* In a group, and without a port of its own. */
	portless = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	if (names_matter)
		must(setsockopt(portless, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &low, sizeof low));
	if (names_matter) {
		for (int i = 0; i < 3; i++) {
			user[i] = user_socket();
			user_ports[i] = port_of(user[i]);
		}
		send_user(user[1], user_ports[0], 3, 'a');
		send_user(user[2], user_ports[0], LONG, 'b');
		send_user(user[0], user_ports[0], 40, 'c');
		send_user(user[0], user_ports[1], 50, 'd');
		close(user[2]);
	}
	ready();
	wait_for_go();
	check_state();
	check(port_of(plain) == 0, "the unbound socket has port %u", port_of(plain));
	check(port_of(asked) == port, "port %u was %u", port_of(asked), port);
	expect_answer(asked);
	expect_answer(plain);
	check(groups_of(listener) == mask, "groups %llx were %llx", groups_of(listener), mask);
	if (names_matter) {
		must(getsockopt(listener, SOL_NETLINK, NETLINK_PKTINFO, &now, &size));
		check(now == 1, "NETLINK_PKTINFO is off");
	}
	check(port_of(portless) == 0, "the socket without a port has port %u", port_of(portless));
	if (names_matter)
		check(groups_of(portless) == 1, "the socket without a port is in groups %llx", groups_of(portless));
	if (names_matter) {
		expect_user(user[0], user_ports[1], 3, 'a');
		expect_user(user[0], user_ports[2], LONG, 'b');
		expect_user(user[0], user_ports[0], 40, 'c');
		expect_user(user[1], user_ports[0], 50, 'd');
		send_user(user[0], user_ports[1], 5, 'e');
		expect_user(user[1], user_ports[0], 5, 'e');
	}
	pass();
}
