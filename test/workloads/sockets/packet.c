/* Packet sockets without rings: what they are bound to, options, memberships, groups that share packets; they hear and send. */
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/packet_diag.h>
#include <linux/sock_diag.h>

#include "packet.h"

#define VNET_HDR_SZ 24

static void expect_bound(int fd, int protocol, const char *device)
{
	struct sockaddr_ll address;
	socklen_t length = sizeof address;
	int index = device == NULL ? 0 : (int)if_nametoindex(device);

	must(getsockname(fd, (struct sockaddr *)&address, &length));
	check(ntohs(address.sll_protocol) == protocol && address.sll_ifindex == index, "fd %d is bound to %x on device %d, not to %x on %d", fd, ntohs(address.sll_protocol), address.sll_ifindex, protocol, index);
}

/* How often memberships of this type were asked for, by packet_diag. */
static unsigned members(int fd, int type)
{
	struct {
		struct nlmsghdr head;
		struct packet_diag_req ask;
	} request = {{sizeof request, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_PACKET, 0, 0, 0, PACKET_SHOW_MCLIST, {0, 0}}};
	static char answer[32768];
	struct stat st;
	unsigned count = 0;
	int diag = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
	ssize_t got;

	must(fstat(fd, &st));
	must(send(diag, &request, sizeof request, 0));
	got = must(recv(diag, answer, sizeof answer, 0));
	for (struct nlmsghdr *head = (struct nlmsghdr *)answer; NLMSG_OK(head, got) && head->nlmsg_type == SOCK_DIAG_BY_FAMILY; head = NLMSG_NEXT(head, got)) {
		struct packet_diag_msg *message = NLMSG_DATA(head);
		struct nlattr *attr = (struct nlattr *)(message + 1);
		if (message->pdiag_ino != st.st_ino)
			continue;
		for (struct packet_diag_mclist *m = (struct packet_diag_mclist *)(attr + 1); (char *)m < (char *)attr + attr->nla_len; m++)
			if (m->pdmc_type == type)
				count += m->pdmc_count;
	}
	close(diag);
	return count;
}

/* The next packet that this socket hears has the number; -1: none. */
static void expect_number(int fd, int at, int number)
{
	unsigned char packet[2048];
	unsigned got = 0;
	ssize_t length = recv(fd, packet, sizeof packet, MSG_DONTWAIT);

	if (number < 0) {
		check(length == -1, "fd %d hears %zd bytes", fd, length);
		return;
	}
	memcpy(&got, packet + at, sizeof got);
	check(length > at && got == (unsigned)number, "fd %d got %zd bytes with number %u, not %d", fd, length, got, number);
}

int main(int argc, char **argv)
{
	/* Only packets whose first byte behind the head is odd. */
	struct sock_filter code[] = {{BPF_LD | BPF_B | BPF_ABS, 0, 0, ETH_HLEN}, {BPF_JMP | BPF_JSET | BPF_K, 0, 1, 1}, {BPF_RET | BPF_K, 0, 0, 0xffff}, {BPF_RET | BPF_K, 0, 0, 0}};
	struct sock_fprog program = {4, code};
	struct packet_mreq promiscuous = {.mr_type = PACKET_MR_PROMISC}, group = {.mr_type = PACKET_MR_MULTICAST, .mr_alen = 6, .mr_address = {1, 0, 0x5e, 1, 2, 3}};
	int filtered, shared[2], idle, old, every, headers, sender, wide;
	struct sockaddr by_name = {.sa_family = AF_PACKET, .sa_data = "lo"};

	begin(argc, argv);
	promiscuous.mr_ifindex = group.mr_ifindex = (int)if_nametoindex("lo");
	filtered = packet_socket(SOCK_RAW | SOCK_CLOEXEC);
	must(setsockopt(filtered, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
	must(setsockopt(filtered, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous));
	for (int i = 0; i < 2; i++)
		must(setsockopt(filtered, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &group, sizeof group));
	set(filtered, PACKET_AUXDATA, 1);
	set(filtered, PACKET_ORIGDEV, 1);
	set(filtered, PACKET_TIMESTAMP, 1 << 4);
	set(filtered, PACKET_COPY_THRESH, 40);
	if (names_matter)
		set(filtered, PACKET_IGNORE_OUTGOING, 1);
	bind_here(filtered, PROTOCOL);
	for (int i = 0; i < 2; i++) {
		shared[i] = packet_socket(SOCK_DGRAM | SOCK_NONBLOCK);
		bind_here(shared[i], PROTOCOL);
		set(shared[i], PACKET_FANOUT, 77 | (PACKET_FANOUT_LB | (names_matter ? PACKET_FANOUT_FLAG_DEFRAG : 0)) << 16);
	}
	idle = packet_socket(SOCK_RAW);
	old = must(socket(AF_PACKET, SOCK_PACKET, htons(PROTOCOL)));
	must(bind(old, &by_name, sizeof by_name));
	every = must(socket(AF_PACKET, SOCK_RAW, htons(PROTOCOL)));
	headers = packet_socket(SOCK_RAW);
	set(headers, PACKET_VNET_HDR, 1);
	bind_here(headers, PROTOCOL);
	wide = packet_socket(SOCK_RAW);
	if (names_matter) {
		set(wide, VNET_HDR_SZ, 12);
		set(wide, PACKET_QDISC_BYPASS, 1);
	}
	sender = packet_socket(SOCK_RAW);
	ready();
	wait_for_go();
	check_state();

	expect_bound(filtered, PROTOCOL, "lo");
	expect_bound(shared[0], PROTOCOL, "lo");
	expect_bound(idle, 0, NULL);
	expect_bound(every, PROTOCOL, NULL);
	expect_bound(headers, PROTOCOL, "lo");
	expect(filtered, PACKET_AUXDATA, 1);
	expect(filtered, PACKET_ORIGDEV, 1);
	expect(filtered, PACKET_TIMESTAMP, 1 << 4);
	if (names_matter) {
		expect(filtered, PACKET_IGNORE_OUTGOING, 1);
		expect(wide, VNET_HDR_SZ, 12);
		expect(wide, PACKET_QDISC_BYPASS, 1);
	}
	expect(shared[1], PACKET_FANOUT, 77 | PACKET_FANOUT_LB << 16 | (names_matter ? (PACKET_FANOUT_FLAG_DEFRAG >> 8) << 24 : 0));
	expect(headers, PACKET_VNET_HDR, 1);
	check(members(filtered, PACKET_MR_PROMISC) == 1 && members(filtered, PACKET_MR_MULTICAST) == 2, "memberships %u and %u", members(filtered, PACKET_MR_PROMISC), members(filtered, PACKET_MR_MULTICAST));
	/* Even, odd, even. */
	for (unsigned i = 0; i < 3; i++)
		send_number(sender, i, 60);
	expect_number(filtered, ETH_HLEN, 1);
	expect_number(filtered, ETH_HLEN, -1);
	for (int i = 0; i < 3; i++) {
		expect_number(old, ETH_HLEN, i);
		expect_number(every, ETH_HLEN, i);
		expect_number(headers, 10 + ETH_HLEN, i);
	}
	/* In turn: one hears two, the other one. */
	unsigned char packet[2048];
	int heard[2] = {0};
	for (int i = 0; i < 2; i++)
		while (recv(shared[i], packet, sizeof packet, 0) > 0)
			heard[i]++;
	check(heard[0] + heard[1] == 3 && heard[0] > 0 && heard[1] > 0, "of the group one hears %d and one %d", heard[0], heard[1]);
	expect_number(idle, 0, -1);
	pass();
}
