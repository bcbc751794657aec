/*
 * Raw and ping sockets of IPv4 and IPv6: protocols, addresses, peers, filters, headers of one's own. They still send and hear.
 *
 * What they had heard and not read is lost in between, so nothing waits.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>

#include "sockets.h"

#define FILTER_ICMP 1
#define PROTOCOL 253

static struct sockaddr_in here4 = {.sin_family = AF_INET};
static struct sockaddr_in6 here6 = {.sin6_family = AF_INET6};

static void set(int fd, int level, int name, int value)
{
	must(setsockopt(fd, level, name, &value, sizeof value));
}

static void expect(int fd, int level, int name, int value)
{
	int now = -1;
	socklen_t size = sizeof now;

	must(getsockopt(fd, level, name, &now, &size));
	check(now == value, "fd %d: option %d/%d is %d, not %d", fd, level, name, now, value);
}

/* Own address and number (protocol, or identifier of a ping socket). */
static int number_of(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof address;

	must(getsockname(fd, (struct sockaddr *)&address, &length));
	return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static bool is_bound_here(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof address;

	must(getsockname(fd, (struct sockaddr *)&address, &length));
	if (address.ss_family == AF_INET)
		return ((struct sockaddr_in *)&address)->sin_addr.s_addr == here4.sin_addr.s_addr;
	return !memcmp(&((struct sockaddr_in6 *)&address)->sin6_addr, &here6.sin6_addr, 16);
}

static int ping(int family, int identifier)
{
	struct sockaddr_in bound4 = here4;
	struct sockaddr_in6 bound6 = here6;
	int fd = must(socket(family, SOCK_DGRAM, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6));

	bound4.sin_port = bound6.sin6_port = htons((uint16_t)identifier);
	if (identifier > 0)
		must(bind(fd, family == AF_INET ? (struct sockaddr *)&bound4 : (struct sockaddr *)&bound6, family == AF_INET ? sizeof bound4 : sizeof bound6));
	return fd;
}

/* An echo request by a ping socket gets its reply. */
static void expect_echo(int fd, int family, bool connected)
{
	char ask[16] = {family == AF_INET ? 8 : (char)128}, answer[64];
	ssize_t got;

	memcpy(ask + 8, "echoecho", 8);
	if (connected)
		must(send(fd, ask, sizeof ask, 0));
	else
		must(sendto(fd, ask, sizeof ask, 0, family == AF_INET ? (struct sockaddr *)&here4 : (struct sockaddr *)&here6, family == AF_INET ? sizeof here4 : sizeof here6));
	got = recv(fd, answer, sizeof answer, 0);
	check(got == sizeof ask && !memcmp(answer + 8, "echoecho", 8), "fd %d: an answer of %zd bytes", fd, got);
	check(answer[0] == (family == AF_INET ? 0 : (char)129), "fd %d: an answer of type %d", fd, answer[0]);
}

static void expect_packet(int to, const char *text, size_t at)
{
	char got[256] = {0};
	ssize_t length = recv(to, got, sizeof got, 0);

	check(length == (ssize_t)(at + strlen(text)) && !memcmp(got + at, text, strlen(text)), "fd %d got %zd bytes", to, length);
}

int main(int argc, char **argv)
{
	struct icmp6_filter {
		uint32_t words[8];
	} filter6, now6;
	struct timeval limit = {5, 0};
	int icmp, own_header, listener, always, icmp6, sixth, sixth_listener, sixth_header, echo[5], deaf;
	int number, first;
	socklen_t size = sizeof now6;
	char *range;

	begin(argc, argv);
	here4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	here6.sin6_addr = in6addr_loopback;

	icmp = must(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	set(icmp, SOL_RAW, FILTER_ICMP, ~(1 << ICMP_TIMESTAMPREPLY));
	must(bind(icmp, (struct sockaddr *)&here4, sizeof here4));
	must(connect(icmp, (struct sockaddr *)&here4, sizeof here4));
	set(icmp, IPPROTO_IP, IP_TTL, 33);
	own_header = must(socket(AF_INET, SOCK_RAW, PROTOCOL + 1));
	set(own_header, IPPROTO_IP, IP_HDRINCL, 1);
	set(own_header, IPPROTO_IP, 22 /* IP_NODEFRAG */, 1);
	listener = must(socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, PROTOCOL));
	always = must(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
	deaf = must(socket(AF_INET, SOCK_RAW, IPPROTO_TCP));
	shutdown(deaf, SHUT_RD);

	icmp6 = must(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	memset(&filter6, 0xff, sizeof filter6);
	filter6.words[4] &= ~2u; /* 129 alone passes */
	must(setsockopt(icmp6, IPPROTO_ICMPV6, 1, &filter6, sizeof filter6));
	must(connect(icmp6, (struct sockaddr *)&here6, sizeof here6));
	sixth = must(socket(AF_INET6, SOCK_RAW, PROTOCOL));
	set(sixth, SOL_RAW, IPV6_CHECKSUM, 2);
	must(bind(sixth, (struct sockaddr *)&here6, sizeof here6));
	sixth_listener = must(socket(AF_INET6, SOCK_RAW, PROTOCOL));
	sixth_header = must(socket(AF_INET6, SOCK_RAW, IPPROTO_RAW));
	set(sixth_header, IPPROTO_IPV6, 36 /* IPV6_HDRINCL */, 1);

	/* Ping sockets are for members of some groups; the peer makes them as a member of group 0. */
	range = names_matter ? "5 5" : "0 5";
	first = must(open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY));
	must(write(first, range, strlen(range)));
	close(first);
	must(setegid(5));
	echo[0] = ping(AF_INET, 4242);
	echo[1] = ping(AF_INET, 0);
	must(connect(echo[1], (struct sockaddr *)&here4, sizeof here4));
	echo[2] = ping(AF_INET6, 4243);
	echo[3] = ping(AF_INET6, 0);
	must(connect(echo[3], (struct sockaddr *)&here6, sizeof here6));
	echo[4] = ping(AF_INET, 0);
	must(setegid(0));
	must(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
	number = number_of(echo[1]);

	ready();
	wait_for_go();
	check_state();

	check(is_bound_here(icmp) && number_of(icmp) == IPPROTO_ICMP, "the ICMP socket is bound to protocol %d", number_of(icmp));
	expect(icmp, SOL_RAW, FILTER_ICMP, ~(1 << ICMP_TIMESTAMPREPLY));
	expect(icmp, IPPROTO_IP, IP_TTL, 33);
	expect(own_header, IPPROTO_IP, IP_HDRINCL, 1);
	expect(own_header, IPPROTO_IP, 22, 1);
	expect(icmp, IPPROTO_IP, IP_HDRINCL, 0);
	expect(always, IPPROTO_IP, IP_HDRINCL, 1);
	check(!is_bound_here(listener) && number_of(listener) == PROTOCOL, "the listener has protocol %d", number_of(listener));
	if (names_matter)
		check(poll(&(struct pollfd){deaf, POLLRDHUP, 0}, 1, 0) == 1, "what is shut down hears");
	must(getsockopt(icmp6, IPPROTO_ICMPV6, 1, &now6, &size));
	check(!memcmp(&now6, &filter6, sizeof now6), "the filter of ICMPv6 is another");
	if (names_matter)
		expect(sixth, SOL_RAW, IPV6_CHECKSUM, 2);
	expect(sixth_listener, SOL_RAW, IPV6_CHECKSUM, -1);
	expect(sixth_header, IPPROTO_IPV6, 36, 1);
	check(is_bound_here(sixth), "the IPv6 socket is not bound");

	/* They send and hear. */
	check(number_of(echo[0]) == 4242 && number_of(echo[1]) == number && number_of(echo[2]) == 4243, "identifiers have changed");
	check(number_of(echo[4]) == 0, "an unbound ping socket has an identifier");
	/* The peer does not connect to port 0. */
	for (int i = 0; i < 4; i++)
		expect_echo(echo[i], i < 2 ? AF_INET : AF_INET6, i % 2 == 1 && names_matter);
	struct iphdr head = {.version = 4, .ihl = 5, .ttl = 9, .protocol = PROTOCOL, .saddr = here4.sin_addr.s_addr, .daddr = here4.sin_addr.s_addr};
	char packet[sizeof head + 4];
	memcpy(packet, &head, sizeof head);
	memcpy(packet + sizeof head, "four", 4);
	must(sendto(own_header, packet, sizeof packet, 0, (struct sockaddr *)&here4, sizeof here4));
	expect_packet(listener, "four", sizeof head);
	/* A timestamp reply is what the filter lets through, and it comes from whom the socket is connected to. */
	must(sendto(icmp, (char[20]){ICMP_TIMESTAMPREPLY}, 20, 0, names_matter ? NULL : (struct sockaddr *)&here4, names_matter ? 0 : sizeof here4));
	check(recv(icmp, packet, sizeof packet, MSG_DONTWAIT) > 0, "ICMP is not heard");
	check(recv(icmp, packet, sizeof packet, MSG_DONTWAIT) == -1, "more of ICMP is heard than the filter allows");
	must(sendto(sixth, "\0\0\0\0text", 8, 0, (struct sockaddr *)&here6, sizeof here6));
	expect_packet(sixth_listener, "text", 4);
	pass();
}
