/*
 * Trees of processes with random lives: forks, siblings, sessions and groups made and joined, deaths, orphans, subreapers, the
 * dead waited for or not. Arguments: the seed, how many trees. What /proc says of each process must be the same afterwards.
 */
#include <linux/futex.h>
#include <limits.h>
#include <sched.h>

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
	int done = slot->done;

	slot->argument = argument;
	set(&slot->command, command);
	if (command == EXIT || command == KILLED) {
		while (task_state(slot->pid) != 'Z' && task_state(slot->pid) != 0)
			sleep_ms(1);
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

static void look(struct entry *into)
{
	for (int i = 0; i < all->used; i++) {
		char path[32], text[512] = "", *rest;
		int fd;

		into[i] = (struct entry){0};
		snprintf(path, sizeof path, "/proc/%d/stat", all->slots[i].pid);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		if (read(fd, text, sizeof text - 1) > 0 && (rest = strrchr(text, ')'))) {
			char letter;

			into[i].there = sscanf(rest + 2, "%c %d %d %d", &letter, &into[i].ppid, &into[i].pgrp, &into[i].sid) == 4;
			into[i].dead = letter == 'Z';
		}
		close(fd);
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
		if (all->slots[i].alive)
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
