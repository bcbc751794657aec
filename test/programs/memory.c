/*
 * Much memory whose checksum is computed when it is filled, and again once the file "go" is there. Argument: MiB.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t checksum(const uint64_t *words, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum = sum * 0x100000001b3u + words[i];
	return sum;
}

int main(int argc, char **argv)
{
	size_t bytes = (argc == 2 ? (size_t)atol(argv[1]) : 0) << 20, count = bytes / sizeof(uint64_t);
	uint64_t *words, state = 88172645463325252u, before, after;

	words = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (words == MAP_FAILED)
		return 2;
	for (size_t i = 0; i < count; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		words[i] = state;
	}
	before = checksum(words, count);
	printf("filled\n");
	fflush(stdout);
	while (access("go", F_OK) != 0)
		usleep(10000);
	after = checksum(words, count);
	printf("before %016lx\nafter  %016lx\n", (unsigned long)before, (unsigned long)after);
	return before == after ? 0 : 1;
}
