/*
 * Established TCP connections of which both ends are in the tree, IPv4, IPv6 and mapped: data waits on both sides, one
 * direction is full to the brim, an idle one stays idle; options of connections, and what their ends have agreed on (window scale, time
 * stamps, SACK, size of segments), or not; the listening socket still listens. The streams are checked byte for byte, and data flows again afterwards.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "sockets.h"

enum { PORT = 7300, BYTES = 8 << 20 };

static unsigned char *pattern;

/* What both ends have agreed on when they met, and the clock of their time stamps. */
struct terms {
	unsigned options, own_scale, scale, mss, clock;
};

static struct terms terms_of(int fd)
{
	struct tcp_info info;
	struct terms terms;
	socklen_t size = sizeof info;
	int clock;

	must(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size));
	size = sizeof clock;
	must(getsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &clock, &size));
	terms = (struct terms){.options = info.tcpi_options & (TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE), .own_scale = info.tcpi_rcv_wscale, .scale = info.tcpi_snd_wscale, .clock = (unsigned)clock};
	terms.mss = info.tcpi_snd_mss;
	return terms;
}

static void expect_terms(int fd, struct terms before)
{
	struct terms now = terms_of(fd);

	check(now.options == before.options && now.own_scale == before.own_scale && now.scale == before.scale, "fd %d: options %x, scales %u and %u, not %x, %u and %u", fd, now.options, now.own_scale, now.scale, before.options, before.own_scale, before.scale);
	/* It follows from the largest window so far, too: never from half of it. */
	check(now.mss * 2 >= before.mss, "fd %d: segments of %u, not %u", fd, now.mss, before.mss);
	check(now.clock - before.clock < 1u << 31, "fd %d: the clock went back from %u to %u", fd, before.clock, now.clock);
}

static void sysctl(const char *name, const char *value)
{
	char path[100];
	int fd;

	snprintf(path, sizeof path, "/proc/sys/net/ipv4/tcp_%s", name);
	fd = must(open(path, O_WRONLY));
	must((int)write(fd, value, 1));
	close(fd);
}

static int listening(int family)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(PORT + 1)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd = must(socket(family, SOCK_STREAM, 0)), on = 1;

	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(family == AF_INET ? bind(fd, (struct sockaddr *)&four, sizeof four) : bind(fd, (struct sockaddr *)&six, sizeof six));
	must(listen(fd, 5));
	return fd;
}

static int client(int family, int port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = must(socket(family, SOCK_STREAM, 0));

	must(family == AF_INET ? connect(fd, (struct sockaddr *)&four, sizeof four) : connect(fd, (struct sockaddr *)&six, sizeof six));
	return fd;
}

static size_t fill(int fd)
{
	size_t done = 0;
	ssize_t got;

	/* What was sent has to arrive before it can be seen that more fits. */
	for (int idle = 0; idle < 20; idle++) {
		while (done < BYTES && (got = send(fd, pattern + done, BYTES - done < 100000 ? BYTES - done : 100000, MSG_DONTWAIT)) > 0) {
			done += (size_t)got;
			idle = 0;
		}
		sleep_ms(5);
	}
	return done;
}

static void expect_bytes(int fd, size_t from, size_t length)
{
	static unsigned char back[100000];
	size_t done = 0;

	while (done < length) {
		size_t want = length - done < sizeof back ? length - done : sizeof back;
		ssize_t got = recv(fd, back, want, 0);
		if (!check(got > 0, "fd %d: the stream ends after %zu of %zu bytes: %s", fd, done, length, strerror(errno)))
			return;
		if (!check(!memcmp(back, pattern + from + done, (size_t)got), "fd %d: bytes at %zu differ", fd, done))
			return;
		done += (size_t)got;
	}
}

static void expect_option(int fd, int level, int name, int value)
{
	int now = -1;
	socklen_t size = sizeof now;

	must(getsockopt(fd, level, name, &now, &size));
	check(now == value, "option %d of fd %d is %d, not %d", name, fd, now, value);
}

int main(int argc, char **argv)
{
	static const struct {
		int family, port;
	} kinds[] = {{AF_INET, PORT}, {AF_INET6, PORT + 1}, {AF_INET, PORT + 1}};
	static const char *const missing[3] = {"timestamps", "sack", "window_scaling"};
	struct terms agreed[3][2], rich[3][2];
	int servers[2], ends[3][2], idle[2], poor[3][2], on = 1;
	struct timeval patience = {10, 0};
	size_t filled[3];

	begin(argc, argv);
	pattern = must(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	fill_pattern(pattern, BYTES, 5);
	servers[0] = listening(AF_INET);
	servers[1] = listening(AF_INET6);
	for (int i = 0; i < 3; i++) {
		ends[i][0] = client(kinds[i].family, kinds[i].port);
		ends[i][1] = must(accept(servers[kinds[i].port - PORT], NULL, NULL));
		for (int e = 0; e < 2; e++)
			must(setsockopt(ends[i][e], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
		filled[i] = fill(ends[i][0]);
		send_text(ends[i][1], "some data");
	}
	idle[0] = client(AF_INET, PORT);
	idle[1] = must(accept(servers[0], NULL, NULL));
	/* Connections to which one of the things is missing on which ends agree. */
	for (int i = 0; i < 3; i++) {
		sysctl(missing[i], "0");
		poor[i][0] = client(AF_INET, PORT);
		poor[i][1] = must(accept(servers[0], NULL, NULL));
		sysctl(missing[i], "1");
		for (int e = 0; e < 2; e++)
			agreed[i][e] = terms_of(poor[i][e]);
		for (int e = 0; e < 2; e++)
			rich[i][e] = terms_of(ends[i][e]);
		check(agreed[i][0].options != rich[0][0].options, "nothing is missing");
	}
	must(setsockopt(idle[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
	must(setsockopt(idle[1], SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
	/* Without rights it could not end the repair mode of a connection by itself. */
	if (argc > 2 && !strcmp(argv[2], "humble"))
		must(setresuid(65534, 65534, 65534));
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < 3; i++) {
		for (int e = 0; e < 2; e++) {
			expect_terms(poor[i][e], agreed[i][e]);
			expect_terms(ends[i][e], rich[i][e]);
		}
		expect_talk(poor[i][0], poor[i][1]);
		expect_bytes(ends[i][1], 0, filled[i]);
		expect_text(ends[i][0], "some data");
	}
	for (int i = 0; i < 3; i++) {
		must(send(ends[i][0], pattern, 50000, 0));
		expect_bytes(ends[i][1], 0, 50000);
		must(send(ends[i][1], pattern, 30000, 0));
		expect_bytes(ends[i][0], 0, 30000);
	}
	expect_text(idle[0], NULL);
	must(send(idle[0], pattern, 1000, 0));
	expect_bytes(idle[1], 0, 1000);
	expect_option(idle[0], IPPROTO_TCP, TCP_NODELAY, 1);
	expect_option(idle[1], SOL_SOCKET, SO_KEEPALIVE, 1);
	idle[0] = client(AF_INET, PORT);
	idle[1] = must(accept(servers[0], NULL, NULL));
	must(send(idle[0], pattern, 10, 0));
	expect_bytes(idle[1], 0, 10);
	close(ends[0][0]);
	check(recv(ends[0][1], &on, 1, 0) == 0, "no end of the stream");
	pass();
}
