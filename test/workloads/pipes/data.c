/*
 * What is in a pipe stays in it, byte for byte and in order. The second argument says which pipe: empty, some, half-read,
 * full, large (with a changed capacity), small (one page), records (many small writes), nonblocking.
 */
#include "workload.h"

enum { MORE = 100 };

static unsigned char written[4 << 20];

/* Writes until the pipe is full or `limit` bytes are in. */
static size_t write_up_to(int fd, size_t limit, size_t step)
{
	size_t done = 0;

	while (done < limit) {
		ssize_t got = write(fd, written + done, limit - done < step ? limit - done : step);
		if (got < 0)
			break;
		done += (size_t)got;
	}
	return done;
}

static size_t read_all(int fd, unsigned char *into, size_t room)
{
	size_t done = 0;
	ssize_t got;

	while (done < room && (got = read(fd, into + done, room - done)) > 0)
		done += (size_t)got;
	return done;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "some";
	static unsigned char back[sizeof written];
	bool nonblocking = !strcmp(what, "nonblocking");
	/* Full to the last byte; the kernel keeps no small writes in one page together. */
	bool whole = !strcmp(what, "full") || !strcmp(what, "large") || !strcmp(what, "small");
	size_t in = 0, out = 0;
	int ends[2], flags;

	fill_pattern(written, sizeof written, 4);
	must(pipe2(ends, nonblocking ? O_NONBLOCK : 0));
	flags = fcntl(ends[1], F_GETFL);
	must(fcntl(ends[1], F_SETFL, flags | O_NONBLOCK));
	if (!strcmp(what, "large"))
		must(fcntl(ends[1], F_SETPIPE_SZ, 1 << 20));
	if (!strcmp(what, "small"))
		must(fcntl(ends[1], F_SETPIPE_SZ, 4096));
	if (!strcmp(what, "records"))
		in = write_up_to(ends[1], 7 * 13 * 5, 7);
	else if (strcmp(what, "empty"))
		in = write_up_to(ends[1], !strcmp(what, "some") || nonblocking ? 12345 : sizeof written, whole ? 4096 : 5000);
	if (!strcmp(what, "half-read"))
		out = read_all(ends[0], back, 30001);
	must(fcntl(ends[1], F_SETFL, flags));
	ready();
	wait_for_go();
	check_state();
	/* As much goes in as went in before. */
	must(fcntl(ends[1], F_SETFL, flags | O_NONBLOCK));
	if (whole)
		check(write(ends[1], "x", 1) < 0 && errno == EAGAIN, "a full pipe takes more");
	else
		check(write(ends[1], written + in, MORE) == MORE, "the pipe takes no more"), in += MORE;
	must(fcntl(ends[0], F_SETFL, O_NONBLOCK));
	out += read_all(ends[0], back + out, sizeof back - out);
	check(out == in, "%zu bytes went in, %zu came out", in, out);
	check(!memcmp(back, written, out), "other bytes came out");
	if (!strcmp(what, "large"))
		check(write_up_to(ends[1], sizeof written, 4096) == 1 << 20, "the capacity is another");
	must(close(ends[1]));
	pass();
}
