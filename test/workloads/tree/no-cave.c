/*
 * A child all of whose executable memory is one page without an unused byte: it has unmapped its program, its libraries and its vdso.
 */
#include "workload.h"

enum { PAGE = 4096, MOST = 64, CODE = 42 };

struct plan {
	struct {
		uint64_t start, bytes;
	} ranges[MOST + 1];
	volatile uint32_t over;
	struct timespec nap;
};

extern const char code_begin[], code_end[];

/* rbx: the ranges; r12: the word that ends it; r13: how long it sleeps. */
__asm__(".text\n"
		"code_begin:\n"
		"1:	mov (%rbx), %rdi; test %rdi, %rdi; jz 2f\n"
		"	mov 8(%rbx), %rsi; mov $11, %eax; syscall\n"
		"	add $16, %rbx; jmp 1b\n"
		"2:	mov %r13, %rdi; xor %esi, %esi; mov $35, %eax; syscall\n"
		"	cmpl $0, (%r12); je 2b\n"
		"	mov $42, %edi; mov $231, %eax; syscall\n"
		"code_end:\n");

static int executable(struct plan *plan, const char *but)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char row[512], perms[8];
	int count = 0;
	uint64_t start, end;

	while (maps && fgets(row, sizeof row, maps))
		if (sscanf(row, "%lx-%lx %7s", &start, &end, perms) == 3 && perms[2] == 'x' && start != (uint64_t)but && start < 1ull << 47 && count < MOST) {
			plan->ranges[count].start = start;
			plan->ranges[count++].bytes = end - start;
		}
	if (maps)
		fclose(maps);
	return count;
}

static int executable_of(pid_t pid)
{
	char path[32], row[512], perms[8];
	int count = 0;
	uint64_t start;
	FILE *maps;

	snprintf(path, sizeof path, "/proc/%d/maps", proc_number(pid));
	maps = fopen(path, "re");
	while (maps && fgets(row, sizeof row, maps))
		count += sscanf(row, "%lx-%*x %7s", &start, perms) == 2 && perms[2] == 'x' && start < 1ull << 47;
	if (maps)
		fclose(maps);
	return count;
}

int main(void)
{
	struct plan *plan = shared_memory(sizeof *plan);
	char *page = must(mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	pid_t child;
	int status;

	memset(page, 0xcc, PAGE);
	memcpy(page, code_begin, (size_t)(code_end - code_begin));
	plan->nap.tv_nsec = 2000000;
	child = must(fork());
	if (child == 0) {
		executable(plan, page);
		__asm__ volatile("mov %0, %%rbx; mov %1, %%r12; mov %2, %%r13; jmp *%3"
			:
			: "r"(plan->ranges), "r"(&plan->over), "r"(&plan->nap), "r"(page)
			: "rbx", "r12", "r13", "memory");
		__builtin_unreachable();
	}
	while (executable_of(child) != 1)
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	plan->over = 1;
	must(waitpid(child, &status, 0));
	check(WIFEXITED(status) && WEXITSTATUS(status) == CODE, "the child ended with %#x", status);
	pass();
}
