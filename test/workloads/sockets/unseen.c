/*
 * What can be set on sockets of IP and not be read: programs that choose among sockets of a port, and the order that these are
 * counted in; the device for multicast, by its number; policies of IPsec.
 */
#include <netinet/in.h>

#include <linux/filter.h>
#include <linux/xfrm.h>

#include "sockets.h"

#define SOCKETS 6
#define LISTENERS 3
#define CHOSEN 2

static struct sockaddr_in at(uint32_t address, int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(address)};
}

static int shared(int type, int port)
{
	struct sockaddr_in address = at(0x7f000001, port);
	int fd = must(socket(AF_INET, type | SOCK_NONBLOCK, 0)), on = 1;

	must(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
	must(bind(fd, (struct sockaddr *)&address, sizeof address));
	return fd;
}

static void choose_by(int fd, struct sock_filter *code, unsigned short length)
{
	struct sock_fprog program = {length, code};

	must(setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program));
}

/* Which of the sockets hears a datagram that begins with this byte. */
static int hearer(const int *fds, unsigned char byte)
{
	struct sockaddr_in to = at(0x7f000001, 7800);
	int sender = must(socket(AF_INET, SOCK_DGRAM, 0)), found = -1;
	char got[8];

	must(sendto(sender, &byte, 1, 0, (struct sockaddr *)&to, sizeof to));
	close(sender);
	for (int i = 0; i < SOCKETS; i++)
		if (fds[i] >= 0 && recv(fds[i], got, sizeof got, 0) == 1)
			found = i;
	return found;
}

static int accepter(const int *fds)
{
	struct sockaddr_in to = at(0x7f000001, 7801);
	int client = must(socket(AF_INET, SOCK_STREAM, 0)), found = -1;

	must(connect(client, (struct sockaddr *)&to, sizeof to));
	for (int i = 0; i < LISTENERS; i++) {
		int fd = accept(fds[i], NULL, NULL);

		if (fd >= 0) {
			found = i;
			close(fd);
		}
	}
	close(client);
	return found;
}

static void talk_to_group(int sender, int member)
{
	struct sockaddr_in to = at(0xef010101, 7802);
	char got[16];

	check(sendto(sender, "all", 3, 0, (struct sockaddr *)&to, sizeof to) == 3, "no way to the group: %s", strerror(errno));
	check(recv(member, got, sizeof got, 0) == 3, "the group hears nothing");
}

static void block(int family)
{
	struct xfrm_userpolicy_info policy = {.sel.family = (uint16_t)family, .dir = XFRM_POLICY_OUT, .action = XFRM_POLICY_BLOCK, .priority = 7};
	bool six = family == AF_INET6;
	int fd = must(socket(family, SOCK_DGRAM, 0));

	policy.lft.soft_byte_limit = policy.lft.hard_byte_limit = policy.lft.soft_packet_limit = policy.lft.hard_packet_limit = XFRM_INF;
	must(setsockopt(fd, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_XFRM_POLICY : IP_XFRM_POLICY, &policy, sizeof policy));
}

/* A policy lets nothing out. */
static void expect_blocked(int fd, bool six)
{
	struct sockaddr_in four = at(0x7f000001, 7803);
	struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(7803), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	ssize_t sent = six ? sendto(fd, "no", 2, 0, (struct sockaddr *)&to, sizeof to) : sendto(fd, "no", 2, 0, (struct sockaddr *)&four, sizeof four);

	check(sent == -1 && errno == EPERM, "fd %d sent %zd in spite of its policy", fd, sent);
}

int main(int argc, char **argv)
{
	struct sock_filter by_byte[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), BPF_STMT(BPF_RET | BPF_A, 0)}, always[] = {BPF_STMT(BPF_RET | BPF_K, CHOSEN)};
	struct sockaddr_in group = at(0xef010101, 7802);
	struct ip_mreqn by_number = {.imr_ifindex = (int)if_nametoindex("lo")}, join = {.imr_multiaddr = group.sin_addr, .imr_ifindex = by_number.imr_ifindex};
	int fds[SOCKETS], listeners[LISTENERS], hearers[SOCKETS], sender, member, blocked[2];

	begin(argc, argv);
	for (int i = 0; i < SOCKETS; i++)
		fds[i] = shared(SOCK_DGRAM, 7800);
	/* The last one takes the place of this one. */
	close(fds[1]);
	fds[1] = -1;
	choose_by(fds[0], by_byte, 2);
	for (int i = 0; i < SOCKETS - 1; i++)
		hearers[i] = hearer(fds, (unsigned char)i);
	check(hearers[1] == SOCKETS - 1 && hearers[2] == 2, "sockets are not counted as they were thought to be");
	for (int i = 0; i < LISTENERS; i++) {
		listeners[i] = shared(SOCK_STREAM, 7801);
		must(listen(listeners[i], 4));
	}
	choose_by(listeners[0], always, 1);
	check(accepter(listeners) == CHOSEN, "the program does not choose");
	member = must(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	must(bind(member, (struct sockaddr *)&group, sizeof group));
	must(setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join));
	sender = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &by_number, sizeof by_number));
	talk_to_group(sender, member);
	blocked[0] = sender + 1;
	blocked[1] = sender + 2;
	block(AF_INET);
	block(AF_INET6);
	for (int i = 0; i < 2; i++)
		expect_blocked(blocked[i], i == 1);
	ready();
	wait_for_go();
	check_state();

	for (int i = 0; i < SOCKETS - 1; i++) {
		int now = hearer(fds, (unsigned char)i);

		check(now == hearers[i], "byte %d is heard by socket %d, not %d", i, now, hearers[i]);
	}
	check(accepter(listeners) == CHOSEN, "another listener accepts");
	talk_to_group(sender, member);
	for (int i = 0; i < 2; i++)
		expect_blocked(blocked[i], i == 1);
	pass();
}
