/*
 * A userfaultfd: ranges with missing, protected and unmapped pages, and what is there already. "monitor": a child handles the faults
 * of its parent; "two": two of them, each with ranges; "bare": nobody has agreed on an API yet; "waiting": a thread waits in
 * a fault that nobody has looked at; "unclear": two of them, and a child with memory of its own; "outside": a child whose faults
 * are handled by us, which are not dumped with it.
 */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "workload.h"

#define PAGE 4096UL
#define MINOR_SHMEM (1 << 10)
#define MODE_MINOR (1UL << 2)
#define PAGEFAULT_MINOR (1UL << 2)

struct uffdio_continue_ {
	struct uffdio_range range;
	uint64_t mode;
	int64_t mapped;
};
#define UFFDIO_CONTINUE_ _IOWR(UFFDIO, 0x07, struct uffdio_continue_)

struct counts {
	volatile int missing, protected, minor;
};

static struct counts *counts;

static int new_userfaultfd(uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int fd = must((int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));

	if (features)
		must(ioctl(fd, UFFDIO_API, &api));
	return fd;
}

static void watch(int fd, void *memory, size_t pages, uint64_t modes)
{
	struct uffdio_register range = {.range = {(uintptr_t)memory, pages * PAGE}, .mode = modes};

	must(ioctl(fd, UFFDIO_REGISTER, &range));
}

static void protect(int fd, void *memory, bool on)
{
	struct uffdio_writeprotect range = {.range = {(uintptr_t)memory, PAGE}, .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};

	must(ioctl(fd, UFFDIO_WRITEPROTECT, &range));
}

static void handle(int fd)
{
	static char page[PAGE];
	struct uffd_msg message;
	uintptr_t at;

	if (read(fd, &message, sizeof message) != sizeof message || message.event != UFFD_EVENT_PAGEFAULT)
		return;
	at = message.arg.pagefault.address & ~(PAGE - 1);
	if (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
		counts->protected ++;
		protect(fd, (void *)at, false);
	} else if (message.arg.pagefault.flags & PAGEFAULT_MINOR) {
		struct uffdio_continue_ go_on = {.range = {at, PAGE}};

		counts->minor++;
		must(ioctl(fd, UFFDIO_CONTINUE_, &go_on));
	} else {
		struct uffdio_copy copy = {.dst = at, .src = (uintptr_t)page, .len = PAGE};

		counts->missing++;
		memset(page, 'h', PAGE);
		must(ioctl(fd, UFFDIO_COPY, &copy));
	}
}

static void *handler(void *fds)
{
	struct pollfd polled[2] = {{((int *)fds)[0], POLLIN, 0}, {((int *)fds)[1], POLLIN, 0}};

	while (poll(polled, 2, -1) >= 0)
		for (int i = 0; i < 2; i++)
			if (polled[i].revents & POLLIN)
				handle(polled[i].fd);
	return NULL;
}

static void *toucher(void *page)
{
	return (void *)(intptr_t)*(volatile char *)page;
}

_Noreturn static void outside(void)
{
	int *told = shared_memory(sizeof *told);
	pid_t kid = must(fork());
	int pidfd;

	if (!kid) {
		int fd = new_userfaultfd(UFFD_FEATURE_MISSING_SHMEM);
		char *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		must(setsid());
		watch(fd, memory, 4, UFFDIO_REGISTER_MODE_MISSING);
		*told = fd;
		while (*told)
			sleep_ms(1);
		must(close(fd));
		*told = -1;
		wait_for_go();
		_exit(memory[0] == 'h' ? 0 : 1);
	}
	while (!*told)
		sleep_ms(1);
	pidfd = must((int)syscall(SYS_pidfd_open, kid, 0));
	int fds[2] = {must((int)syscall(SYS_pidfd_getfd, pidfd, *told, 0)), -1};
	pthread_t thread;

	counts = shared_memory(sizeof *counts);
	*told = 0;
	while (!*told)
		sleep_ms(1);
	note("child %d", kid);
	ready();
	wait_for_go();
	must_zero(pthread_create(&thread, NULL, handler, fds));
	child_passed(kid);
	check(counts->missing == 1, "there were %d faults", counts->missing);
	if (differences_seen())
		_exit(1);
	must(write(1, "PASS\n", 5));
	_exit(0);
}

/* Until somebody waits for a page that nobody has handed out yet. */
static void until_fault(int fd)
{
	struct pollfd fault = {fd, POLLIN, 0};

	check(poll(&fault, 1, 30000) == 1, "nobody touches missing memory");
}

int main(int argc, char **argv)
{
	const char *how = argc > 2 ? argv[2] : "";
	bool waits = !strcmp(how, "waiting");
	uint64_t features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM | MINOR_SHMEM;
	int fds[2] = {-1, -1}, memory = must(memfd_create("minor", MFD_CLOEXEC));
	struct uffdio_api again = {.api = UFFD_API};
	volatile char *missing, *written, *shared, *minor;
	pthread_t thread, touching;
	pid_t kid = 0;
	void *touched;

	if (!strcmp(how, "outside"))
		outside();
	fds[0] = new_userfaultfd(strcmp(how, "bare") ? features : 0);
	counts = shared_memory(sizeof *counts);
	if (!strcmp(how, "bare")) {
		ready();
		wait_for_go();
		check_state();
		again.features = features;
		check(ioctl(fds[0], UFFDIO_API, &again) == 0, "it does not agree on an API: %s", strerror(errno));
		pass();
	}
	if (!strcmp(how, "two") || !strcmp(how, "unclear"))
		fds[1] = new_userfaultfd(features);
	missing = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	written = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(ftruncate(memory, 4 * PAGE));
	shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	minor = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	missing[PAGE] = 'p';
	(void)missing[2 * PAGE];
	memset((char *)written, 'w', 4 * PAGE);
	memset((char *)shared, 's', 2 * PAGE);
	(void)minor[0];
	/* The kernel has mapped the pages around it as well. */
	must(madvise((char *)minor + PAGE, 3 * PAGE, MADV_DONTNEED));
	watch(fds[0], (char *)missing, 16, UFFDIO_REGISTER_MODE_MISSING);
	watch(fds[!strcmp(how, "two")], (char *)written, 4, UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MISSING);
	watch(fds[0], (char *)minor, 4, MODE_MINOR);
	protect(fds[!strcmp(how, "two")], (char *)written, true);
	protect(fds[!strcmp(how, "two")], (char *)written + 3 * PAGE, true);
	if (!strcmp(how, "monitor") && !(kid = must(fork()))) {
		snapshot_ignores("fd 4 pending");
		snapshot_ignores("fd 4 total");
		keep_state();
		wait_for_go();
		check_state();
		if (differences_seen())
			_exit(1);
		handler(fds);
	}
	if (!strcmp(how, "unclear") && !(kid = must(fork())))
		for (;;)
			pause();
	if (waits) {
		must_zero(pthread_create(&touching, NULL, toucher, (char *)missing + 5 * PAGE));
		until_fault(fds[0]);
		snapshot_ignores("task");
	}
	if (kid && !strcmp(how, "monitor"))
		until_it_waits(kid);
	snapshot_ignores("map");
	ready();
	wait_for_go();
	/* Its thread has to run before it is in its fault again. */
	if (waits)
		until_fault(fds[0]);
	check_state();
	check(ioctl(fds[0], UFFDIO_API, &again) == -1 && errno == EINVAL, "it wants to agree on an API once more");
	check(missing[PAGE] == 'p' && missing[2 * PAGE] == 0, "what was there is %d and %d", missing[PAGE], missing[2 * PAGE]);
	written[PAGE] = 'x';
	check(written[0] == 'w' && minor[0] == 's', "what was there is %d and %d", written[0], minor[0]);
	if (strcmp(how, "monitor"))
		must_zero(pthread_create(&thread, NULL, handler, fds));
	check(missing[3 * PAGE] == 'h', "a missing page is %d", missing[3 * PAGE]);
	missing[15 * PAGE + 7] = 'm';
	check(missing[15 * PAGE] == 'h' && missing[15 * PAGE + 7] == 'm', "a missing page that is written to is %d", missing[15 * PAGE]);
	written[0] = written[3 * PAGE] = 'y';
	check(written[0] == 'y' && written[1] == 'w', "a protected page is %d", written[0]);
	check(minor[PAGE] == 's', "a page of shared memory that was not mapped is %d", minor[PAGE]);
	if (waits) {
		must_zero(pthread_join(touching, &touched));
		check((intptr_t)touched == 'h', "the thread that waited got %d", (int)(intptr_t)touched);
	}
	check(counts->missing == 2 + waits, "there were %d faults of missing pages", counts->missing);
	check(counts->protected == 2, "there were %d faults of protected pages", counts->protected);
	check(counts->minor == 1, "there were %d faults of shared pages", counts->minor);
	if (kid) {
		kill(kid, SIGKILL);
		waitpid(kid, NULL, 0);
	}
	pass();
}
