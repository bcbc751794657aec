/* Thousands of descriptors in a shuffled order: which ones share a position is as before, also with a child that has few, and one on its way. */
#include <sys/resource.h>
#include <sys/socket.h>

#include "workload.h"

#define NUMBERS 2500
#define FILES 900
#define FIRST 3
/* The first of those that a child has as well, and which of the shared files is on its way. */
#define CHILDS 1000
#define ON_ITS_WAY 2000
enum { FEW = 5 };

/* Which open file each number is, by a generator that always gives the same. */
static int file_of(int number)
{
	return (int)((unsigned)number * 2654435761u >> 8) % FILES;
}

static void send_one(int to, int fd)
{
	char room[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec one = {"x", 1};
	struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &fd, sizeof fd);
	must((int)sendmsg(to, &message, 0));
}

static int receive_one(int from)
{
	char room[CMSG_SPACE(sizeof(int))], byte;
	struct iovec one = {&byte, 1};
	struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
	int fd;

	must((int)recvmsg(from, &message, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

static off_t childs_position(int number)
{
	return 20000 + file_of(number);
}

static bool *was_checked;

/* It has some of the descriptors, and nothing else. Their positions stay until its parent has seen them. */
static void child_with_few(void)
{
	must(close_range(FIRST, CHILDS - 1, 0));
	must(close_range(CHILDS + FEW, ~0u, 0));
	wait_for_go();
	while (!__atomic_load_n(was_checked, __ATOMIC_SEQ_CST))
		sleep_ms(1);
	for (int number = CHILDS; number < CHILDS + FEW; number++)
		must(lseek(number, childs_position(number), SEEK_SET));
	exit(differences_seen() != 0);
}

/* As many descriptors as there may be, up to 20 000: half of them open files, of which the others are duplicates. The snapshot has no room for so many. */
static _Noreturn void as_many_as_possible(void)
{
	struct rlimit limit;
	int first, half;

	must(getrlimit(RLIMIT_NOFILE, &limit));
	if (limit.rlim_max > 20010)
		limit.rlim_max = 20010;
	limit.rlim_cur = limit.rlim_max;
	must(setrlimit(RLIMIT_NOFILE, &limit));
	first = must(open("file", O_RDWR | O_CREAT | O_EXCL, 0600)) + 1;
	half = ((int)limit.rlim_max - first) / 2;
	for (int i = 0; i < half; i++)
		must(lseek(must(open("file", O_RDONLY)), i, SEEK_SET));
	for (int i = 0; i < half; i++)
		must(fcntl(first + i, i % 7 ? F_DUPFD : F_DUPFD_CLOEXEC, 0));
	note("%d descriptors", 2 * half);
	must(write(1, "ready\n", 6));
	wait_for_go();
	for (int i = 0; i < half; i++) {
		int fd = first + i, copy = first + half + i;

		check(lseek(fd, 0, SEEK_CUR) == i && lseek(copy, 1, SEEK_CUR) == i + 1 && lseek(fd, 0, SEEK_CUR) == i + 1, "fd %d and %d are not one file", fd, copy);
		check(fcntl(fd, F_GETFD) == 0 && fcntl(copy, F_GETFD) == (i % 7 ? 0 : FD_CLOEXEC), "fd %d has another flag", copy);
	}
	must(unlink("file"));
	must(write(1, differences_seen() ? "FAIL\n" : "PASS\n", 5));
	_exit(differences_seen() != 0);
}

int main(int argc, char **argv)
{
	struct rlimit limit = {NUMBERS + 100, NUMBERS + 100};
	static int holder[FILES];
	int same = 0, pair[2], received;
	pid_t child;

	if (argc > 2 && !strcmp(argv[2], "all"))
		as_many_as_possible();
	must(setrlimit(RLIMIT_NOFILE, &limit));
	must(close(must(open("file", O_RDWR | O_CREAT | O_EXCL, 0600))));
	/* In descending order, so that what arrives low belongs high. */
	for (int number = FIRST + NUMBERS - 1; number >= FIRST; number--) {
		int file = file_of(number), fd;

		if (holder[file] == 0) {
			fd = must(open("file", O_RDONLY));
			if (fd != number) {
				must(dup2(fd, number));
				must(close(fd));
			}
			holder[file] = number;
			/* Half of them look alike from outside. */
			must(lseek(number, file % 2 ? 0 : file, SEEK_SET));
		} else {
			must(dup2(holder[file], number));
			same++;
		}
		if (number % 7 == 0)
			must(fcntl(number, F_SETFD, FD_CLOEXEC));
	}
	check(same > NUMBERS / 3, "too few duplicates");
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	send_one(pair[0], ON_ITS_WAY);
	was_checked = shared_memory(sizeof *was_checked);
	child = must(fork());
	if (!child)
		child_with_few();
	ready();
	wait_for_go();
	check_state();
	__atomic_store_n(was_checked, true, __ATOMIC_SEQ_CST);
	child_passed(child);
	for (int number = CHILDS; number < CHILDS + FEW; number++)
		check(lseek(number, 0, SEEK_CUR) == childs_position(number), "fd %d is not that of the child", number);
	received = receive_one(pair[1]);
	for (int file = 0; file < FILES; file++)
		if (holder[file])
			must(lseek(holder[file], 10000 + file, SEEK_SET));
	for (int number = FIRST; number < FIRST + NUMBERS; number++)
		if (!check(lseek(number, 0, SEEK_CUR) == 10000 + file_of(number), "fd %d shares its position with another file", number))
			break;
	check(lseek(received, 0, SEEK_CUR) == 10000 + file_of(ON_ITS_WAY), "the received descriptor is not that of fd %d", ON_ITS_WAY);
	must(unlink("file"));
	pass();
}
