/*
 * Datagram sockets: bound ones with messages from several senders, whose addresses are kept; one-sided and mutual
 * connections; one that is connected to a socket that was closed, and one whose partner went to somebody else.
 */
#include "sockets.h"

static void expect_from(int fd, const char *text, const char *from)
{
	struct sockaddr_un address;
	socklen_t length = sizeof address;
	char got[200] = "";
	ssize_t bytes;

	memset(&address, 0, sizeof address);
	bytes = recvfrom(fd, got, sizeof got, MSG_DONTWAIT, (struct sockaddr *)&address, &length);
	check(bytes == (ssize_t)strlen(text) && !strcmp(got, text), "fd %d: got \"%s\" (%zd), not \"%s\"", fd, got, bytes, text);
	if (from != NULL) {
		if (address.sun_path[0] == 0)
			address.sun_path[0] = '@';
		check(length > 2 ? !strcmp(address.sun_path, from) : *from == 0, "\"%s\" came from \"%s\", not \"%s\"", text, length > 2 ? address.sun_path : "", from);
	}
}

static void send_to(int fd, const char *name, const char *text)
{
	struct sockaddr_un address;
	socklen_t length = unix_name(&address, name);

	must(sendto(fd, text, strlen(text), 0, (struct sockaddr *)&address, length));
}

int main(int argc, char **argv)
{
	bool senders = argc > 2 && !strcmp(argv[2], "senders");
	int hub = unix_bound(SOCK_DGRAM, "hub"), spoke = unix_bound(SOCK_DGRAM, "@spoke"), nameless, one, other, widow, gone, pair[2], third;

	if (senders) {
		send_to(spoke, "hub", "from spoke");
		send_to(hub, "@spoke", "from hub");
		send_to(hub, "hub", "from myself");
	}
	nameless = unix_client(SOCK_DGRAM, "hub");
	send_text(nameless, "nobody");
	one = unix_bound(SOCK_DGRAM, "one");
	other = unix_bound(SOCK_DGRAM, "other");
	must(unix_connect(one, "other"));
	must(unix_connect(other, "one"));
	for (int i = 0; i < 20; i++)
		send_text(one, "mutual");
	widow = unix_socket(SOCK_DGRAM);
	gone = unix_bound(SOCK_DGRAM, "@gone");
	must(unix_connect(widow, "@gone"));
	close(gone);
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	third = unix_bound(SOCK_DGRAM, "third");
	if (senders) {
		int error;
		socklen_t size = sizeof error;
		must(unix_connect(pair[1], "third"));
		getsockopt(pair[0], SOL_SOCKET, SO_ERROR, &error, &size);
		send_text(pair[1], "to the third");
	}
	begin(argc, argv);
	ready();
	wait_for_go();
	check_state();
	if (senders) {
		expect_from(hub, "from spoke", "@spoke");
		expect_from(hub, "from myself", "hub");
		expect_from(spoke, "from hub", "hub");
	}
	expect_from(hub, "nobody", "");
	expect_text(hub, NULL);
	expect_names(nameless, "", "hub");
	expect_names(hub, "hub", "-");
	expect_names(one, "one", "other");
	expect_names(other, "other", "one");
	for (int i = 0; i < 20; i++)
		expect_from(other, "mutual", senders ? "one" : NULL);
	expect_talk(one, other);
	send_text(nameless, "again");
	expect_from(hub, "again", "");
	if (names_matter)
		check(send(widow, "x", 1, MSG_NOSIGNAL) == -1 && errno == ECONNREFUSED, "a closed socket takes data: %s", strerror(errno));
	if (senders) {
		expect_from(third, "to the third", "");
		expect_names(pair[1], "", "third");
		check(send(pair[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPERM, "a socket that is connected elsewhere takes data: %s", strerror(errno));
	} else
		expect_talk(pair[0], pair[1]);
	pass();
}
