/*
 * UDP sockets with what waits at them: from whom it came, also where several sockets share a port; empty and many datagrams;
 * IPv4, IPv6 and IPv4 at sockets of IPv6. Multicast groups, with sources.
 */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "sockets.h"

#define MANY 2000

static struct sockaddr_storage at(int family, int port)
{
	struct sockaddr_storage address = {.ss_family = (sa_family_t)family};

	((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)port);
	if (family == AF_INET)
		((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_loopback;
	return address;
}

static int udp(int family, int port, bool shared, bool any)
{
	struct sockaddr_storage address = at(family, port);
	int fd = must(socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0)), on = 1;

	if (any && family == AF_INET6)
		((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_any;
	else if (any)
		((struct sockaddr_in *)&address)->sin_addr.s_addr = 0;
	if (shared)
		must(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
	must(bind(fd, (struct sockaddr *)&address, sizeof address));
	return fd;
}

static void send_to(int fd, int family, int port, const char *text)
{
	struct sockaddr_storage to = at(family, port);

	check(sendto(fd, text, strlen(text), 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)strlen(text), "fd %d does not send: %s", fd, strerror(errno));
}

/* The next datagram, and the port and family of its sender. */
static void expect_from(int fd, const char *text, int port, bool mapped)
{
	char got[64] = "";
	struct sockaddr_storage from;
	socklen_t size = sizeof from;
	ssize_t length = recvfrom(fd, got, sizeof got - 1, 0, (struct sockaddr *)&from, &size);

	if (!check(length == (ssize_t)strlen(text) && !strncmp(got, text, strlen(text)), "fd %d got \"%s\" (%zd), not \"%s\"", fd, got, length, text))
		return;
	check(ntohs(((struct sockaddr_in *)&from)->sin_port) == port, "\"%s\" came from port %d, not %d", text, ntohs(((struct sockaddr_in *)&from)->sin_port), port);
	if (mapped)
		check(IN6_IS_ADDR_V4MAPPED(&((struct sockaddr_in6 *)&from)->sin6_addr), "\"%s\" does not come from IPv4", text);
}

static void expect_nothing(int fd)
{
	char got[64];

	check(recv(fd, got, sizeof got, 0) == -1, "fd %d has more", fd);
}

static unsigned memory_of(int fd)
{
	unsigned words[9];
	socklen_t size = sizeof words;

	must(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, words, &size));
	return words[0];
}

static struct group_req group_on_lo(const char *text)
{
	struct group_req request = {.gr_interface = if_nametoindex("lo")};
	struct sockaddr_in *four = (struct sockaddr_in *)&request.gr_group;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&request.gr_group;

	four->sin_family = AF_INET;
	if (inet_pton(AF_INET, text, &four->sin_addr) == 1)
		return request;
	six->sin6_family = AF_INET6;
	inet_pton(AF_INET6, text, &six->sin6_addr);
	return request;
}

/* In the group, with this mode and number of sources; mode -1: not in it. */
static void expect_member(int fd, const char *text, int mode, unsigned sources)
{
	struct group_req request = group_on_lo(text);
	char room[GROUP_FILTER_SIZE(4)];
	struct group_filter *filter = (struct group_filter *)room;
	socklen_t size = sizeof room;
	int got;

	memset(room, 0, sizeof room);
	filter->gf_interface = request.gr_interface;
	filter->gf_group = request.gr_group;
	filter->gf_numsrc = 4;
	got = getsockopt(fd, request.gr_group.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, MCAST_MSFILTER, room, &size);
	if (mode < 0)
		check(got == -1, "fd %d is in group %s", fd, text);
	else
		check(got == 0 && filter->gf_fmode == (unsigned)mode && filter->gf_numsrc == sources, "fd %d in group %s: %s, mode %u, %u sources", fd, text, got ? strerror(errno) : "there", filter->gf_fmode, filter->gf_numsrc);
}

/* A socket that is bound to a group; another in the same group hears nothing of what waits there. */
static int in_group(int family, const char *text, int port)
{
	struct group_req request = group_on_lo(text);
	struct sockaddr_storage address = request.gr_group;
	int fd = must(socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0)), on = 1;

	((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)port);
	if (family == AF_INET6)
		((struct sockaddr_in6 *)&address)->sin6_scope_id = request.gr_interface;
	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(bind(fd, (struct sockaddr *)&address, sizeof address));
	must(setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, MCAST_JOIN_GROUP, &request, sizeof request));
	return fd;
}

static void send_to_group(int fd, const char *text, int port, const char *data)
{
	struct group_req request = group_on_lo(text);
	int lo = (int)request.gr_interface, family = request.gr_group.ss_family;
	struct ip_mreqn by_number = {.imr_ifindex = lo};

	((struct sockaddr_in *)&request.gr_group)->sin_port = htons((uint16_t)port);
	if (family == AF_INET)
		must(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &by_number, sizeof by_number));
	else
		must(setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &lo, sizeof lo));
	check(sendto(fd, data, strlen(data), 0, (struct sockaddr *)&request.gr_group, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) == (ssize_t)strlen(data), "no way to %s: %s", text, strerror(errno));
}

/* Looks at what waits, one after the other, so that the kernel shows empty ones no more. */
static void look_at_all(int fd, int count)
{
	int offset = 0, off = -1;
	char got[64];

	must(setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));
	for (int i = 0; i < count; i++)
		must(recv(fd, got, sizeof got, MSG_PEEK));
	must(setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof off));
}

static void groups(int six, int four)
{
	struct group_req all = group_on_lo("239.7.7.7"), six_group = group_on_lo("ff02::7777");
	struct group_source_req from = {.gsr_interface = if_nametoindex("lo")};
	struct sockaddr_in *source = (struct sockaddr_in *)&from.gsr_source;

	must(setsockopt(four, IPPROTO_IP, MCAST_JOIN_GROUP, &all, sizeof all));
	from.gsr_group = group_on_lo("239.7.7.8").gr_group;
	source->sin_family = AF_INET;
	source->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(setsockopt(four, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &from, sizeof from));
	source->sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
	must(setsockopt(four, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &from, sizeof from));
	must(setsockopt(six, IPPROTO_IPV6, MCAST_JOIN_GROUP, &six_group, sizeof six_group));
	must(setsockopt(six, IPPROTO_IP, MCAST_JOIN_GROUP, &all, sizeof all));
}

int main(int argc, char **argv)
{
	int client[2], shared[2], six, mapped, owner, own_client, crowded, deaf;
	unsigned before;
	int turn[8], room = 8 << 20, on = 1, members[3], peeked[2];
	char text[16];
	struct sockaddr_storage peer = at(AF_INET, 7701);

	begin(argc, argv);
	client[0] = udp(AF_INET, 7700, false, false);
	client[1] = udp(AF_INET, 7701, false, false);
	/* Which of two sockets hears whom is for the kernel to say. */
	shared[0] = udp(AF_INET, 7702, true, false);
	shared[1] = udp(AF_INET, 7702, true, false);
	for (int i = 0; i < 8; i++) {
		int fd = udp(AF_INET, 7710 + i, false, false);
		before = memory_of(shared[0]);
		snprintf(text, sizeof text, "number %d", i);
		send_to(fd, AF_INET, 7702, text);
		turn[i] = memory_of(shared[0]) > before ? 0 : 1;
	}
	/* One has a peer of its own; the other, at the same port, hears the rest. */
	owner = udp(AF_INET, 7703, true, true);
	own_client = udp(AF_INET, 7703, true, true);
	must(connect(own_client, (struct sockaddr *)&peer, sizeof peer));
	send_to(client[1], AF_INET, 7703, "for its own");
	send_to(client[0], AF_INET, 7703, "for the rest");
	send_to(client[1], AF_INET, 7703, "");
	send_to(client[1], AF_INET, 7703, "");
	send_to(client[1], AF_INET, 7703, "after nothing");
	six = udp(AF_INET6, 7704, false, false);
	mapped = udp(AF_INET6, 7705, false, true);
	send_to(six, AF_INET6, 7704, "to itself");
	send_to(client[0], AF_INET, 7705, "from IPv4");
	send_to(six, AF_INET6, 7705, "from IPv6");
	crowded = udp(AF_INET, 7706, false, false);
	must(setsockopt(crowded, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room));
	for (int i = 0; i < MANY; i++) {
		snprintf(text, sizeof text, "%d", i);
		send_to(client[i % 2], AF_INET, 7706, text);
	}
	for (int i = 0; i < 2; i++)
		members[i] = in_group(AF_INET, "239.7.7.9", 7720);
	members[2] = in_group(AF_INET6, argc > 2 ? "ff0e::7779" : "ff02::7779", 7721);
	must(recv(members[0], text, sizeof text, MSG_PEEK) == -1 ? 0 : -1);
	send_to_group(client[0], "239.7.7.9", 7720, "to all");
	send_to_group(client[1], "239.7.7.9", 7720, "to all again");
	/* One of the two has read. */
	must(recv(members[1], text, sizeof text, 0));
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET, from = i ? six : client[0];

		peeked[i] = udp(family, 7730 + i, false, false);
		send_to(from, family, 7730 + i, "first");
		send_to(from, family, 7730 + i, "");
		send_to(from, family, 7730 + i, "then");
		send_to(from, family, 7730 + i, "");
		look_at_all(peeked[i], 4);
	}
	deaf = udp(AF_INET, 7707, false, false);
	must(setsockopt(deaf, IPPROTO_IP, IP_RECVTTL, &on, sizeof on));
	groups(six, crowded);
	ready();
	wait_for_go();
	check_state();

	if (names_matter) {
		for (int i = 0; i < 8; i++) {
			snprintf(text, sizeof text, "number %d", i);
			expect_from(shared[turn[i]], text, 7710 + i, false);
		}
		expect_from(own_client, "for its own", 7701, false);
		expect_from(own_client, "", 7701, false);
		expect_from(own_client, "", 7701, false);
		expect_from(own_client, "after nothing", 7701, false);
		expect_from(owner, "for the rest", 7700, false);
		expect_from(six, "to itself", 7704, false);
		expect_from(mapped, "from IPv4", 7700, true);
		expect_from(mapped, "from IPv6", 7704, false);
		for (int i = 0; i < MANY; i++) {
			snprintf(text, sizeof text, "%d", i);
			expect_from(crowded, text, 7700 + i % 2, false);
		}
		expect_from(members[0], "to all", 7700, false);
		expect_from(members[0], "to all again", 7701, false);
		expect_from(members[1], "to all again", 7701, false);
		for (int i = 0; i < 2; i++) {
			const char *texts[] = {"first", "", "then", ""};

			for (int k = 0; k < 4; k++)
				expect_from(peeked[i], texts[k], i ? 7704 : 7700, false);
			expect_nothing(peeked[i]);
		}
		for (int i = 0; i < 3; i++)
			expect_nothing(members[i]);
		expect_member(members[0], "239.7.7.9", MCAST_EXCLUDE, 0);
		expect_member(crowded, "239.7.7.7", MCAST_EXCLUDE, 0);
		expect_member(crowded, "239.7.7.8", MCAST_INCLUDE, 2);
		expect_member(six, "ff02::7777", MCAST_EXCLUDE, 0);
		expect_member(six, "239.7.7.7", MCAST_EXCLUDE, 0);
	}
	expect_member(deaf, "239.7.7.7", -1, 0);
	for (int i = 0; i < 2; i++)
		expect_nothing(shared[i]);
	expect_nothing(owner);
	expect_nothing(own_client);
	expect_nothing(crowded);
	/* Each hears whom it heard. */
	send_to(client[1], AF_INET, 7703, "own again");
	send_to(client[0], AF_INET, 7703, "rest again");
	expect_from(own_client, "own again", 7701, false);
	expect_from(owner, "rest again", 7700, false);
	pass();
}
