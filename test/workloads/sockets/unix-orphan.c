/*
 * A pair of sockets whose maker is dead, in a process that outlives it. Not a case of its own: see unix.test.ts, which gives the
 * number of the maker to somebody else before the restore. Says what the peer's credentials are now.
 */
#include <signal.h>
#include "sockets.h"

int main(int argc, char **argv)
{
	int pair[2], one = 1;
	struct ucred got = {0};
	socklen_t size = sizeof got;
	sigset_t set;

	(void)argc, (void)argv;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	must(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
	send_text(pair[0], "from the maker");
	if (must(fork()) != 0)
		_exit(0);
	must(setsid());
	must(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &got, &size));
	printf("ready %d %d\n", getpid(), got.pid);
	fflush(stdout);
	must_zero(sigwait(&set, &one));
	must(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &got, &size));
	printf("peer %d user %d\n", got.pid, got.uid);
	fflush(stdout);
	expect_text(pair[1], "from the maker");
	expect_talk(pair[0], pair[1]);
	if (differences_seen())
		fail("%u differences", differences_seen());
	must(write(1, "PASS\n", 5));
	return 0;
}
