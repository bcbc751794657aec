/*
 * A 32-bit program (ia32) as the child of a 64-bit one: its segments, signal handlers on 32-bit frames, the 32-bit vdso, its
 * robust-futex list, its mappings below 4 GiB. It answers one byte for each byte it gets. gcc makes it here, without a C library. With
 * "leaderless" a second thread answers, and the first has ended.
 */
#include "ia32.h"

static const char program[] =
	"typedef unsigned int u32;\n"
	"struct user_desc { u32 entry_number, base_addr, limit, flags; };\n"
	"static int call(int nr, int a, int b, int c, int d)\n"
	"{\n"
	"	int r;\n"
	"	__asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(nr), \"b\"(a), \"c\"(b), \"d\"(c), \"S\"(d) : \"memory\");\n"
	"	return r;\n"
	"}\n"
	"static u32 tls[16];\n"
	"static volatile int handled;\n"
	"static u32 vsyscall;\n"
	"__asm__(\".text\\nrestorer: pop %eax\\nmov $119,%eax\\nint $0x80\\n\");\n"
	"extern void restorer(void);\n"
	"static void handler(int sig) { handled += sig; }\n"
	"struct ksa { void (*h)(int); u32 flags; void (*r)(void); u32 mask[2]; };\n"
	"static int via_vdso(int nr) { int r; __asm__ volatile(\"call *%1\" : \"=a\"(r) : \"m\"(vsyscall), \"a\"(nr) : \"memory\"); return r; }\n"
	"static u32 stack[4096];\n"
	"/* Goes on with `next` in a new thread on a stack of its own, and ends the calling one. */\n"
	"extern void in_thread(void *stack, void (*next)(void));\n"
	"__asm__(\"in_thread: mov 4(%esp),%ecx\\nmov 8(%esp),%esi\\nmov $0x10f00,%ebx\\nxor %edx,%edx\\nmov $120,%eax\\n\"\n"
	"	\"int $0x80\\ntest %eax,%eax\\njnz 1f\\nand $-16,%esp\\ncall *%esi\\n1: xor %ebx,%ebx\\nmov $1,%eax\\nint $0x80\\n\");\n"
	"static void answer(void);\n"
	"void run(u32 *sp)\n"
	"{\n"
	"	struct user_desc d = {(u32)-1, (u32)tls, 0xfffff, 0x51};\n"
	"	struct ksa sa = {handler, 0x04000000, restorer, {0, 0}};\n"
	"	u32 *p = sp + 1 + *sp + 1;\n"
	"	while (*p++) ;\n"
	"	for (; *p; p += 2) if (*p == 32) vsyscall = p[1];\n"
	"	tls[0] = 0x1234567; tls[1] = 77;\n"
	"	call(243, (int)&d, 0, 0, 0);\n"
	"	__asm__ volatile(\"mov %0,%%gs\" :: \"r\"(d.entry_number * 8 + 3));\n"
	"	call(174, 10, (int)&sa, 0, 8);\n"
	"	call(311, (int)tls, 12, 0, 0); /* set_robust_list */\n"
	"	if (*sp > 1) in_thread(stack + 4096, answer);\n"
	"	answer();\n"
	"}\n"
	"static void answer(void)\n"
	"{\n"
	"	unsigned char c;\n"
	"	while (call(3, 0, (int)&c, 1, 0) == 1) {\n"
	"		u32 v;\n"
	"		if (c == 'g') { __asm__ volatile(\"mov %%gs:4,%0\" : \"=r\"(v)); c = v; }\n"
	"		else if (c == 's') { call(37, call(20,0,0,0,0), 10, 0, 0); c = handled; }\n"
	"		else if (c == 'v') { c = via_vdso(20) == call(20,0,0,0,0); }\n"
	"		else if (c == 'r') { u32 h, l; call(312, 0, (int)&h, (int)&l, 0); c = h == (u32)tls && l == 12; }\n"
	"		else if (c == 'm') { u32 m = call(192, 0, 4096, 3, 0x22); c = m < 0xfffff000u; }\n"
	"		else c++;\n"
	"		call(4, 1, (int)&c, 1, 0);\n"
	"	}\n"
	"	call(252, 3, 0, 0, 0);\n"
	"}\n"
	"__asm__(\".globl _start\\n_start: mov %esp,%eax\\npush %eax\\ncall run\\n\");\n"
	;

static int to[2], from[2];
static bool leaderless;

static int ask(char question)
{
	unsigned char answer = 0;

	must(write(to[1], &question, 1));
	must(read(from[0], &answer, 1));
	return answer;
}

static void look(int handled)
{
	check(ask('a') == 'b', "it does not answer");
	if (leaderless)
		return;
	check(ask('g') == 77, "its segment is lost");
	check(ask('s') == 10 * handled, "its signal handler is lost");
	check(ask('v') == 1, "its vdso is lost");
	check(ask('r') == 1, "its robust-futex list is lost");
	check(ask('m') == 1, "it gets no memory that it can address");
}

int main(int argc, char **argv)
{
	int status;
	pid_t child;

	leaderless = argc > 2 && !strcmp(argv[2], "leaderless");
	compile_ia32(program, "ia32");
	must(pipe2(to, O_CLOEXEC));
	must(pipe2(from, O_CLOEXEC));
	child = must(fork());
	if (child == 0) {
		must(dup2(to[0], 0));
		must(dup2(from[1], 1));
		execl("./ia32", "ia32", leaderless ? argv[2] : NULL, NULL);
		_exit(9);
	}
	must(close(to[0]));
	look(1);
	while (leaderless && task_state(child) != 'Z')
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	look(2);
	must(close(to[1]));
	must(waitpid(child, &status, 0));
	check(WIFEXITED(status) && WEXITSTATUS(status) == 3, "it ended with status %x", status);
	pass();
}
