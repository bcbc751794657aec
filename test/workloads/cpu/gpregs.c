/*
 * Two threads spin in user code with a known value in every general register, the direction and carry flags set, a known
 * red zone and a gs base; both are frozen there, and go on at the next instruction with everything as it was.
 */
#include <asm/prctl.h>
#include <pthread.h>

#include "workload.h"

enum { REGISTERS = 14, RED_ZONE = 16 };

struct spin {
	uint64_t wanted[REGISTERS];
	uint64_t got[REGISTERS];
	uint64_t red[RED_ZONE];
	uint64_t flags;
	uint64_t loops;
};

static uint32_t stop_flag __asm__("stop_flag") __attribute__((used));
static _Thread_local struct spin *current;
static struct spin spins[2];
static volatile int spinning;

/*
 * rcx is the loop's own register: jrcxz tests it without touching the flags. rsp stays what it is. The table's address goes
 * through the stack, 160 bytes below, so that all fourteen other registers are free.
 */
__asm__(".text\n"
		".type spin_in_registers, @function\n"
		"spin_in_registers:\n"
		"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
		"	mov %rdi, -160(%rsp)\n"
		"	mov 0(%rdi), %rax;   mov 8(%rdi), %rbx;   mov 16(%rdi), %rdx;  mov 24(%rdi), %rsi\n"
		"	mov 40(%rdi), %rbp;  mov 48(%rdi), %r8;   mov 56(%rdi), %r9;   mov 64(%rdi), %r10\n"
		"	mov 72(%rdi), %r11;  mov 80(%rdi), %r12;  mov 88(%rdi), %r13;  mov 96(%rdi), %r14\n"
		"	mov 104(%rdi), %r15; mov 32(%rdi), %rdi\n"
		/* The red zone, from -8 down to -128, and the spare word with the address below it. */
		"	.set slot, 8\n"
		"	.rept 16\n"
		"	movq $0x5a000000 + slot, -slot(%rsp)\n"
		"	.set slot, slot + 8\n"
		"	.endr\n"
		"	stc; std\n"
		"1:	mov stop_flag(%rip), %ecx\n"
		"	jrcxz 1b\n"
		"	mov -160(%rsp), %rcx\n"
		"	mov %rax, 112(%rcx); mov %rbx, 120(%rcx); mov %rdx, 128(%rcx); mov %rsi, 136(%rcx)\n"
		"	mov %rdi, 144(%rcx); mov %rbp, 152(%rcx); mov %r8, 160(%rcx);  mov %r9, 168(%rcx)\n"
		"	mov %r10, 176(%rcx); mov %r11, 184(%rcx); mov %r12, 192(%rcx); mov %r13, 200(%rcx)\n"
		"	mov %r14, 208(%rcx); mov %r15, 216(%rcx)\n"
		"	.set slot, 8\n"
		"	.rept 16\n"
		"	mov -slot(%rsp), %rax; mov %rax, 216+slot(%rcx)\n"
		"	.set slot, slot + 8\n"
		"	.endr\n"
		"	pushf; pop %rax; mov %rax, 352(%rcx)\n"
		"	cld\n"
		"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
		"	ret\n");
void spin_in_registers(struct spin *spin);

static void spin(int which)
{
	struct spin *s = current = &spins[which];
	uint64_t gs = 0, fs_before = 0, fs_after = 0, wanted_gs = 0x10000 + (uint64_t)which * 0x1000;

	must(syscall(SYS_arch_prctl, ARCH_SET_GS, wanted_gs));
	must(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_before));
	for (int i = 0; i < REGISTERS; i++)
		s->wanted[i] = 0x1111111111111111u * (unsigned)(i + 1) ^ ((uint64_t)which << 40);
	__atomic_add_fetch(&spinning, 1, __ATOMIC_SEQ_CST);
	spin_in_registers(s);
	for (int i = 0; i < REGISTERS; i++)
		check(s->got[i] == s->wanted[i], "thread %d, register %d: %#lx, was %#lx", which, i, (long)s->got[i], (long)s->wanted[i]);
	for (unsigned i = 0; i < RED_ZONE; i++)
		check(s->red[i] == 0x5a000000u + 8 * (i + 1), "thread %d, red zone word %u: %#lx", which, i, (long)s->red[i]);
	check(s->flags & 1, "thread %d: the carry flag was lost", which);
	check(s->flags & 0x400, "thread %d: the direction flag was lost", which);
	must(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
	must(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_after));
	check(gs == wanted_gs, "thread %d: gs base %#lx, was %#lx", which, (long)gs, (long)wanted_gs);
	check(fs_before == fs_after, "thread %d: fs base %#lx, was %#lx", which, (long)fs_after, (long)fs_before);
	check(current == s, "thread %d: thread-local variable changed", which);
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
	__atomic_store_n(&stop_flag, 1, __ATOMIC_SEQ_CST);
	return unused;
}

int main(void)
{
	pthread_t spinner_thread, starter_thread;

	_Static_assert(offsetof(struct spin, got) == 112 && offsetof(struct spin, red) == 224 && offsetof(struct spin, flags) == 352, "asm");
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
