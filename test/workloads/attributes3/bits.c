/*
 * What CRIU's images have no place for. "several": threads that differ in affinity, I/O priority, time slice asked for,
 * timer slack, policy for memory errors, mitigations of speculation; core-dump filter, autogroup, login uid. "deadline", "tsc" (one
 * thread may not read the time-stamp counter), "merge" (KSM for the whole process), "mdwe" (memory-deny-write-execute),
 * "mdwe-own" (not for children), "personality", "thp" (no huge pages but where they were asked for).
 */
#include <pthread.h>
#include <sched.h>
#include <sys/personality.h>

#include "workload.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif
#define SCHED_FLAG_RESET_ON_FORK 1
#define SCHED_FLAG_RECLAIM 2
#define IOPRIO(class, level) ((class) << 13 | (level))

static const char *what;
static volatile int up;
static volatile bool looked;

struct scheduling {
	uint32_t size, sched_policy;
	uint64_t sched_flags;
	int32_t nice;
	uint32_t priority;
	uint64_t sched_runtime, sched_deadline, sched_period;
	uint32_t util_min, util_max;
};

struct attributes {
	struct scheduling sched;
	long slack, mce, speculation[3], merge, mdwe, personality, thp;
	int tsc;
	char core_filter[32], autogroup[64];
};

static void read_text(const char *path, char *into, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? 0 : read(fd, into, room - 1);

	into[got > 0 ? got : 0] = 0;
	close(fd);
}

static void write_text(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CLOEXEC));

	must(write(fd, text, strlen(text)));
	close(fd);
}

static struct attributes look(void)
{
	struct attributes a;

	memset(&a, 0, sizeof a);
	must(syscall(SYS_sched_getattr, 0, &a.sched, sizeof a.sched, 0));
	a.slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
	a.mce = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
	for (int i = 0; i < 3; i++)
		a.speculation[i] = prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
	a.merge = prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0);
	a.mdwe = prctl(PR_GET_MDWE, 0, 0, 0, 0);
	a.personality = personality(0xffffffff);
	a.thp = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
	must(prctl(PR_GET_TSC, &a.tsc, 0, 0, 0));
	read_text("/proc/self/coredump_filter", a.core_filter, sizeof a.core_filter);
	read_text("/proc/self/autogroup", a.autogroup, sizeof a.autogroup);
	if (strstr(a.autogroup, " nice"))
		memmove(a.autogroup, strstr(a.autogroup, " nice"), strlen(strstr(a.autogroup, " nice")) + 1);
	return a;
}

static void compare(const struct attributes *a, const struct attributes *b)
{
	check(a->sched.sched_policy == b->sched.sched_policy, "policy %u became %u", a->sched.sched_policy, b->sched.sched_policy);
	check(a->sched.sched_runtime == b->sched.sched_runtime, "runtime %ld became %ld", a->sched.sched_runtime, b->sched.sched_runtime);
	check(a->sched.sched_deadline == b->sched.sched_deadline && a->sched.sched_period == b->sched.sched_period, "the deadline changed");
	check(a->sched.sched_flags == b->sched.sched_flags, "flags %lx became %lx", a->sched.sched_flags, b->sched.sched_flags);
	check(a->slack == b->slack, "timer slack %ld became %ld", a->slack, b->slack);
	check(a->mce == b->mce, "policy for memory errors %ld became %ld", a->mce, b->mce);
	for (int i = 0; i < 3; i++)
		check(a->speculation[i] == b->speculation[i], "speculation %d: %lx became %lx", i, a->speculation[i], b->speculation[i]);
	check(a->merge == b->merge, "memory merge %ld became %ld", a->merge, b->merge);
	check(a->mdwe == b->mdwe, "memory-deny-write-execute %ld became %ld", a->mdwe, b->mdwe);
	check(a->personality == b->personality, "personality %lx became %lx", a->personality, b->personality);
	check(a->thp == b->thp, "huge pages %ld became %ld", a->thp, b->thp);
	check(a->tsc == b->tsc, "time-stamp counter %d became %d", a->tsc, b->tsc);
	check(!strcmp(a->core_filter, b->core_filter), "core-dump filter %s became %s", a->core_filter, b->core_filter);
	check(!strcmp(a->autogroup, b->autogroup), "autogroup %s became %s", a->autogroup, b->autogroup);
}

static void bind_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	must(sched_setaffinity(0, sizeof set, &set));
}

static void set_sched(uint32_t policy, uint64_t runtime, uint64_t deadline, uint64_t period, uint64_t flags)
{
	struct scheduling attr = {.size = sizeof attr, .sched_policy = policy, .sched_flags = flags, .sched_runtime = runtime, .sched_deadline = deadline, .sched_period = period};

	must(syscall(SYS_sched_setattr, 0, &attr, 0));
}

static void set_up_several(int which)
{
	bind_to(which % 2);
	must(syscall(SYS_ioprio_set, 1, 0, which == 0 ? IOPRIO(2, 1) : which == 1 ? IOPRIO(3, 0) : IOPRIO(1, 4)));
	set_sched(which == 2 ? SCHED_BATCH : SCHED_OTHER, 1000000 + 500000 * which, 0, 0, 0);
	must(prctl(PR_SET_TIMERSLACK, 1000 + which, 0, 0, 0));
	must(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, which % 2 ? PR_MCE_KILL_EARLY : PR_MCE_KILL_LATE, 0, 0));
	/* Whether they can be set depends on the processor. */
	for (int i = 0; i < 2 && which != 1; i++)
		prctl(PR_SET_SPECULATION_CTRL, i, which ? PR_SPEC_FORCE_DISABLE : PR_SPEC_DISABLE, 0, 0);
}

static void set_up(int which)
{
	if (!strcmp(what, "several"))
		set_up_several(which);
	if (!strcmp(what, "deadline") && which < 2)
		set_sched(SCHED_DEADLINE, 1000000, 20000000, 40000000, which ? SCHED_FLAG_RECLAIM | SCHED_FLAG_RESET_ON_FORK : 0);
	if (!strcmp(what, "personality"))
		must(personality(which == 0 ? ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC : which == 1 ? MMAP_PAGE_ZERO | UNAME26 : PER_LINUX));
	if (!strcmp(what, "tsc") && which == 1)
		must(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0));
}

static void set_up_process(void)
{
	if (!strcmp(what, "several")) {
		write_text("/proc/self/coredump_filter", "0x7b");
		write_text("/proc/self/autogroup", "7");
		write_text("/proc/self/loginuid", "1234");
	}
	if (!strcmp(what, "merge"))
		must(prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0));
	if (!strcmp(what, "mdwe"))
		must(prctl(PR_SET_MDWE, 1, 0, 0, 0));
	if (!strcmp(what, "mdwe-own"))
		must(prctl(PR_SET_MDWE, 3, 0, 0, 0));
	/* Since 6.18. */
	if (!strcmp(what, "thp") && prctl(PR_SET_THP_DISABLE, 1, 2, 0, 0))
		note("this kernel cannot leave some huge pages on");
}

static void *thread(void *argument)
{
	struct attributes before, now;

	set_up((int)(long)argument);
	before = look();
	__atomic_add_fetch(&up, 1, __ATOMIC_SEQ_CST);
	/* A thread that may not read the time-stamp counter may not ask the vdso for the time either. */
	while (!looked)
		syscall(SYS_poll, NULL, 0, 2);
	now = look();
	compare(&before, &now);
	return NULL;
}

int main(int argc, char **argv)
{
	struct attributes before, now;
	pthread_t threads[3];

	what = argc > 2 ? argv[2] : "several";
	set_up_process();
	for (long i = 1; i < 3; i++)
		must_zero(pthread_create(&threads[i], NULL, thread, (void *)i));
	while (up < 2)
		sleep_ms(1);
	set_up(0);
	before = look();
	ready();
	wait_for_go();
	check_state();
	looked = true;
	now = look();
	compare(&before, &now);
	for (int i = 1; i < 3; i++)
		must_zero(pthread_join(threads[i], NULL));
	if (!strncmp(what, "mdwe", 4))
		check(mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED, "memory may be writable and executable");
	pass();
}
