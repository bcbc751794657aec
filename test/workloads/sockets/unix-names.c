/*
 * Names: relative ones and absolute ones, abstract ones, names that were removed or taken by something else since, in a
 * directory that is gone; sockets that were only created, only bound, or listen with nobody connected.
 */
#include "sockets.h"

int main(int argc, char **argv)
{
	char path[200], absolute[300];
	int plain, bound, listening, removed, again, fifo, lost = -1, far, client, server, dotted, pair[2];
	struct stat st;

	begin(argc, argv);
	must(getcwd(path, sizeof path) ? 0 : -1);
	snprintf(absolute, sizeof absolute, "%s/abs", path);
	plain = unix_socket(SOCK_STREAM);
	bound = unix_bound(SOCK_SEQPACKET, "bound");
	listening = unix_listening(SOCK_STREAM, "@lonely", 3);
	removed = unix_listening(SOCK_STREAM, "taken", 2);
	client = unix_client(SOCK_STREAM, "taken");
	server = must(accept(removed, NULL, NULL));
	must(unlink("taken"));
	again = unix_listening(SOCK_STREAM, "taken", 5);
	fifo = unix_bound(SOCK_DGRAM, "fifo");
	must(unlink("fifo"));
	must(mkfifo("fifo", 0600));
	/* The peer makes directories again and leaves them. */
	if (!names_matter)
		goto far_names;
	must(mkdir("folder", 0700));
	must(mkdir("folder/inner", 0700));
	lost = unix_listening(SOCK_STREAM, "folder/inner/lost", 1);
	must(unlink("folder/inner/lost"));
	must(rmdir("folder/inner"));
	must(rmdir("folder"));
far_names:
	far = unix_listening(SOCK_SEQPACKET, absolute, 4);
	dotted = unix_bound(SOCK_DGRAM, "./dotted");
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	{
		struct sockaddr_un address;
		socklen_t length = unix_name(&address, "named-end");
		must(bind(pair[0], (struct sockaddr *)&address, length));
	}
	ready();
	wait_for_go();
	check_state();
	expect_names(plain, "", "-");
	expect_names(bound, "bound", "-");
	expect_names(listening, "@lonely", "-");
	expect_names(removed, "taken", "-");
	expect_names(again, "taken", "-");
	expect_names(fifo, "fifo", "-");
	if (names_matter)
		expect_names(lost, "folder/inner/lost", "-");
	expect_names(far, absolute, "-");
	expect_names(dotted, "./dotted", "-");
	expect_names(client, "", "taken");
	expect_names(server, "taken", "");
	expect_names(pair[0], "named-end", "");
	expect_talk(client, server);
	expect_talk(pair[0], pair[1]);
	check(stat("fifo", &st) == 0 && S_ISFIFO(st.st_mode), "the FIFO is not what it was");
	if (names_matter)
		check(access("folder", F_OK) == -1, "the directory is back");
	close(client);
	client = unix_client(SOCK_STREAM, "taken");
	close(server);
	server = must(accept(again, NULL, NULL));
	expect_talk(client, server);
	must(unix_connect(plain, "@lonely"));
	server = must(accept(listening, NULL, NULL));
	expect_talk(plain, server);
	must(listen(bound, 1));
	client = unix_client(SOCK_SEQPACKET, "bound");
	if (names_matter)
		check(access("named-end", F_OK) == 0, "the node of a connected socket is gone");
	must(unix_client(SOCK_SEQPACKET, absolute));
	pass();
}
