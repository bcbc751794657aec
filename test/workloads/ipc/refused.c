/* States of an IPC namespace that are refused. */
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "workload.h"
#include "namespace.h"

static void limit(const char *path, const char *value)
{
	int fd = must(open(path, O_WRONLY));

	must((int)write(fd, value, strlen(value)));
	close(fd);
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	struct {
		long type;
		char text[2000];
	} one = { .type = 1 };
	int id = -1;

	if (strcmp(what, "undo"))
		own_namespace();
	snapshot_ignores("ipc");
	if (!strcmp(what, "files")) {
		close(must(mq_open("/some", O_CREAT | O_EXCL | O_RDWR, 0600, NULL)));
	} else if (!strcmp(what, "forced")) {
		limit("/proc/sys/kernel/shm_rmid_forced", "1");
		id = must(shmget(IPC_PRIVATE, 4096, 0600));
	} else if (!strcmp(what, "long")) {
		id = must(msgget(IPC_PRIVATE, 0600));
		must(msgsnd(id, &one, sizeof(one.text), 0));
		limit("/proc/sys/kernel/msgmax", "1000");
	} else if (!strcmp(what, "undo")) {
		id = must(semget(IPC_PRIVATE, 1, 0600));
		must(semop(id, &(struct sembuf){ .sem_op = 1, .sem_flg = SEM_UNDO }, 1));
	}
	ready();
	wait_for_go();
	check_state();
	if (!strcmp(what, "files"))
		must(mq_unlink("/some"));
	else if (!strcmp(what, "forced"))
		must(shmctl(id, IPC_RMID, NULL));
	else if (!strcmp(what, "long"))
		check(msgrcv(id, &one, sizeof(one.text), 0, IPC_NOWAIT) == sizeof(one.text), "the message is gone");
	else if (!strcmp(what, "undo")) {
		check(must(semctl(id, 0, GETVAL)) == 1, "the semaphore has changed");
		must(semctl(id, 0, IPC_RMID));
	}
	pass();
}
