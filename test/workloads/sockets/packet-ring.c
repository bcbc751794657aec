/*
 * Rings of packet sockets: version 1, 2 or 3, each for receiving, and for sending where the version is 2. Packets that arrive
 * before and after are read in order, from where the program was in its ring.
 *
 * Arguments: the version; "full" when nothing is read before and the ring has no room left.
 */
#include <poll.h>

#include "packet.h"

#define BLOCK 4096
#define BLOCKS 4
#define FRAME 2048
#define FRAMES (BLOCK / FRAME * BLOCKS)
#define PRIVATE 16
#define LENGTH 1000
/* Packets of LENGTH that fit into a block of version 3. */
#define EACH 3

static int version, ring, sender;
static unsigned char *map;
static unsigned next_number, place, in_block;

static void send_some(unsigned *from, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		send_number(sender, (*from)++, LENGTH);
}

static void expect_packet(const unsigned char *packet, unsigned length)
{
	unsigned number;

	memcpy(&number, packet + ETH_HLEN, sizeof number);
	check(length == LENGTH && number == next_number && packet[LENGTH - 1] == (number & 0xff), "packet %u of %u bytes where %u should be", number, length, next_number);
	next_number++;
}

/* Reads the next packet of a ring of frames; false: there is none. */
static bool read_frame(void)
{
	unsigned char *frame = map + place * FRAME;

	if (version == TPACKET_V1) {
		volatile struct tpacket_hdr *head = (void *)frame;
		if (!(head->tp_status & TP_STATUS_USER))
			return false;
		expect_packet(frame + head->tp_mac, head->tp_snaplen);
		head->tp_status = TP_STATUS_KERNEL;
	} else {
		volatile struct tpacket2_hdr *head = (void *)frame;
		if (!(head->tp_status & TP_STATUS_USER))
			return false;
		expect_packet(frame + head->tp_mac, head->tp_snaplen);
		head->tp_status = TP_STATUS_KERNEL;
	}
	place = (place + 1) % FRAMES;
	return true;
}

/* Reads the next block of a ring of blocks and gives it back; false: it is not filled. */
static bool read_block(void)
{
	struct tpacket_block_desc *block = (void *)(map + place * BLOCK);
	unsigned char *packet = (unsigned char *)block + block->hdr.bh1.offset_to_first_pkt;

	if (!(block->hdr.bh1.block_status & TP_STATUS_USER))
		return false;
	for (unsigned i = 0; i < block->hdr.bh1.num_pkts; i++) {
		struct tpacket3_hdr *head = (void *)packet;
		expect_packet(packet + head->tp_mac, head->tp_snaplen);
		if (i + 1 < block->hdr.bh1.num_pkts && !check(head->tp_next_offset != 0, "the chain of packets is broken"))
			break;
		packet += head->tp_next_offset;
	}
	in_block = block->hdr.bh1.num_pkts;
	block->hdr.bh1.block_status = TP_STATUS_KERNEL;
	place = (place + 1) % BLOCKS;
	return true;
}

static unsigned read_all(unsigned most)
{
	unsigned units = 0;

	while (units < most && (version == TPACKET_V3 ? read_block() : read_frame()))
		units++;
	return units;
}

/* A mapping shows the inode of its socket, which is another one afterwards. */
static unsigned char *map_ring(int fd)
{
	unsigned char *at = must(mmap(NULL, BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	static char lines[2][40];
	char *line = lines[fd != ring];

	snprintf(line, sizeof lines[0], "map %lx-", (unsigned long)at);
	snapshot_ignores(line);
	return at;
}

static void make_ring(int fd, int which)
{
	struct tpacket_req3 request = {BLOCK, BLOCKS, FRAME, FRAMES, version == TPACKET_V3 ? 60000 : 0, version == TPACKET_V3 ? PRIVATE : 0, 0};

	must(setsockopt(fd, SOL_PACKET, which, &request, version == TPACKET_V3 ? sizeof request : sizeof(struct tpacket_req)));
}

/* Sends by a ring, from where the program is in it. */
static void send_by_ring(int fd, unsigned char *frames, unsigned *at, unsigned number)
{
	struct tpacket2_hdr *head = (void *)(frames + *at * FRAME);

	check(head->tp_status == TP_STATUS_AVAILABLE, "frame %u is in use (%x)", *at, head->tp_status);
	fill_packet((unsigned char *)head + TPACKET2_HDRLEN - sizeof(struct sockaddr_ll), number, LENGTH);
	head->tp_len = LENGTH;
	head->tp_status = TP_STATUS_SEND_REQUEST;
	check(send(fd, NULL, 0, 0) == LENGTH, "packet %u is not sent by the ring", number);
	*at = (*at + 1) % FRAMES;
}

int main(int argc, char **argv)
{
	bool full = argc > 3 && !strcmp(argv[3], "full");
	unsigned sent = 0, place_sending = 0;
	int sending = -1;
	unsigned char *frames = NULL;

	begin(argc, argv);
	version = atoi(argv[2]) - 1;
	sender = packet_socket(SOCK_RAW);
	ring = packet_socket(SOCK_RAW);
	set(ring, PACKET_VERSION, version);
	make_ring(ring, PACKET_RX_RING);
	map = map_ring(ring);
	bind_here(ring, PROTOCOL);
	if (version == TPACKET_V2) {
		sending = packet_socket(SOCK_RAW);
		set(sending, PACKET_VERSION, version);
		make_ring(sending, PACKET_TX_RING);
		frames = map_ring(sending);
		bind_here(sending, 0);
	}
	if (full) {
		/* Once around, so that the place is in the midst; then more than there is room for. */
		send_some(&sent, version == TPACKET_V3 ? 3 * EACH : 5);
		check(read_all(version == TPACKET_V3 ? 2 : 5) > 0, "nothing arrives");
		send_some(&sent, 40);
	} else if (version == TPACKET_V3) {
		/* Two blocks are full, a third has one packet; the first has been read. */
		send_some(&sent, 2 * EACH + 1);
		check(read_all(1) == 1, "nothing arrives");
	} else {
		/* Around the ring and three further; two are not read. */
		for (int i = 0; i < FRAMES + 3; i++) {
			send_some(&sent, 1);
			if (i < FRAMES + 1)
				check(read_all(1) == 1, "packet %d does not arrive", i);
		}
	}
	if (sending >= 0 && !full) {
		send_by_ring(sending, frames, &place_sending, sent++);
		send_by_ring(sending, frames, &place_sending, sent++);
	}
	ready();
	wait_for_go();
	check_state();
	if (full) {
		/* What was in the ring comes first, and then what arrives now. */
		unsigned before = next_number;
		check(read_all(1000) == (version == TPACKET_V3 ? BLOCKS : FRAMES), "the ring was not full");
		check(next_number - before == (version == TPACKET_V3 ? BLOCKS * EACH : FRAMES), "it had %u packets", next_number - before);
		next_number = sent;
		send_some(&sent, 2 * EACH + 1);
		check(read_all(1000) >= 2, "nothing arrives any more");
	} else {
		if (sending >= 0)
			send_by_ring(sending, frames, &place_sending, sent++);
		send_some(&sent, version == TPACKET_V3 ? 2 * EACH : 3);
		read_all(1000);
		check(version == TPACKET_V3 ? in_block == EACH && next_number >= sent - EACH : next_number == sent, "%u of %u packets were read", next_number, sent);
		/* And all around once more. */
		for (int i = 0; i < 3 * FRAMES; i++) {
			send_some(&sent, 1);
			read_all(1000);
		}
		check(next_number + 2 * EACH >= sent, "%u of %u packets were read", next_number, sent);
	}
	pass();
}
