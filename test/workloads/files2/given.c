/*
 * Things that are replaced by others at the restore: a memfd (open and mapped), ends of a pipe, a UNIX socket and a UDP socket, a
 * file, a fifo. With "plain": without the UDP socket and the fifo, and one end of the UNIX sockets; with a further argument: without these. Says what each is called; afterwards each must have "given" to read, and takes "taken".
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "workload.h"

static void tell(const char *what, int fd, const char *form)
{
	struct stat found;
	char key[64];

	must(fstat(fd, &found));
	snprintf(key, sizeof key, form, (unsigned long)found.st_ino);
	note("%s is %s", what, key);
}

static void take(int fd, const char *what, bool writes)
{
	char data[8] = {0};
	ssize_t got = read(fd, data, 5);

	check(got == 5 && !memcmp(data, "given", 5), "%s has %zd bytes to read: \"%s\"", what, got, data);
	check(!writes || write(fd, "taken", 5) == 5, "%s cannot be written: %s", what, strerror(errno));
}

/* The tool that restores may be the new parent; a child ends first. */
static void ignore_parent(void)
{
	static char parent[64], child[64];

	snapshot_ignores("stat ppid");
	snprintf(parent, sizeof parent, "task %d PPid:", getpid());
	snapshot_ignores(parent);
	snprintf(child, sizeof child, "task %d child", getpid());
	snapshot_ignores(child);
}

int main(int argc, char **argv)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	bool plain = argc > 2 && !strcmp(argv[2], "plain");
	bool has_unix = argc < 4;
	int memory = must(memfd_create("thing", MFD_CLOEXEC)), pipes[2], ends[2] = {-1, -1};
	int file = must(open("file", O_RDWR | O_CREAT | O_EXCL, 0600)), inet = -1, fifo = -1;
	char *mapped, byte;

	must(write(memory, "old content", 11));
	mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, memory, 0);
	must(pipe(pipes));
	must(write(pipes[1], "old", 3));
	if (has_unix) {
		must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		must(write(ends[1], "old", 3));
		tell("unix", ends[0], "socket:[%lu]");
	}
	if (has_unix && plain)
		must(close(ends[1]));
	must(write(file, "old content", 11));
	if (!plain) {
		inet = must(socket(AF_INET, SOCK_DGRAM, 0));
		must(bind(inet, (struct sockaddr *)&any, sizeof any));
		tell("inet", inet, "socket:[%lu]");
		must(mkfifo("fifo", 0600));
		fifo = must(open("fifo", O_RDWR));
		must(write(fifo, "old", 3));
	}
	tell("pipe", pipes[0], "pipe:[%lu]");
	snapshot_ignores("fd ");
	snapshot_ignores("map ");
	snapshot_ignores("link ns/time");
	ignore_parent();
	ready();
	wait_for_go();
	check(!memcmp(mapped, "given", 5), "the mapped memfd has \"%.11s\"", mapped);
	take(memory, "the memfd", true);
	take(pipes[0], "the pipe", false);
	if (has_unix)
		take(ends[0], "the UNIX socket", true);
	if (!plain)
		take(inet, "the UDP socket", true), take(fifo, "the fifo", true);
	take(file, "the file", true);
	check(plain || read(ends[1], &byte, 1) <= 0, "the other end of the UNIX socket still has a peer");
	pass();
}
