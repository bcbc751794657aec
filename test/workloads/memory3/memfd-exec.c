/* A program that was executed from a memfd, which it may have open as well. */
#include "workload.h"

int main(int argc, char **argv)
{
	char link[64] = "";

	if (argc < 2)
		return 0;
	if (argc < 4 || strcmp(argv[3], "again")) {
		int self = must(open("/proc/self/exe", O_RDONLY)), memory = must(memfd_create("program", 0));
		char block[65536];
		ssize_t got;

		while ((got = must(read(self, block, sizeof block))) > 0)
			must(write(memory, block, got));
		must(close(self));
		if (!strcmp(argv[2], "closed"))
			must(fcntl(memory, F_SETFD, FD_CLOEXEC));
		char *again[] = {argv[0], argv[1], argv[2], "again", NULL};
		extern char **environ;

		must(fexecve(memory, again, environ));
	}
	ready();
	wait_for_go();
	check_state();
	must(readlink("/proc/self/exe", link, sizeof link - 1));
	check(!strcmp(link, "/memfd:program (deleted)"), "the executable is %s", link);
	/* It can be executed once more: nobody has it open for writing. */
	pid_t kid = must(fork());

	if (!kid) {
		char *once[] = {argv[0], NULL};

		execv("/proc/self/exe", once);
		_exit(errno);
	}
	int status;

	must(waitpid(kid, &status, 0));
	check(WIFSIGNALED(status) || WEXITSTATUS(status) != ETXTBSY, "it cannot be executed any more");
	pass();
}
