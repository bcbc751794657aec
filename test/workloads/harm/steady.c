/*
 * A process that does a bit of everything and never stops checking itself: 256 MiB of memory rewritten all the time,
 * vector registers held while computing and while sleeping, timed waits that must never be cut short, a blocking read that
 * must never be interrupted, signal masks that must stay, signals of which none may arrive.
 *
 * Its counters lie in the file "progress" of the working directory, one for each thread: whoever harms us looks there
 * whether we still go on. Arguments: the go file, MiB of memory (default 256), "shared" if half of it is to be shared memory, or "all" if
 * all signals are to be caught, and then anything if a dumper is to be killed.
 */
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/select.h>

#include "workload.h"

enum { CHUNK = 64 << 10, NAP_MS = 40 };
enum { WALKER, COMPUTER, HOLDER, NANOSLEEP, POLL, SELECT, FUTEX, ABSOLUTE, READER, WRITER, THREADS };

static volatile uint64_t *progress;
static volatile bool finish;
static volatile int started, signals_seen, interruptions;
static uint8_t *memory;
static uint32_t *generations;
static size_t chunks;
static int pipe_ends[2], quiet_pipe[2];

static void on_signal(int number)
{
	(void)number;
	__atomic_add_fetch(&signals_seen, 1, __ATOMIC_SEQ_CST);
}

/* Every signal that a program may catch but one that is ignored by default: whoever needs a harmless signal takes that. With `all` that one too. */
static void catch_signals(bool all)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	for (int number = 1; number <= 64; number++)
		if (number != SIGKILL && number != SIGSTOP && number != 32 && number != 33 && (all || number != SIGWINCH))
			must(sigaction(number, &action, NULL));
}

static uint64_t mask_of(int which)
{
	return 1ull << (SIGUSR1 - 1) | 1ull << (SIGRTMIN + which);
}

static uint64_t mask_now(void)
{
	uint64_t mask = 0;

	must(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8));
	return mask;
}

static void set_mask(int which)
{
	uint64_t mask = mask_of(which);

	must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8));
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

static uint64_t seed_of(size_t chunk)
{
	return chunk * 1000003 + generations[chunk];
}

static void make_memory(size_t mib, bool is_shared)
{
	chunks = (mib << 20) / CHUNK;
	memory = must(mmap(NULL, chunks * CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	if (is_shared)
		must(mmap(memory + chunks / 2 * CHUNK, (chunks - chunks / 2) * CHUNK, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	generations = must(mmap(NULL, chunks * sizeof *generations, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (size_t i = 0; i < chunks; i++)
		fill_pattern(memory + i * CHUNK, CHUNK, seed_of(i));
}

static bool check_chunk(size_t chunk)
{
	return check_pattern(memory + chunk * CHUNK, CHUNK, seed_of(chunk), "memory");
}

static void walk(void)
{
	static size_t chunk;

	check_chunk(chunk);
	generations[chunk]++;
	fill_pattern(memory + chunk * CHUNK, CHUNK, seed_of(chunk));
	chunk = (chunk + 1) % chunks;
	sleep_ms(1);
}

/* ---- registers ------------------------------------------------------------------------------------------------------- */

struct registers {
	uint8_t vectors[32][64];
	uint64_t masks[8], general[4];
};

#define EACH_16(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define EACH_HIGH(op) \
	op(16) op(17) op(18) op(19) op(20) op(21) op(22) op(23) op(24) op(25) op(26) op(27) op(28) op(29) op(30) op(31)
#define EACH_8(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
#define LOAD_XMM(n) "movdqu " #n "*64(%%r9), %%xmm" #n "\n"
#define KEEP_XMM(n) "movdqu %%xmm" #n ", " #n "*64(%%r10)\n"
#define LOAD_YMM(n) "vmovdqu " #n "*64(%%r9), %%ymm" #n "\n"
#define KEEP_YMM(n) "vmovdqu %%ymm" #n ", " #n "*64(%%r10)\n"
#define LOAD_ZMM(n) "vmovdqu64 " #n "*64(%%r9), %%zmm" #n "\n"
#define KEEP_ZMM(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%%r10)\n"
#define LOAD_MASK(n) "kmovq 2048+" #n "*8(%%r9), %%k" #n "\n"
#define KEEP_MASK(n) "kmovq %%k" #n ", 2048+" #n "*8(%%r10)\n"

/* Loads registers, computes `spins` rounds, sleeps by the bare system call, keeps the registers. */
#define HOLD(load, keep)                                                                                               \
	__asm__ volatile(load                                                                                              \
		"movq 2112(%%r9), %%r12\n movq 2120(%%r9), %%r13\n movq 2128(%%r9), %%r14\n movq 2136(%%r9), %%r15\n"           \
		"1: dec %%rdx\n jnz 1b\n"                                                                                      \
		"syscall\n" keep                                                                                               \
		"movq %%r12, 2112(%%r10)\n movq %%r13, 2120(%%r10)\n movq %%r14, 2128(%%r10)\n movq %%r15, 2136(%%r10)\n"       \
		: "+a"(result), "+d"(spins)                                                                                    \
		: "D"(&t), "S"(0), "r"(in_), "r"(out_)                                                                         \
		: "rcx", "r11", "r12", "r13", "r14", "r15", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",     \
		"xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

#define HOLDER_FUNCTION(name, features, load, keep)                                                                    \
	static long __attribute__((noinline, target(features)))                                                            \
	name(const struct registers *in, struct registers *out, long spins, struct timespec t)                             \
	{                                                                                                                  \
		register const struct registers *in_ __asm__("r9") = in;                                                       \
		register struct registers *out_ __asm__("r10") = out;                                                          \
		long result = SYS_nanosleep;                                                                                   \
                                                                                                                       \
		HOLD(load, keep);                                                                                              \
		return result;                                                                                                 \
	}

HOLDER_FUNCTION(hold_sse, "sse2", EACH_16(LOAD_XMM), EACH_16(KEEP_XMM))
HOLDER_FUNCTION(hold_avx, "avx", EACH_16(LOAD_YMM), EACH_16(KEEP_YMM) "vzeroupper\n")
HOLDER_FUNCTION(hold_avx512, "avx512f,avx512bw", EACH_16(LOAD_ZMM) EACH_HIGH(LOAD_ZMM) EACH_8(LOAD_MASK),
	EACH_16(KEEP_ZMM) EACH_HIGH(KEEP_ZMM) EACH_8(KEEP_MASK) "vzeroupper\n")

static void hold_registers(int which, long spins, int ms)
{
	static const struct registers empty;
	struct registers in, out = empty;
	struct timespec t = {0, ms * 1000000L};
	bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"), avx = __builtin_cpu_supports("avx");
	size_t width = wide ? 64 : avx ? 32 : 16;
	long result;

	fill_pattern(&in, sizeof in, (uint64_t)which + progress[which]);
	result = wide ? hold_avx512(&in, &out, spins, t) : avx ? hold_avx(&in, &out, spins, t) : hold_sse(&in, &out, spins, t);
	for (int i = 0; i < (wide ? 32 : 16); i++)
		check(!memcmp(in.vectors[i], out.vectors[i], width), "thread %d: vector register %d changed", which, i);
	for (int i = 0; wide && i < 8; i++)
		check(in.masks[i] == out.masks[i], "thread %d: k%d changed", which, i);
	for (int i = 0; i < 4; i++)
		check(in.general[i] == out.general[i], "thread %d: r%d changed", which, 12 + i);
	if (result == -EINTR)
		__atomic_add_fetch(&interruptions, 1, __ATOMIC_SEQ_CST);
	else
		check(result == 0, "thread %d: nanosleep gave %ld", which, result);
}

/* ---- timed waits ----------------------------------------------------------------------------------------------------- */

static struct timespec span(int64_t ms)
{
	return (struct timespec){ms / 1000, (ms % 1000) * 1000000};
}

/* The error of a wait, or 0 when it ended because its time was over. */
static int timed_wait(int which)
{
	static uint32_t word;
	struct timespec t = span(NAP_MS);
	struct timeval short_span = {0, NAP_MS * 1000};
	struct pollfd quiet = {quiet_pipe[0], POLLIN, 0};
	fd_set set;

	switch (which) {
	case NANOSLEEP:
		return nanosleep(&t, NULL) < 0 ? errno : 0;
	case POLL:
		return syscall(SYS_poll, &quiet, 1, NAP_MS) < 0 ? errno : 0;
	case SELECT:
		FD_ZERO(&set);
		FD_SET(quiet_pipe[0], &set);
		return syscall(SYS_select, quiet_pipe[0] + 1, &set, NULL, NULL, &short_span) < 0 ? errno : 0;
	case FUTEX:
		return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0) < 0 && errno != ETIMEDOUT ? errno : 0;
	default:
		t = span(now_ms() + NAP_MS);
		return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	}
}

static void nap(int which)
{
	int64_t start = now_ms();
	int error = timed_wait(which);
	int64_t took = now_ms() - start;

	if (error == EINTR) {
		__atomic_add_fetch(&interruptions, 1, __ATOMIC_SEQ_CST);
		return;
	}
	check(error == 0, "wait %d: %s", which, strerror(error));
	/* The clock is read in whole milliseconds. */
	check(took >= NAP_MS - 1, "wait %d of %d ms was over after %ld ms", which, NAP_MS, (long)took);
}

/* ---- threads --------------------------------------------------------------------------------------------------------- */

static void read_byte(void)
{
	static uint8_t expected;
	uint8_t byte;
	ssize_t got = read(pipe_ends[0], &byte, 1);

	if (got == 0 && finish)
		return;
	if (!check(got == 1, "read from the pipe gave %zd: %s", got, strerror(errno)))
		return;
	check(byte == expected, "byte %u came out of the pipe, %u was due", byte, expected);
	expected++;
}

static void write_byte(void)
{
	static uint8_t next;

	sleep_ms(10);
	check(write(pipe_ends[1], &next, 1) == 1, "write to the pipe: %s", strerror(errno));
	next++;
}

static void step(int which)
{
	switch (which) {
	case WALKER:
		walk();
		break;
	case COMPUTER:
		hold_registers(which, 200000, 2);
		break;
	case HOLDER:
		hold_registers(which, 10, 20);
		break;
	case READER:
		read_byte();
		break;
	case WRITER:
		write_byte();
		break;
	default:
		nap(which);
	}
}

static void *thread(void *number)
{
	int which = (int)(intptr_t)number;

	set_mask(which);
	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
	while (!finish) {
		step(which);
		check(mask_now() == mask_of(which), "thread %d: the signal mask is %#lx, was %#lx", which, (long)mask_now(), (long)mask_of(which));
		progress[which]++;
	}
	return NULL;
}

static void map_progress(void)
{
	int fd = must(open("progress", O_RDWR | O_CREAT | O_CLOEXEC, 0600));

	must(ftruncate(fd, 4096));
	progress = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
}

static void judge(void)
{
	sigset_t pending;

	for (size_t i = 0; i < chunks; i++)
		if (!check_chunk(i))
			break;
	check(signals_seen == 0, "%d signals arrived", signals_seen);
	/* A call that was interrupted before may end so at a restore, where nobody can tell which it is. */
	check(interruptions == 0 || was_interrupted() || was_restored(), "%d waits were interrupted", interruptions);
	must(sigpending(&pending));
	check(sigismember(&pending, SIGUSR1) == 1, "the signal that was pending is not any more");
}

/* A dumper that is killed may leave a signal ignored that would have ended us, and that nobody has a use for. */
static void ignore_unused_signals(void)
{
	static char prefixes[THREADS + 1][32];

	for (int i = 0; i <= THREADS; i++) {
		snprintf(prefixes[i], sizeof *prefixes, "task %d SigIgn", getpid() + i);
		snapshot_ignores(prefixes[i]);
	}
	/* Those that C libraries keep for themselves. */
	snapshot_ignores("sigaction 32 ");
	snapshot_ignores("sigaction 33 ");
}

int main(int argc, char **argv)
{
	bool all = argc > 3 && !strcmp(argv[3], "all");
	pthread_t threads[THREADS];

	map_progress();
	must(pipe2(pipe_ends, O_CLOEXEC));
	must(pipe2(quiet_pipe, O_CLOEXEC));
	catch_signals(all);
	set_mask(THREADS);
	make_memory(argc > 2 ? (size_t)atoi(argv[2]) : 256, argc > 3 && !strcmp(argv[3], "shared"));
	/* Blocked in all threads, so it stays pending. */
	must(kill(getpid(), SIGUSR1));
	for (intptr_t i = 0; i < THREADS; i++)
		must_zero(pthread_create(&threads[i], NULL, thread, (void *)i));
	while (started < THREADS)
		sleep_ms(1);
	snapshot_ignores("syscall ");
	if (argc > 4)
		ignore_unused_signals();
	ready();
	wait_for_go();
	check_state();
	finish = true;
	for (int i = THREADS - 1; i >= 0; i--) {
		must_zero(pthread_join(threads[i], NULL));
		/* The reader may wait for a byte. */
		if (i == WRITER)
			must(close(pipe_ends[1]));
	}
	judge();
	pass();
}
