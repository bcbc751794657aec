/*
 * Shared anonymous memory is the same memory for everybody who maps it, however much of it and wherever: the parent the
 * whole, twice; a child its middle; a grandchild, at another address, its end, of which the others hold nothing in memory.
 */
#include "workload.h"

enum { PAGE = 4096, PAGES = 32, MIDDLE = 8, END = 24 };

struct board {
	int child_turn, grandchild_turn;
};

static void until(int *turn, int value)
{
	for (int i = 0; __atomic_load_n(turn, __ATOMIC_SEQ_CST) != value; i++) {
		if (i > 30000)
			fail("the other task does not answer");
		sleep_ms(2);
	}
}

static void say(int *turn, int value)
{
	__atomic_store_n(turn, value, __ATOMIC_SEQ_CST);
}

static void grandchild(char *area, struct board *board)
{
	/* Another address, and only the last pages. */
	char *mine = must(mremap(area + END * PAGE, (PAGES - END) * PAGE, (PAGES - END) * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (char *)0x600000000000));

	must(munmap(area, END * PAGE));
	fill_pattern(mine, (PAGES - END) * PAGE, 3);
	keep_state();
	say(&board->grandchild_turn, 1);
	until(&board->grandchild_turn, 2);
	check_state();
	check_pattern(mine, (PAGES - END) * PAGE, 13, "the end, written by the parent after the thaw");
	fill_pattern(mine, (PAGES - END) * PAGE, 23);
	say(&board->grandchild_turn, 3);
	child_done();
}

static void child(char *area, struct board *board)
{
	pid_t kid = must(fork());

	if (!kid)
		grandchild(area, board);
	must(munmap(area, MIDDLE * PAGE));
	must(munmap(area + END * PAGE, (PAGES - END) * PAGE));
	fill_pattern(area + MIDDLE * PAGE, (END - MIDDLE) * PAGE, 2);
	until(&board->grandchild_turn, 1);
	keep_state();
	say(&board->child_turn, 1);
	until(&board->child_turn, 2);
	check_state();
	check_pattern(area + MIDDLE * PAGE, (END - MIDDLE) * PAGE, 12, "the middle, written by the parent after the thaw");
	fill_pattern(area + MIDDLE * PAGE, (END - MIDDLE) * PAGE, 22);
	child_passed(kid);
	say(&board->child_turn, 3);
	child_done();
}

int main(void)
{
	char *area = shared_memory(PAGES * PAGE), *again;
	struct board *board = shared_memory(sizeof *board);
	pid_t kid;

	kid = must(fork());
	if (!kid)
		child(area, board);
	fill_pattern(area, MIDDLE * PAGE, 1);
	/* With an old size of 0 this maps the same memory a second time. */
	again = must(mremap(area + MIDDLE * PAGE, 0, (PAGES - MIDDLE) * PAGE, MREMAP_MAYMOVE));
	until(&board->child_turn, 1);
	ready();
	wait_for_go();
	check_state();
	check_pattern(area, MIDDLE * PAGE, 1, "the beginning");
	check_pattern(area + MIDDLE * PAGE, (END - MIDDLE) * PAGE, 2, "the middle");
	check_pattern(again, (END - MIDDLE) * PAGE, 2, "the middle in the second mapping");
	check_pattern(area + END * PAGE, (PAGES - END) * PAGE, 3, "the end");
	fill_pattern(again, (END - MIDDLE) * PAGE, 12);
	fill_pattern(area + END * PAGE, (PAGES - END) * PAGE, 13);
	say(&board->grandchild_turn, 2);
	until(&board->grandchild_turn, 3);
	say(&board->child_turn, 2);
	until(&board->child_turn, 3);
	check_pattern(area + MIDDLE * PAGE, (END - MIDDLE) * PAGE, 22, "the middle, written by the child after the thaw");
	check_pattern(again + (END - MIDDLE) * PAGE, (PAGES - END) * PAGE, 23, "the end, written by the grandchild after the thaw");
	child_passed(kid);
	pass();
}
