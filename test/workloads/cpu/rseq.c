/*
 * The C library's rseq registration holds in every thread, and a thread stopped inside a critical section goes on at the
 * section's abort handler: each pass of the section notes the time, and a long gap within one pass means it was resumed.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>

#include "workload.h"

static volatile uint32_t stop_flag, running;
static volatile uint64_t passes, gaps, aborts;

static struct rseq *area(void)
{
	return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static void check_registration(const char *who)
{
	/* The same registration again is refused with EBUSY, another one with EINVAL, and a first one succeeds. */
	long result = syscall(SYS_rseq, area(), 32, 0, RSEQ_SIG);

	check(result == -1 && errno == EBUSY, "%s: rseq is not registered as before (%ld, %s)", who, result, strerror(errno));
	for (int i = 0; i < 3; i++) {
		cpu_set_t one;
		unsigned cpu = (unsigned)sched_getcpu();
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof one, &one) < 0)
			continue;
		check(area()->cpu_id == cpu, "%s: the rseq area says processor %u, the kernel %u", who, area()->cpu_id, cpu);
	}
	area()->rseq_cs = 0;
}

/* Spins inside the section until stopped; returns at the abort handler or the end. */
static void __attribute__((noinline)) one_section(struct rseq *rseq)
{
	uint64_t last = 0, biggest = 0, aborted = 0;

	__asm__ volatile(
		".pushsection __rseq_cs, \"aw\"\n"
		".balign 32\n"
		"3:	.long 0, 0\n"
		"	.quad 1f, 2f - 1f, 4f\n"
		".popsection\n"
		"	lea 3b(%%rip), %%rax\n"
		"	mov %%rax, %[cs]\n"
		"1:	rdtsc\n"
		"	shl $32, %%rdx; or %%rdx, %%rax\n"
		"	test %[last], %[last]; je 6f\n"
		"	mov %%rax, %%rdx; sub %[last], %%rdx\n"
		"	cmp %[biggest], %%rdx; cmova %%rdx, %[biggest]\n"
		"6:	mov %%rax, %[last]\n"
		"	mov %[stop], %%eax\n"
		"	test %%eax, %%eax; je 1b\n"
		"2:	jmp 5f\n"
		/* The signature in front of the handler, hidden in an instruction. */
		"	.byte 0x0f, 0xb9, 0x3d\n"
		"	.long 0x53053053\n"
		"4:	mov $1, %[aborted]\n"
		"5:\n"
		: [last] "+r"(last), [biggest] "+r"(biggest), [aborted] "+r"(aborted), [cs] "=m"(rseq->rseq_cs)
		: [stop] "m"(stop_flag)
		: "rax", "rdx", "memory", "cc");
	rseq->rseq_cs = 0;
	passes++;
	aborts += aborted;
	if (biggest > gaps)
		gaps = biggest;
}

static void *sectioner(void *unused)
{
	running = 1;
	while (!stop_flag)
		one_section(area());
	check_registration("thread");
	return unused;
}

static uint64_t ticks_per_ms(void)
{
	int64_t start = now_ms();
	uint64_t from = __builtin_ia32_rdtsc();

	while (now_ms() < start + 20)
		;
	return (__builtin_ia32_rdtsc() - from) / 20;
}

int main(void)
{
	uint64_t per_ms = ticks_per_ms();
	cpu_set_t all;
	pthread_t thread;

	must(sched_getaffinity(0, sizeof all, &all));
	must_zero(pthread_create(&thread, NULL, sectioner, NULL));
	while (!running)
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	stop_flag = 1;
	must_zero(pthread_join(thread, NULL));
	/* A frozen and restored process stands still for longer than this; a busy machine does not take a processor away so long. */
	if (was_restored())
		check(gaps < 40 * per_ms, "a section went on after standing still for %lu ms", (unsigned long)(gaps / per_ms));
	check(aborts > 0 || !was_restored(), "no section was aborted in %lu passes", (unsigned long)passes);
	check_registration("main");
	must(sched_setaffinity(0, sizeof all, &all));
	pass();
}
