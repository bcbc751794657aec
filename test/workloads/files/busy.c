/*
 * A process that goes on opening, closing, moving and changing many descriptors, and renaming and resizing their files, has each as it left
 * it last. How many is its argument: the dump has other ways for more than 128.
 */
#include "workload.h"

enum { FIRST = 100, COUNT = 64, MOST = 200, FILES = 8, MOVES_AT_ONCE = 64, RARELY = 4000 };

struct one {
	bool open, append, owned;
	int file, signal;
	off_t offset;
};

struct board {
	int stop;
	uint64_t steps;
};

static int count = COUNT;
static struct one all[MOST];
/* Names and sizes of the files. */
static bool renamed[FILES];
static off_t sizes[FILES];
static struct board *board;

/* Of a file as it is called, or is not. */
static const char *name_of(int file, bool other)
{
	static char names[2][16];
	char *name = names[other];

	snprintf(name, sizeof names[0], "%s-%d", renamed[file] != other ? "moved" : "busy", file);
	return name;
}

static void open_one(int i, int file)
{
	int fd;

	fd = must(open(name_of(file, false), O_RDWR | O_CREAT, 0600));
	if (fd != FIRST + i) {
		must(dup2(fd, FIRST + i));
		must(close(fd));
	}
	all[i] = (struct one){.open = true, .file = file};
}

static void change(int i, uint64_t random)
{
	struct one *one = &all[i];
	int fd = FIRST + i;

	if (!one->open || random % 8 == 0) {
		open_one(i, (int)((random >> 8) % FILES));
	} else if (random % RARELY == 1) {
		must(close(fd));
		one->open = false;
	} else if (random % 8 == 2) {
		one->append = !one->append;
		must(fcntl(fd, F_SETFL, one->append ? O_APPEND : 0));
	} else if (random % 8 == 3) {
		one->owned = !one->owned;
		must(fcntl(fd, F_SETOWN, one->owned ? getpid() : 0));
	} else if (random % 8 == 4) {
		one->signal = one->signal ? 0 : SIGUSR1;
		must(fcntl(fd, F_SETSIG, one->signal));
	} else if (random % 64 == 5) {
		must(rename(name_of(one->file, false), name_of(one->file, true)));
		renamed[one->file] = !renamed[one->file];
	} else if (random % 64 == 6) {
		sizes[one->file] = (off_t)((random >> 8) % 4096);
		must(ftruncate(fd, sizes[one->file]));
	} else {
		one->offset = (off_t)((random >> 8) % 100000);
		must(lseek(fd, one->offset, SEEK_SET));
	}
}

static void check_one(int i)
{
	const struct one *one = &all[i];
	int fd = FIRST + i;
	struct stat named, opened;

	if (!one->open) {
		check(fcntl(fd, F_GETFD) == -1 && errno == EBADF, "descriptor %d is open", fd);
		return;
	}
	must(stat(name_of(one->file, false), &named));
	if (!check(fstat(fd, &opened) == 0, "descriptor %d is gone", fd))
		return;
	check(named.st_ino == opened.st_ino, "descriptor %d is not of file %d", fd, one->file);
	check(opened.st_size == sizes[one->file], "file %d has %ld bytes, not %ld", one->file, (long)opened.st_size, (long)sizes[one->file]);
	check(lseek(fd, 0, SEEK_CUR) == one->offset, "descriptor %d is at %ld, not at %ld", fd, (long)lseek(fd, 0, SEEK_CUR), (long)one->offset);
	check(!!(fcntl(fd, F_GETFL) & O_APPEND) == one->append, "descriptor %d: O_APPEND is not %d", fd, one->append);
	check(fcntl(fd, F_GETOWN) == (one->owned ? getpid() : 0), "descriptor %d has the owner %d", fd, fcntl(fd, F_GETOWN));
	check(fcntl(fd, F_GETSIG) == one->signal, "descriptor %d has the signal %d", fd, fcntl(fd, F_GETSIG));
}

static _Noreturn void busy(void)
{
	uint64_t random = 88172645463325252u;

	for (int i = 0; i < count; i++)
		open_one(i, i % FILES);
	while (!__atomic_load_n(&board->stop, __ATOMIC_SEQ_CST)) {
		for (int n = 0; n < MOVES_AT_ONCE; n++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			int which = (int)((random >> 40) % (unsigned)count);

			check_one(which);
			change(which, random >> 3);
		}
		__atomic_add_fetch(&board->steps, 1, __ATOMIC_SEQ_CST);
		sleep_ms(1);
	}
	for (int i = 0; i < count; i++)
		check_one(i);
	for (int file = 0; file < FILES; file++)
		unlink(name_of(file, false));
	exit(differences_seen() > 0);
}

int main(int argc, char **argv)
{
	pid_t kid;

	if (argc > 2)
		count = atoi(argv[2]);
	check(count <= MOST, "too many");

	board = shared_memory(sizeof *board);
	kid = must(fork());
	if (!kid)
		busy();
	while (__atomic_load_n(&board->steps, __ATOMIC_SEQ_CST) < 3)
		sleep_ms(1);
	ready();
	wait_for_go();
	check_state();
	__atomic_store_n(&board->stop, 1, __ATOMIC_SEQ_CST);
	child_passed(kid);
	pass();
}
