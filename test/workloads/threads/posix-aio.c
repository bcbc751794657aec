/*
 * The asynchronous I/O of the C library: its helper threads have requests in progress (reads of a pipe, a UNIX and a TCP socket
 * to which nothing has come yet, one that tells of its end by a signal) and a queue of requests on files; all complete.
 */
#include <aio.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "workload.h"

enum { WAITING = 3, FILES = 64, PIECE = 4096 };

static struct aiocb waiting[WAITING], writes[FILES], reads[FILES];
static char arrived[WAITING][16], pieces[FILES][PIECE], back[FILES][PIECE];
static int senders[WAITING];
static volatile sig_atomic_t told;

static void on_end(int number, siginfo_t *info, void *context)
{
	(void)number, (void)context;
	told = info->si_value.sival_int;
}

static void tcp_pair(int ends[2])
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof address;
	int listener = must(socket(AF_INET, SOCK_STREAM, 0));

	must(bind(listener, (void *)&address, sizeof address));
	must(listen(listener, 1));
	must(getsockname(listener, (void *)&address, &length));
	ends[0] = must(socket(AF_INET, SOCK_STREAM, 0));
	must(connect(ends[0], (void *)&address, sizeof address));
	ends[1] = must(accept(listener, NULL, NULL));
	close(listener);
}

static void finish(struct aiocb *request, long expected, const char *what)
{
	const struct aiocb *list[] = {request};
	struct timespec limit = {30, 0};

	while (aio_error(request) == EINPROGRESS)
		if (aio_suspend(list, 1, &limit) && errno == EAGAIN)
			fail("%s never completes", what);
	check(aio_error(request) == 0, "%s ends with error %d", what, aio_error(request));
	check(aio_return(request) == expected, "%s has another length", what);
}

int main(int argc, char **argv)
{
	static const char *const names[WAITING] = {"the read of a pipe", "the read of a UNIX socket", "the read of a TCP socket"};
	struct sigaction action = {.sa_sigaction = on_end, .sa_flags = SA_SIGINFO | SA_RESTART};
	int ends[2], file = must(open("aio", O_RDWR | O_CREAT, 0600));
	bool tcp = argc > 2 && !strcmp(argv[2], "tcp");

	must(sigaction(SIGRTMIN + 3, &action, NULL));
	for (int i = 0; i < WAITING - !tcp; i++) {
		if (i == 0)
			must(pipe(ends));
		else if (i == 1)
			must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		else
			tcp_pair(ends);
		senders[i] = ends[1];
		waiting[i] = (struct aiocb){.aio_fildes = ends[0], .aio_buf = arrived[i], .aio_nbytes = sizeof arrived[i]};
		if (i == 1) {
			waiting[i].aio_sigevent.sigev_notify = SIGEV_SIGNAL;
			waiting[i].aio_sigevent.sigev_signo = SIGRTMIN + 3;
			waiting[i].aio_sigevent.sigev_value.sival_int = 4711;
		}
		must(aio_read(&waiting[i]));
	}
	for (int i = 0; i < FILES; i++) {
		fill_pattern(pieces[i], PIECE, (uint64_t)i);
		writes[i] = (struct aiocb){.aio_fildes = file, .aio_buf = pieces[i], .aio_nbytes = PIECE, .aio_offset = i * PIECE};
		must(aio_write(&writes[i]));
	}
	sleep_ms(30);
	/* The library ends a helper with nothing to do after a second or so. */
	snapshot_ignores("task ");
	snapshot_ignores("map");
	snapshot_ignores("thread ");
	ready();
	wait_for_go();
	for (int i = 0; i < FILES; i++)
		finish(&writes[i], PIECE, "a write");
	for (int i = 0; i < FILES; i++) {
		reads[i] = (struct aiocb){.aio_fildes = file, .aio_buf = back[i], .aio_nbytes = PIECE, .aio_offset = i * PIECE};
		must(aio_read(&reads[i]));
	}
	for (int i = 0; i < FILES; i++) {
		finish(&reads[i], PIECE, "a read");
		check_pattern(back[i], PIECE, (uint64_t)i, "the file");
	}
	for (int i = 0; i < WAITING - !tcp; i++) {
		check(aio_error(&waiting[i]) == EINPROGRESS, "%s is over: %d", names[i], aio_error(&waiting[i]));
		must(write(senders[i], "some data", 9));
		finish(&waiting[i], 9, names[i]);
		check(!memcmp(arrived[i], "some data", 9), "%s brought something else", names[i]);
	}
	for (int i = 0; i < 3000 && !told; i++)
		sleep_ms(10);
	check(told == 4711, "the signal at the end brought %d", (int)told);
	pass();
}
