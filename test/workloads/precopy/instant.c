/*
 * Two threads whose memory can only be of one instant. Each goes round a ring of pages for ever and puts a number at both ends of each,
 * the first one of them a counter, the second one what it has just seen of that counter. Whoever comes to a page knows
 * what has to be there: the number of one turn before. An older page would hold a smaller one, a later page a larger one; and
 * what the second thread has seen is never more than what the counter has.
 */
#include <pthread.h>

#include "workload.h"

enum { PAGE = 4096, WORDS = PAGE / 8, PAGES = 4096 };

struct ring {
	volatile uint64_t *memory;
	uint64_t turn[PAGES]; /* what was put into each page last */
	uint64_t steps;
};

static struct ring counted, seen;
static volatile uint64_t *counter; /* on a page of its own */
static volatile bool over;
static volatile int started;

static uint64_t *map(int pages)
{
	return must(mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static void is_whole(const struct ring *ring, const char *what, uint64_t page, uint64_t number)
{
	uint64_t first = ring->memory[page * WORDS], last = ring->memory[page * WORDS + WORDS - 1];

	if (first != number || last != number)
		fail("page %d of %s has %llu and %llu, not %llu", (int)page, what, (unsigned long long)first, (unsigned long long)last, (unsigned long long)number);
}

static void put(struct ring *ring, const char *what, uint64_t number)
{
	uint64_t page = ring->steps++ % PAGES;

	is_whole(ring, what, page, ring->turn[page]);
	ring->memory[page * WORDS] = number;
	ring->turn[page] = number;
	ring->memory[page * WORDS + WORDS - 1] = number;
}

static void all_whole(const struct ring *ring, const char *what)
{
	for (uint64_t page = 0; page < PAGES; page++)
		is_whole(ring, what, page, ring->turn[page]);
}

static void *count(void *unused)
{
	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
	while (!over) {
		uint64_t number = *counter + 1;

		/* A step never leaves the turns of the counter: the number tells the page. */
		if (number != counted.steps + 1)
			fail("the counter is at %llu after %llu steps", (unsigned long long)number, (unsigned long long)counted.steps);
		*counter = number;
		put(&counted, "the counted ring", number);
		if (number % 64 == 0)
			usleep(5000);
	}
	return unused;
}

static void *look(void *unused)
{
	uint64_t before = 0;

	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
	while (!over) {
		uint64_t now = *counter;

		if (now < before)
			fail("the counter was at %llu and is at %llu", (unsigned long long)before, (unsigned long long)now);
		before = now;
		put(&seen, "the ring of what was seen", now);
		if (seen.steps % 64 == 0)
			usleep(7000);
	}
	return unused;
}

int main(void)
{
	pthread_t threads[2];
	uint64_t limit;

	counter = map(1);
	counted.memory = map(PAGES);
	seen.memory = map(PAGES);
	memset((void *)counted.memory, 0, (size_t)PAGES * PAGE);
	memset((void *)seen.memory, 0, (size_t)PAGES * PAGE);
	if (pthread_create(&threads[0], NULL, count, NULL) != 0 || pthread_create(&threads[1], NULL, look, NULL) != 0)
		fail("pthread_create");
	/* A thread that is being made has all signals blocked. */
	while (started < 2)
		usleep(1000);
	ready();
	wait_for_go();
	/* Once round from here: every page that was restored has been looked at by its thread. */
	limit = counted.steps + PAGES;
	while (*(volatile uint64_t *)&counted.steps < limit || *(volatile uint64_t *)&seen.steps < limit / 2)
		usleep(1000);
	check_state();
	over = true;
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	all_whole(&counted, "the counted ring");
	all_whole(&seen, "the ring of what was seen");
	pass();
}
