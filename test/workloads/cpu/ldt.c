/*
 * Segments of a table of one's own (modify_ldt): of data, one in use in gs, one of many pages, one that is not present, one far behind;
 * a child that has changed what it inherited.
 */
#include <asm/ldt.h>

#include "workload.h"

enum { WHOLE = LDT_ENTRIES * LDT_ENTRY_SIZE, IN_USE = 5 };

static uint8_t before[WHOLE], after[WHOLE];

static bool set(unsigned number, uint32_t base, unsigned limit, unsigned contents, bool pages, bool absent)
{
	struct user_desc desc = {.entry_number = number, .base_addr = base, .limit = limit, .seg_32bit = 1, .contents = contents,
		.read_exec_only = number & 1, .limit_in_pages = pages, .seg_not_present = absent, .useable = number % 3 == 0};

	return syscall(SYS_modify_ldt, 0x11, &desc, sizeof desc) == 0;
}

static void use(unsigned number)
{
	__asm__ volatile("mov %0, %%gs" : : "r"(number * 8 + 7));
}

static uint32_t word_in_use(void)
{
	uint32_t value;

	__asm__ volatile("mov %%gs:8, %0" : "=r"(value));
	return value;
}

static void keep(uint8_t *table)
{
	memset(table, 0, WHOLE);
	syscall(SYS_modify_ldt, 0, table, WHOLE);
}

static void judge(const char *who, uint32_t value)
{
	unsigned short selector;

	keep(after);
	for (unsigned i = 0; i < LDT_ENTRIES; i++)
		check(!memcmp(before + i * 8, after + i * 8, 8), "%s: segment %u is %lx, was %lx", who, i, *(long *)(after + i * 8), *(long *)(before + i * 8));
	__asm__ volatile("mov %%gs, %0" : "=r"(selector));
	check(selector == IN_USE * 8 + 7, "%s: gs is %x", who, selector);
	check(word_in_use() == value, "%s: by gs there is %x", who, word_in_use());
	/* The table is in use, and not only the base that gs has kept. */
	use(IN_USE);
	check(word_in_use() == value, "%s: by gs anew there is %x", who, word_in_use());
}

int main(void)
{
	uint32_t *low = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
	volatile int *board = shared_memory(2 * sizeof *board);
	pid_t child;

	low[2] = 0x11112222;
	low[102] = 0x33334444;
	if (!set(IN_USE, (uint32_t)(uintptr_t)low, 4095, MODIFY_LDT_CONTENTS_DATA, false, false)) {
		note("this kernel has no segment tables");
		ready();
		wait_for_go();
		pass();
	}
	set(0, 0x12345678, 0xfffff, MODIFY_LDT_CONTENTS_DATA, true, false);
	set(1, 0xfedcba98, 0x54321, MODIFY_LDT_CONTENTS_CODE, false, false);
	set(2, 0, 77, MODIFY_LDT_CONTENTS_STACK, true, true);
	set(3, 1, 0, MODIFY_LDT_CONTENTS_CODE, false, true);
	set(8191, 0x00ff00ff, 0x10, MODIFY_LDT_CONTENTS_DATA, false, false);
	use(IN_USE);
	child = must(fork());
	if (child == 0) {
		set(IN_USE, (uint32_t)(uintptr_t)low + 400, 4095, MODIFY_LDT_CONTENTS_DATA, false, false);
		set(700, 5, 6, MODIFY_LDT_CONTENTS_DATA, false, false);
		use(IN_USE);
		keep(before);
		board[0] = 1;
		while (!board[1])
			sleep_ms(2);
		judge("child", 0x33334444);
		_exit(differences_seen() ? 1 : 0);
	}
	while (!board[0])
		sleep_ms(1);
	keep(before);
	ready();
	wait_for_go();
	check_state();
	judge("parent", 0x11112222);
	board[1] = 1;
	child_passed(child);
	pass();
}
