/*
 * Options of sockets that servers use: each is set on a socket of its own kind to a value that no fresh socket has, and is
 * there afterwards, whatever the kernel made of the value.
 */
#include <linux/filter.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>

#include "sockets.h"

enum kind { TCP4, TCP6, LISTEN, UDP4, UDP6, LITE, RAW, UNIX, KINDS };
static int fds[KINDS];

static const struct {
	enum kind kind;
	int level, name, value;
} numbers[] = {
	{TCP4, SOL_SOCKET, 46 /* BUSY_POLL */, 50}, {UDP4, SOL_SOCKET, 69 /* PREFER_BUSY_POLL */, 1}, {LISTEN, SOL_SOCKET, SO_INCOMING_CPU, 0},
	{UDP4, SOL_SOCKET, SO_RXQ_OVFL, 1}, {UDP4, SOL_SOCKET, SO_TIMESTAMPNS, 1}, {UDP6, SOL_SOCKET, 63 /* TIMESTAMP_NEW */, 1}, {UDP4, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1},
	{TCP4, SOL_SOCKET, SO_ZEROCOPY, 1}, {UDP6, SOL_SOCKET, SO_ZEROCOPY, 1}, {UDP4, SOL_SOCKET, 75 /* RCVMARK */, 1}, {UDP4, SOL_SOCKET, SO_NO_CHECK, 1},
	{UDP6, SOL_SOCKET, 82 /* RCVPRIORITY */, 1}, {RAW, SOL_SOCKET, SO_RXQ_OVFL, 1}, {UNIX, SOL_SOCKET, SO_TIMESTAMP, 1}, {RAW, SOL_SOCKET, SO_NOFCS, 1},
	{UDP4, IPPROTO_IP, IP_PKTINFO, 1}, {UDP4, IPPROTO_IP, IP_RECVERR, 1}, {UDP4, IPPROTO_IP, IP_RECVTTL, 1}, {UDP4, IPPROTO_IP, IP_RECVTOS, 1}, {UDP4, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE},
	{TCP4, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1}, {TCP4, IPPROTO_IP, 51 /* LOCAL_PORT_RANGE */, 20000 | 30000 << 16}, {UDP4, IPPROTO_IP, IP_MULTICAST_TTL, 7}, {UDP4, IPPROTO_IP, IP_MULTICAST_LOOP, 0},
	{UDP4, IPPROTO_IP, IP_MULTICAST_ALL, 0}, {UDP4, IPPROTO_IP, IP_MULTICAST_IF, 0x0100007f}, {UDP4, IPPROTO_IP, IP_UNICAST_IF, 0x01000000}, {UDP4, IPPROTO_IP, 25 /* RECVFRAGSIZE */, 1},
	{UDP4, IPPROTO_IP, IP_ORIGDSTADDR, 1}, {UDP4, IPPROTO_IP, 26 /* RECVERR_RFC4884 */, 1}, {TCP4, IPPROTO_IP, IP_MINTTL, 5}, {TCP4, IPPROTO_IP, IP_TRANSPARENT, 1}, {TCP4, IPPROTO_IP, IP_TOS, 0x20}, {UDP4, IPPROTO_IP, IP_PASSSEC, 1},
	{UDP6, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1}, {UDP6, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1}, {UDP6, IPPROTO_IPV6, IPV6_RECVTCLASS, 1}, {UDP6, IPPROTO_IPV6, IPV6_RECVERR, 1}, {UDP6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO},
	{UDP6, IPPROTO_IPV6, IPV6_RECVRTHDR, 1}, {UDP6, IPPROTO_IPV6, IPV6_RECVHOPOPTS, 1}, {UDP6, IPPROTO_IPV6, IPV6_RECVDSTOPTS, 1}, {UDP6, IPPROTO_IPV6, IPV6_RECVPATHMTU, 1}, {UDP6, IPPROTO_IPV6, 74 /* ORIGDSTADDR */, 1},
	{UDP6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 9}, {UDP6, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0}, {UDP6, IPPROTO_IPV6, IPV6_MULTICAST_IF, 1}, {UDP6, IPPROTO_IPV6, 29 /* MULTICAST_ALL */, 0}, {UDP6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 11},
	{UDP6, IPPROTO_IPV6, IPV6_TCLASS, 0x40}, {UDP6, IPPROTO_IPV6, IPV6_DONTFRAG, 1}, {UDP6, IPPROTO_IPV6, 70 /* AUTOFLOWLABEL */, 0}, {UDP6, IPPROTO_IPV6, 72 /* ADDR_PREFERENCES */, 2}, {TCP6, IPPROTO_IPV6, 73 /* MINHOPCOUNT */, 3},
	{UDP6, IPPROTO_IPV6, 11 /* FLOWINFO */, 1}, {UDP6, IPPROTO_IPV6, 33 /* FLOWINFO_SEND */, 1}, {UDP6, IPPROTO_IPV6, 77 /* RECVFRAGSIZE */, 1}, {TCP6, IPPROTO_IPV6, IPV6_V6ONLY, 1}, {UDP6, IPPROTO_IPV6, 76 /* UNICAST_IF */, 0x01000000},
	{TCP4, IPPROTO_TCP, TCP_USER_TIMEOUT, 12345}, {LISTEN, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3}, {LISTEN, IPPROTO_TCP, TCP_FASTOPEN, 5}, {TCP4, IPPROTO_TCP, TCP_MAXSEG, 1000}, {LISTEN, IPPROTO_TCP, TCP_MAXSEG, 900},
	{TCP4, IPPROTO_TCP, TCP_QUICKACK, 0}, {TCP4, IPPROTO_TCP, TCP_LINGER2, 17}, {TCP4, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384}, {LISTEN, IPPROTO_TCP, TCP_SAVE_SYN, 1}, {TCP4, IPPROTO_TCP, TCP_SYNCNT, 3},
	{TCP4, IPPROTO_TCP, TCP_NODELAY, 1}, {TCP6, IPPROTO_TCP, TCP_CORK, 1}, {TCP6, IPPROTO_TCP, TCP_KEEPIDLE, 40}, {TCP6, IPPROTO_TCP, TCP_KEEPINTVL, 4}, {TCP6, IPPROTO_TCP, TCP_KEEPCNT, 2},
	{TCP4, IPPROTO_TCP, 30 /* FASTOPEN_CONNECT */, 1}, {LISTEN, IPPROTO_TCP, 34 /* FASTOPEN_NO_COOKIE */, 1}, {TCP4, IPPROTO_TCP, 36 /* INQ */, 1}, {TCP4, IPPROTO_TCP, 37 /* TX_DELAY */, 2000}, {TCP4, IPPROTO_TCP, 44 /* RTO_MAX_MS */, 5000},
	{TCP4, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1}, {TCP6, IPPROTO_TCP, 45 /* RTO_MIN_US */, 50000}, {TCP6, IPPROTO_TCP, 46 /* DELACK_MAX_US */, 60000},
	{UDP4, IPPROTO_UDP, 103 /* SEGMENT */, 1200}, {UDP4, IPPROTO_UDP, 104 /* GRO */, 1}, {UDP6, IPPROTO_UDP, 101 /* NO_CHECK6_TX */, 1}, {UDP6, IPPROTO_UDP, 102 /* NO_CHECK6_RX */, 1}, {UDP6, IPPROTO_UDP, UDP_CORK, 1},
	{LITE, IPPROTO_UDPLITE, 10 /* SEND_CSCOV */, 20}, {LITE, IPPROTO_UDPLITE, 11 /* RECV_CSCOV */, 24},
	{RAW, IPPROTO_IP, 5 /* ROUTER_ALERT */, 1},
};
#define NUMBERS (sizeof numbers / sizeof *numbers)

static const unsigned char record_route[] = {7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0}, hop_options[] = {0, 0, 1, 4, 0, 0, 0, 0}, key[16] = "fast-open-key-0";
static const unsigned char clock_and_flags[8] = {1 /* CLOCK_MONOTONIC */, 0, 0, 0, 1}, stamps[8] = {SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE, 0, 0, 0}, pace[8] = {0, 0, 0x10};

static const struct {
	enum kind kind;
	int level, name;
	const void *value;
	socklen_t size;
} others[] = {
	{UDP4, IPPROTO_IP, IP_OPTIONS, record_route, sizeof record_route}, {UDP6, IPPROTO_IPV6, IPV6_HOPOPTS, hop_options, sizeof hop_options}, {UDP6, IPPROTO_IPV6, IPV6_DSTOPTS, hop_options, sizeof hop_options},
	{LISTEN, IPPROTO_TCP, 33 /* FASTOPEN_KEY */, key, sizeof key}, {UDP4, SOL_SOCKET, 61 /* TXTIME */, clock_and_flags, sizeof clock_and_flags}, {UDP4, SOL_SOCKET, SO_TIMESTAMPING, stamps, sizeof stamps},
	{TCP4, SOL_SOCKET, SO_MAX_PACING_RATE, pace, sizeof pace}, {TCP6, IPPROTO_TCP, TCP_CONGESTION, "reno", 5},
};
#define OTHERS (sizeof others / sizeof *others)

static int number_of(size_t i)
{
	int value = -1;
	socklen_t size = sizeof value;

	must(getsockopt(fds[numbers[i].kind], numbers[i].level, numbers[i].name, &value, &size));
	return value;
}

int main(int argc, char **argv)
{
	static unsigned char before[OTHERS][64], now[64];
	static bool known[NUMBERS];
	static int values[NUMBERS];
	struct sock_filter code[] = {{BPF_RET | BPF_K, 0, 0, 0xffff}};
	struct sock_fprog program = {1, code};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7720), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fresh[KINDS], on = 1;
	size_t unknown = 0;

	begin(argc, argv);
	for (int turn = 0; turn < 2; turn++) {
		int *set = turn ? fds : fresh;
		set[TCP4] = must(socket(AF_INET, SOCK_STREAM, 0));
		set[TCP6] = must(socket(AF_INET6, SOCK_STREAM, 0));
		set[LISTEN] = must(socket(AF_INET, SOCK_STREAM, 0));
		set[UDP4] = must(socket(AF_INET, SOCK_DGRAM, 0));
		set[UDP6] = must(socket(AF_INET6, SOCK_DGRAM, 0));
		set[LITE] = must(socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE));
		set[RAW] = must(socket(AF_INET, SOCK_RAW, 200));
		set[UNIX] = must(socket(AF_UNIX, SOCK_DGRAM, 0));
	}
	for (size_t i = 0; i < NUMBERS; i++) {
		/* An older kernel does not know all of them. */
		known[i] = setsockopt(fds[numbers[i].kind], numbers[i].level, numbers[i].name, &numbers[i].value, sizeof(int)) == 0;
		if (!known[i] && errno == ENOPROTOOPT)
			unknown++;
		else if (!known[i])
			fail("option %d of level %d cannot be set: %s", numbers[i].name, numbers[i].level, strerror(errno));
	}
	for (size_t i = 0; i < OTHERS; i++)
		if (setsockopt(fds[others[i].kind], others[i].level, others[i].name, others[i].value, others[i].size))
			fail("option %d of level %d cannot be set: %s", others[i].name, others[i].level, strerror(errno));
	must(bind(fds[LISTEN], (struct sockaddr *)&address, sizeof address));
	must(listen(fds[LISTEN], 5));
	must(setsockopt(fds[UNIX], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
	must(setsockopt(fds[UNIX], SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on));
	for (size_t i = 0; i < NUMBERS; i++)
		values[i] = known[i] ? number_of(i) : 0;
	for (size_t i = 0; i < OTHERS; i++) {
		socklen_t size = sizeof before[i];
		must(getsockopt(fds[others[i].kind], others[i].level, others[i].name, before[i], &size));
	}
	note("%zu of %zu options are not known to this kernel", unknown, NUMBERS);
	ready();
	wait_for_go();
	check_state();
	for (size_t i = 0; i < NUMBERS; i++)
		if (known[i])
			check(number_of(i) == values[i], "option %d of level %d is %d, not %d", numbers[i].name, numbers[i].level, number_of(i), values[i]);
	for (size_t i = 0; i < OTHERS; i++) {
		socklen_t size = sizeof now;
		memset(now, 0, sizeof now);
		must(getsockopt(fds[others[i].kind], others[i].level, others[i].name, now, &size));
		check(!memcmp(now, before[i], sizeof now), "option %d of level %d is another", others[i].name, others[i].level);
	}
	check(setsockopt(fds[UNIX], SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof on) == -1 && errno == EPERM, "the filter can be taken off");
	check(unknown < NUMBERS / 4, "%zu options are not known", unknown);
	pass();
}
