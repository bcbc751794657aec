/*
 * Named stream or seqpacket sockets: a server process that listens, clients of another process that are connected, one with
 * a name of its own; names, permissions and owner of the node stay, connections work, and so do new ones.
 * Second argument: stream or seqpacket; third: the name ("@…" is abstract).
 */
#include "sockets.h"

static void serve(int listening, int type, const char *name)
{
	int ends[3], fresh;

	for (int i = 0; i < 3; i++)
		ends[i] = must(accept(listening, NULL, NULL));
	send_text(ends[0], "from the server");
	keep_state();
	must(write(3, "x", 1));
	wait_for_go();
	check_state();
	for (int i = 0; i < 3; i++)
		expect_names(ends[i], name, i == 1 ? "@client" : "");
	for (int i = 0; i < 3; i++) {
		char text[32];
		snprintf(text, sizeof text, "client %d", i);
		expect_text(ends[i], text);
		send_text(ends[i], text);
	}
	(void)type;
	fresh = must(accept(listening, NULL, NULL));
	send_text(fresh, "new");
	child_done();
}

int main(int argc, char **argv)
{
	int type = argc > 2 && !strcmp(argv[2], "seqpacket") ? SOCK_SEQPACKET : SOCK_STREAM;
	const char *name = argc > 3 ? argv[3] : "server";
	int ends[3], up[2], fresh, listening;
	struct stat before, now;
	char byte;
	pid_t server;

	begin(argc, argv);
	must(pipe(up));
	must(dup2(up[1], 100));
	close(up[1]);
	close(up[0] == 3 ? -1 : 3);
	if (up[0] == 3) {
		up[0] = must(dup(3));
		close(3);
	}
	must(dup2(100, 3));
	close(100);
	listening = unix_listening(type, name, 7);
	if (*name != '@') {
		must(chmod(name, 0620));
		must(chown(name, 12, 34));
	}
	server = must(fork());
	if (server == 0)
		serve(listening, type, name);
	close(listening);
	for (int i = 0; i < 3; i++) {
		ends[i] = i == 1 ? unix_bound(type, "@client") : unix_socket(type);
		must(unix_connect(ends[i], name));
	}
	must(read(up[0], &byte, 1));
	for (int i = 0; i < 3; i++) {
		char text[32];
		snprintf(text, sizeof text, "client %d", i);
		send_text(ends[i], text);
		if (i != 1)
			shutdown(ends[i], i == 2 ? SHUT_WR : 99);
	}
	if (*name != '@')
		must(stat(name, &before));
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < 3; i++)
		expect_names(ends[i], i == 1 ? "@client" : "", name);
	expect_text(ends[0], "from the server");
	if (*name != '@') {
		must(stat(name, &now));
		check(now.st_mode == before.st_mode && now.st_uid == 12 && now.st_gid == 34, "the node has mode %o, owner %d:%d", now.st_mode, now.st_uid, now.st_gid);
	}
	fresh = unix_client(type, name);
	child_passed(server);
	expect_text(fresh, "new");
	for (int i = 0; i < 3; i++) {
		char text[32];
		snprintf(text, sizeof text, "client %d", i);
		expect_text(ends[i], text);
	}
	pass();
}
