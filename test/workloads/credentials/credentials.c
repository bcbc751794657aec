/*
 * Credentials, compared by the snapshot (status of every thread): "ids" four different user and group ids with groups,
 * "caps" partial capability sets with a smaller bounding and an ambient set, "securebits", "nnp" no_new_privs, "threads"
 * threads with credentials of their own, "user" an ordinary user without any capability, dumpable or not ("user-hidden").
 */
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sys/fsuid.h>

#include "workload.h"

enum { THREADS = 6 };

static volatile int up;
static volatile bool looked;

static void set_caps(uint64_t permitted, uint64_t effective, uint64_t inheritable)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {
		{(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
		{(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
	};

	must(syscall(SYS_capset, &header, data));
}

static uint64_t permitted_caps(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];

	must(syscall(SYS_capget, &header, data));
	return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

#define CAP(name) (1ull << (name))

static void set_partial_caps(void)
{
	must(prctl(PR_CAPBSET_DROP, CAP_MKNOD));
	must(prctl(PR_CAPBSET_DROP, CAP_AUDIT_WRITE));
	set_caps(permitted_caps() & ~CAP(CAP_CHOWN), CAP(CAP_KILL) | CAP(CAP_SETUID) | CAP(CAP_DAC_OVERRIDE), CAP(CAP_NET_BIND_SERVICE) | CAP(CAP_KILL));
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0));
}

static void *thread(void *argument)
{
	long which = (long)argument;
	gid_t groups[2] = {100, (gid_t)(200 + which)};
	int bits;

	/* The plain system calls: the C library would change all threads. */
	must(syscall(SYS_setgroups, 2, groups));
	if (which == 0)
		set_caps(permitted_caps(), CAP(CAP_KILL), 0);
	if (which == 1)
		must(syscall(SYS_setresuid, 1000, 2000, 0));
	if (which == 2)
		must(syscall(SYS_setresgid, 11, 22, 33));
	if (which == 3)
		set_partial_caps();
	if (which == 4)
		must(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS | SECBIT_NO_CAP_AMBIENT_RAISE));
	if (which == 5)
		must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	__atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
	while (!looked)
		sleep_ms(2);
	check(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) == bits, "thread %ld: securebits %x became %x", which, bits, prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
	return NULL;
}

static void set_up(const char *what)
{
	gid_t groups[] = {1, 5, 77, 1000, 65000};

	if (!strcmp(what, "ids")) {
		must(setgroups(5, groups));
		must(setresgid(2001, 2002, 2003));
		setfsgid(2004);
		must(setresuid(1001, 0, 1003));
		setfsuid(1004);
		must(prctl(PR_SET_DUMPABLE, 1));
	} else if (!strcmp(what, "caps")) {
		set_partial_caps();
	} else if (!strcmp(what, "securebits")) {
		must(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED));
	} else if (!strcmp(what, "nnp")) {
		must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	} else {
		must(setgroups(5, groups));
		must(setresgid(1000, 1000, 1000));
		must(setresuid(1000, 1000, 1000));
		must(prctl(PR_SET_DUMPABLE, !strcmp(what, "user")));
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "ids";
	pthread_t threads[THREADS];
	bool with_threads = !strcmp(what, "threads");

	if (with_threads) {
		for (long i = 0; i < THREADS; i++)
			must_zero(pthread_create(&threads[i], NULL, thread, (void *)i));
		while (up < THREADS)
			sleep_ms(1);
	} else {
		set_up(what);
	}
	ready();
	wait_for_go();
	check_state();
	looked = true;
	for (int i = 0; i < THREADS && with_threads; i++)
		must_zero(pthread_join(threads[i], NULL));
	if (!strncmp(what, "user", 4))
		check(setuid(0) < 0 && open("/etc/shadow", O_RDONLY | O_CLOEXEC) < 0, "an ordinary user may do what only root may");
	if (!strcmp(what, "ids"))
		check(setresuid(1003, 1003, 1003) == 0, "the saved user id is of no use: %s", strerror(errno));
	pass();
}
