/*
 * Calls of 32-bit programs (ia32), made here by gcc without a C library: those that every stop ends go on waiting if they have no limit;
 * those that a handler ends are ended by signals that come in a freeze. Each copy of the program says how its call has ended.
 */
#include "ia32.h"

static const char program[] =
	"typedef unsigned int u32;\n"
	"static __attribute__((noinline)) int call(int nr, int a, int b, int c, int d, int e, int f)\n"
	"{\n"
	"	int r;\n"
	"	struct { int nr, f; } in = {nr, f};\n"
	"	__asm__ volatile(\"push %%ebp\\nmov 4(%%eax),%%ebp\\nmov (%%eax),%%eax\\nbegin: int $0x80\\npop %%ebp\"\n"
	"		: \"=a\"(r) : \"a\"(&in), \"b\"(a), \"c\"(b), \"d\"(c), \"S\"(d), \"D\"(e) : \"memory\");\n"
	"	return r;\n"
	"}\n"
	"__asm__(\".text\\nrestorer: pop %eax\\nmov $119,%eax\\nint $0x80\\n\");\n"
	"extern void restorer(void);\n"
	"extern const char begin[];\n"
	"static volatile int handled, before;\n"
	"/* Behind the number: struct sigcontext. `before`: the call is about to be made (again). */\n"
	"static void handler(int sig, int gs, int fs, int es, int ds, int di, int si, int bp, int sp, int bx, int dx, int cx, int ax,\n"
	"	int trap, int error, int ip)\n"
	"{\n"
	"	handled = sig;\n"
	"	if (ip == (int)begin && (ax == 29 || ax == 162 || ax == 168 || ax == 256 || ax == 0)) before++;\n"
	"}\n"
	"struct ksa { void (*h)(int); u32 flags; void (*r)(void); u32 mask[2]; };\n"
	"static int wait_epoll(int with)\n"
	"{\n"
	"	u32 event[3] = {1, 0, 0};\n"
	"	int set = call(329, 0, 0, 0, 0, 0, 0);\n"
	"	if (with) call(255, set, 1, 0, (int)event, 0, 0);\n"
	"	return call(256, set, (int)event, 1, -1, 0, 0);\n"
	"}\n"
	"static int wait_semaphore(void)\n"
	"{\n"
	"	short down[3] = {0, -1, 0};\n"
	"	int id = call(117, 2, 0, 1, 0600, 0, 0), r = call(117, 1, id, 1, 0, (int)down, 0);\n"
	"	int nothing = 0;\n"
	"	call(117, 3, id, 0, 0x100, (int)&nothing, 0);\n"
	"	return r;\n"
	"}\n"
	"static int wait_signal(void)\n"
	"{\n"
	"	u32 usr2[2] = {1 << 11, 0};\n"
	"	call(175, 0, (int)usr2, 0, 8, 0, 0);\n"
	"	return call(177, (int)usr2, 0, 0, 8, 0, 0);\n"
	"}\n"
	"/* Signals come all the time, and each ends a call; how often one did not. */\n"
	"static int often(char kind)\n"
	"{\n"
	"	int poll[2] = {0, 1}, soon[4] = {0, 1500, 0, 1500};\n"
	"	call(104, 0, (int)soon, 0, 0, 0, 0);\n"
	"	do {\n"
	"		int time[2] = {1000, 0}, r;\n"
	"		r = kind == 'p' ? call(29, 0, 0, 0, 0, 0, 0) : kind == 'n' ? call(162, (int)time, 0, 0, 0, 0, 0) :\n"
	"			kind == 'l' ? call(168, 0, 0, 1000000, 0, 0, 0) : wait_epoll(0);\n"
	"		if (kind == 'e') call(6, 3, 0, 0, 0, 0, 0);\n"
	"		if (r != -4 || handled != 14) return r ? r : 99;\n"
	"	} while (call(168, (int)poll, 1, 0, 0, 0, 0) != 1);\n"
	"	soon[1] = soon[3] = 0;\n"
	"	call(104, 0, (int)soon, 0, 0, 0, 0);\n"
	"	return before;\n"
	"}\n"
	"void run(char **sp)\n"
	"{\n"
	"	char kind = sp[2][0];\n"
	"	struct ksa sa = {handler, 0x14000000, restorer, {0, 0}};\n"
	"	int result;\n"
	"	call(174, 10, (int)&sa, 0, 8, 0, 0);\n"
	"	call(174, 14, (int)&sa, 0, 8, 0, 0);\n"
	"	result = kind == 'E' ? wait_epoll(1) : kind == 'S' ? wait_semaphore() : kind == 'W' ? wait_signal() : often(kind);\n"
	"	call(4, 1, (int)&result, 4, 0, 0, 0);\n"
	"	call(252, 0, 0, 0, 0, 0, 0);\n"
	"}\n"
	"__asm__(\".globl _start\\n_start: mov %esp,%eax\\npush %eax\\ncall run\\n\");\n";

static const struct kind {
	const char *name, *letter;
	/* 0: a byte to read. */
	int signal, wanted;
	bool waits;
} kinds[] = {
	{"epoll_wait", "E", 0, 1, true}, {"epoll_wait, a handler", "E", SIGUSR1, -EINTR, true}, {"semop, a handler", "S", SIGUSR1, -EINTR, true},
	{"sigwaitinfo", "W", SIGUSR2, SIGUSR2, true}, {"sigwaitinfo, a handler", "W", SIGUSR1, -EINTR, true}, {"pause", "p", 0, 0, false},
	{"nanosleep", "n", 0, 0, false}, {"poll", "l", 0, 0, false}, {"epoll_wait often", "e", 0, 0, false},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static struct copy {
	pid_t pid;
	int to[2], from[2];
} copies[KINDS];

static void start(const struct kind *k, struct copy *c)
{
	must(pipe2(c->to, O_CLOEXEC));
	must(pipe2(c->from, O_CLOEXEC | O_NONBLOCK));
	c->pid = must(fork());
	if (c->pid != 0)
		return;
	must(dup2(c->to[0], 0));
	must(dup2(c->from[1], 1));
	execl("./ia32", "ia32", k->letter, NULL);
	_exit(9);
}

int main(void)
{
	int result, before = 0;

	compile_ia32(program, "ia32");
	for (int i = 0; i < KINDS; i++)
		start(&kinds[i], &copies[i]);
	for (int i = 0; i < KINDS; i++)
		while (kinds[i].waits ? task_state(copies[i].pid) != 'S' : false)
			sleep_ms(1);
	sleep_ms(50);
	snapshot_ignores("");
	ready();
	wait_for_go();
	sleep_ms(30);
	for (int i = 0; i < KINDS; i++)
		check(read(copies[i].from[0], &result, 4) < 0, "%s ended by itself: %d", kinds[i].name, result);
	for (int i = 0; i < KINDS; i++) {
		if (kinds[i].signal)
			kill(copies[i].pid, kinds[i].signal);
		else
			must(write(copies[i].to[1], "x", 1));
	}
	for (int i = 0; i < KINDS; i++) {
		child_passed(copies[i].pid);
		result = -99;
		check(read(copies[i].from[0], &result, 4) == 4 && (!kinds[i].waits || result == kinds[i].wanted), "%s gave %d", kinds[i].name, result);
		if (!kinds[i].waits)
			before += result;
	}
	/* One may come in the very instruction before the call. */
	check(before == 0 || before == 1, "%d calls began again behind a handler", before);
	pass();
}
