/*
 * Socket pairs of every type with data in their queues: boundaries of messages, empty ones among them; ends whose other side
 * is closed; shutdown states of each side; buffers with a size of their own; queues filled to the brim.
 */
#include "sockets.h"

static unsigned char big[1 << 20], back[1 << 20];

static size_t fill(int fd, size_t step)
{
	size_t done = 0;
	ssize_t got;

	while (done + step <= sizeof big && (got = send(fd, big + done, step, MSG_DONTWAIT)) > 0)
		done += (size_t)got;
	return done;
}

static void expect_big(int fd, size_t length)
{
	size_t done = 0;
	ssize_t got;

	while (done < length && (got = recv(fd, back + done, sizeof back - done, MSG_DONTWAIT)) > 0)
		done += (size_t)got;
	check(done == length && !memcmp(big, back, length), "fd %d: %zu bytes of %zu came back, or others", fd, done, length);
}

int main(int argc, char **argv)
{
	int stream[2], packets[2], dgrams[2], ended[2], ended_packets[2], lonely[2], half[2], deaf[2], both[2], full[2], small[2], many[2];
	size_t in_full, in_small, in_many;
	int size = 40000;

	begin(argc, argv);
	fill_pattern(big, sizeof big, 9);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	send_text(stream[0], "one ");
	send_text(stream[0], "two");
	send_text(stream[1], "back");
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, packets));
	send_text(packets[0], "first");
	send_text(packets[0], "second");
	must(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, dgrams));
	send_text(dgrams[0], "a");
	must(send(dgrams[0], "", 0, 0));
	send_text(dgrams[0], "bc");
	send_text(dgrams[1], "other way");
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ended));
	send_text(ended[0], "last words");
	close(ended[0]);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ended_packets));
	send_text(ended_packets[0], "last");
	send_text(ended_packets[0], "packets");
	close(ended_packets[0]);
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, lonely));
	send_text(lonely[0], "farewell");
	close(lonely[0]);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, half));
	send_text(half[0], "before the end");
	must(shutdown(half[0], SHUT_WR));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, deaf));
	must(shutdown(deaf[0], SHUT_RD));
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, both));
	must(shutdown(both[0], SHUT_RDWR));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, full));
	in_full = fill(full[0], 4096);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, small));
	must(setsockopt(small[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
	in_small = fill(small[0], 1000);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, many));
	in_many = fill(many[0], 100);
	ready();
	wait_for_go();
	check_state();

	expect_text(stream[1], "one two");
	expect_text(stream[0], "back");
	expect_talk(stream[0], stream[1]);
	expect_text(packets[1], "first");
	expect_text(packets[1], "second");
	expect_text(packets[1], NULL);
	expect_talk(packets[1], packets[0]);
	expect_text(dgrams[1], "a");
	expect_text(dgrams[1], "");
	expect_text(dgrams[1], "bc");
	expect_text(dgrams[1], NULL);
	expect_text(dgrams[0], "other way");
	expect_talk(dgrams[0], dgrams[1]);
	expect_text(ended[1], "last words");
	expect_text(ended[1], "");
	check(send(ended[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "a closed stream takes data");
	expect_text(ended_packets[1], "last");
	expect_text(ended_packets[1], "packets");
	expect_text(ended_packets[1], "");
	expect_text(lonely[1], "farewell");
	expect_text(lonely[1], NULL);
	check(send(lonely[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == ECONNREFUSED, "a closed datagram socket takes data: %s", strerror(errno));
	expect_text(half[1], "before the end");
	expect_text(half[1], "");
	send_text(half[1], "still open");
	expect_text(half[0], "still open");
	check(send(half[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "a half-closed stream takes data");
	expect_text(deaf[0], "");
	check(send(deaf[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "a deaf stream takes data");
	send_text(deaf[0], "can talk");
	expect_text(deaf[1], "can talk");
	expect_text(both[0], "");
	expect_text(both[1], "");
	expect_big(full[1], in_full);
	expect_big(small[1], in_small);
	for (size_t at = 0; at < in_many; at += 100)
		if (!check(recv(many[1], back, sizeof back, MSG_DONTWAIT) == 100 && !memcmp(back, big + at, 100), "packet %zu differs", at / 100))
			break;
	expect_text(many[1], NULL);
	expect_talk(full[0], full[1]);
	pass();
}
