/*
 * Ends of all sorts: peers that died with data unread (ECONNRESET), shutdowns that do not match, queues filled to their limits
 * (net.unix.max_dgram_qlen, SO_SNDBUF), senders of datagrams that are closed, options about credentials.
 * With "error" a seqpacket socket has messages behind its error.
 */
#include <poll.h>
#include "sockets.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

static void expect_error(int fd, int error)
{
	char byte[10];
	ssize_t length = recv(fd, byte, sizeof byte, MSG_DONTWAIT);

	check(length == -1 && errno == error, "fd %d: %zd (errno %d), not error %d", fd, length, errno, error);
}

/* The text, with the time when it was sent. */
static void expect_stamped(int fd, const char *text)
{
	char control[100] = {0}, got[100] = "";
	struct iovec vector = {got, sizeof got};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *head = recvmsg(fd, &message, MSG_DONTWAIT) < 0 ? NULL : CMSG_FIRSTHDR(&message);

	check(!strcmp(got, text) && head != NULL && head->cmsg_type == SCM_TIMESTAMP, "fd %d: \"%s\" without a time", fd, got);
}

static void send_to(int fd, const char *name, const char *text)
{
	struct sockaddr_un address;
	socklen_t length = unix_name(&address, name);

	must((int)sendto(fd, text, strlen(text), 0, (struct sockaddr *)&address, length));
}

static void expect_from(int fd, const char *text, const char *from)
{
	struct sockaddr_un address = {0};
	socklen_t length = sizeof address;
	char got[200] = "";
	ssize_t bytes = recvfrom(fd, got, sizeof got, MSG_DONTWAIT, (struct sockaddr *)&address, &length);

	if (address.sun_path[0] == 0)
		address.sun_path[0] = '@';
	check(bytes == (ssize_t)strlen(text) && !strcmp(got, text), "fd %d: got \"%s\" (%zd), not \"%s\"", fd, got, bytes, text);
	check(!strcmp(address.sun_path, from), "\"%s\" came from \"%s\", not \"%s\"", text, address.sun_path, from);
}

static bool is_writable(int fd)
{
	struct pollfd one = {.fd = fd, .events = POLLOUT};

	return poll(&one, 1, 0) == 1 && (one.revents & POLLOUT);
}

static int fill(int fd, size_t size)
{
	static char block[5000];
	int sent = 0;

	while (send(fd, block, size, MSG_DONTWAIT) == (ssize_t)size)
		sent++;
	return sent;
}

static void drain(int fd, int count, size_t size)
{
	static char block[5000];

	for (int i = 0; i < count; i++)
		if (!check(recv(fd, block, sizeof block, MSG_DONTWAIT) == (ssize_t)size, "message %d of %d is not there", i, count))
			return;
	expect_text(fd, NULL);
}

static int option(int fd, int name)
{
	int got = -1;
	socklen_t size = sizeof got;

	must(getsockopt(fd, SOL_SOCKET, name, &got, &size));
	return got;
}

int main(int argc, char **argv)
{
	bool with_error = argc > 2 && !strcmp(argv[2], "error");
	int stream[2], packets[2], cross[2], both[2], one_way[2], hub, sender, full_hub, full_client, narrow[2], stamped[2], room = 20000, on = 1, in_full, in_narrow, listening;

	begin(argc, argv);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	send_text(stream[0], "last");
	send_text(stream[1], "never read");
	close(stream[0]);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
	if (with_error)
		send_text(packets[0], "behind");
	send_text(packets[1], "never read");
	close(packets[0]);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, cross));
	send_text(cross[0], "then nothing");
	must(shutdown(cross[0], SHUT_WR));
	must(shutdown(cross[1], SHUT_WR));
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, both));
	send_text(both[0], "queued");
	must(shutdown(both[1], SHUT_WR));
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, one_way));
	send_text(one_way[0], "one");
	must(shutdown(one_way[0], SHUT_RD));
	must(shutdown(one_way[1], SHUT_WR));

	hub = unix_bound(SOCK_DGRAM, "hub");
	sender = unix_bound(SOCK_DGRAM, "@closed");
	send_to(sender, "hub", "first");
	send_to(sender, "hub", "second");
	close(sender);
	sender = unix_bound(SOCK_DGRAM, "closed-path");
	send_to(sender, "hub", "third");
	close(sender);
	must(unlink("closed-path"));
	full_hub = unix_bound(SOCK_DGRAM, "@full");
	full_client = unix_client(SOCK_DGRAM, "@full");
	in_full = fill(full_client, 10);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, narrow));
	must(setsockopt(narrow[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
	in_narrow = fill(narrow[0], 3000);
	listening = unix_listening(SOCK_STREAM, "@listening", 2);
	for (int i = 0; i < 2; i++) {
		int fd = i ? listening : hub;
		must(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
		must(setsockopt(fd, SOL_SOCKET, SO_PASSSEC, &on, sizeof on));
		setsockopt(fd, SOL_SOCKET, SO_PASSPIDFD, &on, sizeof on);
	}
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, stamped));
	must(setsockopt(stamped[1], SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on));
	send_text(stamped[0], "stamped");
	check(!is_writable(narrow[0]), "the narrow one is not full");
	ready();
	wait_for_go();
	check_state();

	expect_text(stream[1], "last");
	expect_error(stream[1], ECONNRESET);
	expect_text(stream[1], "");
	if (!with_error || names_matter)
		expect_error(packets[1], ECONNRESET);
	if (with_error)
		expect_text(packets[1], "behind");
	expect_text(packets[1], "");
	expect_text(cross[1], "then nothing");
	expect_text(cross[1], "");
	expect_text(cross[0], "");
	check(send(cross[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "it can be written to");
	expect_text(both[1], "queued");
	check(send(both[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "the datagram socket can be written to");
	send_text(both[0], "more");
	expect_text(both[1], "more");
	expect_text(one_way[1], "one");
	expect_text(one_way[0], "");
	send_text(one_way[0], "two");
	expect_text(one_way[1], "two");

	expect_stamped(stamped[1], "stamped");
	expect_from(hub, "first", "@closed");
	expect_from(hub, "second", "@closed");
	expect_from(hub, "third", "closed-path");
	check(access("closed-path", F_OK) == -1, "the node of a closed sender is back");
	check(!is_writable(full_client) && send(full_client, "x", 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "the full queue takes more");
	drain(full_hub, in_full, 10);
	check(is_writable(full_client), "the empty queue takes nothing");
	check(!is_writable(narrow[0]), "the full buffer takes more");
	drain(narrow[1], in_narrow, 3000);
	check(is_writable(narrow[0]), "the empty buffer takes nothing");
	for (int i = 0; i < 2; i++) {
		int fd = i ? listening : hub;
		check(option(fd, SO_PASSCRED) == 1 && option(fd, SO_PASSSEC) == 1, "it asks for no credentials");
		if (getsockopt(fd, SOL_SOCKET, SO_PASSPIDFD, &room, &(socklen_t){sizeof room}) == 0)
			check(room == 1, "it asks for no pidfd");
	}
	pass();
}
