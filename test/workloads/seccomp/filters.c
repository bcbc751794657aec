/*
 * Chains of seccomp filters. "chain": the order and flags of filters, a child that inherits them, a thread with one more.
 * "tsync": filters that threads share still can be extended for all of them at once. "long": threads with long filters of
 * their own. "user": filters without no_new_privs in a process that gave up its rights.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>

#include "workload.h"

#define MOST_INSTRUCTIONS 4096

static const char *what;
static volatile int up;
static volatile bool looked;

/* System call `nr` fails with `error`; `padding` instructions more that do nothing. */
static long install(int nr, int error, unsigned flags, unsigned padding)
{
	struct sock_filter code[MOST_INSTRUCTIONS];
	struct sock_fprog program = {0, code};
	unsigned n = 0;

	while (n < padding)
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, n);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = (unsigned short)n;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static int error_of(int nr)
{
	errno = 0;
	return syscall(nr, -1, -1, -1) < 0 ? errno : 0;
}

static void look(int sysinfo_error, int times_error, const char *who)
{
	check(error_of(SYS_getpgrp) == 33, "%s: the newest filter does not win: %d", who, error_of(SYS_getpgrp));
	check(error_of(SYS_getsid) == 31, "%s: the oldest filter is lost: %d", who, error_of(SYS_getsid));
	check(error_of(SYS_sysinfo) == sysinfo_error, "%s: sysinfo gives %d", who, error_of(SYS_sysinfo));
	check(error_of(SYS_times) == times_error, "%s: times gives %d", who, error_of(SYS_times));
}

static void *thread(void *argument)
{
	long which = (long)argument;
	unsigned padding = strcmp(what, "long") ? 0 : 4000;

	if (strcmp(what, "tsync"))
		must(install(which ? SYS_times : SYS_sysinfo, 40 + (int)which, 0, padding));
	__atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
	while (!looked)
		sleep_ms(2);
	if (!strcmp(what, "tsync"))
		look(45, EFAULT, "thread");
	else
		look(which ? EFAULT : 40, which ? 41 : EFAULT, "thread");
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[2];
	pid_t child = 0;

	what = argc > 2 ? argv[2] : "chain";
	if (strcmp(what, "user"))
		must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must(install(SYS_getsid, 31, SECCOMP_FILTER_FLAG_LOG, 0));
	must(install(SYS_getpgrp, 32, 0, 0));
	must(install(SYS_getpgrp, 33, 0, 0));
	if (!strcmp(what, "user")) {
		must(setresgid(1000, 1000, 1000));
		must(setresuid(1000, 1000, 1000));
		must(prctl(PR_SET_DUMPABLE, 1));
	}
	if (!strcmp(what, "chain"))
		child = must(fork());
	if (!strcmp(what, "chain") && child == 0) {
		keep_state();
		wait_for_go();
		check_state();
		look(EFAULT, EFAULT, "child");
		child_done();
	}
	if (child)
		until_it_waits(child);
	for (long i = 0; i < 2 && strcmp(what, "user"); i++)
		must_zero(pthread_create(&threads[i], NULL, thread, (void *)i));
	while (up < 2 && strcmp(what, "user"))
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	look(EFAULT, EFAULT, "main");
	if (!strcmp(what, "tsync"))
		check(install(SYS_sysinfo, 45, SECCOMP_FILTER_FLAG_TSYNC, 0) == 0, "the threads cannot get a filter together");
	if (!strcmp(what, "user"))
		check(install(SYS_sysinfo, 45, 0, 0) < 0, "an ordinary user may install filters");
	looked = true;
	for (int i = 0; i < 2 && strcmp(what, "user"); i++)
		must_zero(pthread_join(threads[i], NULL));
	if (child)
		child_passed(child);
	pass();
}
