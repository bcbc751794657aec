/* What workloads about UNIX sockets share. */
#ifndef FLOE_TEST_SOCKETS_H
#define FLOE_TEST_SOCKETS_H

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "workload.h"

/* A network namespace of one's own begins with its loopback device down, and the peer tries connections over it. */
static inline void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));

	must(ioctl(fd, SIOCGIFFLAGS, &request));
	request.ifr_flags |= IFF_UP;
	must(ioctl(fd, SIOCSIFFLAGS, &request));
	close(fd);
}

/*
 * The peer loses names of connected sockets and some more: a last argument "nameless" leaves that out.
 */
static bool names_matter = true;

static inline void begin(int argc, char **argv)
{
	loopback_up();
	names_matter = argc < 3 || strcmp(argv[argc - 1], "nameless");
}

/* "@name" is an abstract name, anything else a path. */
static inline socklen_t unix_name(struct sockaddr_un *address, const char *name)
{
	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	strncpy(address->sun_path, name, sizeof address->sun_path - 1);
	if (*name == '@')
		address->sun_path[0] = 0;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + (*name == '@' ? 0 : 1));
}

static inline int unix_socket(int type)
{
	return must(socket(AF_UNIX, type, 0));
}

static inline int unix_bound(int type, const char *name)
{
	struct sockaddr_un address;
	socklen_t length = unix_name(&address, name);
	int fd = unix_socket(type);

	must(bind(fd, (struct sockaddr *)&address, length));
	return fd;
}

static inline int unix_listening(int type, const char *name, int backlog)
{
	int fd = unix_bound(type, name);

	must(listen(fd, backlog));
	return fd;
}

static inline int unix_connect(int fd, const char *name)
{
	struct sockaddr_un address;
	socklen_t length = unix_name(&address, name);

	return connect(fd, (struct sockaddr *)&address, length);
}

static inline int unix_client(int type, const char *name)
{
	int fd = unix_socket(type);

	must(unix_connect(fd, name));
	return fd;
}

/* The name of a socket or of its peer as text, "" for none, "-" when not connected. */
static inline const char *name_text(int fd, bool peer)
{
	static char text[2][120];
	static int turn;
	struct sockaddr_un address;
	socklen_t length = sizeof address;
	char *to = text[turn = !turn];

	memset(&address, 0, sizeof address);
	if ((peer ? getpeername : getsockname)(fd, (struct sockaddr *)&address, &length))
		return "-";
	length = length > offsetof(struct sockaddr_un, sun_path) ? length - (socklen_t)offsetof(struct sockaddr_un, sun_path) : 0;
	if (length > 108)
		length = 108;
	memcpy(to, address.sun_path, length);
	to[length] = 0;
	if (length > 0 && to[0] == 0)
		to[0] = '@';
	return to;
}

static inline void expect_names(int fd, const char *own, const char *peer)
{
	if (!names_matter && (!strcmp(own, "") || strcmp(peer, "-")))
		return;
	check(!strcmp(name_text(fd, false), own), "fd %d is called \"%s\", not \"%s\"", fd, name_text(fd, false), own);
	check(!strcmp(name_text(fd, true), peer), "the peer of fd %d is called \"%s\", not \"%s\"", fd, name_text(fd, true), peer);
}

/* The next message of any kind of socket is this text; nothing waits when `text` is NULL, the end has come when it is "". */
static inline void expect_text(int fd, const char *text)
{
	char got[4096];
	size_t room = sizeof got - 1;
	int type = 0, error;
	socklen_t size = sizeof type;
	ssize_t length;

	must(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size));
	/* A stream has no boundaries: more may follow. */
	if (type == SOCK_STREAM && text != NULL && *text)
		room = strlen(text);
	length = recv(fd, got, room, MSG_DONTWAIT);
	error = errno;

	if (text == NULL) {
		check(length == -1 && error == EAGAIN, "fd %d: %zd bytes (errno %d) where nothing should be", fd, length, error);
		return;
	}
	got[length < 0 ? 0 : length] = 0;
	check(length == (ssize_t)strlen(text) && !strcmp(got, text), "fd %d: got \"%s\" (%zd, errno %d), not \"%s\"", fd, got, length, error, text);
}

static inline void send_text(int fd, const char *text)
{
	check(send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)strlen(text), "fd %d does not take \"%s\": %s", fd, text, strerror(errno));
}

/* Both directions work. */
static inline void expect_talk(int one, int other)
{
	send_text(one, "there");
	expect_text(other, "there");
	send_text(other, "and back");
	expect_text(one, "and back");
}

#endif
