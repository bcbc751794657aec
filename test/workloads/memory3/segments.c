/*
 * System V shared memory: attached twice, in part, moved, read-only; by a child at another place; removed while in use;
 * the number stays the same.
 */
#include <sys/ipc.h>
#include <sys/shm.h>

#include "workload.h"

enum { PAGE = 4096, PAGES = 8 };

static void until(int *board, int value)
{
	for (int i = 0; __atomic_load_n(board, __ATOMIC_SEQ_CST) != value; i++) {
		if (i > 30000)
			fail("the other task does not answer");
		sleep_ms(2);
	}
}

static void say(int *board, int value)
{
	__atomic_store_n(board, value, __ATOMIC_SEQ_CST);
}

static char *attach(int id, void *at, int flags)
{
	char *got = shmat(id, at, flags);

	if (got == (void *)-1)
		fail("shmat: %s", strerror(errno));
	return got;
}

static void child(int id, char *area, int *board)
{
	char *own = attach(id, NULL, 0);

	must(shmdt(area));
	strcpy(own + 3 * PAGE, "from the child");
	keep_state();
	say(board, 1);
	until(board, 2);
	check_state();
	check(!strcmp(own + 4 * PAGE, "from the parent"), "the child does not see what the parent wrote");
	strcpy(own + 5 * PAGE, "again from the child");
	child_done();
}

int main(int argc, char **argv)
{
	bool removed = argc > 2 && !strcmp(argv[2], "removed");
	key_t key = removed ? IPC_PRIVATE : (key_t)(0x466c0000 + getpid() + (int)(now_ms() & 0xffff) * 0x10000);
	int *board = shared_memory(PAGE), id = must(shmget(key, PAGES * PAGE, IPC_CREAT | IPC_EXCL | 0640));
	char *whole = attach(id, NULL, 0), *again = attach(id, NULL, 0), *readable = attach(id, NULL, SHM_RDONLY), *moved;
	struct shmid_ds before, now;
	pid_t kid;

	fill_pattern(whole, PAGES * PAGE, 7);
	/* Its third page only, with something else where the rest was. */
	must(munmap(again, 2 * PAGE));
	must(munmap(again + 3 * PAGE, (PAGES - 3) * PAGE));
	char *between = must(mmap(again + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));

	strcpy(between, "between");
	moved = must(mremap(whole + 6 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (char *)0x600000000000));
	must(mprotect(whole + PAGE, PAGE, PROT_READ));
	must(shmctl(id, IPC_STAT, &before));
	before.shm_perm.uid = 1234;
	before.shm_perm.mode = 0606;
	must(shmctl(id, IPC_SET, &before));
	kid = must(fork());
	if (!kid)
		child(id, whole, board);
	until(board, 1);
	if (removed)
		must(shmctl(id, IPC_RMID, NULL));
	must(shmctl(id, IPC_STAT, &before));
	ready();
	wait_for_go();
	check_state();
	must(shmctl(id, IPC_STAT, &now));
	check(now.shm_nattch == before.shm_nattch, "%lu attachments, were %lu", now.shm_nattch, before.shm_nattch);
	check(now.shm_segsz == before.shm_segsz, "size %zu, was %zu", now.shm_segsz, before.shm_segsz);
	check(now.shm_perm.mode == before.shm_perm.mode, "mode %o, was %o", now.shm_perm.mode, before.shm_perm.mode);
	check(now.shm_perm.uid == before.shm_perm.uid && now.shm_perm.cuid == before.shm_perm.cuid, "another owner");
	check(now.shm_perm.__key == before.shm_perm.__key, "key %#x, was %#x", now.shm_perm.__key, before.shm_perm.__key);
	check_pattern(whole, 3 * PAGE, 7, "the beginning");
	check(!strcmp(whole + 3 * PAGE, "from the child"), "what the child wrote is gone");
	check(!memcmp(again + 2 * PAGE, whole + 2 * PAGE, PAGE), "the partial attachment shows something else");
	check(!strcmp(between, "between"), "the mapping in between was lost");
	check(!memcmp(moved, readable + 6 * PAGE, PAGE), "the moved part shows something else");
	strcpy(moved, "moved");
	check(!strcmp(readable + 6 * PAGE, "moved"), "the moved part is another object");
	check(mprotect(readable, PAGE, PROT_READ | PROT_WRITE) < 0, "a segment attached for reading became writable");
	strcpy(whole + 4 * PAGE, "from the parent");
	say(board, 2);
	child_passed(kid);
	check(!strcmp(readable + 5 * PAGE, "again from the child"), "the parent does not see what the child wrote");
	if (!removed)
		must(shmctl(id, IPC_RMID, NULL));
	snapshot_ignores("ipc");
	pass();
}
