/*
 * Descriptors on their way (SCM_RIGHTS): pipes, files, sockets sent through themselves, several in one message, data before
 * and after them in a stream, the sender's own ones closed since, a socket in a queue that carries a socket with a queue.
 */
#include "rights.h"

int main(int argc, char **argv)
{
	int stream[2], dgram[2], inner[2], nested[2], pipes[2], got[8] = {-1, -1, -1, -1, -1, -1, -1, -1}, file;
	char text[20] = "";

	begin(argc, argv);
	must(pipe(pipes));
	must(write(pipes[1], "piped", 5));
	file = must(open("file", O_RDWR | O_CREAT, 0600));
	must(write(file, "0123456789", 10));
	must(lseek(file, 4, SEEK_SET));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	send_text(stream[0], "before ");
	send_fds(stream[0], "with", (int[]){pipes[0], file}, 2);
	send_text(stream[0], "after");
	send_fds(stream[0], "more", (int[]){pipes[1]}, 1);
	close(pipes[0]);
	close(file);
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram));
	send_fds(dgram[0], "myself", (int[]){dgram[0], dgram[1]}, 2);
	send_text(dgram[0], "plain");
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, inner));
	send_text(inner[0], "deep inside");
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, nested));
	send_fds(nested[0], "nested", (int[]){inner[1]}, 1);
	close(inner[1]);
	ready();
	wait_for_go();
	check_state();
	receive_fds(stream[1], 50, "before with", got, 2);
	check(read(got[0], text, 5) == 5 && !strcmp(text, "piped"), "the pipe in flight has \"%s\"", text);
	check(read(got[1], text, 3) == 3 && !memcmp(text, "456", 3), "the file in flight is at another place");
	receive_fds(stream[1], 50, "aftermore", got + 2, 1);
	must(write(got[2], "again", 5));
	check(read(got[0], text, 5) == 5 && !strcmp(text, "again"), "the ends of the pipe do not belong together");
	receive_fds(dgram[1], 50, "myself", got + 4, 2);
	send_text(got[4], "through the copy");
	expect_text(dgram[1], "plain");
	expect_text(got[5], "through the copy");
	receive_fds(nested[1], 50, "nested", got + 6, 1);
	expect_text(got[6], "deep inside");
	expect_talk(got[6], inner[0]);
	pass();
}
