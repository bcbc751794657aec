/*
 * Two threads spin with known values in the x87 stack, MXCSR, all vector registers (SSE, AVX, AVX-512 with its masks, as
 * far as the processor has them) and PKRU, different ones in each thread.
 */
#include <cpuid.h>
#include <pthread.h>

#include "workload.h"

struct vectors {
	uint8_t zmm[32][64];
	uint64_t masks[8];
	uint8_t x87[8][10];
	uint16_t x87_control, x87_status;
	uint32_t mxcsr, pkru;
};

static volatile uint32_t stop_flag;
static volatile int spinning;
static bool has_avx, has_avx512, has_pku;

static void find_features(void)
{
	unsigned a, b, c, d;

	has_avx = __builtin_cpu_supports("avx");
	has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
		has_pku = c & (1u << 4); /* OSPKE */
}

static void fill(struct vectors *v, unsigned seed)
{
	memset(v, 0, sizeof *v);
	for (unsigned i = 0; i < 32; i++)
		for (unsigned j = 0; j < 64; j++)
			v->zmm[i][j] = (uint8_t)(seed * 101 + i * 7 + j * 13 + 1);
	for (unsigned i = 0; i < 8; i++) {
		long double value = seed * 1000.0L + i + 1.0L / 3;
		v->masks[i] = 0x0123456789abcdefu * (seed + 1) + i;
		memcpy(v->x87[i], &value, 10);
	}
	v->x87_control = (uint16_t)(0x037f | ((seed & 3) << 10));
	v->mxcsr = 0x1f80 | ((seed & 3) << 13);
	v->pkru = has_pku ? 0x55555554u & ~(3u << (2 * (seed + 1))) : 0;
}

#define EACH_XMM(op)                                                                                                   \
	op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define EACH_HIGH(op)                                                                                                  \
	op(16) op(17) op(18) op(19) op(20) op(21) op(22) op(23) op(24) op(25) op(26) op(27) op(28) op(29) op(30) op(31)
#define LOAD_SSE(n) "movdqu " #n "*64(%[in]), %%xmm" #n "\n"
#define KEEP_SSE(n) "movdqu %%xmm" #n ", " #n "*64(%[out])\n"
#define LOAD_AVX(n) "vmovdqu " #n "*64(%[in]), %%ymm" #n "\n"
#define KEEP_AVX(n) "vmovdqu %%ymm" #n ", " #n "*64(%[out])\n"
#define LOAD_512(n) "vmovdqu64 " #n "*64(%[in]), %%zmm" #n "\n"
#define KEEP_512(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%[out])\n"
#define EACH_MASK(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
#define LOAD_MASK(n) "kmovq 2048+" #n "*8(%[in]), %%k" #n "\n"
#define KEEP_MASK(n) "kmovq %%k" #n ", 2048+" #n "*8(%[out])\n"
#define LOAD_X87                                                                                                       \
	"fninit\n fldcw 2192(%[in])\n fldt 2182(%[in])\n fldt 2172(%[in])\n fldt 2162(%[in])\n fldt 2152(%[in])\n"          \
	"fldt 2142(%[in])\n fldt 2132(%[in])\n fldt 2122(%[in])\n fldt 2112(%[in])\n ldmxcsr 2196(%[in])\n"
#define KEEP_X87                                                                                                       \
	"stmxcsr 2196(%[out])\n fnstcw 2192(%[out])\n fnstsw 2194(%[out])\n"                                                \
	"fstpt 2112(%[out])\n fstpt 2122(%[out])\n fstpt 2132(%[out])\n fstpt 2142(%[out])\n"                               \
	"fstpt 2152(%[out])\n fstpt 2162(%[out])\n fstpt 2172(%[out])\n fstpt 2182(%[out])\n fninit\n ldmxcsr %[plain]\n"
#define SPIN "1: movl %[stop], %%eax\n pause\n test %%eax, %%eax\n je 1b\n"
#define RUN(load, keep)                                                                                                \
	__asm__ volatile(LOAD_X87 load SPIN keep KEEP_X87                                                                  \
		:                                                                                                              \
		: [in] "r"(in), [out] "r"(out), [stop] "m"(stop_flag), [plain] "m"(plain_mxcsr)                                 \
		: "rax", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
		"xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

static const uint32_t plain_mxcsr = 0x1f80;

static void __attribute__((noinline)) spin_sse(const struct vectors *in, struct vectors *out)
{
	RUN(EACH_XMM(LOAD_SSE), EACH_XMM(KEEP_SSE));
}

static void __attribute__((noinline, target("avx"))) spin_avx(const struct vectors *in, struct vectors *out)
{
	RUN(EACH_XMM(LOAD_AVX), EACH_XMM(KEEP_AVX) "vzeroupper\n");
}

static void __attribute__((noinline, target("avx512f,avx512bw"))) spin_avx512(const struct vectors *in, struct vectors *out)
{
	RUN(EACH_XMM(LOAD_512) EACH_HIGH(LOAD_512) EACH_MASK(LOAD_MASK),
		EACH_XMM(KEEP_512) EACH_HIGH(KEEP_512) EACH_MASK(KEEP_MASK) "vzeroupper\n");
}

static uint32_t read_pkru(void)
{
	uint32_t value, rest;

	__asm__ volatile("rdpkru" : "=a"(value), "=d"(rest) : "c"(0));
	return value;
}

static void write_pkru(uint32_t value)
{
	__asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0));
}

static void compare(const struct vectors *in, const struct vectors *out, unsigned which)
{
	unsigned registers = has_avx512 ? 32 : 16, width = has_avx512 ? 64 : has_avx ? 32 : 16;

	for (unsigned i = 0; i < registers; i++)
		check(!memcmp(in->zmm[i], out->zmm[i], width), "thread %u: vector register %u changed", which, i);
	for (unsigned i = 0; has_avx512 && i < 8; i++)
		check(in->masks[i] == out->masks[i], "thread %u: k%u is %#lx, was %#lx", which, i, (long)out->masks[i], (long)in->masks[i]);
	for (unsigned i = 0; i < 8; i++)
		check(!memcmp(in->x87[i], out->x87[i], 10), "thread %u: st%u changed", which, i);
	check(in->x87_control == out->x87_control, "thread %u: x87 control word %#x, was %#x", which, out->x87_control, in->x87_control);
	check((out->x87_status & 0x3800) == 0, "thread %u: x87 status word %#x", which, out->x87_status);
	check(in->mxcsr == out->mxcsr, "thread %u: MXCSR %#x, was %#x", which, out->mxcsr, in->mxcsr);
	check(in->pkru == out->pkru, "thread %u: PKRU %#x, was %#x", which, out->pkru, in->pkru);
}

static void spin(unsigned which)
{
	struct vectors in, out;
	uint32_t pkru_before = has_pku ? read_pkru() : 0;

	fill(&in, which);
	memset(&out, 0, sizeof out);
	if (has_pku)
		write_pkru(in.pkru);
	__atomic_add_fetch(&spinning, 1, __ATOMIC_SEQ_CST);
	if (has_avx512)
		spin_avx512(&in, &out);
	else if (has_avx)
		spin_avx(&in, &out);
	else
		spin_sse(&in, &out);
	if (has_pku) {
		out.pkru = read_pkru();
		write_pkru(pkru_before);
	}
	compare(&in, &out, which);
}

static void *spinner(void *unused)
{
	spin(1);
	return unused;
}

static void *starter(void *unused)
{
	while (spinning < 2)
		sleep_ms(1);
	sleep_ms(10);
	if (write(1, "ready\n", 6) != 6)
		_exit(99);
	wait_for_go();
	stop_flag = 1;
	return unused;
}

int main(void)
{
	pthread_t spinner_thread, starter_thread;

	_Static_assert(offsetof(struct vectors, masks) == 2048 && offsetof(struct vectors, x87) == 2112, "asm");
	_Static_assert(offsetof(struct vectors, x87_control) == 2192 && offsetof(struct vectors, mxcsr) == 2196, "asm");
	find_features();
	must_zero(pthread_create(&spinner_thread, NULL, spinner, NULL));
	must_zero(pthread_create(&starter_thread, NULL, starter, NULL));
	keep_state();
	snapshot_ignores("task ");
	snapshot_ignores("stat threads");
	spin(0);
	must_zero(pthread_join(spinner_thread, NULL));
	must_zero(pthread_join(starter_thread, NULL));
	pass();
}
