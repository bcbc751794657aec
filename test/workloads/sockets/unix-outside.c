/*
 * A server that stays outside of a dump, and a program with connections to it: "server FOLDER" and "client FOLDER". The server
 * greets and echoes; the client wants one connection made anew, one closed with what it holds, and a datagram socket that finds
 * its peer again.
 */
#include <poll.h>
#include <signal.h>
#include "sockets.h"

static volatile sig_atomic_t told;

static void tell(int signal)
{
	(void)signal;
	told = 1;
}

static const char *in(const char *folder, const char *name)
{
	static char path[2][100];
	static int turn;

	snprintf(path[turn = !turn], sizeof *path, "%s/%s", folder, name);
	return path[turn];
}

static int serve(const char *folder)
{
	struct pollfd fds[20];
	int count = 2;

	unlink(in(folder, "server"));
	unlink(in(folder, "hub"));
	fds[0] = (struct pollfd){.fd = unix_listening(SOCK_STREAM, in(folder, "server"), 5), .events = POLLIN};
	fds[1] = (struct pollfd){.fd = unix_bound(SOCK_DGRAM, in(folder, "hub")), .events = POLLIN};
	ready();
	for (;;) {
		must(poll(fds, (nfds_t)count, -1));
		if (fds[0].revents) {
			struct stat st;
			int fd = must(accept(fds[0].fd, NULL, NULL));
			must(fstat(fd, &st));
			send_text(fd, "hello");
			printf("accepted %lu\n", (unsigned long)st.st_ino);
			fflush(stdout);
			fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
		}
		for (int i = 1; i < count; i++) {
			char text[100] = "";
			ssize_t length;
			if (fds[i].fd < 0 || !fds[i].revents)
				continue;
			length = recv(fds[i].fd, text, sizeof text - 1, 0);
			if (i == 1) {
				printf("datagram %s\n", text);
				fflush(stdout);
			} else if (length <= 0) {
				close(fds[i].fd);
				fds[i].fd = -1;
			} else
				send_text(fds[i].fd, text);
		}
	}
}

static void expect_waiting(int fd, const char *text)
{
	struct pollfd one = {.fd = fd, .events = POLLIN};

	check(poll(&one, 1, 10000) == 1, "fd %d: nothing comes", fd);
	expect_text(fd, text);
}

int main(int argc, char **argv)
{
	int again, closed, dgram;

	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "server"))
		return serve(argv[2]);
	signal(SIGUSR1, tell);
	again = unix_client(SOCK_STREAM, in(argv[2], "server"));
	expect_waiting(again, "hello");
	closed = unix_client(SOCK_STREAM, in(argv[2], "server"));
	must(poll(&(struct pollfd){.fd = closed, .events = POLLIN}, 1, 10000));
	dgram = unix_client(SOCK_DGRAM, in(argv[2], "hub"));
	ready();
	while (!told)
		poll(NULL, 0, 10);
	expect_waiting(again, "hello");
	send_text(again, "question");
	expect_waiting(again, "question");
	expect_text(closed, "hello");
	expect_text(closed, "");
	send_text(dgram, "by name");
	printf("%s\n", differences_seen() == 0 ? "PASS" : "FAIL");
	return differences_seen() != 0;
}
