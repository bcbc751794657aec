/*
 * A tree of processes that pass a token around a ring of pipes; each adds its own number. After the rounds asked for, the
 * root, who has the token then, prints it. Arguments: processes, rounds.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILDREN = 6, MAX = 1000 };

static int pipes[MAX][2], count, rounds;

/* Takes the token from the one before, gives it to the one behind. Ends when the ring is broken. */
static void pass_on(int which)
{
	uint64_t token;

	while (read(pipes[which][0], &token, sizeof token) == sizeof token) {
		token = token * 31 + (uint64_t)which;
		if (write(pipes[(which + 1) % count][1], &token, sizeof token) != sizeof token)
			_exit(1);
	}
}

static void close_others(int which)
{
	for (int i = 0; i < count; i++) {
		if (i != which)
			close(pipes[i][0]);
		if (i != (which + 1) % count)
			close(pipes[i][1]);
	}
}

/* The children of number n are 6n+1 to 6n+6. */
static void start_children(int which)
{
	for (int child = which * CHILDREN + 1; child <= which * CHILDREN + CHILDREN && child < count; child++) {
		pid_t pid = fork();
		if (pid < 0)
			_exit(1);
		if (pid == 0) {
			start_children(child);
			close_others(child);
			pass_on(child);
			close(pipes[(child + 1) % count][1]);
			while (wait(NULL) > 0)
				;
			_exit(0);
		}
	}
}

int main(int argc, char **argv)
{
	uint64_t token = 1;

	if (argc != 3 || (count = atoi(argv[1])) > MAX)
		return 2;
	rounds = atoi(argv[2]);
	for (int i = 0; i < count; i++)
		if (pipe(pipes[i]) < 0)
			return 2;
	start_children(0);
	close_others(0);
	for (int round = 1; round <= rounds; round++) {
		/* So long that whoever wants to freeze us in the middle comes in time, on fast machines as well. */
		usleep(1000);
		if (write(pipes[1 % count][1], &token, sizeof token) != sizeof token)
			return 1;
		if (read(pipes[0][0], &token, sizeof token) != sizeof token)
			return 1;
		printf("%d\n", round);
		fflush(stdout);
	}
	close(pipes[1 % count][1]);
	while (wait(NULL) > 0)
		;
	printf("token %016lx\n", (unsigned long)token);
	return 0;
}
