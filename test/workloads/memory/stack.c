/*
 * Stacks keep growing after the thaw: the main one, and mappings made with MAP_GROWSDOWN, alone or split by mprotect().
 */
#include "workload.h"

enum { PAGE = 4096, ROOM = 1 << 20 };

static volatile unsigned sum;

static __attribute__((noinline)) void dive(int depth)
{
	volatile char frame[PAGE];

	for (int i = 0; i < PAGE; i += 512)
		frame[i] = (char)(depth + i);
	if (depth > 0)
		dive(depth - 1);
	sum += (unsigned)frame[512];
}

/* An area of two pages below which there is room; the room is given back so that the area can grow into it. */
static char *grow_area(void)
{
	char *room = must(mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), *area;

	area = must(mmap(room + ROOM - 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0));
	must(munmap(room, ROOM - 2 * PAGE));
	return area;
}

static void grow(char *area, int pages)
{
	for (int i = 1; i <= pages; i++)
		*(volatile char *)(area - i * PAGE) = (char)i;
}

int main(void)
{
	char *plain = grow_area(), *grown = grow_area(), *split = grow_area();

	fill_pattern(plain, 2 * PAGE, 1);
	grow(grown, 3);
	fill_pattern(grown - 3 * PAGE, 5 * PAGE, 2);
	fill_pattern(split, 2 * PAGE, 3);
	must(mprotect(split + PAGE, PAGE, PROT_READ));
	ready();
	wait_for_go();
	check_state();
	check_pattern(plain, 2 * PAGE, 1, "the area");
	check_pattern(grown - 3 * PAGE, 5 * PAGE, 2, "the area that has grown");
	check_pattern(split, 2 * PAGE, 3, "the area that was split");
	grow(plain, 20);
	grow(grown - 3 * PAGE, 20);
	grow(split, 20);
	check_pattern(plain, 2 * PAGE, 1, "the area, after it grew");
	check_pattern(grown - 3 * PAGE, 5 * PAGE, 2, "the area that has grown, after it grew");
	check_pattern(split, 2 * PAGE, 3, "the area that was split, after it grew");
	/* Far more than the stack holds now. */
	dive(1000);
	pass();
}
