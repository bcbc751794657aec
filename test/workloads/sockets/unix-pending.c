/* Clients, one with a name, that have connected and are not accepted yet: they are, later, in order. */
#include "sockets.h"

int main(int argc, char **argv)
{
	int type = argc > 2 && !strcmp(argv[2], "seqpacket") ? SOCK_SEQPACKET : SOCK_STREAM;
	int listening = unix_listening(type, "server", 5), early = unix_client(type, "server"), first = unix_bound(type, "@first"), second, server, one;

	server = must(accept(listening, NULL, NULL));
	must(unix_connect(first, "server"));
	second = unix_client(type, "server");
	begin(argc, argv);
	ready();
	wait_for_go();
	check_state();
	expect_talk(early, server);
	expect_names(first, "@first", "server");
	send_text(second, "second");
	send_text(first, "first");
	one = must(accept(listening, NULL, NULL));
	expect_names(one, "server", "@first");
	expect_text(one, "first");
	one = must(accept(listening, NULL, NULL));
	expect_text(one, "second");
	must(fcntl(listening, F_SETFL, O_NONBLOCK));
	check(accept(listening, NULL, NULL) == -1 && errno == EAGAIN, "there is one more client");
	pass();
}
