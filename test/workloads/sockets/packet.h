/* What workloads about packet sockets share: numbered packets that go round by the loopback device. */
#ifndef FLOE_TEST_PACKET_H
#define FLOE_TEST_PACKET_H

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "sockets.h"

#define PROTOCOL 0x88b7

static inline struct sockaddr_ll on_loopback(int protocol)
{
	return (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)protocol), .sll_ifindex = (int)if_nametoindex("lo")};
}

static inline void set(int fd, int name, int value)
{
	must(setsockopt(fd, SOL_PACKET, name, &value, sizeof value));
}

static inline void expect(int fd, int name, int value)
{
	int now = -1;
	socklen_t size = sizeof now;

	must(getsockopt(fd, SOL_PACKET, name, &now, &size));
	check(now == value, "fd %d: option %d is %x, not %x", fd, name, (unsigned)now, (unsigned)value);
}

static inline int packet_socket(int type)
{
	return must(socket(AF_PACKET, type, 0));
}

static inline void bind_here(int fd, int protocol)
{
	struct sockaddr_ll address = on_loopback(protocol);

	must(bind(fd, (struct sockaddr *)&address, sizeof address));
}

/* A packet of this many bytes, which begins with a number behind its head. */
static inline void fill_packet(unsigned char *packet, unsigned number, size_t length)
{
	memset(packet, (int)(number & 0xff), length);
	packet[12] = PROTOCOL >> 8;
	packet[13] = PROTOCOL & 0xff;
	memcpy(packet + ETH_HLEN, &number, sizeof number);
}

static inline void send_number(int fd, unsigned number, size_t length)
{
	unsigned char packet[2048];
	struct sockaddr_ll to = on_loopback(PROTOCOL);

	fill_packet(packet, number, length);
	check(sendto(fd, packet, length, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)length, "packet %u is not sent", number);
}

#endif
