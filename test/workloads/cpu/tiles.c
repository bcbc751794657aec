/* AMX: threads keep their tiles and the configuration of them, one has none in use, the right to use them stays. */
#include <pthread.h>

#include "workload.h"

enum { GET_PERMISSION = 0x1022, ASK_PERMISSION = 0x1023, TILE_DATA = 18, TILES = 8, ROWS = 16, COLUMNS = 64, THREADS = 3 };

static volatile int filled, finish;

static const uint8_t configuration[64] __attribute__((aligned(64))) = {
	[0] = 1,
	[16] = COLUMNS, [18] = COLUMNS, [20] = COLUMNS, [22] = COLUMNS, [24] = COLUMNS, [26] = COLUMNS, [28] = COLUMNS, [30] = COLUMNS,
	[48] = ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS,
};

#define EACH(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
#define LOAD(n) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n ::"r"(tiles[n]), "r"(stride) : "memory");
#define STORE(n) __asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)" ::"r"(now[n]), "r"(stride) : "memory");

static void *thread(void *argument)
{
	static __thread uint8_t tiles[TILES][ROWS * COLUMNS], now[TILES][ROWS * COLUMNS], after[64] __attribute__((aligned(64)));
	const long stride = COLUMNS, number = (long)argument;

	for (int i = 0; i < TILES; i++)
		fill_pattern(tiles[i], sizeof tiles[i], (uint64_t)(number * 100 + i));
	__asm__ volatile("ldtilecfg %0" ::"m"(configuration));
	EACH(LOAD)
	__atomic_add_fetch(&filled, 1, __ATOMIC_SEQ_CST);
	while (!finish)
		if (number == 0)
			sleep_ms(3);
	__asm__ volatile("sttilecfg %0" : "=m"(after));
	check(!memcmp(after, configuration, sizeof after), "thread %ld: the configuration is another", number);
	EACH(STORE)
	for (int i = 0; i < TILES; i++)
		check(!memcmp(now[i], tiles[i], sizeof now[i]), "thread %ld: tile %d is another", number, i);
	__asm__ volatile("tilerelease");
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	uint64_t right = 0;

	must(syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA));
	for (long i = 0; i < THREADS; i++)
		must_zero(pthread_create(&threads[i], NULL, thread, (void *)i));
	while (filled < THREADS)
		sleep_ms(1);
	ready();
	wait_for_go();
	finish = 1;
	for (int i = 0; i < THREADS; i++)
		must_zero(pthread_join(threads[i], NULL));
	must(syscall(SYS_arch_prctl, GET_PERMISSION, &right));
	check((right >> TILE_DATA) & 1, "the right to use tiles is gone");
	pass();
}
