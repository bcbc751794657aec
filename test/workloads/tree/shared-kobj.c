/* Tasks that share a descriptor table, a fs struct, memory or handlers share the same afterwards, and nothing else. */
#include <linux/kcmp.h>
#include <sched.h>

#include "workload.h"

static const struct {
	const char *name;
	unsigned long flags;
} makes[] = {
	{"nothing", 0}, {"files", CLONE_FILES}, {"files and fs", CLONE_FILES | CLONE_FS}, {"fs", CLONE_FS},
};
enum { ALL = sizeof makes / sizeof *makes };
static int kid_count = 2;

static bool shared(pid_t a, pid_t b, int what)
{
	return syscall(SYS_kcmp, a, b, what, 0, 0) == 0;
}

/* With "fs": also tasks that share the fs struct. */
int main(int argc, char **argv)
{
	pid_t self = getpid(), kids[ALL];
	volatile int *looked = shared_memory(sizeof *looked);
	int extra, status;

	if (argc > 2 && !strcmp(argv[2], "fs"))
		kid_count = ALL;

	must(prctl(PR_SET_DUMPABLE, 1));
	for (int i = 0; i < kid_count; i++) {
		kids[i] = (pid_t)must(syscall(SYS_clone, makes[i].flags | SIGCHLD, 0, 0, 0, 0));
		if (kids[i] == 0) {
			while (!*looked)
				sleep_ms(5);
			_exit(0);
		}
	}
	extra = must(open("/dev/null", O_RDONLY | O_CLOEXEC));
	must(chdir("/"));
	umask(0123);
	ready();
	wait_for_go();
	for (int i = 0; i < kid_count; i++) {
		char path[64];
		bool sees;

		check(shared(self, kids[i], KCMP_FILES) == !!(makes[i].flags & CLONE_FILES), "%s: descriptor table sharing changed", makes[i].name);
		check(shared(self, kids[i], KCMP_FS) == !!(makes[i].flags & CLONE_FS), "%s: fs struct sharing changed", makes[i].name);
		check(!shared(self, kids[i], KCMP_VM), "%s: memory is shared", makes[i].name);
		check(!shared(self, kids[i], KCMP_SIGHAND), "%s: signal handlers are shared", makes[i].name);
		snprintf(path, sizeof path, "/proc/%d/fd/%d", proc_number(kids[i]), extra);
		sees = faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
		check(sees == !!(makes[i].flags & CLONE_FILES), "%s: descriptor %d is %s", makes[i].name, extra, sees ? "there" : "not there");
	}
	check_state();
	*looked = 1;
	for (int i = 0; i < kid_count; i++)
		check(waitpid(kids[i], &status, 0) == kids[i] && status == 0, "child %d ended with %#x", i, status);
	pass();
}
