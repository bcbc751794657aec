/* Options of the socket level: sizes and locks of buffers, time limits, switches, and their effect. */
#include <linux/filter.h>
#include <sys/time.h>

#include "sockets.h"

static const struct {
	const char *name;
	int option, value;
} numbers[] = {
	{"SO_SNDBUF", SO_SNDBUF, 30000}, {"SO_RCVBUF", SO_RCVBUF, 50000}, {"SO_PRIORITY", SO_PRIORITY, 5}, {"SO_RCVLOWAT", SO_RCVLOWAT, 3},
	{"SO_MARK", SO_MARK, 77}, {"SO_PASSCRED", SO_PASSCRED, 1}, {"SO_DONTROUTE", SO_DONTROUTE, 1}, {"SO_OOBINLINE", SO_OOBINLINE, 1},
	{"SO_REUSEADDR", SO_REUSEADDR, 1}, {"SO_BROADCAST", SO_BROADCAST, 1}, {"SO_KEEPALIVE", SO_KEEPALIVE, 1},
};
#define COUNT (sizeof numbers / sizeof *numbers)

static int number(int fd, int option)
{
	int value = -1;
	socklen_t size = sizeof value;

	must(getsockopt(fd, SOL_SOCKET, option, &value, &size));
	return value;
}

int main(int argc, char **argv)
{
	struct timeval receive = {3, 250000}, send_limit = {7, 500000}, now;
	struct linger linger = {1, 9}, linger_now;
	struct sock_filter code[] = {{BPF_LD | BPF_B | BPF_ABS, 0, 0, 0}, {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 'k'}, {BPF_RET | BPF_K, 0, 0, 0xffff}, {BPF_RET | BPF_K, 0, 0, 0}};
	struct sock_fprog program = {4, code};
	socklen_t size;
	int fds[2][2], before[2][COUNT], locks[2];

	begin(argc, argv);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[0]));
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds[1]));
	for (size_t i = 0; i < COUNT; i++)
		must(setsockopt(fds[0][0], SOL_SOCKET, numbers[i].option, &numbers[i].value, sizeof(int)));
	must(setsockopt(fds[0][0], SOL_SOCKET, SO_RCVTIMEO, &receive, sizeof receive));
	must(setsockopt(fds[0][0], SOL_SOCKET, SO_SNDTIMEO, &send_limit, sizeof send_limit));
	must(setsockopt(fds[0][0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
	must(setsockopt(fds[1][1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
	/* The kernel rounds to its ticks. */
	size = sizeof receive;
	must(getsockopt(fds[0][0], SOL_SOCKET, SO_RCVTIMEO, &receive, &size));
	must(getsockopt(fds[0][0], SOL_SOCKET, SO_SNDTIMEO, &send_limit, &size));
	for (int s = 0; s < 2; s++) {
		for (size_t i = 0; i < COUNT; i++)
			before[s][i] = number(fds[s][0], numbers[i].option);
		locks[s] = number(fds[s][0], 72);
	}
	ready();
	wait_for_go();
	for (int s = 0; s < 2; s++) {
		for (size_t i = 0; i < COUNT; i++)
			if (names_matter || numbers[i].option != SO_REUSEADDR)
				check(number(fds[s][0], numbers[i].option) == before[s][i], "%s is %d, not %d", numbers[i].name, number(fds[s][0], numbers[i].option), before[s][i]);
		check(number(fds[s][0], 72) == locks[s], "buffer locks are %d, not %d", number(fds[s][0], 72), locks[s]);
	}
	size = sizeof now;
	must(getsockopt(fds[0][0], SOL_SOCKET, SO_RCVTIMEO, &now, &size));
	check(!memcmp(&now, &receive, sizeof now), "the receive limit is %ld.%06ld", now.tv_sec, now.tv_usec);
	must(getsockopt(fds[0][0], SOL_SOCKET, SO_SNDTIMEO, &now, &size));
	check(!memcmp(&now, &send_limit, sizeof now), "the send limit is %ld.%06ld", now.tv_sec, now.tv_usec);
	size = sizeof linger_now;
	must(getsockopt(fds[0][0], SOL_SOCKET, SO_LINGER, &linger_now, &size));
	check(linger_now.l_onoff == 1 && linger_now.l_linger == 9, "linger is %d, %d", linger_now.l_onoff, linger_now.l_linger);
	(void)send(fds[1][0], "dropped", 7, 0);
	(void)send(fds[1][0], "kept", 4, 0);
	expect_text(fds[1][1], "kept");
	pass();
}
