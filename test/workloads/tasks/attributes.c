/*
 * What is set here is compared by the snapshot: all resource limits, nice value, umask, working directory, name, adjusted
 * oom score, command line and environment overwritten in place, boundaries of the address space, parent-death signal.
 * With "batch", "idle", "fifo", "rr": that scheduling policy.
 */
#include <sched.h>
#include <sys/resource.h>

#include "workload.h"

extern char **environ;

static void set_limits(void)
{
	static const struct {
		int which;
		rlim_t soft, hard;
	} limits[] = {
		{RLIMIT_AS, 1ul << 40, 1ul << 41}, {RLIMIT_CORE, 12345, 54321}, {RLIMIT_CPU, 5000, 6000}, {RLIMIT_DATA, 1ul << 38, 1ul << 39},
		{RLIMIT_FSIZE, 1ul << 30, 1ul << 31}, {RLIMIT_LOCKS, 77, 78}, {RLIMIT_MEMLOCK, 65536, 131072}, {RLIMIT_MSGQUEUE, 4096, 8192},
		{RLIMIT_NICE, 3, 4}, {RLIMIT_NOFILE, 300, 400}, {RLIMIT_NPROC, 2000, 3000}, {RLIMIT_RSS, 1ul << 33, 1ul << 34},
		{RLIMIT_RTPRIO, 5, 6}, {RLIMIT_RTTIME, 1000000, 2000000}, {RLIMIT_SIGPENDING, 100, 200}, {RLIMIT_STACK, 4 << 20, 16 << 20},
	};

	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct rlimit now, wanted = {limits[i].soft, limits[i].hard};
		must(getrlimit((__rlimit_resource_t)limits[i].which, &now));
		if (wanted.rlim_max > now.rlim_max)
			wanted.rlim_max = now.rlim_max;
		if (wanted.rlim_cur > wanted.rlim_max)
			wanted.rlim_cur = wanted.rlim_max;
		must(setrlimit((__rlimit_resource_t)limits[i].which, &wanted));
	}
}

static void set_policy(const char *name)
{
	struct sched_param param = {0};
	int policy = SCHED_OTHER;

	if (!strcmp(name, "batch"))
		policy = SCHED_BATCH;
	if (!strcmp(name, "idle"))
		policy = SCHED_IDLE;
	if (!strcmp(name, "fifo") || !strcmp(name, "rr")) {
		policy = (*name == 'f' ? SCHED_FIFO : SCHED_RR) | SCHED_RESET_ON_FORK;
		param.sched_priority = 3;
	}
	must(sched_setscheduler(0, policy, &param));
}

static void write_proc(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CLOEXEC));

	must(write(fd, text, strlen(text)));
	must(close(fd));
}

int main(int argc, char **argv)
{
	size_t title = strlen(argv[0]);

	must(mkdir("below", 0700));
	must(mkdir("below/deep er", 0700));
	must(chdir("below/deep er"));
	umask(0137);
	must(setpriority(PRIO_PROCESS, 0, 7));
	must(prctl(PR_SET_NAME, "odd \"name\"\t(x"));
	write_proc("/proc/self/oom_score_adj", "321");
	must(prctl(PR_SET_PDEATHSIG, SIGUSR2));
	set_limits();
	if (argc > 2)
		set_policy(argv[2]);
	/* A title written over the arguments and a variable changed in place, as daemons do. */
	memset(argv[0], 'T', title);
	if (environ[0] && *environ[0])
		environ[0][strlen(environ[0]) - 1] = '#';
	must(brk((char *)sbrk(0) + 123456));
	memset((char *)sbrk(0) - 100000, 0x6b, 100000);
	ready();
	wait_for_go();
	check_state();
	for (int i = 1; i <= 100000; i += 999)
		check(((char *)sbrk(0))[-i] == 0x6b, "the heap's end changed at -%d", i);
	must(brk((char *)sbrk(0) + 1000000));
	memset((char *)sbrk(0) - 1000000, 1, 1000000);
	must(chdir("../.."));
	must(rmdir("below/deep er"));
	must(rmdir("below"));
	pass();
}
