/*
 * Rings of io_uring. "": completions unread and read, a request not yet submitted, registered files and a registered buffer, two
 * descriptors of it, and a child that has it too. "plain": served three requests, whose completions nobody has read. "large": long
 * entries in both queues, and no array of requests. "number": a thread, the only one that may use the ring, goes by a number.
 * "ending": a request is always under way, and ends soon. "worker": a worker of the kernel is still there. "busy": a read from a pipe is under way; "sqpoll": a thread of the kernel serves
 * it; "eventfd", "file": an eventfd, or a file without descriptor, is registered.
 */
#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

#include "workload.h"

#define SQE128 (1U << 10)
#define CQE32 (1U << 11)
#define NO_SQARRAY (1U << 16)
#define REGISTERED_RING (1U << 4)
#define SINGLE_ISSUER (1U << 12)
#define DEFER_TASKRUN (1U << 13)

struct ring {
	int fd;
	unsigned flags, entries, *sq_head, *sq_tail, *cq_head, *cq_tail, *array;
	char *requests, *done;
	unsigned tail; /* of our own, as libraries have it: must go on to agree with the kernel's */
};

static struct ring make(unsigned flags)
{
	struct io_uring_params setup = {.flags = flags};
	struct ring ring = {.fd = must((int)syscall(SYS_io_uring_setup, 8, &setup)), .flags = flags, .entries = setup.sq_entries};
	size_t done = setup.cq_off.cqes + setup.cq_entries * (flags & CQE32 ? 32 : 16);
	size_t bytes = flags & NO_SQARRAY ? done : setup.sq_off.array + setup.sq_entries * 4;
	char *memory = must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, IORING_OFF_SQ_RING));

	ring.requests = must(mmap(NULL, 8 * (flags & SQE128 ? 128 : 64), PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, IORING_OFF_SQES));
	ring.sq_head = (unsigned *)(memory + setup.sq_off.head);
	ring.sq_tail = (unsigned *)(memory + setup.sq_off.tail);
	ring.cq_head = (unsigned *)(memory + setup.cq_off.head);
	ring.cq_tail = (unsigned *)(memory + setup.cq_off.tail);
	ring.done = memory + setup.cq_off.cqes;
	if (!(flags & NO_SQARRAY)) {
		ring.array = (unsigned *)(memory + setup.sq_off.array);
		for (unsigned i = 0; i < ring.entries; i++)
			ring.array[i] = i;
	}
	return ring;
}

/* Puts a request down, without giving it to the kernel. */
static void put(struct ring *ring, struct io_uring_sqe request)
{
	unsigned at = ring->tail++ % ring->entries;

	*(struct io_uring_sqe *)(ring->requests + at * (ring->flags & SQE128 ? 128UL : 64UL)) = request;
	__atomic_store_n(ring->sq_tail, ring->tail, __ATOMIC_RELEASE);
}

static bool submit(struct ring *ring, unsigned count, unsigned wait)
{
	return syscall(SYS_io_uring_enter, ring->fd, count, wait, IORING_ENTER_GETEVENTS, NULL, 0) == (long)count;
}

static void nop(struct ring *ring, uint64_t data)
{
	put(ring, (struct io_uring_sqe){.opcode = IORING_OP_NOP, .user_data = data});
	if (!submit(ring, 1, 1))
		fail("request %llu is not taken", (unsigned long long)data);
}

static void take(struct ring *ring, uint64_t data, int result)
{
	unsigned head = *ring->cq_head;

	if (!check(head != __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE), "completion %llu is missing", (unsigned long long)data))
		return;
	struct io_uring_cqe *cqe = (struct io_uring_cqe *)(ring->done + (head % (ring->entries * 2)) * (ring->flags & CQE32 ? 32UL : 16UL));

	check(cqe->user_data == data && cqe->res == result, "completion is of %llu with %d, not of %llu with %d",
	      (unsigned long long)cqe->user_data, cqe->res, (unsigned long long)data, result);
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
}

/* The kernel gives rings new inodes. */
static void ignore_inodes(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[256], prefix[64];

	while (fgets(line, sizeof line, maps)) {
		if (!strstr(line, "anon_inode:[io_uring]"))
			continue;
		snprintf(prefix, sizeof prefix, "map %.*s ", (int)strcspn(line, " "), line);
		snapshot_ignores(strdup(prefix));
	}
	fclose(maps);
}

/* What is in a ring is compared before it is used again. */
static void ready_with_ring(void)
{
	ignore_inodes();
	ready();
	wait_for_go();
	check_state();
}

static long reg(struct ring *ring, unsigned what, void *argument, unsigned count)
{
	return must(syscall(SYS_io_uring_register, ring->fd, what, argument, count));
}

static void whole(void)
{
	struct ring ring = make(0);
	int file = must(open("data", O_RDWR | O_CREAT | O_TRUNC, 0600));
	int out = must(open("out put", O_RDWR | O_CREAT | O_TRUNC, 0600));
	char *buffer = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	struct iovec vectors[] = {{NULL, 0}, {buffer, 8192}};

	must((int)write(file, "0123456789", 10));
	reg(&ring, IORING_REGISTER_FILES, (int[]){-1, file, out, -1}, 4);
	reg(&ring, IORING_REGISTER_BUFFERS, vectors, 2);
	int other = must(dup(ring.fd));
	int child_go[2], child_done_[2];
	must(pipe(child_go));
	must(pipe(child_done_));
	/* More requests than there are entries, so that both queues have gone round. */
	for (unsigned i = 0; i < 37; i++) {
		nop(&ring, 100 + i);
		take(&ring, 100 + i, 0);
	}
	put(&ring, (struct io_uring_sqe){.opcode = IORING_OP_READ_FIXED, .flags = IOSQE_FIXED_FILE, .fd = 1, .addr = (uintptr_t)buffer,
					 .len = 4, .buf_index = 1, .user_data = 1});
	must(submit(&ring, 1, 1) ? 0 : -1);
	nop(&ring, 2);
	put(&ring, (struct io_uring_sqe){.opcode = IORING_OP_WRITE_FIXED, .flags = IOSQE_FIXED_FILE, .fd = 2, .addr = (uintptr_t)buffer,
					 .len = 4, .buf_index = 1, .user_data = 3});
	pid_t child = must(fork());
	if (child == 0) {
		char byte;
		must((int)read(child_go[0], &byte, 1));
		take(&ring, 3, 4);
		nop(&ring, 4);
		must((int)write(child_done_[1], "", 1));
		_exit(differences_seen() > 0);
	}
	ready_with_ring();
	check(memcmp(buffer, "0123", 4) == 0, "the registered buffer has other contents");
	take(&ring, 1, 4);
	take(&ring, 2, 0);
	check(submit(&ring, 1, 1), "the request that was put down is not taken");
	char bytes[4] = "", byte;
	must((int)pread(out, bytes, 4, 0));
	check(memcmp(bytes, "0123", 4) == 0, "the registered files are others");
	must((int)write(child_go[1], "", 1));
	must((int)read(child_done_[0], &byte, 1));
	ring.tail++;
	take(&ring, 4, 0);
	ring.fd = other;
	for (unsigned i = 0; i < 20; i++) {
		nop(&ring, 200 + i);
		take(&ring, 200 + i, 0);
	}
	check(*ring.sq_head == 37 + 4 + 20, "the counter is %u", *ring.sq_head);
	child_passed(child);
}

static void served(unsigned flags)
{
	struct ring ring = make(flags);

	for (unsigned i = 0; i < 3; i++)
		nop(&ring, 100 + i);
	ready_with_ring();
	for (unsigned i = 0; i < 3; i++)
		take(&ring, 100 + i, 0);
	for (unsigned i = 0; i < 30; i++) {
		nop(&ring, 200 + i);
		take(&ring, 200 + i, 0);
	}
}

static _Atomic bool is_set_up, is_go;

static void *only_issuer(void *unused)
{
	struct ring ring = make(SINGLE_ISSUER | DEFER_TASKRUN);
	struct io_uring_rsrc_update update = {.offset = 5, .data = (uint64_t)ring.fd};

	reg(&ring, 20 /* IORING_REGISTER_RING_FDS */, &update, 1);
	nop(&ring, 6);
	is_set_up = true;
	while (!is_go)
		sleep_ms(1);
	take(&ring, 6, 0);
	put(&ring, (struct io_uring_sqe){.opcode = IORING_OP_NOP, .user_data = 7});
	check(syscall(SYS_io_uring_enter, 5, 1, 1, IORING_ENTER_GETEVENTS | REGISTERED_RING, NULL, 0) == 1, "the number is not known");
	take(&ring, 7, 0);
	return unused;
}

static void number(void)
{
	pthread_t thread;

	must_zero(pthread_create(&thread, NULL, only_issuer, NULL));
	while (!is_set_up)
		sleep_ms(1);
	ready_with_ring();
	is_go = true;
	must_zero(pthread_join(thread, NULL));
}

static void worker(void)
{
	struct ring ring = make(0);

	/* IOSQE_ASYNC has a worker do it. */
	put(&ring, (struct io_uring_sqe){.opcode = IORING_OP_FSYNC, .flags = IOSQE_ASYNC, .fd = must(open("data", O_RDWR | O_CREAT, 0600)), .user_data = 9});
	check(submit(&ring, 1, 1), "no request is taken");
	/* The worker looks like a thread. */
	snapshot_ignores("task ");
	snapshot_ignores("stat threads");
	ready_with_ring();
	take(&ring, 9, 0);
	nop(&ring, 10);
	take(&ring, 10, 0);
}

/* There always is a request that ends in a moment, by the kernel's own clock. */
static void ending(void)
{
	struct ring ring = make(0);
	struct { int64_t sec; long long nsec; } moment = {0, 3000000};
	uint64_t data = 0;

	ignore_inodes();
	snapshot_ignores("fd 3 ");
	ready();
	while (!go_given()) {
		put(&ring, (struct io_uring_sqe){.opcode = IORING_OP_TIMEOUT, .addr = (uintptr_t)&moment, .len = 1, .user_data = ++data});
		check(submit(&ring, 1, 0), "request %llu is not taken", (unsigned long long)data);
		while (*ring.cq_head == __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE))
			sleep_ms(1);
		take(&ring, data, -ETIME);
	}
	check_state();
}

static void refused(const char *how)
{
	bool is_served = strcmp(how, "sqpoll") == 0;
	struct ring ring = make(is_served ? IORING_SETUP_SQPOLL : 0);
	int pair[2];
	char byte = 0;

	must(pipe(pair));
	if (strcmp(how, "eventfd") == 0)
		reg(&ring, IORING_REGISTER_EVENTFD, &(int){must(eventfd(0, 0))}, 1);
	if (strcmp(how, "file") == 0) {
		int file = must(open("registered", O_RDWR | O_CREAT, 0600));
		reg(&ring, IORING_REGISTER_FILES, &file, 1);
		close(file);
	}
	if (strcmp(how, "busy") == 0) {
		put(&ring, (struct io_uring_sqe){.opcode = IORING_OP_READ, .fd = pair[0], .addr = (uintptr_t)&byte, .len = 1, .user_data = 1});
		check(submit(&ring, 1, 0), "no request is taken");
	}
	if (is_served) {
		/* The thread comes and goes as it likes. */
		snapshot_ignores("task ");
		snapshot_ignores("stat threads");
		snapshot_ignores("fd 3 Sq");
	}
	ready_with_ring();
	if (strcmp(how, "busy") == 0) {
		must((int)write(pair[1], "x", 1));
		check(submit(&ring, 0, 1) && byte == 'x', "the request is not completed");
		take(&ring, 1, 1);
	}
	if (is_served)
		return;
	nop(&ring, 2);
	take(&ring, 2, 0);
}

int main(int argc, char **argv)
{
	const char *how = argc > 2 ? argv[2] : "";

	if (strcmp(how, "") == 0)
		whole();
	else if (strcmp(how, "plain") == 0)
		served(0);
	else if (strcmp(how, "large") == 0)
		served(SQE128 | CQE32 | NO_SQARRAY);
	else if (strcmp(how, "number") == 0)
		number();
	else if (strcmp(how, "worker") == 0)
		worker();
	else if (strcmp(how, "ending") == 0)
		ending();
	else
		refused(how);
	pass();
}
