/*
 * Datagrams of which only a part was written yet (UDP_CORK, MSG_MORE): of UDP, UDP-Lite and raw sockets, to IPv4, IPv6, and to IPv4
 * from sockets of IPv6; connected or not; with settings of their own. Each goes out once, whole, when the rest comes.
 */
#include <netinet/in.h>
#include <netinet/udp.h>

#include "sockets.h"

#define PROTOCOL 253
#define LITE 136
/* More than fits into the first piece of the kernel's memory. */
#define LONG 20000

struct talk {
	int from, to;
	struct sockaddr_storage there;
	socklen_t size;
	/* Bytes so far and in the end, both from one pattern. */
	size_t now, all;
	bool connected, cork, is_raw;
	int ttl, tos;
};

static unsigned char pattern(size_t i, size_t seed)
{
	return (unsigned char)(i * 7 + i / 251 + seed * 31);
}

static void bytes_of(char *room, struct talk *talk, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		room[i - from] = (char)pattern(i, talk->all);
}

static void turn_on(int fd, int level, int name)
{
	int on = 1;

	must(setsockopt(fd, level, name, &on, sizeof on));
}

/* A pair: `family` of the sender, and the family that the datagrams are of. */
static struct talk pair(int family, int of, int type, int protocol)
{
	struct talk talk = {.from = must(socket(family, type, protocol)), .to = must(socket(of, type | SOCK_NONBLOCK, protocol)), .is_raw = type == SOCK_RAW};
	struct sockaddr_in *four = (struct sockaddr_in *)&talk.there;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&talk.there;

	talk.there.ss_family = (sa_family_t)of;
	talk.size = of == AF_INET ? sizeof *four : sizeof *six;
	if (of == AF_INET)
		four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		six->sin6_addr = in6addr_loopback;
	must(bind(talk.to, (struct sockaddr *)&talk.there, talk.size));
	must(getsockname(talk.to, (struct sockaddr *)&talk.there, &talk.size));
	if (talk.is_raw) /* their "port" is the protocol */
		six->sin6_port = 0;
	turn_on(talk.to, of == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, of == AF_INET ? IP_RECVTTL : IPV6_RECVHOPLIMIT);
	turn_on(talk.to, of == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, of == AF_INET ? IP_RECVTOS : IPV6_RECVTCLASS);
	if (family != of) {
		in_addr_t address = four->sin_addr.s_addr;
		in_port_t port = four->sin_port;

		memset(six, 0, sizeof *six);
		six->sin6_family = AF_INET6;
		six->sin6_port = port;
		six->sin6_addr.s6_addr[10] = six->sin6_addr.s6_addr[11] = 0xff;
		memcpy(six->sin6_addr.s6_addr + 12, &address, 4);
		talk.size = sizeof *six;
	}
	return talk;
}

static void put(struct talk *talk, size_t from, size_t to, int flags, bool first)
{
	static char room[LONG * 3];
	char control[CMSG_SPACE(sizeof(int)) * 2];
	struct iovec vector = {room, to - from};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	bool six = talk->there.ss_family == AF_INET6;

	bytes_of(room, talk, from, to);
	if (!talk->connected) {
		message.msg_name = &talk->there;
		message.msg_namelen = talk->size;
	}
	if (first && talk->ttl) {
		int values[] = {talk->ttl, talk->tos}, types[] = {six ? IPV6_HOPLIMIT : IP_TTL, six ? IPV6_TCLASS : IP_TOS};
		struct cmsghdr *head;

		memset(control, 0, sizeof control);
		message.msg_control = control;
		message.msg_controllen = sizeof control;
		head = CMSG_FIRSTHDR(&message);
		for (int i = 0; i < 2; i++, head = CMSG_NXTHDR(&message, head)) {
			head->cmsg_level = six ? IPPROTO_IPV6 : IPPROTO_IP;
			head->cmsg_type = types[i];
			head->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(head), &values[i], sizeof(int));
		}
	}
	check(sendmsg(talk->from, &message, flags) == (ssize_t)(to - from), "fd %d does not send %zu bytes: %s", talk->from, to - from, strerror(errno));
}

/* Writes what there is now, in pieces. */
static void start(struct talk *talk)
{
	size_t piece = talk->now > 3 ? talk->now / 3 : talk->now;
	int flags = talk->cork ? 0 : MSG_MORE;

	if (talk->connected)
		must(connect(talk->from, (struct sockaddr *)&talk->there, talk->size));
	if (talk->cork)
		turn_on(talk->from, IPPROTO_UDP, UDP_CORK);
	put(talk, 0, piece, flags, true);
	for (size_t at = piece; at < talk->now; at += piece)
		put(talk, at, at + piece < talk->now ? at + piece : talk->now, flags, false);
}

/* Nothing has come yet; then all of it. */
static void finish(struct talk *talk)
{
	static char got[LONG * 3], wanted[LONG * 3];
	char control[256];
	struct iovec vector = {got, sizeof got};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	size_t head = talk->is_raw && talk->there.ss_family == AF_INET ? 20 : 0;
	int cork = -1, values[2] = {0, 0};
	socklen_t size = sizeof cork;
	ssize_t length;

	check(recv(talk->to, got, sizeof got, 0) == -1, "fd %d: something came before the datagram was whole", talk->to);
	if (!talk->is_raw) {
		must(getsockopt(talk->from, IPPROTO_UDP, UDP_CORK, &cork, &size));
		check(cork == talk->cork, "fd %d is %s", talk->from, cork ? "corked" : "not corked");
	}
	put(talk, talk->now, talk->all, 0, false);
	if (talk->cork) {
		check(recv(talk->to, got, sizeof got, 0) == -1, "fd %d: something came before the cork was pulled", talk->to);
		cork = 0;
		must(setsockopt(talk->from, IPPROTO_UDP, UDP_CORK, &cork, sizeof cork));
	}
	length = recvmsg(talk->to, &message, 0);
	bytes_of(wanted, talk, 0, talk->all);
	check(length == (ssize_t)(talk->all + head) && !memcmp(got + head, wanted, talk->all), "fd %d got %zd bytes that are not the %zu of its datagram", talk->to, length, talk->all);
	for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one; one = CMSG_NXTHDR(&message, one)) {
		bool is_ttl = one->cmsg_type == (one->cmsg_level == IPPROTO_IP ? IP_TTL : IPV6_HOPLIMIT);

		/* IP_TOS comes as one byte. */
		memcpy(&values[!is_ttl], CMSG_DATA(one), one->cmsg_len - CMSG_LEN(0));
	}
	if (talk->ttl)
		check(values[0] == talk->ttl && values[1] == talk->tos, "fd %d: hops %d, class %d", talk->to, values[0], values[1]);
	check(recv(talk->to, got, sizeof got, 0) == -1, "fd %d: more came", talk->to);
}

int main(int argc, char **argv)
{
	struct talk talks[16];
	struct talk *end = talks;

	begin(argc, argv);
	for (int connected = 0; connected < 2; connected++)
		for (int kind = 0; kind < 3; kind++) {
			*end = pair(kind ? AF_INET6 : AF_INET, kind == 1 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
			end->connected = connected;
			end->cork = (connected + kind) % 2;
			end->now = kind ? 1000 : LONG;
			end->all = end->now + 500;
			end++;
		}
	for (int six = 0; six < 2; six++) {
		int family = six ? AF_INET6 : AF_INET;

		*end = pair(family, family, SOCK_DGRAM, 0);
		end->now = 1;
		end->all = 2;
		end->ttl = 7;
		end++->tos = 8;
		*end = pair(family, family, SOCK_DGRAM, 0); /* of length nothing so far */
		end++->all = 3;
		*end = pair(family, family, SOCK_DGRAM, LITE);
		end->now = 40;
		end++->all = 50;
		*end = pair(family, family, SOCK_RAW, PROTOCOL + six);
		end->now = LONG;
		end++->all = LONG + 40;
	}
	for (struct talk *one = talks; one < end; one++)
		start(one);
	ready();
	wait_for_go();
	check_state();
	for (struct talk *one = talks; one < end; one++)
		finish(one);
	pass();
}
