/*
 * Two pipes among three tasks, in every way their ends can be shared. An end is held by some of the tasks: that makes 63 ways
 * for one pipe (6 bits, of which 0 is no pipe) and 63 * 63 for two, or 410 when ways that differ only by the names of the
 * tasks or the order of the pipes count once. Each of the 410 is there once, with the names of its tasks in another order
 * each time, so that makers and heirs of a pipe differ.
 *
 * Arguments: "pipes" or "fifos", then how many ways the same three tasks have: with 1 each way has three tasks of its own.
 * Tasks are a chain (child, grandchild) or a child with two children. Those with an end can use it, an end that nobody holds
 * any more is felt by the other, descriptions are the same ones (kcmp) and descriptors are of the same inode.
 */
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <sys/resource.h>

#include "workload.h"

enum { TASKS = 3, WAYS = 64, PAIRS = 410, TURNS = 2 + 2 * TASKS };

/* What a task tells the others. */
struct pair {
	ino_t inode[2];
};

static struct board {
	uint32_t turn;
	unsigned there, done;
	pid_t pids[PAIRS][TASKS];
	struct pair pairs[PAIRS];
} *board;

static const int orders[6][TASKS] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
static unsigned char ways[PAIRS][2];
static int ends[PAIRS][2][2];
static bool fifos;
static int per_group, groups;

/* The bits of one way with its tasks renamed. */
static unsigned renamed(unsigned way, const int *order)
{
	unsigned to = 0;

	for (int task = 0; task < TASKS; task++)
		to |= (way >> task * 2 & 3) << order[task] * 2;
	return to;
}

/* Whether no renaming of this pair comes earlier: it stands for all of them. */
static bool is_first(unsigned one, unsigned other)
{
	for (int i = 0; i < 6; i++) {
		unsigned a = renamed(one, orders[i]), b = renamed(other, orders[i]);
		if (a * WAYS + b < one * WAYS + other || b * WAYS + a < one * WAYS + other)
			return false;
	}
	return true;
}

static void find_pairs(void)
{
	int found = 0;

	for (unsigned one = 1; one < WAYS; one++)
		for (unsigned other = 1; other < WAYS; other++)
			if (is_first(one, other)) {
				if (found == PAIRS)
					fail("there are more pairs than %d", PAIRS);
				ways[found][0] = (unsigned char)renamed(one, orders[found % 6]);
				ways[found][1] = (unsigned char)renamed(other, orders[found % 6]);
				found++;
			}
	if (found != PAIRS)
		fail("there are %d pairs, not %d", found, PAIRS);
}

static bool holds(int pair, int pipe_no, int task, int end)
{
	return ways[pair][pipe_no] >> (task * 2 + end) & 1;
}

/* The first task that holds an end, TASKS when none does. */
static int first_with(int pair, int pipe_no, int end)
{
	int task = 0;

	while (task < TASKS && !holds(pair, pipe_no, task, end))
		task++;
	return task;
}

static void make_pipe(int pair, int pipe_no)
{
	int *fds = ends[pair][pipe_no], both;
	char name[32];

	if (!fifos) {
		must(pipe(fds));
	} else {
		snprintf(name, sizeof name, "fifo-%d-%d", pair, pipe_no);
		must(mkfifo(name, 0600));
		both = must(open(name, O_RDWR));
		fds[0] = must(open(name, O_RDONLY));
		fds[1] = must(open(name, O_WRONLY));
		must(close(both));
	}
	must(write(fds[1], pipe_no ? "second " : "first ", pipe_no ? 7 : 6));
}

/* Closes what the task does not hold; TASKS holds nothing. */
static void keep_own_ends(int group, int task)
{
	for (int pair = group * per_group; pair < (group + 1) * per_group && pair < PAIRS; pair++)
		for (int i = 0; i < 4; i++)
			if (task == TASKS || !holds(pair, i / 2, task, i % 2))
				must(close(ends[pair][i / 2][i % 2]));
}

static void check_place(int pair, int pipe_no, int task)
{
	pid_t first, self = board->pids[pair / per_group][task];
	struct stat st;

	for (int end = 0; end < 2; end++) {
		int fd = ends[pair][pipe_no][end], flags = fcntl(fd, F_GETFL);
		ino_t none = 0, *inode = &board->pairs[pair].inode[pipe_no];
		if (!holds(pair, pipe_no, task, end)) {
			check(flags < 0, "pair %d: task %d has end %d of pipe %d", pair, task, end, pipe_no);
			continue;
		}
		check(flags >= 0 && (flags & O_ACCMODE) == end && !(flags & O_NONBLOCK), "pair %d: flags %#x of end %d", pair, flags, end);
		check(!fstat(fd, &st) && S_ISFIFO(st.st_mode), "pair %d: task %d has no pipe at %d", pair, task, fd);
		if (!__atomic_compare_exchange_n(inode, &none, st.st_ino, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			check(none == st.st_ino, "pair %d: pipe %d is another one in task %d", pair, pipe_no, task);
		first = board->pids[pair / per_group][first_with(pair, pipe_no, end)];
		check(!syscall(SYS_kcmp, first, self, KCMP_FILE, (long)fd, (long)fd), "pair %d: end %d of pipe %d in task %d is another description",
			pair, end, pipe_no, task);
	}
}

/* The task writes its letter into every pipe it can write to. */
static void write_one(int pair, int pipe_no, int task)
{
	char letter = (char)('a' + task);
	ssize_t got;

	if (!holds(pair, pipe_no, task, 1))
		return;
	got = write(ends[pair][pipe_no][1], &letter, 1);
	if (first_with(pair, pipe_no, 0) < TASKS)
		check(got == 1, "pair %d: task %d cannot write into pipe %d: %s", pair, task, pipe_no, strerror(errno));
	else
		check(got < 0 && errno == EPIPE, "pair %d: task %d wrote into pipe %d without readers", pair, task, pipe_no);
}

/* The first task that can read a pipe reads all: what was in it before the dump, then the letters of the writers. */
static void read_one(int pair, int pipe_no, int task)
{
	char want[16], text[16] = "";
	bool has_writer = first_with(pair, pipe_no, 1) < TASKS;
	int fd = ends[pair][pipe_no][0];
	ssize_t got;

	if (!holds(pair, pipe_no, task, 0))
		return;
	must(fcntl(fd, F_SETFL, O_NONBLOCK));
	got = read(fd, text, 15);
	if (first_with(pair, pipe_no, 0) < task) {
		check(has_writer ? got < 0 && errno == EAGAIN : got == 0, "pair %d: task %d read %zd bytes more of pipe %d", pair, task, got, pipe_no);
		return;
	}
	strcpy(want, pipe_no ? "second " : "first ");
	for (int other = 0; other < TASKS; other++)
		if (holds(pair, pipe_no, other, 1))
			sprintf(want + strlen(want), "%c", 'a' + other);
	check(!strcmp(text, want), "pair %d: task %d read \"%s\" from pipe %d, not \"%s\"", pair, task, text, pipe_no, want);
}

static void take_turn(int pair, int task, unsigned turn)
{
	struct pair *told = &board->pairs[pair];

	for (int pipe_no = 0; pipe_no < 2; pipe_no++)
		if (turn == 1)
			check_place(pair, pipe_no, task);
		else if (turn == 2 + (unsigned)task)
			write_one(pair, pipe_no, task);
		else if (turn == 2 + TASKS + (unsigned)task)
			read_one(pair, pipe_no, task);
	if (turn == 2)
		check(told->inode[0] != told->inode[1], "pair %d: both pipes are one", pair);
}

/* Turns are given to all tasks at once, the last one to end; nobody looks while nothing happens. */
_Noreturn static void follow(int group, int task, pid_t *kids)
{
	keep_own_ends(group, task);
	board->pids[group][task] = getpid();
	__atomic_add_fetch(&board->there, 1, __ATOMIC_SEQ_CST);
	for (unsigned turn = 1; turn <= TURNS; turn++) {
		while (__atomic_load_n(&board->turn, __ATOMIC_SEQ_CST) < turn)
			syscall(SYS_futex, &board->turn, FUTEX_WAIT, turn - 1, NULL, NULL, 0);
		for (int pair = group * per_group; pair < (group + 1) * per_group && pair < PAIRS; pair++)
			take_turn(pair, task, turn);
		__atomic_add_fetch(&board->done, 1, __ATOMIC_SEQ_CST);
	}
	for (; *kids; kids++)
		child_passed(*kids);
	_exit(differences_seen() ? 1 : 0);
}

/* The first task of a group: a chain in every other group, else two children of one. */
_Noreturn static void lead(int group)
{
	pid_t kids[TASKS] = {0};

	kids[0] = must(fork());
	if (!kids[0]) {
		if (group % 2)
			follow(group, 1, kids);
		kids[0] = must(fork());
		if (!kids[0])
			follow(group, 2, kids);
		follow(group, 1, kids);
	}
	if (group % 2) {
		kids[1] = must(fork());
		if (!kids[1]) {
			kids[0] = 0;
			follow(group, 2, kids);
		}
	}
	follow(group, 0, kids);
}

static void until_all(unsigned *value, unsigned wanted)
{
	while (__atomic_load_n(value, __ATOMIC_SEQ_CST) < wanted)
		sleep_ms(1);
}

int main(int argc, char **argv)
{
	static pid_t leaders[PAIRS];
	struct rlimit room;

	if (argc != 4)
		fail("usage: pairs GO pipes|fifos WAYS");
	must(getrlimit(RLIMIT_NOFILE, &room));
	room.rlim_cur = room.rlim_max;
	must(setrlimit(RLIMIT_NOFILE, &room));
	signal(SIGPIPE, SIG_IGN);
	fifos = !strcmp(argv[2], "fifos");
	per_group = atoi(argv[3]);
	groups = (PAIRS + per_group - 1) / per_group;
	find_pairs();
	board = shared_memory(sizeof *board);
	for (int group = 0; group < groups; group++) {
		for (int pair = group * per_group; pair < (group + 1) * per_group && pair < PAIRS; pair++)
			for (int pipe_no = 0; pipe_no < 2; pipe_no++)
				make_pipe(pair, pipe_no);
		leaders[group] = must(fork());
		if (!leaders[group])
			lead(group);
		keep_own_ends(group, TASKS);
	}
	until_all(&board->there, (unsigned)groups * TASKS);
	ready();
	wait_for_go();
	check_state();
	for (unsigned turn = 1; turn <= TURNS; turn++) {
		__atomic_store_n(&board->turn, turn, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &board->turn, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
		until_all(&board->done, (unsigned)groups * TASKS * turn);
	}
	for (int group = 0; group < groups; group++)
		child_passed(leaders[group]);
	pass();
}
