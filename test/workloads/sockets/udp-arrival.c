/*
 * Datagrams that wait, and what their program asked to be told of them: the device where they came in, the address that they were sent
 * to (one's own, that of a whole network, of a group), how far they could go, their class; IPv4, IPv6, and IPv4 at a socket of IPv6.
 * They come from another host, by a tunnel, and from this one. Each is heard once by those who had heard it.
 */
#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>

#include "sockets.h"

#define DEVICE "tun-floe"

static uint16_t checksum(const void *bytes, size_t length, uint32_t sum)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? at[i] : (uint32_t)at[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static int tunnel(bool stays)
{
	struct ifreq device = {.ifr_name = DEVICE, .ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd = must(open("/dev/net/tun", O_RDWR));

	must(ioctl(fd, TUNSETIFF, &device));
	must(ioctl(fd, TUNSETPERSIST, stays));
	return fd;
}

/* struct in6_ifreq of linux/ipv6.h, which does not go with netinet/in.h. */
struct address6 {
	struct in6_addr address;
	uint32_t length;
	int device;
};

/* IFA_F_TENTATIVE (0x40) is the last flag to go before packets are taken. */
static bool is_tentative(const char *address)
{
	char name[40], device[20];
	unsigned index, prefix, scope, flags = 0x40;
	FILE *list = fopen("/proc/self/net/if_inet6", "r");

	must(list == NULL ? -1 : 0);
	while (fscanf(list, "%39s %x %x %x %x %19s", name, &index, &prefix, &scope, &flags, device) == 6 && strcmp(name, address))
		flags = 0x40;
	fclose(list);
	return (flags & 0x40) != 0;
}

static int device_up(void)
{
	struct ifreq request = {.ifr_name = DEVICE};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("10.9.0.1")};
	struct address6 six = {.length = 64};
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0)), fd6 = must(socket(AF_INET6, SOCK_DGRAM, 0)), knob;

	must(ioctl(fd, SIOCGIFINDEX, &request));
	six.device = request.ifr_ifindex;
	/* No search for others with its address. */
	knob = must(open("/proc/sys/net/ipv6/conf/" DEVICE "/accept_dad", O_WRONLY));
	must((int)write(knob, "0", 1));
	close(knob);
	memcpy(&request.ifr_addr, &address, sizeof address);
	must(ioctl(fd, SIOCSIFADDR, &request));
	address.sin_addr.s_addr = inet_addr("255.255.255.0");
	memcpy(&request.ifr_netmask, &address, sizeof address);
	must(ioctl(fd, SIOCSIFNETMASK, &request));
	address.sin_addr.s_addr = inet_addr("10.9.0.255");
	memcpy(&request.ifr_broadaddr, &address, sizeof address);
	must(ioctl(fd, SIOCSIFBRDADDR, &request));
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	must(ioctl(fd, SIOCSIFFLAGS, &request));
	must(inet_pton(AF_INET6, "fd09::1", &six.address) == 1 ? 0 : -1);
	must(ioctl(fd6, SIOCSIFADDR, &six));
	close(fd);
	close(fd6);
	while (is_tentative("fd090000000000000000000000000001"))
		sleep_ms(1);
	return six.device;
}

static int udp(int family, const char *address, int port)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	int fd = must(socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0)), on = 1;

	inet_pton(family, address, family == AF_INET ? (void *)&four.sin_addr : (void *)&six.sin6_addr);
	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(bind(fd, family == AF_INET ? (void *)&four : (void *)&six, family == AF_INET ? sizeof four : sizeof six));
	return fd;
}

static void ask(int fd, int level, const int *names, int count)
{
	int on = 1;

	for (int i = 0; i < count; i++)
		must(setsockopt(fd, level, names[i], &on, sizeof on));
}

/* A datagram comes in by the tunnel, from port 77. */
static void comes4(int fd, const char *to, int port, const char *text)
{
	struct {
		struct iphdr ip;
		struct udphdr udp;
		char text[32];
	} packet = {.ip = {.ihl = 5, .version = 4, .ttl = 9, .tos = 0x10, .protocol = IPPROTO_UDP, .saddr = inet_addr("10.9.0.2"), .daddr = inet_addr(to)},
				.udp = {.uh_sport = htons(77), .uh_dport = htons((uint16_t)port)}};
	size_t length = 28 + strlen(text);

	packet.ip.tot_len = htons((uint16_t)length);
	packet.ip.check = checksum(&packet.ip, 20, 0);
	packet.udp.uh_ulen = htons((uint16_t)(length - 20));
	memcpy(packet.text, text, strlen(text));
	must((int)write(fd, &packet, length));
}

static void comes6(int fd, const char *to, int port, const char *text)
{
	struct {
		struct ip6_hdr ip;
		struct udphdr udp;
		char text[32];
	} packet = {.ip.ip6_flow = htonl(6u << 28 | 0x20 << 20), .udp = {.uh_sport = htons(77), .uh_dport = htons((uint16_t)port)}};
	size_t length = 8 + strlen(text);

	packet.ip.ip6_plen = packet.udp.uh_ulen = htons((uint16_t)length);
	packet.ip.ip6_nxt = IPPROTO_UDP;
	packet.ip.ip6_hlim = 9;
	inet_pton(AF_INET6, "fd09::2", &packet.ip.ip6_src);
	inet_pton(AF_INET6, to, &packet.ip.ip6_dst);
	memcpy(packet.text, text, strlen(text));
	packet.udp.uh_sum = checksum(&packet.ip.ip6_src, 32 + length, IPPROTO_UDP + (uint32_t)length);
	must((int)write(fd, &packet, 40 + length));
}

/* Whatever has come, as "text to ADDRESS at DEVICE hops N class N". */
static const char *next(int fd)
{
	static char told[200];
	char control[400], text[64] = "", address[64] = "-";
	struct iovec vector = {text, sizeof text - 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	int device = 0, hops = 0, class = 0;

	if (recvmsg(fd, &message, 0) < 0)
		return "nothing";
	for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
		struct in_pktinfo four;
		struct in6_pktinfo six;

		if (head->cmsg_level == IPPROTO_IP && head->cmsg_type == IP_PKTINFO) {
			memcpy(&four, CMSG_DATA(head), sizeof four);
			inet_ntop(AF_INET, &four.ipi_addr, address, sizeof address);
			device = four.ipi_ifindex;
		} else if (head->cmsg_level == IPPROTO_IPV6 && head->cmsg_type == IPV6_PKTINFO) {
			memcpy(&six, CMSG_DATA(head), sizeof six);
			inet_ntop(AF_INET6, &six.ipi6_addr, address, sizeof address);
			device = (int)six.ipi6_ifindex;
		} else if (head->cmsg_level == IPPROTO_IP && head->cmsg_type == IP_TOS)
			class = *CMSG_DATA(head);
		else if (head->cmsg_level == IPPROTO_IPV6 && head->cmsg_type == IPV6_TCLASS)
			memcpy(&class, CMSG_DATA(head), sizeof class);
		else
			memcpy(&hops, CMSG_DATA(head), sizeof hops);
	}
	snprintf(told, sizeof told, "%s to %s at %d hops %d class %d", text, address, device, hops, class);
	return told;
}

static void expect(int fd, int device, const char *format)
{
	char want[200];
	const char *got = next(fd);

	snprintf(want, sizeof want, format, device);
	check(!strcmp(got, want), "fd %d: \"%s\", not \"%s\"", fd, got, want);
}

int main(int argc, char **argv)
{
	const int told4[] = {IP_PKTINFO, IP_RECVTTL, IP_RECVTOS}, told6[] = {IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS};
	int tun, device, any, network, group, six, bound, lo;
	struct ip_mreqn join = {.imr_multiaddr.s_addr = inet_addr("239.9.9.9")};
	struct sockaddr_in other = {.sin_family = AF_INET, .sin_port = htons(7900), .sin_addr.s_addr = inet_addr("127.0.0.9")};

	begin(argc, argv);
	lo = (int)if_nametoindex("lo");
	tun = tunnel(true);
	device = device_up();
	any = udp(AF_INET, "0.0.0.0", 7900);
	network = udp(AF_INET, "10.9.0.255", 7900);
	group = udp(AF_INET, "0.0.0.0", 7901);
	six = udp(AF_INET6, "::", 7902);
	bound = udp(AF_INET, "0.0.0.0", 7903);
	must(setsockopt(bound, SOL_SOCKET, SO_BINDTODEVICE, DEVICE, sizeof DEVICE));
	ask(any, IPPROTO_IP, told4, 3);
	ask(network, IPPROTO_IP, told4, 3);
	ask(group, IPPROTO_IP, told4, 3);
	ask(six, IPPROTO_IPV6, told6, 3);
	join.imr_ifindex = device;
	must(setsockopt(group, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join));
	comes4(tun, "10.9.0.1", 7900, "unicast");
	comes4(tun, "10.9.0.255", 7900, "broadcast");
	comes4(tun, "239.9.9.9", 7901, "multicast");
	comes6(tun, "fd09::1", 7902, "six");
	comes4(tun, "10.9.0.1", 7902, "mapped");
	comes4(tun, "10.9.0.1", 7903, "bound");
	must((int)sendto(any, "local", 5, 0, (struct sockaddr *)&other, sizeof other));
	close(tun);
	ready();
	wait_for_go();
	check_state();
	expect(any, device, "unicast to 10.9.0.1 at %d hops 9 class 16");
	expect(any, device, "broadcast to 10.9.0.255 at %d hops 9 class 16");
	expect(any, lo, "local to 127.0.0.9 at %d hops 64 class 0");
	expect(any, 0, "nothing");
	expect(network, device, "broadcast to 10.9.0.255 at %d hops 9 class 16");
	expect(network, 0, "nothing");
	expect(group, device, "multicast to 239.9.9.9 at %d hops 9 class 16");
	expect(group, 0, "nothing");
	expect(six, device, "six to fd09::1 at %d hops 9 class 32");
	expect(six, device, "mapped to ::ffff:10.9.0.1 at %d hops 0 class 0");
	expect(six, 0, "nothing");
	expect(bound, 0, "bound to - at %d hops 0 class 0");
	expect(bound, 0, "nothing");
	close(tunnel(false));
	pass();
}
