/*
 * A listening socket and a client whose name was given in a mount namespace that is gone, on a file system that nobody else sees;
 * and one whose name has been hidden by another mount since. Names and connections stay, nothing comes to light.
 */
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include "sockets.h"

static void send_fds(int over, const int *fds)
{
	char control[CMSG_SPACE(sizeof(int) * 2)] = {0};
	struct iovec vector = {"x", 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int) * 2);
	memcpy(CMSG_DATA(head), fds, sizeof(int) * 2);
	must((int)sendmsg(over, &message, 0));
}

int main(int argc, char **argv)
{
	int over[2], fds[2], server, fresh;
	char path[100], folder[200], byte, control[CMSG_SPACE(sizeof(int) * 2)];
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	pid_t child;

	begin(argc, argv);
	must(mkdir("private", 0755));
	must(getcwd(folder, sizeof folder) == NULL ? -1 : 0);
	snprintf(path, sizeof path, "%.80s/private/server", folder);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, over));
	child = must(fork());
	if (child == 0) {
		must(unshare(CLONE_NEWNS));
		must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
		must(mount("none", "private", "tmpfs", 0, NULL));
		fds[0] = unix_listening(SOCK_STREAM, path, 3);
		fds[1] = unix_client(SOCK_STREAM, path);
		send_fds(over[1], fds);
		_exit(0);
	}
	must((int)recvmsg(over[0], &message, 0));
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fds);
	must(waitpid(child, NULL, 0));
	server = must(accept(fds[0], NULL, NULL));
	fresh = unix_bound(SOCK_STREAM, "fresh");
	ready();
	wait_for_go();
	check_state();
	expect_names(fds[0], path, "-");
	expect_names(server, path, "");
	expect_names(fds[1], "", path);
	expect_talk(server, fds[1]);
	check(access(path, F_OK) == -1, "the name of another mount namespace is here");
	check(unix_connect(fresh, path) == -1 && errno == ENOENT, "it leads somewhere");
	pass();
}
