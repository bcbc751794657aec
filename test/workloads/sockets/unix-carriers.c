/*
 * Descriptors in streams stay with the very bytes that they were sent with, however little is read at a time; urgent bytes
 * keep their place, also after they were read; a socket carries a socket that carries a pipe; an epoll set travels in the
 * queue of a socket that it watches; an offset for looking ahead stays what the program made it.
 */
#include <sys/epoll.h>
#include "rights.h"

#include <linux/sockios.h>

static void expect_offset(int fd, int offset)
{
	int got = 99;
	socklen_t size = sizeof got;

	must(getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &got, &size));
	check(got == offset, "fd %d looks ahead from %d, not %d", fd, got, offset);
}

static bool at_mark(int fd)
{
	int is = 0;

	must(ioctl(fd, SIOCATMARK, &is));
	return is;
}

static void expect_urgent(int fd, int byte)
{
	unsigned char got = 0;
	ssize_t length = recv(fd, &got, 1, MSG_OOB | MSG_DONTWAIT);

	check(byte < 0 ? length == -1 && errno == EINVAL : length == 1 && got == byte, "fd %d: the urgent byte is %d (%zd), not %d", fd, got, length, byte);
}

int main(int argc, char **argv)
{
	int exact[2], urgent[2], first[2], taken[2], in_line[2], one = 1, outer[2], middle[2], inner[2], pipes[2], loop[2], deep[2], carrier[2], set, peeked[2], offset = 3;
	int got[6] = {-1, -1, -1, -1, -1, -1};
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77}, seen;
	char text[20] = "";

	begin(argc, argv);
	must(pipe(pipes));
	must(write(pipes[1], "piped", 5));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, exact));
	send_text(exact[0], "plain ");
	send_text(exact[0], "text ");
	send_fds(exact[0], "two", (int[]){pipes[0], pipes[1]}, 2);
	send_fds(exact[0], "one", (int[]){pipes[1]}, 1);
	send_text(exact[0], "between");
	send_fds(exact[0], "x", (int[]){pipes[0]}, 1);
	send_text(exact[0], "end");

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, urgent));
	send_text(urgent[0], "before");
	send_fds(urgent[0], "fd", (int[]){pipes[0]}, 1);
	send_text(urgent[0], "more");
	must(send(urgent[0], "!", 1, MSG_OOB));
	send_text(urgent[0], "after");
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, first));
	must(send(first[0], "?", 1, MSG_OOB));
	send_text(first[0], "rest");
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, taken));
	send_text(taken[0], "left");
	must(send(taken[0], "#", 1, MSG_OOB));
	send_text(taken[0], "right");
	expect_urgent(taken[1], '#');
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, in_line));
	must(setsockopt(in_line[1], SOL_SOCKET, SO_OOBINLINE, &one, sizeof one));
	send_text(in_line[0], "one");
	must(send(in_line[0], "%", 1, MSG_OOB));
	send_text(in_line[0], "line");

	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, inner));
	send_fds(inner[0], "pipe", (int[]){pipes[0]}, 1);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, middle));
	send_text(middle[0], "..");
	send_fds(middle[0], "inner", (int[]){inner[1]}, 1);
	close(inner[1]);
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, outer));
	send_fds(outer[0], "middle", (int[]){middle[1], middle[0]}, 2);
	close(middle[0]);
	close(middle[1]);

	/* Each carries the other, and nobody else has them. */
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, loop));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, deep));
	send_fds(loop[0], "deep", (int[]){deep[1]}, 1);
	send_fds(deep[0], "loop", (int[]){loop[0]}, 1);
	close(deep[1]);
	close(loop[0]);

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, peeked));
	send_text(peeked[0], "0123456789");
	must(setsockopt(peeked[1], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));

	set = must(epoll_create1(0));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, carrier));
	must(epoll_ctl(set, EPOLL_CTL_ADD, carrier[1], &event));
	send_fds(carrier[0], "set", (int[]){set}, 1);
	close(set);
	ready();
	wait_for_go();
	check_state();

	expect_offset(peeked[1], 3);
	expect_offset(exact[1], -1);
	expect_offset(urgent[1], -1);
	check(recv(peeked[1], text, 2, MSG_PEEK) == 2 && !memcmp(text, "34", 2), "a look ahead shows \"%s\"", text);
	receive_fds(carrier[1], 50, "set", &set, 1);
	check(epoll_wait(set, &seen, 1, 0) == 0, "the epoll set sees something");
	send_text(carrier[0], "x");
	check(epoll_wait(set, &seen, 1, 0) == 1 && seen.data.u64 == 77, "the epoll set says nothing");
	receive_fds(exact[1], 4, "plai", NULL, 0);
	receive_fds(exact[1], 7, "n text ", NULL, 0);
	receive_fds(exact[1], 1, "t", got, 2);
	check(read(got[0], text, 5) == 5 && !memcmp(text, "piped", 5), "the pipe in flight has \"%s\"", text);
	close(got[0]);
	close(got[1]);
	receive_fds(exact[1], 50, "woone", got, 1);
	close(got[0]);
	receive_fds(exact[1], 50, "betweenx", got, 1);
	close(got[0]);
	receive_fds(exact[1], 50, "end", NULL, 0);

	check(!at_mark(urgent[1]), "the mark is at the beginning");
	receive_fds(urgent[1], 50, "beforefd", got, 1);
	close(got[0]);
	receive_fds(urgent[1], 50, "more", NULL, 0);
	check(at_mark(urgent[1]), "the mark is elsewhere");
	expect_urgent(urgent[1], '!');
	receive_fds(urgent[1], 50, "after", NULL, 0);
	check(at_mark(first[1]), "the mark is not at the beginning");
	expect_urgent(first[1], '?');
	receive_fds(first[1], 50, "rest", NULL, 0);
	expect_urgent(taken[1], -1);
	receive_fds(taken[1], 50, "left", NULL, 0);
	check(at_mark(taken[1]), "the mark of a byte that was read is gone");
	receive_fds(taken[1], 50, "right", NULL, 0);
	receive_fds(in_line[1], 50, "one", NULL, 0);
	check(at_mark(in_line[1]), "the mark of an inline byte is gone");
	receive_fds(in_line[1], 50, "%line", NULL, 0);

	receive_fds(outer[1], 50, "middle", got, 2);
	expect_offset(got[0], -1);
	receive_fds(got[0], 1, ".", NULL, 0);
	receive_fds(got[0], 50, ".inner", got + 2, 1);
	receive_fds(got[2], 50, "pipe", got + 3, 1);
	must(write(pipes[1], "again", 5));
	check(read(got[3], text, 5) == 5 && !memcmp(text, "again", 5), "the pipe deep inside is another one");
	expect_talk(got[0], got[1]);
	receive_fds(loop[1], 50, "deep", got + 4, 1);
	receive_fds(got[4], 50, "loop", got + 5, 1);
	expect_talk(got[5], loop[1]);
	expect_talk(got[4], deep[0]);
	pass();
}
