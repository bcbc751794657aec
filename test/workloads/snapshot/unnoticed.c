/*
 * A process that would notice a copy of itself: a child that it does not know, a signal that nobody sent, descriptors that stay open
 * when it closes them, memory that is not its own. Its memory changes all the time; each page is known by a number.
 */
#include <pthread.h>

#include "workload.h"

enum { PAGE = 4096, PAGES = 12 << 8, SMALL = 16 };

static volatile sig_atomic_t signals_seen;
static unsigned char *plain, *unforked, *wiped, *locked;
static uint32_t numbers[PAGES];
static volatile bool over;
static int running;

static void noticed(int signal)
{
	(void)signal;
	signals_seen++;
}

static void fill(unsigned char *page, uint32_t number)
{
	for (int i = 0; i < PAGE / 4; i++)
		((volatile uint32_t *)page)[i] = number * 2654435761u + (uint32_t)i;
}

static bool is(const unsigned char *page, uint32_t number)
{
	for (int i = 0; i < PAGE / 4; i++)
		if (((const uint32_t *)page)[i] != number * 2654435761u + (uint32_t)i)
			return false;
	return true;
}

static unsigned char *map(int pages)
{
	unsigned char *at = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	return at;
}

static void *spin(void *unused)
{
	struct timespec nap = {0, 200000};

	__atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST);
	while (!over)
		nanosleep(&nap, NULL);
	return unused;
}

/* When we close our end, nobody else must hold it. */
static void pipe_ends(void)
{
	int ends[2];
	char byte;

	must(pipe(ends));
	must(close(ends[1]));
	if (read(ends[0], &byte, 1) != 0)
		fail("somebody holds the end of a pipe");
	must(close(ends[0]));
}

static void no_strangers(void)
{
	int status;
	pid_t child = waitpid(-1, &status, WNOHANG | __WALL);

	check(child == -1 && errno == ECHILD, "there is a child that nobody made: %d", child);
	check(signals_seen == 0, "%d signals came that nobody sent", (int)signals_seen);
	signal(SIGCHLD, SIG_DFL);
	child = must(fork());
	if (child == 0)
		_exit(3);
	must(waitpid(child, &status, 0));
	check(WIFEXITED(status) && WEXITSTATUS(status) == 3, "a child ended with %d", status);
}

int main(void)
{
	pthread_t threads[3];

	for (int signal_number = 1; signal_number < 32; signal_number++) {
		bool is_fault = signal_number == SIGSEGV || signal_number == SIGBUS || signal_number == SIGABRT || signal_number == SIGTRAP;
		if (signal_number != SIGKILL && signal_number != SIGSTOP && !is_fault)
			signal(signal_number, noticed);
	}
	plain = map(PAGES);
	unforked = map(SMALL);
	wiped = map(SMALL);
	locked = map(SMALL);
	must(madvise(unforked, SMALL * PAGE, MADV_DONTFORK));
	must(madvise(wiped, SMALL * PAGE, MADV_WIPEONFORK));
	must(mlock(locked, SMALL * PAGE));
	for (int i = 0; i < PAGES; i++)
		fill(plain + i * PAGE, numbers[i] = (uint32_t)i);
	for (int i = 0; i < SMALL; i++) {
		fill(unforked + i * PAGE, 1000000u + (uint32_t)i);
		fill(wiped + i * PAGE, 2000000u + (uint32_t)i);
		fill(locked + i * PAGE, 3000000u + (uint32_t)i);
	}
	for (int i = 0; i < 3; i++)
		if (pthread_create(&threads[i], NULL, spin, NULL) != 0)
			fail("pthread_create");
	/* A new thread has all signals blocked at first. */
	while (__atomic_load_n(&running, __ATOMIC_SEQ_CST) < 3)
		usleep(1000);
	ready();
	for (uint32_t turn = 0; !go_given(); turn++) {
		for (int k = 0; k < 200; k++) {
			uint32_t i = (turn * 200 + (uint32_t)k) * 7919u % PAGES;
			fill(plain + i * PAGE, ++numbers[i]);
		}
		pipe_ends();
	}
	for (int i = 0; i < PAGES; i++)
		check(is(plain + i * PAGE, numbers[i]), "page %d is not number %u", i, numbers[i]);
	for (int i = 0; i < SMALL; i++) {
		check(is(unforked + i * PAGE, 1000000u + (uint32_t)i), "page %d of what is not forked", i);
		check(is(wiped + i * PAGE, 2000000u + (uint32_t)i), "page %d of what is wiped on fork", i);
		check(is(locked + i * PAGE, 3000000u + (uint32_t)i), "page %d of what is locked", i);
	}
	snapshot_ignores("status");
	check_state();
	no_strangers();
	over = true;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	pass();
}
