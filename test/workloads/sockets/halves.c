/*
 * Two connections closed in one direction, with the ends in different trees: halves server|client PORT. The first one the
 * client has closed for its part (the server is in CLOSE-WAIT), the second one the server (FIN-WAIT-2). After SIGUSR1 both say
 * more and come to the end; each says PASS if all was right. Not a case of its own: see sockets-outside.test.ts.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "sockets.h"

enum { FIN_WAIT2 = 5, CLOSE_WAIT = 8 };

static struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {0}};

static int state_of(int fd)
{
	struct tcp_info info;
	socklen_t size = sizeof info;

	must(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size));
	return info.tcpi_state;
}

static void await_state(int fd, int state)
{
	for (int i = 0; i < 12000 && state_of(fd) != state; i++)
		sleep_ms(5);
	check(state_of(fd) == state, "fd %d is in state %d, not %d", fd, state_of(fd), state);
}

static void expect_end(int fd)
{
	char byte;
	ssize_t got = recv(fd, &byte, 1, 0);

	check(got == 0, "fd %d: %zd instead of the end of the stream: %s", fd, got, got < 0 ? strerror(errno) : "data");
}

static void hear(int fd, const char *text)
{
	struct pollfd ready_to_read = {fd, POLLIN, 0};

	check(poll(&ready_to_read, 1, 60000) == 1, "fd %d: nothing comes", fd);
	expect_text(fd, text);
}

static void await_signal(void)
{
	sigset_t set;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	must_zero(sigwait(&set, &number));
}

static void serve(void)
{
	int server = must(socket(AF_INET, SOCK_STREAM, 0)), first, second, on = 1;

	must(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(bind(server, (struct sockaddr *)&address, sizeof address));
	must(listen(server, 5));
	must(write(1, "listens\n", 8));
	first = must(accept(server, NULL, NULL));
	second = must(accept(server, NULL, NULL));
	await_state(first, CLOSE_WAIT);
	send_text(second, "greeting");
	must(shutdown(second, SHUT_WR));
	await_state(second, FIN_WAIT2);
	must(write(1, "ready\n", 6));
	await_signal();
	await_state(first, CLOSE_WAIT);
	hear(first, "question");
	expect_end(first);
	send_text(first, "answer");
	must(close(first));
	hear(second, "more");
	expect_end(second);
}

static void ask(void)
{
	int first = must(socket(AF_INET, SOCK_STREAM, 0)), second = must(socket(AF_INET, SOCK_STREAM, 0));

	must(connect(first, (struct sockaddr *)&address, sizeof address));
	must(connect(second, (struct sockaddr *)&address, sizeof address));
	send_text(first, "question");
	must(shutdown(first, SHUT_WR));
	must(write(1, "ready\n", 6));
	await_signal();
	hear(second, "greeting");
	expect_end(second);
	send_text(second, "more");
	must(close(second));
	hear(first, "answer");
	expect_end(first);
}

int main(int argc, char **argv)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	address.sin_port = htons((uint16_t)atoi(argv[2]));
	address.sin_addr.s_addr = argc > 3 ? inet_addr(argv[3]) : htonl(INADDR_LOOPBACK);
	if (!strcmp(argv[1], "server"))
		serve();
	else
		ask();
	if (differences_seen())
		fail("%u differences", differences_seen());
	must(write(1, "PASS\n", 5));
	return 0;
}
