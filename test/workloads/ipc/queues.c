/*
 * Message queues, semaphores and limits of an IPC namespace of its own. "undo": with what semop(2) is to undo for each process.
 */
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/wait.h>

#include "workload.h"
#include "namespace.h"

enum { KEY = 0x466c0100, LONGEST = 8192, MANY = 40, SEMS = 300 };

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
};

struct message {
	long type;
	char text[LONGEST];
};

static const char *const limits[] = {
	"kernel/sem 300 32000 77 125",	"kernel/msgmax 9000",	     "kernel/msgmnb 20000",	  "kernel/msgmni 55",
	"kernel/shmmax 123456789",	"kernel/shmall 54321",	     "kernel/shmmni 99",	  "fs/mqueue/queues_max 33",
	"fs/mqueue/msg_max 22",		"fs/mqueue/msgsize_max 4444", "fs/mqueue/msg_default 11", "fs/mqueue/msgsize_default 3333",
};

static void each_limit(bool set)
{
	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
		char path[100] = "/proc/sys/", now[100] = "", wanted[100];
		const char *space = strchr(limits[i], ' ');
		FILE *file;

		strncat(path, limits[i], space - limits[i]);
		strcpy(wanted, space + 1);
		file = fopen(path, set ? "w" : "r");
		if (!file)
			fail("%s: %s", path, strerror(errno));
		if (set) {
			fputs(wanted, file);
		} else {
			if (!fgets(now, sizeof(now), file))
				fail("%s cannot be read", path);
			now[strcspn(now, "\n")] = '\0';
			for (char *tab = now; (tab = strchr(tab, '\t')); tab++)
				*tab = ' ';
			check(!strcmp(now, wanted), "%s is %s, was %s", path, now, wanted);
		}
		check(fclose(file) == 0, "%s was not written", path);
	}
}

static void send(int id, long type, size_t bytes)
{
	struct message one = { .type = type };

	fill_pattern(one.text, bytes, (uint64_t)type);
	must(msgsnd(id, &one, bytes, IPC_NOWAIT));
}

static void expect(int id, long type, size_t bytes)
{
	static struct message one;
	ssize_t got = msgrcv(id, &one, LONGEST, 0, IPC_NOWAIT);

	check(got == (ssize_t)bytes && one.type == type, "message of type %ld with %zd bytes, was %ld with %zu", one.type, got, type, bytes);
	check_pattern(one.text, bytes, (uint64_t)type, "a message");
}

static void same_queue(int id, const struct msqid_ds *before)
{
	struct msqid_ds now;

	must(msgctl(id, IPC_STAT, &now));
	check(now.msg_perm.__key == before->msg_perm.__key && now.msg_perm.mode == before->msg_perm.mode, "key or mode of queue %d", id);
	check(now.msg_perm.uid == before->msg_perm.uid && now.msg_perm.gid == before->msg_perm.gid &&
		      now.msg_perm.cuid == before->msg_perm.cuid && now.msg_perm.cgid == before->msg_perm.cgid,
	      "owners of queue %d", id);
	check(now.msg_qbytes == before->msg_qbytes && now.msg_qnum == before->msg_qnum, "queue %d: %lu of %lu, was %lu of %lu", id,
	      now.msg_qnum, now.msg_qbytes, before->msg_qnum, before->msg_qbytes);
}

static void same_set(int id, const struct semid_ds *before, const unsigned short *values)
{
	struct semid_ds now;
	unsigned short got[SEMS];

	must(semctl(id, 0, IPC_STAT, (union semun){ .buf = &now }));
	check(now.sem_perm.__key == before->sem_perm.__key && now.sem_perm.mode == before->sem_perm.mode && now.sem_nsems == before->sem_nsems,
	      "key, mode or size of set %d", id);
	check(now.sem_perm.uid == before->sem_perm.uid && now.sem_perm.cgid == before->sem_perm.cgid, "owners of set %d", id);
	must(semctl(id, 0, GETALL, (union semun){ .array = got }));
	for (size_t i = 0; i < before->sem_nsems; i++)
		check(got[i] == values[i], "semaphore %zu of set %d is %u, was %u", i, id, got[i], values[i]);
}

static int value(int id, int number)
{
	return must(semctl(id, number, GETVAL));
}

static void change(int id, int number, int by)
{
	struct sembuf one = { .sem_num = (unsigned short)number, .sem_op = (short)by, .sem_flg = SEM_UNDO | IPC_NOWAIT };

	must(semop(id, &one, 1));
}

/* Two processes hold and have given; when they end, both is undone. */
static void undo(void)
{
	int *board = shared_memory(4096), id = must(semget(KEY, 5, IPC_CREAT | IPC_EXCL | 0600));
	pid_t kid;

	must(semctl(id, 0, SETALL, (union semun){ .array = (unsigned short[]){ 3, 0, 10, 32767, 1 } }));
	snapshot_ignores("ipc");
	snapshot_ignores("link ns/ipc");
	kid = must(fork());
	if (!kid) {
		change(id, 0, -2);
		change(id, 1, 5);
		change(id, 3, -32767);
		keep_state();
		__atomic_store_n(board, 1, __ATOMIC_SEQ_CST);
		while (!__atomic_load_n(board + 1, __ATOMIC_SEQ_CST))
			sleep_ms(2);
		check_state();
		child_done();
	}
	while (!__atomic_load_n(board, __ATOMIC_SEQ_CST))
		sleep_ms(2);
	change(id, 2, -4);
	change(id, 1, -5);
	ready();
	wait_for_go();
	check_state();
	check(value(id, 0) == 1 && value(id, 1) == 0 && value(id, 2) == 6 && value(id, 3) == 0 && value(id, 4) == 1, "values %d %d %d %d %d",
	      value(id, 0), value(id, 1), value(id, 2), value(id, 3), value(id, 4));
	/* What it gave is taken back only as far as it goes: the value was used up. */
	must(semop(id, &(struct sembuf){ .sem_num = 1, .sem_op = 5, .sem_flg = SEM_UNDO }, 1));
	__atomic_store_n(board + 1, 1, __ATOMIC_SEQ_CST);
	child_passed(kid);
	check(value(id, 0) == 3 && value(id, 1) == 0 && value(id, 3) == 32767, "after the child's end: %d %d %d", value(id, 0), value(id, 1),
	      value(id, 3));
	kid = must(fork());
	if (!kid)
		_exit(0);
	must(waitpid(kid, NULL, 0));
	check(value(id, 2) == 6, "a process that changed nothing undid something");
	must(semctl(id, 0, IPC_RMID));
	pass();
}

int main(int argc, char **argv)
{
	static unsigned short values[SEMS];
	struct msqid_ds queue, empty;
	struct semid_ds set, other;
	int hole, a, b, c, many, few;
	unsigned short three[3] = { 1, 0, 32767 };

	if (argc < 3 || strcmp(argv[2], "host"))
		own_namespace();
	if (argc > 2 && strcmp(argv[2], "fair"))
		undo();
	each_limit(true);
	hole = must(msgget(IPC_PRIVATE, 0600));
	a = must(msgget(KEY, IPC_CREAT | IPC_EXCL | 0640));
	b = must(msgget(IPC_PRIVATE, 0666));
	c = must(msgget(KEY + 1, IPC_CREAT | IPC_EXCL | 0600));
	must(msgctl(hole, IPC_RMID, NULL));
	for (long i = 1; i <= MANY; i++)
		send(a, i % 7 ? i : 0x700000000 + i, (size_t)i * 3 - 3);
	send(c, 5, LONGEST);
	send(c, 4, LONGEST);
	must(msgctl(a, IPC_STAT, &queue));
	queue.msg_perm.uid = 1234;
	queue.msg_perm.gid = 4321;
	if (argc < 3)
		queue.msg_qbytes = 1000;
	must(msgctl(a, IPC_SET, &queue));
	must(msgctl(a, IPC_STAT, &queue));
	must(msgctl(b, IPC_STAT, &empty));

	many = must(semget(KEY, SEMS, IPC_CREAT | IPC_EXCL | 0604));
	few = must(semget(IPC_PRIVATE, 3, 0600));
	for (int i = 0; i < SEMS; i++)
		values[i] = (unsigned short)(i * 100);
	must(semctl(many, 0, SETALL, (union semun){ .array = values }));
	must(semctl(few, 0, SETALL, (union semun){ .array = three }));
	must(semctl(few, 0, IPC_STAT, (union semun){ .buf = &other }));
	other.sem_perm.uid = 99;
	must(semctl(few, 0, IPC_SET, (union semun){ .buf = &other }));
	must(semctl(many, 0, IPC_STAT, (union semun){ .buf = &set }));
	snapshot_ignores("ipc");
	snapshot_ignores("link ns/ipc");
	ready();
	wait_for_go();
	check_state();
	each_limit(false);
	same_queue(a, &queue);
	same_queue(b, &empty);
	for (long i = 1; i <= MANY; i++)
		expect(a, i % 7 ? i : 0x700000000 + i, (size_t)i * 3 - 3);
	expect(c, 5, LONGEST);
	expect(c, 4, LONGEST);
	same_set(many, &set, values);
	same_set(few, &other, three);
	check(must(msgget(KEY, 0)) == a && must(semget(KEY, 0, 0)) == many, "a key leads elsewhere");
	must(msgctl(a, IPC_RMID, NULL));
	must(msgctl(b, IPC_RMID, NULL));
	must(msgctl(c, IPC_RMID, NULL));
	must(semctl(many, 0, IPC_RMID));
	must(semctl(few, 0, IPC_RMID));
	pass();
}
