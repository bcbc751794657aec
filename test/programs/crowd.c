/*
 * Threads that each compute a number, with a nap after every step; the sum of all is printed. Arguments: threads, steps.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int steps;
static _Thread_local uint64_t state;

static void *compute(void *number)
{
	struct timespec nap = {0, 20000000};
	uint64_t which = (uint64_t)(uintptr_t)number;

	state = which * 0x9e3779b97f4a7c15u + 1;
	for (int step = 0; step < steps; step++) {
		for (int i = 0; i < 1000; i++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
		}
		nanosleep(&nap, NULL);
		if (which == 0) {
			printf("%d\n", step);
			fflush(stdout);
		}
	}
	return (void *)(uintptr_t)state;
}

int main(int argc, char **argv)
{
	int count = argc == 3 ? atoi(argv[1]) : 0;
	pthread_t *threads = calloc((size_t)count, sizeof *threads);
	uint64_t sum = 0;

	if (!threads || !count)
		return 2;
	steps = atoi(argv[2]);
	for (int i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, compute, (void *)(uintptr_t)i))
			return 2;
	for (int i = 0; i < count; i++) {
		void *result;
		if (pthread_join(threads[i], &result))
			return 1;
		sum = sum * 31 + (uint64_t)(uintptr_t)result;
	}
	printf("sum %016lx\n", (unsigned long)sum);
	return 0;
}
