/*
 * Trees of processes with random lives: forks, siblings, sessions and groups made and joined, deaths, orphans, subreapers, the
 * dead waited for or not. Arguments: the seed, how many trees. What is said of each process must be the same afterwards.
 */
#include <linux/futex.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>

#include "snapshot.h"
#include "workload.h"

enum { MOST = 600, EACH_TREE = 16 };
enum command { NONE, FORK, SIBLING, SETSID, LEAD, JOIN, SUBREAPER, EXIT, KILLED, REAP, COMMANDS };

struct slot {
	_Atomic int command, done;
	int argument;
	pid_t pid;
	bool alive;
	int tree;
};

struct entry {
	bool there, dead;
	int ppid, pgrp, sid;
};

static struct shared {
	int used;
	struct slot slots[MOST];
} *all;
static struct entry before[MOST], after[MOST];
static uint64_t state;

static unsigned random_below(unsigned limit)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(state >> 33) % limit;
}

static void wait_for(_Atomic int *word, int value)
{
	while (*word == value)
		syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void set(_Atomic int *word, int value)
{
	*word = value;
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void live(struct slot *mine);

static void give_birth(unsigned long flags, int number)
{
	pid_t pid = (pid_t)must(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0));

	if (pid == 0)
		live(&all->slots[number]);
	all->slots[number].pid = pid;
}

static void live(struct slot *mine)
{
	for (;;) {
		wait_for(&mine->command, NONE);
		switch (mine->command) {
		case FORK:
			give_birth(0, mine->argument);
			break;
		case SIBLING:
			give_birth(CLONE_PARENT, mine->argument);
			break;
		case SETSID:
			setsid();
			break;
		case LEAD:
			setpgid(0, 0);
			break;
		case JOIN:
			setpgid(0, mine->argument);
			break;
		case SUBREAPER:
			prctl(PR_SET_CHILD_SUBREAPER, mine->argument);
			break;
		case EXIT:
			_exit(mine->argument);
		case KILLED:
			kill(getpid(), SIGKILL);
			break;
		case REAP:
			waitpid(-1, NULL, WNOHANG);
			break;
		}
		mine->command = NONE;
		set(&mine->done, mine->done + 1);
	}
}

static void tell(struct slot *slot, enum command command, int argument)
{
	int done = slot->done, ends = command == EXIT || command == KILLED ? must((int)syscall(SYS_pidfd_open, slot->pid, 0)) : -1;

	slot->argument = argument;
	set(&slot->command, command);
	if (ends >= 0) {
		struct pollfd dead = {ends, POLLIN, 0};

		while (poll(&dead, 1, -1) < 0 && errno == EINTR)
			;
		must(close(ends));
		slot->alive = false;
	} else {
		wait_for(&slot->done, done);
	}
}

static int new_slot(int tree)
{
	int number = all->used++;

	if (number >= MOST)
		fail("too many processes");
	all->slots[number] = (struct slot){.alive = true, .tree = tree};
	return number;
}

/* A random living process of a tree. */
static struct slot *pick(int tree)
{
	struct slot *found[MOST];
	unsigned count = 0;

	for (int i = 0; i < all->used; i++)
		if (all->slots[i].alive && all->slots[i].tree == tree)
			found[count++] = &all->slots[i];
	return count ? found[random_below(count)] : NULL;
}

static void grow(int tree)
{
	unsigned weights[COMMANDS] = {0};
	unsigned total = 0;
	int first = new_slot(tree), size = 1;

	give_birth(0, first);
	/* Every tree has habits of its own. */
	weights[FORK] = 10, weights[SIBLING] = random_below(3), weights[SETSID] = random_below(8), weights[LEAD] = random_below(5);
	weights[JOIN] = random_below(5), weights[SUBREAPER] = random_below(3), weights[EXIT] = random_below(6), weights[KILLED] = random_below(2);
	weights[REAP] = random_below(4);
	for (int i = 0; i < COMMANDS; i++)
		total += weights[i];
	for (int actions = 0; actions < 60 && size < EACH_TREE; actions++) {
		struct slot *who = pick(tree);
		unsigned at = random_below(total);
		int command = 0, argument = 0;

		if (!who)
			return;
		while (at >= weights[command])
			at -= weights[command++];
		if (command == FORK || command == SIBLING)
			argument = new_slot(tree), size++;
		else if (command == JOIN)
			argument = pick(tree)->pid;
		else if (command == SUBREAPER)
			argument = random_below(3) > 0;
		else if (command == EXIT)
			argument = (int)random_below(256);
		tell(who, command, argument);
	}
}

/* A line of a file of /proc about a process, behind its name; empty: there is none. */
static const char *line_of(pid_t number, const char *name)
{
	static char text[2048];
	char path[32], *found;
	int fd;

	memset(text, 0, sizeof text);
	snprintf(path, sizeof path, "/proc/%d/status", number);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return "";
	if (read(fd, text, sizeof text - 1) < 0)
		text[0] = 0;
	close(fd);
	found = strstr(text, name);
	return found ? found + strlen(name) : "";
}

/* Processes as /proc numbers them and as we do, where it shows the namespace around ours. */
static struct {
	int outer, inner;
} numbers[8192];
static int number_count;

static void learn_numbers(void)
{
	static int found[8192];
	char ours[64] = "", theirs[64], path[32];
	unsigned count = list_numbers("/proc", found, 8192);

	number_count = 0;
	must(readlink("/proc/self/ns/pid", ours, sizeof ours - 1));
	for (unsigned i = 0; i < count; i++) {
		const char *at = line_of(found[i], "\nNSpid:");
		int inner = 0, depth = 0;

		for (; *at && *at != '\n'; at++)
			if (*at == '\t')
				inner = atoi(at + 1), depth++;
		memset(theirs, 0, sizeof theirs);
		snprintf(path, sizeof path, "/proc/%d/ns/pid", found[i]);
		if (depth < 2 || readlink(path, theirs, sizeof theirs - 1) < 0 || strcmp(ours, theirs))
			continue;
		numbers[number_count].outer = found[i];
		numbers[number_count++].inner = inner;
	}
}

static int to_outer(int inner)
{
	for (int i = 0; i < number_count; i++)
		if (numbers[i].inner == inner)
			return numbers[i].outer;
	return proc_is_outer() ? 0 : inner;
}

static int to_inner(int outer)
{
	for (int i = 0; i < number_count; i++)
		if (numbers[i].outer == outer)
			return numbers[i].inner;
	return proc_is_outer() ? 0 : outer;
}

static void look(struct entry *into)
{
	if (proc_is_outer())
		learn_numbers();
	for (int i = 0; i < all->used; i++) {
		pid_t pid = all->slots[i].pid;
		const char *state = line_of(to_outer(pid), "\nState:\t");

		into[i] = (struct entry){0};
		if (!*state)
			continue;
		into[i] = (struct entry){.there = true, .dead = *state == 'Z', .pgrp = getpgid(pid), .sid = getsid(pid)};
		into[i].ppid = to_inner(atoi(line_of(to_outer(pid), "\nPPid:\t")));
	}
}

int main(int argc, char **argv)
{
	int trees = argc > 3 ? atoi(argv[3]) : 10, left = 0;

	state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	all = shared_memory(sizeof *all);
	must(prctl(PR_SET_CHILD_SUBREAPER, 1));
	for (int tree = 0; tree < trees; tree++)
		grow(tree);
	for (int i = 0; i < all->used; i++)
		if (all->slots[i].alive && !proc_is_outer())
			until_asleep(all->slots[i].pid);
	snapshot_ignores("task ");
	look(before);
	ready();
	wait_for_go();
	look(after);
	for (int i = 0; i < all->used; i++) {
		const struct entry *a = &before[i], *b = &after[i];

		left += a->there;
		check(!memcmp(a, b, sizeof *a), "process %d of tree %d: there %d, dead %d, parent %d, group %d, session %d; now %d, %d, %d, %d, %d",
		      all->slots[i].pid, all->slots[i].tree, a->there, a->dead, a->ppid, a->pgrp, a->sid, b->there, b->dead, b->ppid, b->pgrp, b->sid);
	}
	note("%d processes in %d trees", left, trees);
	check_state();
	/* They still do what they are told. */
	for (int i = 0; i < all->used; i++)
		if (all->slots[i].alive)
			tell(&all->slots[i], EXIT, 0);
	while (waitpid(-1, NULL, 0) > 0)
		;
	pass();
}
