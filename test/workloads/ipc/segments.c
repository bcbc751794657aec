/*
 * System V shared memory of an IPC namespace of its own: attached by two processes, by nobody, removed while in use, of an
 * odd size, large and nearly empty, locked, made by somebody else. With "huge": of huge pages. With "fair": without what
 * CRIU's images have no place for.
 */
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "workload.h"
#include "namespace.h"

enum { PAGE = 4096, HUGE = 2 << 20, ODD = 3 * PAGE + 123, LARGE = 64 << 20, KEY = 0x466c0001 };

static char table_before[4096];
static bool is_fair;

static char *attach(int id, int flags)
{
	char *got = shmat(id, NULL, flags);

	if (got == (void *)-1)
		fail("shmat: %s", strerror(errno));
	return got;
}

/* The table of segments, but for who was last and when: no call sets those. */
static void read_table(char *into, size_t room)
{
	FILE *file = fopen("/proc/sysvipc/shm", "r");
	char line[512], key[20], id[20], perms[20], size[30], attached[20], owners[4][20];
	size_t used = 0;

	into[0] = '\0';
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%19s %19s %19s %29s %*s %*s %19s %19s %19s %19s %19s", key, id, perms, size, attached, owners[0], owners[1],
			   owners[2], owners[3]) == 9)
			used += snprintf(into + used, room - used, "%s %s %s %s %s %s %s %s %s\n", key, id, perms, size, attached, owners[0],
					 owners[1], owners[2], owners[3]);
	if (file)
		fclose(file);
}

/* A segment that nobody has attached, with a pattern at its end. */
static int left_alone(key_t key, size_t bytes, uint64_t seed, int mode)
{
	int id = must(shmget(key, bytes, IPC_CREAT | IPC_EXCL | mode));
	char *at = attach(id, 0);

	fill_pattern(at + bytes - 100, 100, seed);
	must(shmdt(at));
	return id;
}

static void check_alone(int id, size_t bytes, uint64_t seed, const char *what)
{
	char *at = attach(id, SHM_RDONLY);

	check_pattern(at + bytes - 100, 100, seed, what);
	check(at[0] == 0, "%s begins with something", what);
	must(shmdt(at));
}

static void compare_tables(void)
{
	char now[4096];

	read_table(now, sizeof(now));
	check(!strcmp(now, table_before), "the table of segments was\n%sand is\n%s", table_before, now);
}

/* Of a huge page size: attached twice, one part of it gone, and one that nobody has attached. */
static void huge_pages(void)
{
	int id = shmget(KEY, 3 * HUGE - (is_fair ? 0 : 5 * PAGE), IPC_CREAT | IPC_EXCL | SHM_HUGETLB | 0600), other;
	char *whole, *part;

	if (id < 0) {
		note("this machine has no huge pages to give");
		ready();
		wait_for_go();
		pass();
	}
	other = must(shmget(KEY + 1, HUGE, IPC_CREAT | IPC_EXCL | SHM_HUGETLB | 0600));
	whole = attach(other, 0);
	fill_pattern(whole + HUGE - 100, 100, 2);
	must(shmdt(whole));
	whole = attach(id, 0);
	part = attach(id, is_fair ? 0 : SHM_RDONLY);
	if (!is_fair)
		must(munmap(part, 2 * HUGE));
	fill_pattern(whole, HUGE, 1);
	read_table(table_before, sizeof(table_before));
	snapshot_ignores("ipc");
	snapshot_ignores("link ns/ipc");
	ready();
	wait_for_go();
	check_state();
	compare_tables();
	check_pattern(whole, HUGE, 1, "the beginning");
	check(whole[HUGE] == 0 && whole[2 * HUGE] == 0, "the rest is not empty");
	strcpy(whole + 2 * HUGE + 7, "one object");
	check(!strcmp(part + 2 * HUGE + 7, "one object"), "two attachments show two objects");
	check_alone(other, HUGE, 2, "the segment that nobody had attached");
	must(shmctl(id, IPC_RMID, NULL));
	must(shmctl(other, IPC_RMID, NULL));
	pass();
}

int main(int argc, char **argv)
{
	int *board = shared_memory(PAGE), hole, shared, odd, large, removed, locked, foreign = 0;
	char *whole, *gone, *again;
	struct shmid_ds ds;
	pid_t kid;

	is_fair = argc > 2 && !strcmp(argv[argc - 1], "fair");
	own_namespace();
	if (argc > 2 && !strcmp(argv[2], "huge"))
		huge_pages();
	hole = must(shmget(IPC_PRIVATE, PAGE, 0600));
	shared = must(shmget(KEY, 4 * PAGE, IPC_CREAT | IPC_EXCL | 0640));
	must(shmctl(hole, IPC_RMID, NULL));
	odd = left_alone(KEY + 1, ODD, 3, 0604);
	large = left_alone(KEY + 2, LARGE, 4, 0600);
	locked = left_alone(IPC_PRIVATE, PAGE, 5, 0600);
	if (!is_fair)
		must(shmctl(locked, SHM_LOCK, NULL));
	removed = must(shmget(KEY + 3, PAGE, IPC_CREAT | IPC_EXCL | 0600));
	gone = attach(removed, 0);
	if (!is_fair)
		must(shmctl(removed, IPC_RMID, NULL));
	must(shmctl(odd, IPC_STAT, &ds));
	ds.shm_perm.uid = 1234;
	ds.shm_perm.gid = 4321;
	must(shmctl(odd, IPC_SET, &ds));
	kid = must(fork());
	if (!kid) {
		if (!is_fair) {
			must(setresgid(777, 777, 777));
			must(setresuid(555, 555, 555));
		}
		_exit(shmget(KEY + 4, PAGE, IPC_CREAT | IPC_EXCL | 0600) < 0);
	}
	must(waitpid(kid, &foreign, 0));
	check(foreign == 0, "somebody else could not make a segment");
	whole = attach(shared, 0);
	again = attach(shared, is_fair ? 0 : SHM_RDONLY);
	strcpy(gone, "removed, but in use");
	fill_pattern(whole, 4 * PAGE, 1);
	snapshot_ignores("ipc");
	snapshot_ignores("link ns/ipc");
	kid = must(fork());
	if (!kid) {
		char *own = attach(shared, 0);

		must(shmdt(again));
		strcpy(own + PAGE, "from the child");
		keep_state();
		__atomic_store_n(board, 1, __ATOMIC_SEQ_CST);
		while (!__atomic_load_n(board + 1, __ATOMIC_SEQ_CST))
			sleep_ms(2);
		check_state();
		check(!strcmp(own + 2 * PAGE, "from the parent"), "the child does not see what the parent wrote");
		child_done();
	}
	while (!__atomic_load_n(board, __ATOMIC_SEQ_CST))
		sleep_ms(2);
	read_table(table_before, sizeof(table_before));
	ready();
	wait_for_go();
	check_state();
	compare_tables();
	check_pattern(whole, PAGE, 1, "the attached segment");
	check(!strcmp(again + PAGE, "from the child"), "what the child wrote is gone");
	check(!strcmp(gone, "removed, but in use"), "the removed segment lost its contents");
	check_alone(odd, ODD, 3, "the segment of an odd size");
	check_alone(large, LARGE, 4, "the large segment");
	check_alone(locked, PAGE, 5, "the locked segment");
	strcpy(whole + 2 * PAGE, "from the parent");
	__atomic_store_n(board + 1, 1, __ATOMIC_SEQ_CST);
	child_passed(kid);
	must(shmdt(gone));
	if (is_fair)
		must(shmctl(removed, IPC_RMID, NULL));
	check(shmctl(removed, IPC_STAT, &ds) < 0 && errno == EINVAL, "the removed segment did not go with its last user");
	for (int i = 0; i <= 4; i++)
		if (i != 3)
			must(shmctl(must(shmget(KEY + i, 0, 0)), IPC_RMID, NULL));
	must(shmctl(locked, IPC_RMID, NULL));
	pass();
}
