/*
 * Errors that wait at UDP sockets: that nobody listens there (ECONNREFUSED), also before a datagram that waits; messages in error queues
 * (IP_RECVERR) with what they are about. IPv4 and IPv6.
 */
#include <time.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <poll.h>

#include "sockets.h"

static socklen_t here(struct sockaddr_storage *address, int family, int port)
{
	memset(address, 0, sizeof *address);
	address->ss_family = (sa_family_t)family;
	((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
	if (family == AF_INET)
		((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)address)->sin6_addr = in6addr_loopback;
	return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static int udp(int family, int port)
{
	struct sockaddr_storage address;
	socklen_t length = here(&address, family, port);
	int fd = must(socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0));

	must(bind(fd, (struct sockaddr *)&address, length));
	return fd;
}

static void connect_to(int fd, int family, int port)
{
	struct sockaddr_storage address;
	socklen_t length = here(&address, family, port);

	must(connect(fd, (struct sockaddr *)&address, length));
}

static void send_at(int fd, int family, int port, const char *text)
{
	struct sockaddr_storage address;
	socklen_t length = here(&address, family, port);

	/* What an earlier one has brought about is told here. */
	if (sendto(fd, text, strlen(text), 0, (struct sockaddr *)&address, length) < 0)
		must((int)sendto(fd, text, strlen(text), 0, (struct sockaddr *)&address, length));
}

static bool has_error(int fd)
{
	struct pollfd one = {.fd = fd};

	return poll(&one, 1, 0) == 1 && (one.revents & POLLERR);
}

static void expect_refused(int fd)
{
	char byte;

	check(has_error(fd), "fd %d has no error", fd);
	check(recv(fd, &byte, 1, 0) == -1 && errno == ECONNREFUSED, "fd %d: %s", fd, strerror(errno));
	check(!has_error(fd), "fd %d still has an error", fd);
}

/* The next message of the error queue is about this text, sent to this port. */
static void expect_about(int fd, const char *text, int port)
{
	char control[400] = {0}, got[64] = "";
	struct sockaddr_storage to = {0};
	struct iovec vector = {got, sizeof got - 1};
	struct msghdr message = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct sock_extended_err error = {0};
	struct cmsghdr *head;

	if (!check(recvmsg(fd, &message, MSG_ERRQUEUE) >= 0, "fd %d: the error queue is empty", fd))
		return;
	head = CMSG_FIRSTHDR(&message);
	if (head != NULL)
		memcpy(&error, CMSG_DATA(head), sizeof error);
	check(!strcmp(got, text) && ntohs(((struct sockaddr_in *)&to)->sin_port) == port, "fd %d: about \"%s\" to port %d", fd, got, ntohs(((struct sockaddr_in *)&to)->sin_port));
	check(error.ee_errno == ECONNREFUSED && (error.ee_origin == SO_EE_ORIGIN_ICMP || error.ee_origin == SO_EE_ORIGIN_ICMP6), "fd %d: error %u from %d", fd, error.ee_errno, error.ee_origin);
}

int main(int argc, char **argv)
{
	const int families[] = {AF_INET, AF_INET6};
	int plain[2], queued[2], behind, peer, on = 1;
	char text[20];

	begin(argc, argv);
	for (int i = 0; i < 2; i++) {
		plain[i] = udp(families[i], 7920 + i);
		connect_to(plain[i], families[i], 9);
		send_text(plain[i], "nobody listens");
		queued[i] = udp(families[i], 7930 + i);
		must(setsockopt(queued[i], i ? IPPROTO_IPV6 : IPPROTO_IP, i ? IPV6_RECVERR : IP_RECVERR, &on, sizeof on));
		send_at(queued[i], families[i], 10, "first");
		send_at(queued[i], families[i], 11, "second");
		check(has_error(plain[i]) && has_error(queued[i]), "there is no error yet");
	}
	behind = udp(AF_INET, 7940);
	peer = udp(AF_INET, 7941);
	connect_to(behind, AF_INET, 7941);
	send_at(peer, AF_INET, 7940, "waits");
	close(peer);
	send_text(behind, "gone");
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < 2; i++) {
		expect_refused(plain[i]);
		expect_about(queued[i], "first", 10);
		expect_about(queued[i], "second", 11);
		check(!has_error(queued[i]), "there is one more error");
	}
	expect_refused(behind);
	check(recv(behind, text, sizeof text, 0) == 5 && !memcmp(text, "waits", 5), "what waited is lost: %s", strerror(errno));
	pass();
}
