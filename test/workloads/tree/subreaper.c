/* A subreaper gets the orphans of its descendants, also of those that were orphaned and of those that will be. */
#include "workload.h"

static pid_t *pids;

static void middle(void)
{
	pid_t below = must(fork());

	if (below == 0) {
		pid_t parent = getppid();
		keep_state();
		pids[1] = getpid();
		wait_for_go();
		check(getppid() == parent, "parent is %d, was %d", getppid(), parent);
		pids[5] = 1;
		while (getppid() == parent)
			sleep_ms(1);
		check(getppid() == pids[3], "the orphan went to %d, not to the subreaper %d", getppid(), pids[3]);
		snapshot_ignores("stat ppid");
		snapshot_ignores("task ");
		child_done();
	}
	keep_state();
	wait_for_go();
	check_state();
	while (!__atomic_load_n(&pids[5], __ATOMIC_SEQ_CST))
		sleep_ms(1);
	_exit(differences_seen() ? 1 : 0);
}

int main(void)
{
	pid_t kid, orphan_parent;

	pids = shared_memory(4096);
	pids[3] = getpid();
	must(prctl(PR_SET_CHILD_SUBREAPER, 1));
	if ((kid = must(fork())) == 0)
		middle();
	/* One that was orphaned before the freeze. */
	if ((orphan_parent = must(fork())) == 0) {
		if (must(fork()) == 0) {
			pids[2] = getpid();
			while (getppid() != pids[3])
				sleep_ms(1);
			keep_state();
			pids[4] = 1;
			wait_for_go();
			check(getppid() == pids[3], "the orphan's parent is %d", getppid());
			child_done();
		}
		_exit(0);
	}
	must(waitpid(orphan_parent, NULL, 0));
	while (!__atomic_load_n(&pids[4], __ATOMIC_SEQ_CST) || !pids[1])
		sleep_ms(1);
	until_it_waits(kid);
	ready();
	wait_for_go();
	snapshot_ignores("task ");
	child_passed(kid);
	child_passed(pids[1]);
	child_passed(pids[2]);
	pass();
}
