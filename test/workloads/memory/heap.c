/* The program break grows and shrinks after the thaw from where it was, and malloc() goes on. */
#include "workload.h"

enum { BLOCKS = 200, MORE = 3 << 20 };

int main(void)
{
	char *blocks[BLOCKS], *before, *after;

	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(8u * (unsigned)(i + 1) * 64);
		fill_pattern(blocks[i], 8u * (unsigned)(i + 1) * 64, (uint64_t)i);
	}
	for (int i = 0; i < BLOCKS; i += 3)
		free(blocks[i]);
	ready();
	wait_for_go();
	check_state();
	for (int i = 0; i < BLOCKS; i++)
		if (i % 3)
			check_pattern(blocks[i], 8u * (unsigned)(i + 1) * 64, (uint64_t)i, "a block of the heap");
	before = sbrk(0);
	after = must(sbrk(MORE));
	check(after == before, "the break was at %p, the new memory begins at %p", before, after);
	for (int i = 0; i < MORE; i++)
		if (!check(before[i] == 0, "byte %d of the new heap is not zero", i))
			break;
	fill_pattern(before, MORE, 77);
	check_pattern(before, MORE, 77, "the new heap");
	check(sbrk(-MORE) == before + MORE && sbrk(0) == before, "the break does not shrink to %p", before);
	for (int i = 0; i < BLOCKS; i += 3)
		blocks[i] = malloc(8u * (unsigned)(i + 1) * 64);
	for (int i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	pass();
}
