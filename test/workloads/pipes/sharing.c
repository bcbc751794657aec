/*
 * Pipes between one, two and three tasks, in every way the ends can be spread: 63 pipes, of which the parent holds the
 * ends that the lowest two bits of a pipe's number say, its child those of the next two, a grandchild those of the last.
 * Whoever can write writes, whoever can read reads, and an end that nobody holds any more is felt by the other.
 */
#include "workload.h"

/* 3 tasks with 2 ends each: 6 bits, of which 0 (nobody has it) is no pipe. */
enum { TASKS = 3, PIPES = 63, TURNS = 1 + 2 * TASKS };

struct board {
	int turn, there[TASKS], done[TASKS];
};

static struct board *board;
static int ends[PIPES][2];

static bool holds(int which, int task, int end)
{
	return (which + 1) >> (task * 2 + end) & 1;
}

static bool anybody_holds(int which, int end)
{
	return holds(which, 0, end) || holds(which, 1, end) || holds(which, 2, end);
}

static void keep_own_ends(int task)
{
	for (int i = 0; i < PIPES; i++)
		for (int end = 0; end < 2; end++)
			if (!holds(i, task, end))
				must(close(ends[i][end]));
}

static void until(int *value, int at_least)
{
	while (__atomic_load_n(value, __ATOMIC_SEQ_CST) < at_least)
		sleep_ms(1);
}

/* The task writes its letter into every pipe it can write to. */
static void write_all(int task)
{
	char letter = (char)('a' + task);

	for (int i = 0; i < PIPES; i++)
		if (holds(i, task, 1)) {
			ssize_t got = write(ends[i][1], &letter, 1);
			if (anybody_holds(i, 0))
				check(got == 1, "pipe %d: task %d cannot write: %s", i, task, strerror(errno));
			else
				check(got < 0 && errno == EPIPE, "pipe %d: task %d wrote to a pipe without readers", i, task);
		}
}

/* The first task that can read a pipe reads all: what was in it before the dump, then the letters of the writers. */
static void read_all(int task)
{
	for (int i = 0; i < PIPES; i++) {
		char want[16] = "before ", text[16] = "";
		ssize_t got;
		bool earlier = false;
		for (int other = 0; other < TASKS; other++) {
			if (holds(i, other, 1))
				sprintf(want + strlen(want), "%c", 'a' + other);
			earlier |= other < task && holds(i, other, 0);
		}
		if (!holds(i, task, 0))
			continue;
		must(fcntl(ends[i][0], F_SETFL, O_NONBLOCK));
		got = read(ends[i][0], text, 15);
		if (earlier)
			check(anybody_holds(i, 1) ? got < 0 && errno == EAGAIN : got == 0, "pipe %d: task %d read %zd bytes more: %s", i, task, got, text);
		else
			check(!strcmp(text, want), "pipe %d: task %d read \"%s\", not \"%s\"", i, task, text, want);
	}
}

/* Turns: 1 compares the state of all, then each task writes in turn, then each reads. */
static void take_turn(int task, int turn)
{
	until(&board->turn, turn);
	if (turn == 1)
		check_state();
	else if (turn == 2 + task)
		write_all(task);
	else if (turn == 2 + TASKS + task)
		read_all(task);
	__atomic_store_n(&board->done[task], turn, __ATOMIC_SEQ_CST);
}

/* The parent's child has a child of its own. */
static void child(void)
{
	pid_t kid = must(fork());
	int task = kid ? 1 : 2;

	if (kid)
		until(&board->there[2], 1);
	keep_own_ends(task);
	keep_state();
	__atomic_store_n(&board->there[task], 1, __ATOMIC_SEQ_CST);
	for (int turn = 1; turn <= TURNS; turn++)
		take_turn(task, turn);
	if (kid)
		child_passed(kid);
	child_done();
}

int main(void)
{
	pid_t kid;

	signal(SIGPIPE, SIG_IGN);
	board = shared_memory(sizeof *board);
	for (int i = 0; i < PIPES; i++) {
		must(pipe(ends[i]));
		must(write(ends[i][1], "before ", 7));
	}
	kid = must(fork());
	if (!kid)
		child();
	keep_own_ends(0);
	until(&board->there[1], 1);
	ready();
	wait_for_go();
	for (int turn = 1; turn <= TURNS; turn++) {
		__atomic_store_n(&board->turn, turn, __ATOMIC_SEQ_CST);
		take_turn(0, turn);
		for (int task = 1; task < TASKS; task++)
			until(&board->done[task], turn);
	}
	child_passed(kid);
	pass();
}
