/*
 * Credentials of peers (SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD): of pairs, shared or not; of servers and clients with other
 * users and groups, which have changed since; of processes that are dead; of a server that closed its listening socket, and
 * of one that listened again as somebody else; of a message whose sender is dead.
 */
#include <grp.h>
#include <sys/syscall.h>
#include "sockets.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static void become(uid_t uid, gid_t gid)
{
	/* Of this thread and its effective ids only; groups are set by whoever still is root. */
	must((int)syscall(SYS_setresgid, -1, gid, -1));
	must((int)syscall(SYS_setresuid, -1, uid, -1));
}

static void root_again(void)
{
	must((int)syscall(SYS_setresuid, -1, 0, -1));
	must((int)syscall(SYS_setresgid, -1, 0, -1));
}

static void expect_peer(const char *what, int fd, pid_t pid, uid_t uid, gid_t gid)
{
	struct ucred got = {0};
	socklen_t size = sizeof got;

	must(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &got, &size));
	check(got.pid == pid && got.uid == uid && got.gid == gid, "%s sees %d/%d/%d, not %d/%d/%d", what, got.pid, got.uid, got.gid, pid, uid, gid);
}

static void expect_groups(const char *what, int fd, const gid_t *groups, int count)
{
	gid_t got[32];
	socklen_t size = sizeof got;

	must(getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, got, &size));
	check((int)(size / sizeof *got) == count && !memcmp(got, groups, size), "%s sees %d groups, or others", what, (int)(size / sizeof *got));
}

/* The very process, if the kernel can tell. */
static void expect_pidfd(const char *what, int fd, pid_t pid)
{
	int pidfd = -1;
	socklen_t size = sizeof pidfd;
	char path[64], text[1024] = "", *numbers, *last;
	int info;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size))
		return;
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
	info = must(open(path, O_RDONLY));
	must((int)read(info, text, sizeof text - 1));
	/* In a pid namespace of one's own one's number is the last. */
	numbers = strstr(text, "\nNSpid:");
	must(numbers == NULL ? -1 : 0);
	*strchr(numbers + 1, '\n') = 0;
	last = strrchr(numbers, '\t');
	check(last != NULL && atoi(last + 1) == pid, "%s: the pidfd of the peer is not of process %d: %s", what, pid, text);
	close(info);
	close(pidfd);
}

static void send_fd(int over, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec vector = {"x", 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &fd, sizeof fd);
	must((int)sendmsg(over, &message, 0));
}

static int receive_fd(int over)
{
	char control[CMSG_SPACE(sizeof(int))] = {0}, byte;
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	int fd = -1;

	must((int)recvmsg(over, &message, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

static void expect_sender(int fd, const char *text, pid_t pid, uid_t uid)
{
	char control[CMSG_SPACE(sizeof(struct ucred))] = {0}, got[50] = "";
	struct iovec vector = {got, sizeof got};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct ucred sender = {0};

	must((int)recvmsg(fd, &message, MSG_DONTWAIT));
	memcpy(&sender, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof sender);
	check(!strcmp(got, text) && sender.pid == pid && sender.uid == uid, "\"%s\" came from process %d of user %d, not %d of %d", got, sender.pid, sender.uid, pid, uid);
}

int main(int argc, char **argv)
{
	const gid_t old_groups[] = {7, 11, 13}, groups[] = {4, 5};
	int pair[2], dgrams[2], over[2], messages[2], listening, lonely, client, server, orphan, orphan_server, first, second, first_end, second_end, one = 1;
	int dead_pair, dead_client_end, foreign_end;
	pid_t me = getpid(), dead, child;
	char folder[200];

	must(setgroups(3, old_groups));
	begin(argc, argv);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, dgrams));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, over));
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, messages));
	must(setsockopt(messages[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));

	/* A directory that only root may search: whoever connects later must not fall over that. */
	must(mkdir("private", 0755));
	become(1001, 2001);
	listening = unix_socket(SOCK_STREAM);
	root_again();
	{
		struct sockaddr_un address;
		socklen_t length = unix_name(&address, "private/server");
		must(bind(listening, (struct sockaddr *)&address, length));
	}
	must(chmod("private/server", 0777));
	become(1001, 2001);
	must(listen(listening, 5));
	root_again();
	must(setgroups(2, groups));

	/* Killed and gone: what it made stays. */
	dead = must(fork());
	if (dead == 0) {
		int made[2], to;

		become(1002, 2002);
		must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, made));
		to = unix_client(SOCK_STREAM, "private/server");
		send_text(to, "last");
		send_fd(over[1], made[0]);
		send_text(messages[0], "from the dead");
		_exit(0);
	}
	dead_pair = receive_fd(over[0]);
	must(waitpid(dead, NULL, 0));
	dead_client_end = must(accept(listening, NULL, NULL));

	/* Another process, which lives. */
	child = must(fork());
	if (child == 0) {
		int mine, hidden = unix_listening(SOCK_SEQPACKET, "@of-the-child", 3);

		become(1003, 2003);
		mine = unix_client(SOCK_STREAM, "private/server");
		root_again();
		must(setgroups(0, NULL));
		keep_state();
		send_fd(over[1], hidden);
		wait_for_go();
		check_state();
		expect_peer("the client", mine, me, 1001, 2001);
		expect_groups("the client", mine, old_groups, 3);
		expect_pidfd("the client", mine, me);
		expect_peer("the shared pair in the child", pair[1], me, 0, 0);
		expect_pidfd("the shared pair in the child", pair[1], me);
		child_done();
	}
	close(pair[1]);
	pair[1] = receive_fd(over[0]);
	foreign_end = unix_client(SOCK_SEQPACKET, "@of-the-child");
	close(pair[1]);
	server = must(accept(listening, NULL, NULL));

	/* The listening socket is closed: the connection stays. */
	become(1004, 2004);
	lonely = unix_listening(SOCK_STREAM, "@lonely", 3);
	root_again();
	become(1005, 2005);
	orphan = unix_client(SOCK_STREAM, "@lonely");
	root_again();
	orphan_server = must(accept(lonely, NULL, NULL));
	close(lonely);

	/* It listens again as somebody else; one waits, one does not. */
	first = unix_client(SOCK_STREAM, "private/server");
	first_end = must(accept(listening, NULL, NULL));
	become(1006, 2006);
	must(listen(listening, 6));
	root_again();
	second = unix_client(SOCK_STREAM, "private/server");
	client = unix_socket(SOCK_STREAM);
	must(chmod("private", 0700));
	must(getcwd(folder, sizeof folder) == NULL ? -1 : 0);
	ready();
	wait_for_go();
	check_state();

	expect_peer("the pair", pair[0], me, 0, 0);
	expect_groups("the pair", pair[0], old_groups, 3);
	expect_pidfd("the pair", pair[0], me);
	expect_peer("the datagram pair", dgrams[0], me, 0, 0);
	expect_peer("the other end of the datagram pair", dgrams[1], me, 0, 0);
	expect_peer("the pair of the dead", dead_pair, dead, 1002, 2002);
	expect_groups("the pair of the dead", dead_pair, groups, 2);
	expect_peer("the server's end of the dead client", dead_client_end, dead, 1002, 2002);
	expect_text(dead_client_end, "last");
	expect_text(dead_client_end, "");
	expect_sender(messages[1], "from the dead", dead, 0); /* messages tell real ids */
	expect_peer("the server", server, child, 1003, 2003);
	expect_groups("the server", server, groups, 2);
	expect_pidfd("the server", server, child);
	expect_peer("the client of the child", foreign_end, child, 0, 0);
	expect_peer("the orphan", orphan, me, 1004, 2004);
	expect_peer("the orphan's server", orphan_server, me, 1005, 2005);
	expect_names(orphan_server, "@lonely", "");
	expect_names(orphan, "", "@lonely");
	expect_talk(orphan, orphan_server);
	expect_peer("the first client", first, me, 1001, 2001);
	expect_peer("the first end", first_end, me, 0, 0);
	expect_talk(first, first_end);
	expect_peer("the second client", second, me, 1006, 2006);
	second_end = must(accept(listening, NULL, NULL));
	expect_peer("the second end", second_end, me, 0, 0);
	expect_talk(second, second_end);
	must(unix_connect(client, "private/server"));
	expect_peer("a new client", client, me, 1006, 2006);
	child_passed(child);
	pass();
}
