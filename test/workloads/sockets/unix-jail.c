/*
 * A process with a root directory of its own that listens and has a datagram socket there, by absolute names, and one outside that
 * is connected to both by other names.
 */
#include <sys/wait.h>
#include "sockets.h"

int main(int argc, char **argv)
{
	int up[2], down[2], stream, dgram, fresh, status;
	pid_t child;
	char byte;

	begin(argc, argv);
	must(mkdir("jail", 0755));
	must(mkdir("jail/run", 0755));
	must(pipe(up));
	must(pipe(down));
	child = must(fork());
	if (child == 0) {
		int listening, hub, end;

		must(chroot("jail"));
		must(chdir("/"));
		listening = unix_listening(SOCK_STREAM, "/run/server", 3);
		hub = unix_bound(SOCK_DGRAM, "/run/hub");
		must((int)write(up[1], "x", 1));
		end = must(accept(listening, NULL, NULL));
		must((int)write(up[1], "x", 1));
		while (recv(hub, &byte, 1, MSG_PEEK) != 1)
			;
		must((int)write(up[1], "x", 1));
		must((int)read(down[0], &byte, 1));
		expect_names(listening, "/run/server", "-");
		expect_names(end, "/run/server", "");
		expect_names(hub, "/run/hub", "-");
		expect_text(hub, "queued");
		expect_text(end, "hello");
		send_text(end, "from the jail");
		end = must(accept(listening, NULL, NULL));
		send_text(end, "again");
		_exit(differences_seen() != 0);
	}
	must((int)read(up[0], &byte, 1));
	stream = unix_client(SOCK_STREAM, "jail/run/server");
	dgram = unix_client(SOCK_DGRAM, "jail/run/hub");
	send_text(dgram, "queued");
	send_text(stream, "hello");
	must((int)read(up[0], &byte, 1));
	must((int)read(up[0], &byte, 1));
	ready();
	wait_for_go();
	check_state();
	expect_names(stream, "", "/run/server");
	expect_names(dgram, "", "/run/hub");
	fresh = unix_client(SOCK_STREAM, "jail/run/server");
	must((int)write(down[1], "x", 1));
	must(waitpid(child, &status, 0));
	check(status == 0, "the process in the jail ended with %x", status);
	expect_text(stream, "from the jail");
	expect_text(fresh, "again");
	pass();
}
