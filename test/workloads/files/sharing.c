/*
 * Who shares an open file description, by dup or by fork, sees the offset and the flags that another sets; separate opens
 * of the same file do not.
 */
#include <linux/kcmp.h>

#include "workload.h"

enum { FDS = 8, TASKS = 3 };

/* What each descriptor is: 0-2 one description, 3 another of the same file, 4-5 a third, opened by a child, ... */
struct board {
	int turn, checked;
	pid_t tasks[TASKS];
};

static struct board *board;
static int fds[FDS];

static void until(int turn)
{
	while (__atomic_load_n(&board->turn, __ATOMIC_SEQ_CST) < turn)
		sleep_ms(1);
}

static void say(int turn)
{
	__atomic_store_n(&board->turn, turn, __ATOMIC_SEQ_CST);
}

/* Before anybody moves an offset that others see. */
static void state_checked(void)
{
	check_state();
	__atomic_add_fetch(&board->checked, 1, __ATOMIC_SEQ_CST);
}

static int open_at(off_t offset)
{
	int fd = must(open("shared", O_RDWR));

	must(lseek(fd, offset, SEEK_SET));
	return fd;
}

static off_t where(int fd)
{
	return lseek(fd, 0, SEEK_CUR);
}

static void grandchild(void)
{
	keep_state();
	say(2);
	until(10);
	state_checked();
	until(12);
	check(where(fds[0]) == 1010 && where(fds[2]) == 1010, "grandchild: the offset moved in the parent is %ld", (long)where(fds[0]));
	check(where(fds[5]) == 3020, "grandchild: the offset moved in the child is %ld", (long)where(fds[5]));
	check(where(fds[6]) == 4000, "grandchild: the offset of its copy is %ld", (long)where(fds[6]));
	check(fcntl(fds[1], F_GETFL) & O_APPEND, "grandchild: O_APPEND set in the parent is not seen");
	must(lseek(fds[0], 1100, SEEK_SET));
	say(13);
	child_done();
}

static void child(void)
{
	pid_t kid;

	fds[4] = open_at(3000);
	fds[5] = must(dup(fds[4]));
	/* The parent has 6 too, closed here after the grandchild got it; a different open takes the number. */
	kid = must(fork());
	if (!kid)
		grandchild();
	board->tasks[2] = kid;
	until(2);
	must(dup2(fds[3], fds[6]));
	must(close(fds[0]));
	keep_state();
	say(3);
	until(10);
	state_checked();
	until(11);
	check(where(fds[1]) == 1010, "child: the offset moved in the parent is %ld", (long)where(fds[1]));
	check(where(fds[3]) == 2000 && where(fds[6]) == 2000, "child: the offset of the other description is %ld", (long)where(fds[3]));
	must(lseek(fds[4], 3020, SEEK_SET));
	say(12);
	child_passed(kid);
	say(14);
	child_done();
}

static bool same(int a, int fd_a, int b, int fd_b)
{
	return syscall(SYS_kcmp, board->tasks[a], board->tasks[b], KCMP_FILE, fd_a, fd_b) == 0;
}

/* Every pair of descriptors of every pair of tasks, as one bit each. */
static unsigned sharing(bool *bits)
{
	unsigned count = 0;

	for (int a = 0; a < TASKS; a++)
		for (int b = 0; b <= a; b++)
			for (int x = 0; x < FDS; x++)
				for (int y = 0; y < FDS; y++)
					bits[count++] = same(a, fds[x] ? fds[x] : 999, b, fds[y] ? fds[y] : 999);
	return count;
}

int main(void)
{
	static bool before[TASKS * TASKS * FDS * FDS], now[TASKS * TASKS * FDS * FDS];
	unsigned count;
	pid_t kid;
	int fd;

	board = shared_memory(sizeof *board);
	fd = must(open("shared", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	must(ftruncate(fd, 10000));
	must(close(fd));
	fds[0] = open_at(1000);
	fds[1] = must(dup(fds[0]));
	fds[2] = must(fcntl(fds[0], F_DUPFD_CLOEXEC, 100));
	fds[3] = open_at(2000);
	fds[6] = open_at(4000);
	board->tasks[0] = getpid();
	kid = must(fork());
	board->tasks[1] = kid;
	if (!kid)
		child();
	fds[7] = open_at(5000);
	until(3);
	count = sharing(before);
	ready();
	wait_for_go();
	say(10);
	while (__atomic_load_n(&board->checked, __ATOMIC_SEQ_CST) < 2)
		sleep_ms(1);
	check_state();
	check(sharing(now) == count && !memcmp(before, now, count), "who shares what is different");
	must(lseek(fds[2], 1010, SEEK_SET));
	must(fcntl(fds[0], F_SETFL, O_APPEND));
	check(where(fds[1]) == 1010, "the offset moved through a copy is %ld", (long)where(fds[1]));
	check(where(fds[3]) == 2000, "the offset of a separate open is %ld", (long)where(fds[3]));
	say(11);
	until(14);
	check(where(fds[0]) == 1100, "the offset moved in the grandchild is %ld", (long)where(fds[0]));
	check(where(fds[7]) == 5000, "the offset of the file opened last is %ld", (long)where(fds[7]));
	child_passed(kid);
	pass();
}
