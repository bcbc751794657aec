/* A tree three levels deep: every pid, parent and living child is as before, and the parent can still wait for each. */
#include "workload.h"

enum { CHILDREN = 8, GRANDCHILDREN = 3 };

static void grandchild(pid_t parent)
{
	keep_state();
	wait_for_go();
	check(getppid() == parent, "grandchild %d has parent %d, not %d", getpid(), getppid(), parent);
	child_done();
}

static void child(pid_t parent)
{
	pid_t self = getpid(), kids[GRANDCHILDREN];

	for (int i = 0; i < GRANDCHILDREN; i++)
		if ((kids[i] = must(fork())) == 0)
			grandchild(self);
	for (int i = 0; i < GRANDCHILDREN; i++)
		until_it_waits(kids[i]);
	keep_state();
	wait_for_go();
	check(getpid() == self && getppid() == parent, "child is %d below %d, was %d below %d", getpid(), getppid(), self, parent);
	/* The snapshot names the children: compare before they end. */
	check_state();
	for (int i = 0; i < GRANDCHILDREN; i++)
		child_passed(kids[i]);
	check(waitpid(-1, NULL, 0) == -1 && errno == ECHILD, "there are more grandchildren than were made");
	_exit(differences_seen() ? 1 : 7);
}

int main(void)
{
	pid_t self = getpid(), kids[CHILDREN];

	for (int i = 0; i < CHILDREN; i++)
		if ((kids[i] = must(fork())) == 0)
			child(self);
	for (int i = 0; i < CHILDREN; i++)
		until_it_waits(kids[i]);
	ready();
	check_state();
	wait_for_go();
	check(getpid() == self, "pid is %d, was %d", getpid(), self);
	for (int i = 0; i < CHILDREN; i++) {
		int status = 0;
		pid_t got = waitpid(kids[i], &status, 0);
		check(got == kids[i], "waitpid(%d) gave %d: %s", kids[i], got, strerror(errno));
		check(WIFEXITED(status) && WEXITSTATUS(status) == 7, "child %d ended with wait status %#x", kids[i], status);
	}
	check(waitpid(-1, NULL, 0) == -1 && errno == ECHILD, "there are more children than were made");
	pass();
}
