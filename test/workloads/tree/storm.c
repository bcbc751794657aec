/*
 * Processes are made and end all the time, also while the tree is being frozen: children that end at once, children that
 * live for a moment, and children that make one themselves. Each one is waited for, and its exit code is what it has to be.
 */
#include "workload.h"

enum { BATCH = 6 };

struct born {
	pid_t pid;
	int code;
};

static _Noreturn void live(int kind, int code)
{
	struct timespec moment = {0, 1000000};
	int status;

	if (kind == 1)
		nanosleep(&moment, NULL);
	if (kind == 2) {
		pid_t child = fork();

		if (child == 0)
			_exit(code);
		if (child < 0 || waitpid(child, &status, 0) != child || WEXITSTATUS(status) != code)
			_exit(255);
	}
	_exit(code);
}

int main(void)
{
	unsigned made = 0;

	/* Numbers of processes and context switches change. */
	snapshot_ignores("status");
	ready();
	while (made < 60 || !go_given()) {
		struct born born[BATCH];

		for (int i = 0; i < BATCH; i++) {
			born[i].code = (int)(made++ % 200);
			born[i].pid = must(fork());
			if (born[i].pid == 0)
				live(i % 3, born[i].code);
		}
		for (int i = BATCH - 1; i >= 0; i--) {
			int status = 0;

			must(waitpid(born[i].pid, &status, 0));
			check(WIFEXITED(status) && WEXITSTATUS(status) == born[i].code, "child %d ended with 0x%x, not with code %d", born[i].pid,
			      status, born[i].code);
		}
	}
	note("%u processes", made);

	pass();
}
