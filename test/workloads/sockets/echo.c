/* A server that sends back what it gets, one connection at a time; the argument is its port. Not a case of its own: see sockets-outside.test.ts. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "sockets.h"

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[argc - 1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int server = must(socket(AF_INET, SOCK_STREAM, 0)), client, on = 1;
	static char bytes[65536];
	ssize_t got;

	loopback_up();
	if (getenv("FLOE_ADDRESS"))
		address.sin_addr.s_addr = inet_addr(getenv("FLOE_ADDRESS"));
	must(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(bind(server, (struct sockaddr *)&address, sizeof address));
	must(listen(server, 5));
	must(write(1, "ready\n", 6));
	for (;;) {
		client = must(accept(server, NULL, NULL));
		while ((got = recv(client, bytes, sizeof bytes, 0)) > 0)
			for (ssize_t sent = 0; sent < got;)
				sent += must(send(client, bytes + sent, (size_t)(got - sent), MSG_NOSIGNAL));
		close(client);
	}
}
