/*
 * Clients that have connected and are not accepted yet, and have sent data, closed, or both: the server gets all of it in
 * order, with names and credentials, of stream and of seqpacket sockets. With "rights" two have sent descriptors and
 * one an urgent byte, with "lost" one a descriptor that nobody else has.
 */
#include <sys/wait.h>
#include "sockets.h"

static void expect_client(int end, const char *name, pid_t pid)
{
	struct ucred got = {0};
	socklen_t size = sizeof got;

	check(!strcmp(name_text(end, true), name), "the client is called \"%s\", not \"%s\"", name_text(end, true), name);
	must(getsockopt(end, SOL_SOCKET, SO_PEERCRED, &got, &size));
	check(got.pid == pid, "the client is process %d, not %d", got.pid, pid);
}

static void send_descriptor(int to, int fd, const char *text)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec vector = {(void *)text, strlen(text)};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &fd, sizeof fd);
	must((int)sendmsg(to, &message, 0));
}

/* The descriptor that comes with a text; -1: none. */
static int expect_descriptor(int from, const char *text)
{
	char control[CMSG_SPACE(sizeof(int))] = {0}, got[100];
	struct iovec vector = {got, sizeof got};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	ssize_t length = recvmsg(from, &message, MSG_DONTWAIT);
	struct cmsghdr *head = length < 0 ? NULL : CMSG_FIRSTHDR(&message);
	int fd = -1;

	check(length == (ssize_t)strlen(text) && !memcmp(got, text, (size_t)length), "%zd bytes came (errno %d), not \"%s\"", length, errno, text);
	if (head != NULL)
		memcpy(&fd, CMSG_DATA(head), sizeof fd);
	return fd;
}

/* What has been sent with descriptors, and the other ends of these. */
static int streaming = -1, carrier = -1, urgent = -1, pair[2], file = -1;

static void send_rights(void)
{
	int pipes[2];

	file = must(open("file", O_RDWR | O_CREAT, 0600));
	must(pipe(pipes));
	pair[0] = pipes[0];
	pair[1] = pipes[1];
	streaming = unix_client(SOCK_STREAM, "server");
	send_text(streaming, "plain ");
	send_descriptor(streaming, file, "with a file");
	send_text(streaming, "plain");
	send_descriptor(streaming, pair[1], " with a pipe");
	send_text(streaming, "the end");
	carrier = unix_client(SOCK_STREAM, "server");
	send_descriptor(carrier, carrier, "itself");
	urgent = unix_client(SOCK_STREAM, "server");
	send_text(urgent, "before");
	must((int)send(urgent, "!", 1, MSG_OOB));
	send_text(urgent, "after");
}

static void check_rights(int listening)
{
	int end = must(accept(listening, NULL, NULL)), got;
	char byte = 0;

	/* A read goes on to the end of what came with descriptors. */
	got = expect_descriptor(end, "plain with a file");
	must((int)lseek(file, 77, SEEK_SET));
	check(lseek(got, 0, SEEK_CUR) == 77, "the file is another open one");
	got = expect_descriptor(end, "plain with a pipe");
	check(write(got, "x", 1) == 1 && read(pair[0], &(char){0}, 1) == 1, "the pipe is another");
	check(expect_descriptor(end, "the end") == -1, "there is one more descriptor");
	expect_talk(end, streaming);
	end = must(accept(listening, NULL, NULL));
	got = expect_descriptor(end, "itself");
	expect_talk(got, end);
	end = must(accept(listening, NULL, NULL));
	expect_text(end, "before");
	check(recv(end, &byte, 1, MSG_OOB | MSG_DONTWAIT) == 1 && byte == '!', "the urgent byte is %d (errno %d)", byte, errno);
	expect_text(end, "after");
}

int main(int argc, char **argv)
{
	int listening = unix_listening(SOCK_STREAM, "server", 20), packets = unix_listening(SOCK_SEQPACKET, "@packets", 5);
	int talker, silent, gone, half, packet, end;
	pid_t me = getpid(), dead;

	begin(argc, argv);
	talker = unix_bound(SOCK_STREAM, "@talker");
	must(unix_connect(talker, "server"));
	send_text(talker, "hello ");
	send_text(talker, "world");
	silent = unix_client(SOCK_STREAM, "server");
	gone = unix_bound(SOCK_STREAM, "@gone");
	must(unix_connect(gone, "server"));
	send_text(gone, "last words");
	close(gone);
	gone = unix_bound(SOCK_STREAM, "gone-path");
	must(unix_connect(gone, "server"));
	close(gone);
	must(unlink("gone-path"));
	half = unix_client(SOCK_STREAM, "server");
	send_text(half, "no more");
	must(shutdown(half, SHUT_WR));
	dead = must(fork());
	if (dead == 0) {
		send_text(unix_client(SOCK_STREAM, "server"), "of the dead");
		_exit(0);
	}
	must(waitpid(dead, NULL, 0));
	if (argc > 2 && !strcmp(argv[2], "rights"))
		send_rights();
	if (argc > 2 && !strcmp(argv[2], "lost")) {
		end = must(open("/dev/zero", O_RDONLY));
		send_descriptor(unix_client(SOCK_STREAM, "server"), end, "with a descriptor");
		close(end);
	}
	packet = unix_client(SOCK_SEQPACKET, "@packets");
	send_text(packet, "one");
	send_text(packet, "two");
	ready();
	wait_for_go();
	check_state();

	send_text(talker, "!");
	end = must(accept(listening, NULL, NULL));
	expect_client(end, "@talker", me);
	expect_text(end, "hello world!");
	expect_talk(end, talker);
	end = must(accept(listening, NULL, NULL));
	expect_client(end, "", me);
	expect_talk(end, silent);
	end = must(accept(listening, NULL, NULL));
	expect_client(end, "@gone", me);
	expect_text(end, "last words");
	expect_text(end, "");
	end = must(accept(listening, NULL, NULL));
	expect_client(end, "gone-path", me);
	expect_text(end, "");
	end = must(accept(listening, NULL, NULL));
	expect_client(end, "", me);
	expect_text(end, "no more");
	expect_text(end, "");
	send_text(end, "answer");
	expect_text(half, "answer");
	end = must(accept(listening, NULL, NULL));
	expect_client(end, "", dead);
	expect_text(end, "of the dead");
	expect_text(end, "");
	if (argc > 2 && !strcmp(argv[2], "rights"))
		check_rights(listening);
	if (argc > 2 && !strcmp(argv[2], "lost"))
		expect_text(must(accept(listening, NULL, NULL)), "with a descriptor");
	must(fcntl(listening, F_SETFL, O_NONBLOCK));
	check(accept(listening, NULL, NULL) == -1 && errno == EAGAIN, "there is one more client");
	end = must(accept(packets, NULL, NULL));
	expect_text(end, "one");
	expect_text(end, "two");
	expect_text(end, NULL);
	expect_talk(end, packet);
	pass();
}
