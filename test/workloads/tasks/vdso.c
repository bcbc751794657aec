/*
 * The vdso's functions work after the freeze, at their address. With "moved": the vdso and its data were moved elsewhere
 * before, one mapping after the other or all together, as a program that rearranges its memory does. With "unmapped" a child has none.
 */
#include <elf.h>
#include <sys/auxv.h>

#include "workload.h"

typedef int (*gettime)(clockid_t clock, struct timespec *t);

/* Finds a symbol in the vdso at `base`. */
static void *symbol(const char *base, const char *wanted)
{
	const Elf64_Ehdr *header = (const void *)base;
	const Elf64_Phdr *program = (const void *)(base + header->e_phoff);
	const Elf64_Sym *symbols = NULL;
	const char *strings = NULL;
	const uint32_t *hash = NULL, *gnu = NULL;
	const Elf64_Dyn *dynamic = NULL;
	uint32_t count = 0;

	for (int i = 0; i < header->e_phnum; i++)
		if (program[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)(base + program[i].p_offset);
	for (; dynamic && dynamic->d_tag; dynamic++) {
		if (dynamic->d_tag == DT_SYMTAB)
			symbols = (const void *)(base + dynamic->d_un.d_ptr);
		if (dynamic->d_tag == DT_STRTAB)
			strings = base + dynamic->d_un.d_ptr;
		if (dynamic->d_tag == DT_HASH)
			hash = (const void *)(base + dynamic->d_un.d_ptr);
		if (dynamic->d_tag == DT_GNU_HASH)
			gnu = (const void *)(base + dynamic->d_un.d_ptr);
	}
	/* The table ends where the string table begins, when there is no old hash that says its length. */
	count = hash ? hash[1] : gnu && symbols ? (uint32_t)(((const char *)strings - (const char *)symbols) / (long)sizeof *symbols) : 0;
	for (uint32_t i = 0; symbols && i < count; i++)
		if (!strcmp(strings + symbols[i].st_name, wanted))
			return (void *)(uintptr_t)(base + symbols[i].st_value);
	return NULL;
}

struct part {
	char *start, *end;
};

static int find_parts(struct part *parts, int room)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char row[512];
	int count = 0;

	while (maps && fgets(row, sizeof row, maps))
		if ((strstr(row, "[vvar") || strstr(row, "[vdso]")) && count < room && sscanf(row, "%p-%p", (void **)&parts[count].start,
				(void **)&parts[count].end) == 2)
			count++;
	fclose(maps);
	return count;
}

static char *move(char *base)
{
	struct part parts[8];
	int count = find_parts(parts, 8);
	char *from = parts[0].start, *to;
	size_t whole = (size_t)(parts[count - 1].end - from);

	to = mmap((void *)0x200000000000, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (to == MAP_FAILED)
		fail("no room for the vdso");
	if (mremap(from, whole, whole, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		for (int i = 0; i < count; i++) {
			size_t bytes = (size_t)(parts[i].end - parts[i].start);
			if (mremap(parts[i].start, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to + (parts[i].start - from)) == MAP_FAILED)
				_exit(98);
		}
	return to + (base - from);
}

/* Without a vdso: nothing that asks for the time, as the C library would by what is gone. */
static void without(volatile int *board)
{
	struct part parts[8];
	int count = find_parts(parts, 8);

	for (int i = 0; i < count; i++)
		must(syscall(SYS_munmap, parts[i].start, parts[i].end - parts[i].start));
	board[0] = 1;
	while (!board[1])
		syscall(SYS_nanosleep, &(struct timespec){0, 2000000}, NULL);
	_exit(find_parts(parts, 8) == 0 ? 0 : 1);
}

static void unmapped(void)
{
	volatile int *board = shared_memory(2 * sizeof *board);
	pid_t child = must(fork());
	int status;

	if (child == 0)
		without(board);
	while (!board[0])
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	board[1] = 1;
	must(waitpid(child, &status, 0));
	check(status == 0, "the child without a vdso ended with %#x", status);
	pass();
}

static void check_clock(gettime call, const char *when)
{
	struct timespec by_vdso, by_call;

	for (int i = 0; i < 1000; i++) {
		int64_t apart;

		check(call(CLOCK_MONOTONIC, &by_vdso) == 0, "%s: the vdso gives an error", when);
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &by_call);
		apart = (by_call.tv_sec - by_vdso.tv_sec) * 1000000000 + by_call.tv_nsec - by_vdso.tv_nsec;
		if (!check(apart >= 0 && apart < 1000000000, "%s: the vdso's clock is %ld ns away from the system call's", when, (long)apart))
			return;
	}
}

int main(int argc, char **argv)
{
	char *base = (char *)getauxval(AT_SYSINFO_EHDR);
	gettime call;

	if (!base)
		fail("there is no vdso");
	if (argc > 2 && !strcmp(argv[2], "unmapped"))
		unmapped();
	if (argc > 2 && !strcmp(argv[2], "moved"))
		base = move(base);
	call = (gettime)(uintptr_t)symbol(base, "__vdso_clock_gettime");
	if (!call)
		fail("the vdso has no __vdso_clock_gettime");
	check_clock(call, "before");
	ready();
	wait_for_go();
	check_clock(call, "after");
	pass();
}
