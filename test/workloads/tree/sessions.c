/*
 * Sessions and process groups: groups led by others, a second session with two groups, children made before and after setsid(), an orphaned group. With "zombie-leader" or "dead-leader" also a session whose
 * leader is dead, and not yet or already waited for.
 */
#include "workload.h"

struct seen {
	pid_t pid, ppid, pgid, sid;
};

static struct seen *table;
enum { MEMBERS = 9 };

static void member(int slot)
{
	pid_t parent;

	/* Who looks into the table finds us ready. */
	keep_state();
	table[slot] = (struct seen){getpid(), getppid(), getpgrp(), getsid(0)};
	wait_for_go();
	parent = getppid();
	check(table[slot].pid == getpid(), "member %d: pid %d, was %d", slot, getpid(), table[slot].pid);
	check(table[slot].ppid == parent, "member %d: parent %d, was %d", slot, parent, table[slot].ppid);
	check(table[slot].pgid == getpgrp(), "member %d: group %d, was %d", slot, getpgrp(), table[slot].pgid);
	check(table[slot].sid == getsid(0), "member %d: session %d, was %d", slot, getsid(0), table[slot].sid);
	child_done();
}

static void wait_slots(int from, int to)
{
	for (int i = from; i <= to; i++)
		for (int tries = 0; tries < 30000 && !__atomic_load_n(&table[i].sid, __ATOMIC_SEQ_CST); tries++)
			sleep_ms(1);
	for (int i = from; i <= to; i++)
		if (!table[i].sid)
			fail("member %d did not come up", i);
}

/* Slot 4 leads a session; 5 was forked before setsid() and so stays in the old one; 6 leads a group of the new session. */
static void second_session(void)
{
	pid_t before, after;

	if ((before = must(fork())) == 0)
		member(5);
	must(setsid());
	if ((after = must(fork())) == 0) {
		must(setpgid(0, 0));
		member(6);
	}
	wait_slots(5, 6);
	keep_state();
	table[4] = (struct seen){getpid(), getppid(), getpgrp(), getsid(0)};
	wait_for_go();
	check(getsid(0) == getpid() && getpgrp() == getpid(), "the second session is led by %d, was %d", getsid(0), getpid());
	check_state();
	child_passed(before);
	child_passed(after);
	_exit(differences_seen() ? 1 : 0);
}

/* Slot 7: its session's leader is a zombie that is not waited for; slot 8: a group whose leader is gone altogether. */
static pid_t leaderless_session(void)
{
	pid_t leader = must(fork());

	if (leader == 0) {
		must(setsid());
		if (must(fork()) == 0) {
			for (int i = 0; i < 30000 && getppid() != table[0].pid; i++)
				sleep_ms(1);
			member(7);
		}
		_exit(3);
	}
	return leader;
}

static pid_t leaderless_group(void)
{
	pid_t leader = must(fork()), other;

	if (leader == 0) {
		must(setpgid(0, 0));
		pause();
		_exit(0);
	}
	must(setpgid(leader, leader));
	if ((other = must(fork())) == 0) {
		must(setpgid(0, leader));
		while (kill(leader, 0) == 0)
			sleep_ms(1);
		member(8);
	}
	must(setpgid(other, leader));
	must(kill(leader, SIGKILL));
	must(waitpid(leader, NULL, 0));
	return other;
}

int main(int argc, char **argv)
{
	bool leaderless = argc > 2, dead_leader = leaderless && !strcmp(argv[2], "dead-leader");
	pid_t first, second, third, session, dead = 0, orphan;
	int status;

	if (leaderless)
		must(prctl(PR_SET_CHILD_SUBREAPER, 1));
	table = shared_memory(MEMBERS * sizeof *table);
	table[0] = (struct seen){getpid(), getppid(), getpgrp(), getsid(0)};
	if ((first = must(fork())) == 0) {
		must(setpgid(0, 0));
		member(1);
	}
	wait_slots(1, 1);
	if ((second = must(fork())) == 0) {
		must(setpgid(0, first));
		member(2);
	}
	if ((third = must(fork())) == 0)
		member(3);
	if ((session = must(fork())) == 0)
		second_session();
	if (leaderless) {
		dead = leaderless_session();
		wait_slots(7, 7);
		if (dead_leader)
			must(waitpid(dead, NULL, 0));
	}
	orphan = leaderless_group();
	wait_slots(1, 6);
	wait_slots(8, 8);
	ready();
	wait_for_go();
	check(getsid(0) == table[0].sid && getpgrp() == table[0].pgid, "the root's session or group changed");
	if (leaderless)
		check(getsid(table[7].pid) == dead, "the session of %d is %d, was %d", table[7].pid, getsid(table[7].pid), dead);
	check(getpgid(table[8].pid) == table[8].pgid, "the group of %d is %d, was %d", table[8].pid, getpgid(table[8].pid), table[8].pgid);
	check_state();
	child_passed(first);
	child_passed(second);
	child_passed(third);
	child_passed(session);
	if (leaderless)
		child_passed(table[7].pid);
	child_passed(orphan);
	if (leaderless && !dead_leader)
		check(waitpid(dead, &status, 0) == dead && WIFEXITED(status) && WEXITSTATUS(status) == 3, "the dead session leader: %#x", status);
	pass();
}
