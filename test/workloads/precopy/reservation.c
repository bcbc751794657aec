/*
 * A reservation that is opened piece by piece and moved as a whole with mremap(2), while memory is tracked: what is opened becomes one
 * mapping with what was open before, as it does otherwise. Small closed mappings beside the open part, above and below it.
 */
#include "workload.h"

enum { PAGE = 4096, PIECE = 1 << 20, PIECES = 64 };

int main(void)
{
	char *room = must(mmap(NULL, (size_t)PIECES * PIECE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	size_t open = PIECE;
	unsigned moves = 0;

	must(mprotect(room, open, PROT_READ | PROT_WRITE));
	fill_pattern(room, open, 5);
	snapshot_ignores("map");
	snapshot_ignores("status");
	ready();
	while (!go_given()) {
		char *elsewhere = must(mmap(NULL, (size_t)PIECES * PIECE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
		char *moved;

		must(mprotect(room + open, PAGE, PROT_READ | PROT_WRITE));
		open += PAGE;
		/* In place: the range must be one mapping. */
		moved = mremap(room, open, open, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere);
		if (!check(moved == elsewhere, "mremap of %zu bytes: %s", open, strerror(errno)))
			break;
		must(mprotect(moved + PIECE, open - PIECE, PROT_NONE));
		must(munmap(room + open, (size_t)PIECES * PIECE - open));
		room = moved;
		open = PIECE;
		moves++;
		check_pattern(room, PIECE, 5, "what was moved");
		sleep_ms(2);
	}
	note("%u moves", moves);
	check_pattern(room, PIECE, 5, "what was moved");
	pass();
}
