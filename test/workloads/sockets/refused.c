/* One socket of a kind or in a state that is not carried, by name; waits for ever. */
#include <linux/bpf.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>

#include <linux/xfrm.h>
#include <sched.h>

#include "packet.h"

static void set_at(int fd, int level, int name, int value)
{
	must(setsockopt(fd, level, name, &value, sizeof value));
}

static void ping(void)
{
	int range = must(open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY));

	must(write(range, "0 0", 3));
	must(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
}

static void corked(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7600), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));

	set_at(fd, IPPROTO_UDP, 1 /* UDP_CORK */, 1);
	/* Options of IP (NOP) are not read. */
	must(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, "\1\1\1\1", 4));
	must(sendto(fd, "half", 4, 0, (struct sockaddr *)&to, sizeof to));
}

/* Packets are shared out by a program. */
static void fanout(void)
{
	int fd = packet_socket(SOCK_RAW);

	bind_here(fd, PROTOCOL);
	set(fd, PACKET_FANOUT, 5 | PACKET_FANOUT_CBPF << 16);
}

static void device(void)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(PROTOCOL), .sll_ifindex = (int)if_nametoindex("v0")};

	must(bind(packet_socket(SOCK_RAW), (struct sockaddr *)&address, sizeof address));
}

/* A ring whose memory is mapped, and its socket closed. */
static void ring(bool closed)
{
	struct tpacket_req request = {4096, 2, 2048, 4};
	int fd = packet_socket(SOCK_RAW);

	must(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request));
	must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	if (closed)
		close(fd);
}

static void open_ring(void)
{
	ring(false);
}

static void closed_ring(void)
{
	ring(true);
}

static struct sockaddr_in here(int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int listening(int port, int protocol)
{
	struct sockaddr_in address = here(port);
	int fd = must(socket(AF_INET, SOCK_STREAM, protocol));

	must(bind(fd, (struct sockaddr *)&address, sizeof address));
	must(listen(fd, 5));
	return fd;
}

static void mptcp(void)
{
	struct sockaddr_in address = here(7601);
	int server = listening(7601, 262), client = must(socket(AF_INET, SOCK_STREAM, 262));

	must(connect(client, (struct sockaddr *)&address, sizeof address));
	must(accept(server, NULL, NULL));
}

static void vsock(void)
{
	must(socket(AF_VSOCK, SOCK_STREAM, 0));
}

static void md5(void)
{
	struct sockaddr_in other = here(0);
	struct tcp_md5sig key = {.tcpm_keylen = 3, .tcpm_key = "key"};

	memcpy(&key.tcpm_addr, &other, sizeof other);
	must(setsockopt(listening(7602, 0), IPPROTO_TCP, TCP_MD5SIG, &key, sizeof key));
}

/* A connection within the process, with TLS in the kernel above it. */
static void tls(void)
{
	struct sockaddr_in address = here(7603);
	int server = listening(7603, 0), client = must(socket(AF_INET, SOCK_STREAM, 0));

	must(connect(client, (struct sockaddr *)&address, sizeof address));
	must(accept(server, NULL, NULL));
	must(setsockopt(client, IPPROTO_TCP, TCP_ULP, "tls", 4));
}

/* A filter of eBPF that lets everything pass: r0 = 65535; exit. */
static void ebpf(void)
{
	struct bpf_insn code[] = {{.code = 0xb7, .dst_reg = 0, .imm = 0xffff}, {.code = 0x95}};
	union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insns = (uint64_t)(uintptr_t)code, .insn_cnt = 2, .license = (uint64_t)(uintptr_t) "GPL"};
	int program = must((int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr));

	set_at(must(socket(AF_INET, SOCK_DGRAM, 0)), SOL_SOCKET, SO_ATTACH_BPF, program);
	close(program);
}

/* The same as the one who chooses among the sockets of a port. */
static void ebpf_chooses(void)
{
	struct bpf_insn code[] = {{.code = 0xb7, .dst_reg = 0, .imm = 0}, {.code = 0x95}};
	union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insns = (uint64_t)(uintptr_t)code, .insn_cnt = 2, .license = (uint64_t)(uintptr_t) "GPL"};
	int program = must((int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr)), fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in address = here(7604);

	set_at(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	must(bind(fd, (struct sockaddr *)&address, sizeof address));
	set_at(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program);
	close(program);
}

/* A policy that wants packets transformed. */
static void policy(void)
{
	struct {
		struct xfrm_userpolicy_info info;
		struct xfrm_user_tmpl way;
	} wish = {.info = {.sel.family = AF_INET, .dir = XFRM_POLICY_OUT}, .way = {.family = AF_INET, .id.proto = IPPROTO_ESP}};

	must(setsockopt(must(socket(AF_INET, SOCK_DGRAM, 0)), IPPROTO_IP, IP_XFRM_POLICY, &wish, sizeof wish));
}

/* An answer that nobody reads. */
static void unread(void)
{
	struct {
		struct nlmsghdr head;
		struct rtgenmsg body;
	} ask = {{sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_UNSPEC}};

	must(send(must(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)), &ask, sizeof ask, 0));
}

/* More was sent to a group than it could take: it has to be told (ENOBUFS). */
static void overrun(void)
{
	struct sockaddr_nl group = {.nl_family = AF_NETLINK, .nl_groups = 1};
	int fd = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK)), from = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK)), error;
	socklen_t size = sizeof error;
	static char text[4000];

	set_at(fd, SOL_SOCKET, SO_RCVBUF, 1);
	must(bind(fd, (struct sockaddr *)&group, sizeof group));
	for (int i = 0; i < 5; i++)
		sendto(from, text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&group, sizeof group);
	for (int i = 0; i < 2; i++) {
		must(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
		check(error == (i ? 0 : ENOBUFS), "its error is %d", error);
		if (i == 0)
			must(recv(fd, text, sizeof text, 0));
	}
	for (int i = 0; i < 5; i++)
		sendto(from, text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&group, sizeof group);
	close(from);
}

/* Sockets of a network namespace that the process has left. */
static void elsewhere(void)
{
	int home = must(open("/proc/self/ns/net", O_RDONLY));

	must(unshare(CLONE_NEWNET));
	must(socket(AF_INET, SOCK_DGRAM, 0));
	must(socket(AF_UNIX, SOCK_DGRAM, 0));
	must(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	packet_socket(SOCK_RAW);
	must(setns(home, CLONE_NEWNET));
	close(home);
}

static uint16_t checksum(const void *bytes, size_t length, uint32_t sum)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < length; i += 2)
		sum += (uint32_t)at[i] << 8 | at[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* A request with data that is accepted at once (TCP_FASTOPEN), from a host that never hears the answer: it comes in by a tunnel. */
static void fast_open(void)
{
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
		char data[4];
	} request = {.ip = {.ihl = 5, .version = 4, .tot_len = htons(44), .ttl = 64, .protocol = IPPROTO_TCP}, .data = "fast"};
	struct ifreq device = {.ifr_name = "tun0", .ifr_flags = IFF_TUN | IFF_NO_PI};
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("10.9.0.1"), .sin_port = htons(7605)};
	int tunnel = must(open("/dev/net/tun", O_RDWR)), knob = must(open("/proc/sys/net/ipv4/tcp_fastopen", O_WRONLY));
	int server = must(socket(AF_INET, SOCK_STREAM, 0));

	/* Enabled for servers, without a cookie. */
	must(write(knob, "514", 3));
	close(knob);
	must(ioctl(tunnel, TUNSETIFF, &device));
	must(ioctl(tunnel, TUNSETPERSIST, 1));
	memcpy(&device.ifr_addr, &own, sizeof own);
	must(ioctl(server, SIOCSIFADDR, &device));
	((struct sockaddr_in *)&device.ifr_addr)->sin_addr.s_addr = inet_addr("255.255.255.0");
	must(ioctl(server, SIOCSIFNETMASK, &device));
	device.ifr_flags = IFF_UP | IFF_RUNNING;
	must(ioctl(server, SIOCSIFFLAGS, &device));
	must(bind(server, (struct sockaddr *)&own, sizeof own));
	set_at(server, IPPROTO_TCP, TCP_FASTOPEN, 5);
	must(listen(server, 5));
	request.ip.saddr = inet_addr("10.9.0.2");
	request.ip.daddr = own.sin_addr.s_addr;
	request.ip.check = checksum(&request.ip, 20, 0);
	request.tcp = (struct tcphdr){.th_sport = htons(9), .th_dport = own.sin_port, .th_seq = 1, .th_off = 5, .th_flags = TH_SYN, .th_win = 99};
	/* The pseudo header: both addresses, the protocol, the length. */
	request.tcp.th_sum = checksum(&request.ip.saddr, 32, IPPROTO_TCP + 24);
	must(write(tunnel, &request, sizeof request));
	must(accept(server, NULL, NULL));
	close(tunnel);
	close(server);
}

static const struct {
	const char *name;
	void (*make)(void);
} kinds[] = {{"ping", ping}, {"corked", corked}, {"fanout", fanout}, {"device", device}, {"ring", open_ring}, {"closed-ring", closed_ring}, {"mptcp", mptcp}, {"vsock", vsock}, {"md5", md5}, {"tls", tls}, {"ebpf", ebpf}, {"ebpf-chooses", ebpf_chooses}, {"policy", policy}, {"unread", unread}, {"elsewhere", elsewhere}, {"overrun", overrun}, {"fast-open", fast_open}};

int main(int argc, char **argv)
{
	/* The go file, which is not looked at, and the kind. */
	loopback_up();
	for (size_t i = 0; argc > 2 && i < sizeof kinds / sizeof *kinds; i++) {
		if (strcmp(kinds[i].name, argv[2]))
			continue;
		kinds[i].make();
		puts("made");
		fflush(stdout);
		for (;;)
			pause();
	}
	fail("no kind %s", argc > 2 ? argv[2] : "");
}
